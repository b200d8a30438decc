//! A one-time PSK for a client that was identified before: by its agent, or by its own evidence.

use claviger_core::grant::{IssuePsk, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{KeyBits, PskBinding, PskHash, PskTtl, Purpose, Run, SeriesEpoch};

use super::super::Shared;
use super::super::fresh::Stale;
use crate::ledger::LedgerError;
use crate::ledger::psk::Minted;
use crate::load::Overload;
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
    /// Of which epoch of a series, if of one.
    pub(crate) series: Option<SeriesEpoch>,
    /// How long it is, if it is for a machine that is no TLS stack of ours.
    pub(crate) bits: Option<KeyBits>,
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
        let mut issued = self.issue_all(asked, 1, requester).await?;
        #[expect(clippy::expect_used, reason = "as many are issued as were asked for")]
        Ok(issued.pop().expect("one"))
    }

    /// The same of so many at once: all are issued, or none is.
    ///
    /// # Errors
    ///
    /// [`IssueError`]; then there is none of them.
    pub(crate) async fn issue_all(
        &self,
        asked: Asked,
        count: usize,
        requester: Requester,
    ) -> Result<Vec<Issued>, IssueError> {
        if asked.client == asked.server {
            return Err(IssueError::ToItself(asked.client));
        }
        (0..count).try_for_each(|_| self.shared.load.credential(&asked.client))?;
        if !self.shared.registry.is_registered(&asked.server) {
            return Err(IssueError::UnknownPeer(asked.server));
        }
        let binding = PskBinding {
            not_after: self.shared.storage.ledger.now().after(asked.ttl.duration()),
            client: asked.client,
            server: asked.server,
            purpose: asked.purpose,
            hash: PskHash::Sha256,
            run: asked.run,
            series: asked.series,
            bits: asked.bits,
        };
        let act = IssuePsk { binding, requester };
        // A series that others move on at the same time is looked at anew, as are the policies.
        for _ in 0..ROUNDS {
            match self.decide_and_mint(&act, count).await {
                Err(IssueError::Ledger(LedgerError::Overtaken)) => {}
                outcome => return outcome,
            }
        }
        Err(IssueError::Ledger(LedgerError::Overtaken))
    }

    /// One decision for each key.
    async fn decide_and_mint(
        &self,
        act: &IssuePsk,
        count: usize,
    ) -> Result<Vec<Issued>, IssueError> {
        let policy = &self.shared.policy;
        let by = policy::Asked::by(&act.requester);
        let mut wanted = Vec::with_capacity(count);
        for _ in 0..count {
            let grant = policy.issue_psk(act.clone())?;
            let met = policy.meet(grant.decided()).map_err(|denied| policy.noted(denied, &by))?;
            wanted.push((grant, met));
        }
        let decided = wanted.first().map(|(grant, _)| Box::new(grant.decided().clone()));
        match (self.shared.storage.ledger.mint_all(wanted).await, decided) {
            (Ok(minted), _) => {
                let issued = minted.into_iter().map(|Minted { identity, base, not_after: _ }| {
                    Issued { identity, base, binding: act.binding.clone() }
                });
                Ok(issued.collect())
            }
            (Err(LedgerError::Unmet), Some(decided)) => {
                Err(policy.noted(policy.unmet(decided), &by).into())
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// How often a key of a series is tried to be minted while others move the series on.
const ROUNDS: usize = 8;

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
    /// It is asked for too often.
    #[error(transparent)]
    Overload(#[from] Overload),
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
