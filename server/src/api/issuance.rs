//! From permission to SVID: decide, record, sign.
//!
//! The types hold the order: the policy makes the grants, the journal turns them into recorded ones,
//! and the authority signs nothing else. What differs from one profile to the other is in [`acts`].

pub mod acts;

use std::sync::Arc;

use claviger_core::grant::{Grant, Recorded};
use claviger_core::id::SpiffeId;
use claviger_core::time::{Clock, UnixTime};
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
use crate::load::{Load, Overload};
use crate::policy::{Denied, Policies};
use crate::standings::Standings;
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
    /// How identities stand, at the moment of signing.
    pub standings: Standings,
    /// What the server has taken on.
    pub load: Load,
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
        let seen = self.standings.number();
        let mut answers = Vec::with_capacity(acts.len());
        let mut grants = Vec::with_capacity(acts.len());
        for act in acts {
            match self.decide(act) {
                Ok(grant) => {
                    grants.push(grant);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut signed = self.record_and_sign(grants, seen).await.into_iter();
        let lost = || Err(IssueError::Record(CommitError::Stopped));
        answers
            .into_iter()
            .map(|refused| refused.unwrap_or_else(|| signed.next().unwrap_or_else(lost)))
            .collect()
    }

    fn decide<A: Issue>(&self, act: A) -> Result<Grant<A>, IssueError> {
        self.load.credential(act.subject())?;
        Ok(act.decide(&self.policy)?)
    }

    async fn record_and_sign<A: Issue>(
        &self,
        grants: Vec<Grant<A>>,
        seen: u64,
    ) -> Vec<Result<A::Svid, IssueError>> {
        if grants.is_empty() {
            return Vec::new();
        }
        let (asked, now) = (grants.len(), self.clock.now());
        let recorded = match A::record(&self.journal, grants, now).await {
            Ok(recorded) => recorded,
            Err(error) => {
                return (0..asked).map(|_| Err(IssueError::Record(error.clone()))).collect();
            }
        };
        let signed: Vec<_> =
            recorded.into_iter().map(|grant| self.sign::<A>(grant, seen, now)).collect();
        let good = signed.iter().filter(|svid: &&Result<_, _>| svid.is_ok()).count();
        counter!(A::COUNTER).increment(good.try_into().unwrap_or(u64::MAX));
        signed
    }

    /// Signs what was decided when change number `seen` to how identities stand was the newest. Whoever
    /// withdraws what an identity has, once it is in quarantine, finds in the store all that is signed
    /// here: what is written there too late for that is not signed.
    fn sign<A: Issue>(
        &self,
        grant: Recorded<Grant<A>>,
        seen: u64,
        now: UnixTime,
    ) -> Result<A::Svid, IssueError> {
        let subject = grant.as_inner().act().subject();
        if self.standings.is_void(subject, seen) {
            return Err(IssueError::Quarantined(subject.clone()));
        }
        Ok(A::sign(&self.authority, grant, now)?)
    }
}

/// Why no SVID was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is not one.
    #[error("csr: {0}")]
    Csr(#[from] CsrError),
    /// It is asked for too often.
    #[error(transparent)]
    Overload(#[from] Overload),
    /// No policy permits it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It was permitted, and then the identity was put in quarantine.
    #[error("`{0}` was put in quarantine meanwhile")]
    Quarantined(SpiffeId),
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
            IssueError::Overload(overload) => Self::from(*overload),
            IssueError::Denied(denied) => {
                info!(%denied, "SVID refused");
                Self::permission_denied("not permitted by policy")
            }
            IssueError::Quarantined(_) => {
                info!(%error, "SVID refused");
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
