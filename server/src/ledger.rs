//! The ledger of things that may happen once: redeeming a PSK, spending a join token, presenting a
//! token that somebody else has issued.
//!
//! What each may still do is decided by `claviger_core::once`; the ledger applies the decision
//! atomically, through the journal, with the audit record that belongs to it. A decision that
//! something else overtook is made again.
//!
//! | to find | look in |
//! |---|---|
//! | mint, find and redeem a PSK | [`psk`] |
//! | how far a series of PSKs has come | [`series`] |
//! | make and spend a join token | [`token`] |
//! | remember what was used and is somebody else's, such as the `jti` of a CI job's token | [`once`] |
//! | how what has expired is dropped | `sweep` |

pub mod once;
pub mod psk;
pub mod series;
mod slots;
mod sweep;
pub mod token;

use std::future::Future;
use std::num::NonZeroU64;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use claviger_core::id::TrustDomain;
use claviger_core::psk::{PskBinding, PskHash};
use claviger_core::time::UnixTime;
use claviger_runtime::tasks::Tasks;

use crate::epoch::Epochs;
use crate::journal::{CommitError, Journal};
use crate::standings::Standings;
use crate::store::{Space, StoreError};
use series::Roll;
use slots::Slots;

/// The ledger. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Journal,
    epochs: Epochs,
    standings: Standings,
    psks: Slots,
    tokens: Slots,
    once: Slots,
    series: Roll,
    tasks: Tasks,
    /// What a PSK that does not exist is bound to, so that refusing it takes as long.
    nobody: PskBinding,
}

/// The most PSKs at a time: 1,000,000 records take 300 MB of disk and open in two seconds. Three
/// thousand per second, if every one lives for five minutes.
pub const MAX_PSKS: usize = 1_000_000;

/// The most join tokens at a time.
pub const MAX_TOKENS: usize = 10_000;

/// The most things of other issuers that are remembered at a time: 1,000,000 records take 150 MB of
/// disk. Eleven per second, if every one has to be remembered for a day.
pub const MAX_ONCE: usize = 1_000_000;

/// Something was not entered in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It would end too soon or too late.
    #[error("it would end at {end} while it is {now}; it has to end within {longest} seconds")]
    Lifetime {
        /// When it would end.
        end: UnixTime,
        /// The time of the ledger.
        now: UnixTime,
        /// The longest life, in seconds.
        longest: u64,
    },
    /// There are as many as there may be.
    #[error("the ledger holds {most} of them, as many as it may; wait until some have expired")]
    Full {
        /// How many there may be.
        most: usize,
    },
    /// It exists already.
    #[error("it exists already")]
    Exists,
    /// There are as many series as there may be, at all or of this client.
    #[error("there are too many series of keys; one ends when it was not used for a week")]
    TooManySeries(#[source] claviger_runtime::slots::Full),
    /// A later epoch of the series has begun.
    #[error("epoch {newest} of the series has begun, and no more keys are issued for earlier ones")]
    Superseded {
        /// The newest.
        newest: NonZeroU64,
    },
    /// Somebody else has moved the series on meanwhile.
    #[error("the series has moved on meanwhile; try again")]
    Overtaken,
    /// A new epoch began meanwhile.
    #[error("a new epoch began meanwhile; try again")]
    Fenced,
    /// A condition that was met is met no more: its approval was used meanwhile.
    #[error("the approval that it takes was used meanwhile")]
    Unmet,
    /// The operating system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The ledger can't be read.
    #[error("cannot read the ledger")]
    Store(#[from] StoreError),
    /// It could not be recorded.
    #[error("cannot enter it in the ledger")]
    Commit(#[source] CommitError),
}

impl Ledger {
    /// The ledger in the journal's store; starts the task that drops what has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the records can't be counted.
    pub(crate) async fn open(
        journal: Journal,
        epochs: Epochs,
        standings: Standings,
        trust_domain: &TrustDomain,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let store = &**journal.store();
        let psks = Slots::new(MAX_PSKS, store.count(Space::Psks).await?);
        let tokens = Slots::new(MAX_TOKENS, store.count(Space::Tokens).await?);
        let once = Slots::new(MAX_ONCE, store.count(Space::Once).await?);
        let (nobody, tasks) = (nobody(trust_domain), tasks.clone());
        let series = Roll::open(store).await?;
        let inner = Inner { journal, epochs, standings, psks, tokens, once, series, tasks, nobody };
        let ledger = Self(Arc::new(inner));
        let sweeper = sweep::Sweeper::new(ledger.clone());
        ledger.0.tasks.spawn("sweeper", |stop| sweeper.run(stop));
        Ok(ledger)
    }

    /// Does `work`, which makes so many more of those that `slots` counts. It is seen through, so that
    /// the count is right even if whoever asked has gone.
    async fn make<T: Send + 'static>(
        &self,
        (slots, count): (fn(&Inner) -> &Slots, usize),
        work: impl Future<Output = Result<T, CommitError>> + Send + 'static,
    ) -> Result<Result<T, CommitError>, LedgerError> {
        let ledger = self.clone();
        let making = async move {
            let slots = slots(&ledger.0);
            let slot = slots.take(count).ok_or(LedgerError::Full { most: slots.most() })?;
            let made = work.await;
            if made.is_ok() {
                slot.keep();
            }
            Ok(made)
        };
        let made = self.0.tasks.see_through("ledger", making).await;
        made.unwrap_or(Ok(Err(CommitError::Stopped)))
    }

    /// How many more PSKs there may be at this moment.
    #[must_use]
    pub fn room_for_psks(&self) -> usize {
        self.0.psks.most().saturating_sub(self.0.psks.used())
    }

    /// The time by which everything in the ledger expires. It never runs backwards.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.0.epochs.time().now()
    }

    /// The epochs of this ledger.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.0.epochs
    }
}

fn nobody(trust_domain: &TrustDomain) -> PskBinding {
    #[expect(clippy::expect_used, reason = "one lower-case letter is a purpose")]
    let purpose = "x".parse().expect("purpose");
    PskBinding {
        client: trust_domain.id(),
        server: trust_domain.id(),
        purpose,
        not_after: UnixTime::default(),
        hash: PskHash::Sha256,
        run: None,
        series: None,
        bits: None,
    }
}

fn random<const N: usize>() -> Result<[u8; N], LedgerError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_unspecified| LedgerError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
