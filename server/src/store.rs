//! Where the server keeps what must outlive it.
//!
//! | to find | look in |
//! |---|---|
//! | the exclusive right to write, and what others wrote before it was ours | [`turn`] |
//! | the engine on this machine's disk | [`embedded`] |
//! | the database that several servers share | [`postgres`] |
//! | a fake whose disk can be full | `memory`, in tests |
//! | what every store must do | `contract`, in tests |
//!
//! Only the journal writes; everybody reads. What can be read is durable, and a [`Write`] list
//! happens as a whole or not at all.

#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
#[cfg(test)]
pub(crate) mod memory;
pub mod postgres;
pub mod turn;

use std::error::Error;
use std::fmt::Debug;
use std::ops::Bound;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use turn::{Group, Turn};

/// What kind of thing a key names. Values are JSON, except those of the audit log and bundles.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Space {
    /// What the server knows about itself: see [`meta`].
    Meta,
    /// Registration entries, by entry id.
    Entries,
    /// Attested agents, by SPIFFE ID.
    Agents,
    /// Join tokens, by the SHA-256 of the token.
    Tokens,
    /// PSK records, by serial: the keys that expire first come first.
    Psks,
    /// The audit log: bodies of records, by sequence number (eight big-endian bytes).
    Audit,
    /// The Merkle tree above the audit log: hashes by level (one byte) and number of the tile (eight
    /// big-endian bytes). Those of level 0 are here once they are full.
    Tiles,
    /// What was used once and is nobody's PSK or join token: the second at which it would have ended
    /// (eight big-endian bytes), then a digest of its name. What ends first comes first.
    Once,
    /// Our signing authorities; and the bundles of other trust domains by name, as the messages that
    /// SPIRE's API has.
    Authorities,
    /// How identities stand, by SPIFFE ID.
    Standings,
    /// Approvals that are given and not used, by what exactly is approved of.
    Approvals,
    /// X.509-SVIDs that were issued: the second at which one ends at the latest (eight big-endian
    /// bytes), then its serial number. What ends first comes first. There are no more than are issued
    /// within the longest life of an SVID.
    Issued,
    /// The policies that were in force, by their digests; and in which order they came into force.
    Policies,
    /// How far series of PSKs have come: 16 bytes that stand for the client, then a digest of the rest of
    /// what names one.
    Series,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 14] = [
        Self::Meta,
        Self::Entries,
        Self::Agents,
        Self::Tokens,
        Self::Psks,
        Self::Audit,
        Self::Tiles,
        Self::Once,
        Self::Authorities,
        Self::Standings,
        Self::Approvals,
        Self::Issued,
        Self::Policies,
        Self::Series,
    ];

    /// Its name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Entries => "entries",
            Self::Agents => "agents",
            Self::Tokens => "tokens",
            Self::Psks => "psks",
            Self::Audit => "audit",
            Self::Tiles => "tiles",
            Self::Once => "once",
            Self::Authorities => "authorities",
            Self::Standings => "standings",
            Self::Approvals => "approvals",
            Self::Issued => "issued",
            Self::Policies => "policies",
            Self::Series => "series",
        }
    }
}

/// The keys of [`Space::Meta`] that the storage itself uses.
pub mod meta {
    /// The number of the epoch in force.
    pub const EPOCH: &[u8] = b"epoch";
    /// When that epoch began, in seconds: what happened before, nobody remembers for certain.
    pub const SINCE: &[u8] = b"since";
    /// The head of the audit log, as the last group of writes left it.
    pub const HEAD: &[u8] = b"tree";
    /// The end of a log of the first versions, which was a chain of hashes.
    pub const CHAIN: &[u8] = b"head";
    /// How much of such a log was made part of a tree.
    pub const MIGRATED: &[u8] = b"migrated";
    /// The latest ledger time that was committed, in seconds.
    pub const TIME: &[u8] = b"time";
    /// The key that signs checkpoints where servers share the store: wrapped.
    pub const AUDIT_KEY: &[u8] = b"audit-key";
    /// The number of the newest change to how identities stand.
    pub const STANDINGS: &[u8] = b"standings";
    /// That the store was exported: nobody goes on with it.
    pub const EXPORTED: &[u8] = b"exported";
    /// The number of the newest announcement of policies, in big-endian.
    pub const POLICIES: &[u8] = b"policies";
}

