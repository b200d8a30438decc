//! A one-time PSK for a client that was identified before: by its agent, or by its own evidence.

use claviger_core::grant::{IssuePsk, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskBinding, PskHash, PskTtl, Purpose, Run};

use super::super::Shared;
use super::super::fresh::Stale;
use crate::ledger::LedgerError;
use crate::policy::{self, Denied};

/// Issues PSKs.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) shared: Shared,
}

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Who will dial.
    pub(crate) client: SpiffeId,
    /// Who will answer.
    pub(crate) server: SpiffeId,
    /// What for.
    pub(crate) purpose: Purpose,
    /// For how long.
    pub(crate) ttl: PskTtl,
    /// In which run of the client only; in any if there is none.
    pub(crate) run: Option<Run>,
}

/// What a client gets.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The name of the PSK on the wire.
    pub(crate) identity: WireIdentity,
    /// What it is derived from.
    pub(crate) base: PskBase,
    /// What it is bound to.
    pub(crate) binding: PskBinding,
}

impl Issuer {
    /// An issuer over what the services share.
    pub(crate) const fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Issues what is `asked` for, on the word of `requester`. Whether the client is who it says is
    /// for the caller to know.
    ///
    /// # Errors
    ///
    /// [`IssueError`]; then there is no such PSK.
    pub(crate) async fn issue(
        &self,
        asked: Asked,
        requester: Requester,
    ) -> Result<Issued, IssueError> {
        if asked.client == asked.server {
            return Err(IssueError::ToItself(asked.client));
        }
        if !self.shared.registry.is_registered(&asked.server) {
            return Err(IssueError::UnknownPeer(asked.server));
        }
        let ledger = &self.shared.storage.ledger;
        let now = ledger.now();
        let binding = PskBinding {
            client: asked.client.clone(),
            server: asked.server.clone(),
            purpose: asked.purpose.clone(),
            not_after: now.after(asked.ttl.duration()),
            hash: PskHash::Sha256,
            run: asked.run.clone(),
        };
        let act = IssuePsk { binding: binding.clone(), requester };
        let policy = &self.shared.policy;
        let by = policy::Asked::by(&act.requester);
        let grant = policy.issue_psk(act)?;
        let decided = Box::new(grant.decided().clone());
        let met = policy.meet(&decided).map_err(|denied| policy.noted(denied, &by))?;
        let minted = match ledger.mint(grant, met).await {
            Ok(minted) => minted,
            Err(LedgerError::Unmet) => return Err(policy.noted(policy.unmet(decided), &by).into()),
            Err(error) => return Err(error.into()),
        };
        Ok(Issued { identity: minted.identity, base: minted.base, binding })
    }
}

/// Why no PSK was issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// A field is wrong.
    #[error("{field}: {why}")]
    Malformed {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// One identity would have both roles, so whoever is on the path could send the client's own
    /// handshake back to it (the Selfie attack, RFC 9257 §4.1).
    #[error("`{0}` is the client itself; each end needs an identity of its own")]
    ToItself(SpiffeId),
    /// The client is not a workload of the agent's.
    #[error("`{0}` is not an identity of this agent's workloads")]
    NotEntitled(SpiffeId),
    /// The agent may speak of another client than there is now.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// Nobody is registered under that name.
    #[error("no entry gives anybody the identity `{0}`")]
    UnknownPeer(SpiffeId),
    /// The policy says no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The ledger did not take it.
    #[error("cannot mint the PSK")]
    Ledger(#[from] LedgerError),
}
