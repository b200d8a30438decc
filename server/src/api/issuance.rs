//! From permission to SVID: decide, record, sign.
//!
//! The types hold the order: the policy makes the grants, the journal turns them into recorded ones,
//! and the authority signs nothing else. What differs from one profile to the other is in [`acts`].

pub mod acts;

use std::sync::Arc;

use claviger_core::grant::Grant;
use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_proto::convert::times;
use claviger_proto::spire::types;
use claviger_runtime::telemetry::Chain;
use metrics::counter;
use tonic::Status;
use tracing::{info, warn};

use super::not_committed;
use crate::ca::csr::CsrError;
use crate::ca::{Authority, SignError, SignedSvid, SignedToken};
use crate::journal::{CommitError, Journal};
use crate::policy::{Denied, Policies};
use acts::Issue;

/// The way to an SVID.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// Decides.
    pub policy: Policies,
    /// Records.
    pub journal: Journal,
    /// Signs.
    pub authority: Authority,
    /// The time of signing.
    pub clock: Arc<dyn Clock>,
}

impl Issuance {
    /// Issues one SVID.
    ///
    /// # Errors
    ///
    /// [`IssueError`]; then nothing was signed.
    pub async fn issue<A: Issue>(&self, act: A) -> Result<A::Svid, IssueError> {
        let issued = self.issue_all(vec![act]).await.pop();
        issued.unwrap_or(Err(IssueError::Record(CommitError::Stopped)))
    }

    /// Issues SVIDs: a decision and a record for each, one write for all. The answers are in the
    /// order of the questions.
    pub async fn issue_all<A: Issue>(&self, acts: Vec<A>) -> Vec<Result<A::Svid, IssueError>> {
        let mut answers = Vec::with_capacity(acts.len());
        let mut grants = Vec::with_capacity(acts.len());
        for act in acts {
            match act.decide(&self.policy) {
                Ok(grant) => {
                    grants.push(grant);
                    answers.push(None);
                }
                Err(denied) => answers.push(Some(Err(IssueError::Denied(denied)))),
            }
        }
        let mut signed = self.record_and_sign(grants).await.into_iter();
        let lost = || Err(IssueError::Record(CommitError::Stopped));
        answers
            .into_iter()
            .map(|refused| refused.unwrap_or_else(|| signed.next().unwrap_or_else(lost)))
            .collect()
    }

    async fn record_and_sign<A: Issue>(
        &self,
        grants: Vec<Grant<A>>,
    ) -> Vec<Result<A::Svid, IssueError>> {
        if grants.is_empty() {
            return Vec::new();
        }
        let asked = grants.len();
        let recorded = match A::record(&self.journal, grants).await {
            Ok(recorded) => recorded,
            Err(error) => {
                return (0..asked).map(|_| Err(IssueError::Record(error.clone()))).collect();
            }
        };
        let now = self.clock.now();
        let sign = |grant| Ok(A::sign(&self.authority, grant, now)?);
        let signed: Vec<_> = recorded.into_iter().map(sign).collect();
        let good = signed.iter().filter(|svid: &&Result<_, _>| svid.is_ok()).count();
        counter!(A::COUNTER).increment(good.try_into().unwrap_or(u64::MAX));
        signed
    }
}

/// Why no SVID was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is not one.
    #[error("csr: {0}")]
    Csr(#[from] CsrError),
    /// No policy permits it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It could not be written down.
    #[error("cannot record the decision")]
    Record(#[source] CommitError),
    /// The signing authority failed.
    #[error("cannot sign")]
    Sign(#[from] SignError),
}

impl From<IssueError> for Status {
    fn from(error: IssueError) -> Self {
        match &error {
            IssueError::Csr(_) => Self::invalid_argument(error.to_string()),
            IssueError::Denied(denied) => {
                info!(%denied, "SVID refused");
                Self::permission_denied("not permitted by policy")
            }
            IssueError::Record(commit) => {
                warn!(error = %Chain(&error), "SVID not issued");
                not_committed(commit)
            }
            IssueError::Sign(_) => {
                warn!(error = %Chain(&error), "SVID not issued");
                Self::internal("the signing authority failed; see the server's log")
            }
        }
    }
}

/// The SVID as SPIRE's API has it.
pub(crate) fn to_wire(id: &SpiffeId, svid: &SignedSvid) -> types::X509svid {
    types::X509svid {
        cert_chain: svid.chain.iter().map(|der| der.to_vec().into()).collect(),
        id: Some(id.into()),
        expires_at: times::to_wire(svid.validity.not_after),
        hint: String::new(),
    }
}

/// The JWT-SVID as SPIRE's API has it.
pub(crate) fn jwt_to_wire(id: &SpiffeId, svid: SignedToken) -> types::Jwtsvid {
    types::Jwtsvid {
        token: svid.token,
        id: Some(id.into()),
        expires_at: times::to_wire(svid.expires_at),
        issued_at: times::to_wire(svid.issued_at),
        hint: String::new(),
    }
}

/// The WIT-SVID as SPIRE's API has it.
pub(crate) fn wit_to_wire(id: &SpiffeId, svid: SignedToken) -> types::Witsvid {
    types::Witsvid {
        token: svid.token,
        id: Some(id.into()),
        expires_at: times::to_wire(svid.expires_at),
        issued_at: times::to_wire(svid.issued_at),
        hint: String::new(),
    }
}
