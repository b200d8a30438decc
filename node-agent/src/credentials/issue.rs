//! Asking the server for SVIDs.
//!
//! | to find | look in |
//! |---|---|
//! | batches, whatever the kind | here |
//! | X.509-SVIDs | `x509` |
//! | WIT-SVIDs | `wit` |

mod wit;
mod x509;

use std::sync::Arc;
use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::svid::jwt::TokenError;
use claviger_core::time::Clock;
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::types;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::SvidKeyError;
use tokio::task::spawn_blocking;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::warn;

use super::ServedBundle;
use super::book::{Answer, Kind};
use super::kept::NotIssued;
use crate::keys::{Key, KeyError};
use crate::metrics;
use crate::server::{Link, Said};

/// The most characters of a refusal that are kept, for those who ask why.
const MAX_SAID: usize = 200;

/// For one batch.
const DEADLINE: Duration = Duration::from_secs(30);

/// A kind of SVIDs that the server signs for keys of ours.
pub(super) trait Issued: Kind + Send {
    /// What the server is told about one of them.
    type Params: Clone + Send + Sync + 'static;
    /// What it says about one of them.
    type Result: Send + 'static;

    /// What to tell the server.
    fn params(entry: &Entry, key: &Key) -> Result<Self::Params, KeyError>;

    /// Asks the server for some, all at once.
    fn ask(
        client: SvidClient<Channel>,
        params: Vec<Self::Params>,
    ) -> impl Future<Output = Result<Vec<Self::Result>, Status>> + Send;

    /// Makes sure that what the server sent is an SVID for the identity and the key it was asked
    /// for.
    fn accept(
        entry: &Entry,
        key: Key,
        result: Self::Result,
        trust: &Trust,
    ) -> Result<Self, SvidRefused>;
}

/// By what tokens are checked.
#[derive(Debug)]
pub(super) struct Trust {
    /// The trust domain's bundle, as it is when the server is asked.
    pub(super) bundle: Arc<ServedBundle>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Asks for one SVID for each of `entries`, all at once.
pub(super) async fn issue<S: Issued>(
    link: Option<Link>,
    entries: Vec<Arc<Entry>>,
    trust: Trust,
) -> Vec<Answer<S>> {
    match try_issue(link, entries.clone(), trust).await {
        Ok(answers) => answers,
        Err(error) => {
            warn!(count = entries.len(), kind = S::NAME, error = %error, "no SVIDs");
            metrics::svids_failed(S::NAME, entries.len());
            entries.into_iter().map(|entry| (entry, Err(NotIssued::Unanswered))).collect()
        }
    }
}

async fn try_issue<S: Issued>(
    link: Option<Link>,
    entries: Vec<Arc<Entry>>,
    trust: Trust,
) -> Result<Vec<Answer<S>>, BatchError> {
    let link = link.ok_or(BatchError::NoServer)?;
    // Two milliseconds for a hundred of them: too long for a thread that serves callers.
    let (keys, params) = spawn_blocking({
        let entries = entries.clone();
        move || prepare::<S>(&entries)
    })
    .await
    .map_err(|_stopping| BatchError::Stopping)??;
    let asked = link.ask(DEADLINE, |channel| S::ask(SvidClient::new(channel), params.clone()));
    let results = asked.await.map_err(|status| BatchError::server(&status))?;
    if results.len() != entries.len() {
        return Err(BatchError::Count { asked: entries.len(), got: results.len() });
    }
    spawn_blocking(move || {
        let each = entries.into_iter().zip(keys).zip(results);
        each.map(|((entry, key), result)| take(entry, key, result, &trust)).collect()
    })
    .await
    .map_err(|_stopping| BatchError::Stopping)
}

fn prepare<S: Issued>(entries: &[Arc<Entry>]) -> Result<(Vec<Key>, Vec<S::Params>), KeyError> {
    let one = |entry: &Arc<Entry>| {
        let key = Key::generate()?;
        let params = S::params(entry, &key)?;
        Ok((key, params))
    };
    entries.iter().map(one).collect()
}

fn take<S: Issued>(entry: Arc<Entry>, key: Key, result: S::Result, trust: &Trust) -> Answer<S> {
    match S::accept(&entry, key, result, trust) {
        Ok(svid) => {
            metrics::svid_issued(S::NAME);
            (entry, Ok(svid))
        }
        Err(error) => {
            let (id, kind) = (&entry.spiffe_id, S::NAME);
            warn!(entry = %entry.id, %id, kind, error = %Chain(&error), "no SVID");
            metrics::svids_failed(S::NAME, 1);
            let said = Chain(&error).to_string().chars().take(MAX_SAID).collect::<String>();
            (entry, Err(NotIssued::Refused(said.into())))
        }
    }
}

/// Whether the server says that there is an SVID.
fn sound(status: Option<types::Status>) -> Result<(), SvidRefused> {
    let status = status.unwrap_or_default();
    if Code::from(status.code) == Code::Ok {
        Ok(())
    } else {
        Err(SvidRefused::Status(status.message))
    }
}

/// Why a batch brought nothing.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("there is no way to the server yet")]
    NoServer,
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
pub(super) enum SvidRefused {
    #[error("the server refuses: {0}")]
    Status(String),
    #[error("the server sent something else than an SVID for our key")]
    NotAnSvid(#[from] SvidKeyError),
    #[error("the server sent something else than a WIT-SVID of our trust domain")]
    Token(#[from] TokenError),
    #[error("the server sent an SVID for `{0}`")]
    OtherIdentity(String),
    #[error("the server sent an SVID for another key")]
    OtherKey,
    #[error("the key cannot be used")]
    Key(#[from] KeyError),
}
