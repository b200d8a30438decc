//! Why the ledger may not be complete.

use claviger_core::audit::Sequence;

/// A reason to begin a new epoch. Its text is the reason in the audit log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Doubt {
    /// There is nothing to continue.
    #[error("first start")]
    FirstStart,
    /// The log was a chain of hashes, of which the witness knew.
    #[error("the audit log was brought into its present form")]
    Migrated,
    /// The witness is missing or damaged.
    #[error("the witness file is missing or damaged")]
    NoWitness,
    /// The witness was copied, restored or edited.
    #[error("the witness file is a copy, or was changed by somebody else")]
    WitnessCopied,
    /// The machine went down while the server ran.
    #[error("the server was not stopped cleanly before the machine went down")]
    Unclean,
    /// The store lacks records that were written.
    #[error("the store ends at record {store}, but the witness has seen record {witness}")]
    Behind {
        /// The newest record in the store.
        store: Sequence,
        /// The newest record that was written.
        witness: Sequence,
    },
    /// The store has records that were not written by the server the witness knows.
    #[error("the store and the witness disagree about record {sequence}")]
    Forked {
        /// The record.
        sequence: Sequence,
    },
    /// The root of the epoch is missing or damaged.
    #[error("the root of epoch {epoch} is missing or damaged")]
    NoRoot {
        /// The epoch.
        epoch: u64,
    },
    /// The clock was set back by more than the ledger tolerates.
    #[error("the clock is {seconds} seconds behind the ledger")]
    ClockSetBack {
        /// By how much.
        seconds: u64,
    },
    /// An agent has seen more of the log than this server has.
    #[error(
        "an agent has seen record {sequence} of epoch {epoch}, which this server does not have"
    )]
    CheckpointAhead {
        /// The epoch of the checkpoint.
        epoch: u64,
        /// Its newest record.
        sequence: Sequence,
    },
}