/// One change to the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// Sets a value.
    Put {
        /// Where.
        space: Space,
        /// Of which key.
        key: Vec<u8>,
        /// To what.
        value: Vec<u8>,
    },
    /// Removes a value, if there is one.
    Delete {
        /// Where.
        space: Space,
        /// Of which key.
        key: Vec<u8>,
    },
    /// Removes every value whose key is less than `key`.
    DeleteBelow {
        /// Where.
        space: Space,
        /// The least key that stays.
        key: Vec<u8>,
    },
}

impl Write {
    /// Sets the value of `key`.
    pub fn put(space: Space, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { space, key: key.into(), value: value.into() }
    }

    /// Removes the value of `key`.
    pub fn delete(space: Space, key: impl Into<Vec<u8>>) -> Self {
        Self::Delete { space, key: key.into() }
    }
}

/// `value` as it is stored.
pub(crate) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "our types have no map whose keys are not strings")]
    serde_json::to_vec(value).expect("JSON in memory")
}

/// What `stored` says.
///
/// # Errors
///
/// [`StoreError`] if it is not what [`json`] makes of a `T`.
pub(crate) fn parse<T: DeserializeOwned>(stored: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(stored).map_err(|e| StoreError::failed("decode what it holds", e))
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The order of a scan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The least key first.
    Ascending,
    /// The greatest key first.
    Descending,
}

/// An ordered map per [`Space`].
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it can't be read or does not match its checksum.
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    async fn get_many(
        &self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Up to `limit` pairs whose keys lie between `from` and `to`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    async fn scan(
        &self,
        space: Space,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError>;

    /// How many pairs there are in `space`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    async fn count(&self, space: Space) -> Result<usize, StoreError> {
        const PAGE: usize = 4_096;
        let (mut count, mut from) = (0_usize, Bound::Unbounded);
        loop {
            let page = self.scan(space, from, Bound::Unbounded, Order::Ascending, PAGE).await?;
            count = count.saturating_add(page.len());
            match page.into_iter().last() {
                Some((last, _)) => from = Bound::Excluded(last),
                None => return Ok(count),
            }
        }
    }

    /// The greatest key, `key` at most, below which `space` is dropped as cheaply as if little were there;
    /// `None` if dropping costs as much as what is dropped.
    fn whole_parts(&self, _space: Space, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// The exclusive right to write, until what it gives is dropped or has written. Whoever else writes
    /// to the same store, on this machine or another, has to wait.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it can't be had.
    async fn turn(&self) -> Result<Box<dyn Turn + '_>, StoreError>;

    /// Whether other servers write to it, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Waits until others may have written. It may be wrong about that, and late; never does it return
    /// for a store that nobody else can write to.
    async fn others(&self) {
        std::future::pending::<()>().await;
    }

    /// As [`Turn::news`], without a turn: more may be written at this moment.
    ///
    /// # Errors
    ///
    /// As there.
    async fn news(&self) -> Result<Vec<Group>, StoreError> {
        Ok(Vec::new())
    }

    /// Applies `writes` in their order, all or none, in a turn of their own. They are durable when it
    /// returns.
    ///
    /// # Errors
    ///
    /// As [`Turn::write`].
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.turn().await?.write(writes).await
    }
}

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is so full that a write might fail half way, so none was begun.
    #[error(
        "the disk has {free} bytes left and the store keeps {reserve} in reserve; \
         make room on the file system of the data directory"
    )]
    Full {
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// The store can't be reached, or does not answer. Nothing was written.
    #[error("the store could not {action}; nothing was written")]
    Unavailable {
        /// What it was to do.
        action: &'static str,
        /// What is in the way.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store was lost in the very moment of writing. The next turn tells what became of it: if it was
    /// written, it is among the news.
    #[error("the store was lost while it wrote; whether it has written is not known yet")]
    Unsettled {
        /// How it was lost.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The engine failed. A write may or may not have happened.
    #[error("the store could not {action}")]
    Failed {
        /// What it was doing.
        action: &'static str,
        /// What the engine says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// The engine failed at `action`.
    pub(crate) fn failed(
        action: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { action, source: source.into() }
    }

    /// Whether it is certain that nothing was written.
    #[must_use]
    pub const fn untouched(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Unavailable { .. } => true,
            Self::Unsettled { .. } | Self::Failed { .. } => false,
        }
    }

    /// Whether the next turn tells what was written, whatever that is.
    #[must_use]
    pub const fn settles(&self) -> bool {
        self.untouched() || matches!(self, Self::Unsettled { .. })
    }
}
