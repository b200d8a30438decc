//! X.509-SVIDs.

use bytes::{Bytes, BytesMut};
use claviger_core::entry::Entry;
use claviger_core::svid::Validity;
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::server::svid::v1::{
    BatchNewX509svidRequest, NewX509svidParams, batch_new_x509svid_response,
};
use claviger_proto::spire::types;
use claviger_runtime::tls::Svid;
use rustls_pki_types::CertificateDer;
use tonic::Status;
use tonic::transport::Channel;

use super::{Issued, SvidRefused, Trust, sound};
use crate::credentials::WorkloadSvid;
use crate::keys::{Key, KeyError};

impl Issued for WorkloadSvid {
    type Params = NewX509svidParams;
    type Result = batch_new_x509svid_response::Result;

    fn params(entry: &Entry, key: &Key) -> Result<NewX509svidParams, KeyError> {
        Ok(NewX509svidParams { entry_id: entry.id.to_string(), csr: key.request()? })
    }

    async fn ask(
        mut client: SvidClient<Channel>,
        params: Vec<NewX509svidParams>,
    ) -> Result<Vec<Self::Result>, Status> {
        let answer = client.batch_new_x509svid(BatchNewX509svidRequest { params }).await?;
        Ok(answer.into_inner().results)
    }

    fn accept(
        entry: &Entry,
        key: Key,
        result: Self::Result,
        trust: &Trust,
    ) -> Result<Self, SvidRefused> {
        sound(result.status)?;
        let chain = result.svid.map(|svid: types::X509svid| svid.cert_chain).unwrap_or_default();
        let concatenated = concatenate(&chain);
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let svid = Svid::new(chain, key.pkcs8())?;
        let leaf = svid.leaf();
        if *leaf.id() != entry.spiffe_id {
            return Err(SvidRefused::OtherIdentity(leaf.id().to_string()));
        }
        // The server says it, over a connection that was verified.
        trust.clock.witness(leaf.not_before());
        let validity = Validity { not_before: leaf.not_before(), not_after: leaf.not_after() };
        Ok(Self { chain: concatenated, key: key.into_shared_pkcs8(), validity })
    }
}

fn concatenate(chain: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(chain.iter().map(Bytes::len).sum());
    chain.iter().for_each(|der| bytes.extend_from_slice(der));
    bytes.freeze()
}
