//! Who a program is, for a proxy beside it.
//!
//! Whoever asks is known as on the Workload API, and has to be somebody. Only what was asked about is
//! confirmed, and nothing of an identity in quarantine: neither for the program, nor for the proxy.

use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_proto::claviger::caller::v1::callers_server;
use claviger_proto::claviger::caller::v1::{IdentifyRequest, IdentifyResponse};
use claviger_runtime::unix::Peer;
use tonic::{Code, Request, Response, Status, async_trait};
use tracing::debug;

use crate::attestation::{NO_IDENTITY, not_attested, peer, process};
use crate::metrics::counted;
use crate::standings::Standings;
use crate::streams::Desk;
use crate::workload_api::require_header;

/// The most identities in one question.
const MAX_IDS: usize = 16;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    /// Where its callers are served.
    pub(crate) desk: Desk,
    /// How identities stand.
    pub(crate) standings: Standings,
}

#[async_trait]
impl callers_server::Callers for Callers {
    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        require_header(request.metadata())?;
        let (asker, asked) = (peer(&request)?, request.into_inner());
        counted("Identify", self.answer(&asker, asked).await.map_err(Into::into))
    }
}

/// What is asked: which of these the process is.
struct Asked {
    process: Peer,
    any_of: Vec<SpiffeId>,
}

impl Callers {
    async fn answer(
        &self,
        asker: &Peer,
        request: IdentifyRequest,
    ) -> Result<IdentifyResponse, IdentifyError> {
        let any_of = any_of(&request.any_of)?;
        self.require_somebody(asker).await?;
        let asked = Asked { process: named(request.pid)?, any_of };
        let confirmed = self.confirm(&asked).await?;
        // What was found out is about them only if they are still there.
        if asker.has_changed() || asked.process.has_changed() {
            return Err(IdentifyError::Gone);
        }
        Ok(IdentifyResponse { spiffe_id: confirmed.to_string() })
    }

    /// Refuses an asker who is nobody, or nobody who may act.
    async fn require_somebody(&self, asker: &Peer) -> Result<(), IdentifyError> {
        let own = self.desk.identities(asker).await.map_err(IdentifyError::Asker)?;
        if own.iter().any(|entry| self.may_act(&entry.spiffe_id)) {
            Ok(())
        } else {
            Err(IdentifyError::Asker(Status::permission_denied(NO_IDENTITY)))
        }
    }

    /// The first of the identities asked about that the process has.
    async fn confirm(&self, asked: &Asked) -> Result<SpiffeId, IdentifyError> {
        let facts = self.desk.attestation.facts(&asked.process).await;
        let facts = facts.map_err(|error| IdentifyError::NotAttested(not_attested(&error)))?;
        let snapshot = self.desk.snapshot().map_err(IdentifyError::Asker)?;
        let has = snapshot.admitted(&facts, self.desk.clock.now());
        let is_it = |id: &&SpiffeId| {
            has.iter().any(|identity| identity.entry.spiffe_id == **id) && self.may_act(id)
        };
        asked.any_of.iter().find(is_it).cloned().ok_or(IdentifyError::NoneOfThem)
    }

    fn may_act(&self, id: &SpiffeId) -> bool {
        !self.standings.of(id).quarantined
    }
}

fn any_of(ids: &[String]) -> Result<Vec<SpiffeId>, IdentifyError> {
    if ids.is_empty() || MAX_IDS < ids.len() {
        return Err(IdentifyError::Count(ids.len()));
    }
    Ok(ids.iter().map(|id| id.parse()).collect::<Result<_, ParseIdError>>()?)
}

/// The process with the number `pid`. That there is none is no more than that it is none of these.
fn named(pid: i32) -> Result<Peer, IdentifyError> {
    process(pid).map_err(|status| {
        if status.code() == Code::NotFound {
            IdentifyError::Gone
        } else {
            IdentifyError::Process(status)
        }
    })
}

/// Why nothing is confirmed.
#[derive(Debug, thiserror::Error)]
enum IdentifyError {
    #[error("any_of: name 1 to {MAX_IDS} SPIFFE IDs, not {0}")]
    Count(usize),
    #[error("any_of: {0}")]
    Id(#[from] ParseIdError),
    #[error("the process cannot be named so")]
    Process(#[source] Status),
    #[error("who asks is not served")]
    Asker(#[source] Status),
    #[error("the process cannot be attested")]
    NotAttested(#[source] Status),
    #[error("the process is none of these, or is in quarantine")]
    NoneOfThem,
    #[error("there is no such process, or it has become another")]
    Gone,
}

impl From<IdentifyError> for Status {
    fn from(error: IdentifyError) -> Self {
        match error {
            IdentifyError::Count(_) | IdentifyError::Id(_) => {
                Self::invalid_argument(error.to_string())
            }
            IdentifyError::Process(status)
            | IdentifyError::Asker(status)
            | IdentifyError::NotAttested(status) => status,
            IdentifyError::NoneOfThem | IdentifyError::Gone => {
                debug!(%error, "caller not confirmed");
                Self::permission_denied("the process has none of these identities")
            }
        }
    }
}

#[cfg(test)]
mod tests;
