//! WIT-SVIDs.

use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::svid::Validity;
use claviger_core::svid::wit::WitSvid;
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::server::svid::v1::{
    BatchNewWitsvidRequest, NewWitsvidParams, batch_new_witsvid_response,
};
use claviger_proto::spire::types;
use tonic::Status;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::{Issued, SvidRefused, Trust, sound};
use crate::credentials::WorkloadWit;
use crate::keys::{Key, KeyError};

impl Issued for WorkloadWit {
    type Params = NewWitsvidParams;
    type Result = batch_new_witsvid_response::Result;

    fn params(entry: &Entry, key: &Key) -> Result<NewWitsvidParams, KeyError> {
        Ok(NewWitsvidParams { entry_id: entry.id.to_string(), public_key: key.spki()? })
    }

    async fn ask(
        mut client: SvidClient<Channel>,
        params: Vec<NewWitsvidParams>,
    ) -> Result<Vec<Self::Result>, Status> {
        let answer = client.batch_new_witsvid(BatchNewWitsvidRequest { params }).await?;
        Ok(answer.into_inner().results)
    }

    fn accept(
        entry: &Entry,
        key: Key,
        result: Self::Result,
        trust: &Trust,
    ) -> Result<Self, SvidRefused> {
        sound(result.status)?;
        let token = result.svid.map(|svid: types::Witsvid| svid.token).unwrap_or_default();
        let (now, bundle) = (trust.clock.now(), &trust.bundle.bundle);
        let svid = WitSvid::validate(&token, now, |domain| {
            (*domain == bundle.trust_domain).then_some(&*bundle.wit_authorities)
        })?;
        if svid.subject != entry.spiffe_id {
            return Err(SvidRefused::OtherIdentity(svid.subject.to_string()));
        }
        if svid.key.spki() != key.spki()? {
            return Err(SvidRefused::OtherKey);
        }
        // Its end is the first second at which it is not valid any more (RFC 7519 §4.1.4).
        let validity = Validity {
            not_before: now.before(Validity::CUSHION),
            not_after: svid.expires_at.before(Duration::from_secs(1)),
        };
        Ok(Self { token: Zeroizing::new(token), key: key.private_jwk()?, validity })
    }
}
