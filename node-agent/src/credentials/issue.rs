//! Asking the server for SVIDs.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use claviger_core::entry::Entry;
use claviger_core::svid::Validity;
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::server::svid::v1::{
    BatchNewX509svidRequest, NewX509svidParams, batch_new_x509svid_response,
};
use claviger_proto::spire::types;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{Svid, SvidKeyError};
use rustls_pki_types::CertificateDer;
use tokio::task::spawn_blocking;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::warn;

use super::WorkloadSvid;
use super::book::{Answer, NotIssued};
use crate::keys::{Key, KeyError};
use crate::metrics;
use crate::server::Said;

/// The most characters of a refusal that are kept, for those who ask why.
const MAX_SAID: usize = 200;

/// For one batch.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks for one SVID for each of `entries`, all at once.
pub(super) async fn issue(channel: Option<Channel>, entries: Vec<Arc<Entry>>) -> Vec<Answer> {
    match try_issue(channel, entries.clone()).await {
        Ok(answers) => answers,
        Err(error) => {
            warn!(count = entries.len(), error = %error, "no SVIDs");
            metrics::svids_failed(entries.len());
            entries.into_iter().map(|entry| (entry, Err(NotIssued::Unanswered))).collect()
        }
    }
}

async fn try_issue(
    channel: Option<Channel>,
    entries: Vec<Arc<Entry>>,
) -> Result<Vec<Answer>, BatchError> {
    let mut client = SvidClient::new(channel.ok_or(BatchError::NoServer)?);
    // Two milliseconds for a hundred of them: too long for a thread that serves callers.
    let (keys, params) = spawn_blocking({
        let entries = entries.clone();
        move || prepare(&entries)
    })
    .await
    .map_err(|_stopping| BatchError::Stopping)??;
    let asked = client.batch_new_x509svid(BatchNewX509svidRequest { params });
    let results = match tokio::time::timeout(DEADLINE, asked).await {
        Ok(answer) => answer.map_err(|status| BatchError::server(&status))?.into_inner().results,
        Err(_elapsed) => return Err(BatchError::Late),
    };
    if results.len() != entries.len() {
        return Err(BatchError::Count { asked: entries.len(), got: results.len() });
    }
    spawn_blocking(move || {
        let each = entries.into_iter().zip(keys).zip(results);
        each.map(|((entry, key), result)| take(entry, key, result)).collect()
    })
    .await
    .map_err(|_stopping| BatchError::Stopping)
}

fn prepare(entries: &[Arc<Entry>]) -> Result<(Vec<Key>, Vec<NewX509svidParams>), KeyError> {
    let one = |entry: &Arc<Entry>| {
        let key = Key::generate()?;
        let csr = key.request()?;
        Ok((key, NewX509svidParams { entry_id: entry.id.to_string(), csr }))
    };
    entries.iter().map(one).collect()
}

fn take(entry: Arc<Entry>, key: Key, result: batch_new_x509svid_response::Result) -> Answer {
    match accept(&entry, key, result) {
        Ok(svid) => {
            metrics::svid_issued();
            (entry, Ok(svid))
        }
        Err(error) => {
            warn!(entry = %entry.id, id = %entry.spiffe_id, error = %Chain(&error), "no SVID");
            metrics::svids_failed(1);
            let said = Chain(&error).to_string().chars().take(MAX_SAID).collect::<String>();
            (entry, Err(NotIssued::Refused(said.into())))
        }
    }
}

/// Makes sure that what the server sent is an SVID for the identity and the key it was asked for.
fn accept(
    entry: &Entry,
    key: Key,
    result: batch_new_x509svid_response::Result,
) -> Result<WorkloadSvid, SvidRefused> {
    let status = result.status.unwrap_or_default();
    if Code::from(status.code) != Code::Ok {
        return Err(SvidRefused::Status(status.message));
    }
    let chain = result.svid.map(|svid: types::X509svid| svid.cert_chain).unwrap_or_default();
    let concatenated = concatenate(&chain);
    let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let svid = Svid::new(chain, key.pkcs8())?;
    let leaf = svid.leaf();
    if *leaf.id() != entry.spiffe_id {
        return Err(SvidRefused::OtherIdentity(leaf.id().to_string()));
    }
    let validity = Validity { not_before: leaf.not_before(), not_after: leaf.not_after() };
    Ok(WorkloadSvid { chain: concatenated, key: key.into_shared_pkcs8(), validity })
}

fn concatenate(chain: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(chain.iter().map(Bytes::len).sum());
    chain.iter().for_each(|der| bytes.extend_from_slice(der));
    bytes.freeze()
}

/// Why a batch brought nothing.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("there is no way to the server yet")]
    NoServer,
    #[error("the server did not answer within {seconds} s", seconds = DEADLINE.as_secs())]
    Late,
    #[error("the server answered: {0}")]
    Server(String),
    #[error("asked for {asked} SVIDs, the server answered about {got}")]
    Count { asked: usize, got: usize },
    #[error("cannot make keys: {0}")]
    Key(#[from] KeyError),
    #[error("shutting down")]
    Stopping,
}

impl BatchError {
    fn server(status: &Status) -> Self {
        Self::Server(Said(status).to_string())
    }
}

/// Why one entry has no SVID.
#[derive(Debug, thiserror::Error)]
enum SvidRefused {
    #[error("the server refuses: {0}")]
    Status(String),
    #[error("the server sent something else than an SVID for our key")]
    NotAnSvid(#[from] SvidKeyError),
    #[error("the server sent an SVID for `{0}`")]
    OtherIdentity(String),
}
