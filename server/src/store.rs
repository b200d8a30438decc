//! Where the server keeps what must outlive it.
//!
//! | to find | look in |
//! |---|---|
//! | the engine on this machine's disk | [`embedded`] |
//! | a fake whose disk can be full | `memory`, in tests |
//!
//! Only the journal writes; everybody reads. What can be read is durable, and a [`Write`] list
//! happens as a whole or not at all.

pub mod embedded;
#[cfg(test)]
pub(crate) mod memory;

use std::error::Error;
use std::fmt::Debug;
use std::ops::Bound;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    /// The audit log, by sequence number: a record's hash, then its body.
    Audit,
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
    pub const ALL: [Self; 13] = [
        Self::Meta,
        Self::Entries,
        Self::Agents,
        Self::Tokens,
        Self::Psks,
        Self::Audit,
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
    pub const HEAD: &[u8] = b"head";
    /// The latest ledger time that was committed, in seconds.
    pub const TIME: &[u8] = b"time";
    /// The number of the newest change to how identities stand.
    pub const STANDINGS: &[u8] = b"standings";
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

    /// Applies `writes` in their order, all or none. They are durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; ask [`StoreError::untouched`] whether they may have happened nevertheless.
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError>;
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
            Self::Full { .. } => true,
            Self::Failed { .. } => false,
        }
    }
}

/// What every store must do, run against each.
#[cfg(test)]
pub(crate) mod contract {
    use super::*;

    async fn keys(store: &dyn Store, order: Order, limit: usize) -> Vec<Vec<u8>> {
        let all = store.scan(Space::Psks, Bound::Unbounded, Bound::Unbounded, order, limit);
        all.await.unwrap().into_iter().map(|(key, _)| key).collect()
    }

    pub(crate) async fn holds(store: &dyn Store) {
        reads_what_was_written(store).await;
        later_writes_of_one_list_win(store).await;
        ranges_are_dropped(store).await;
        scans_are_bounded_and_ordered(store).await;
    }

    async fn reads_what_was_written(store: &dyn Store) {
        assert_eq!(store.get(Space::Meta, b"a").await.unwrap(), None);
        let writes =
            vec![Write::put(Space::Meta, b"a", b"1"), Write::put(Space::Entries, b"a", b"2")];
        store.write(writes).await.unwrap();
        let wanted = [Space::Meta, Space::Entries, Space::Agents].map(|s| (s, b"a".to_vec()));
        let found = store.get_many(wanted.to_vec()).await.unwrap();
        assert_eq!(found, [Some(b"1".to_vec()), Some(b"2".to_vec()), None]);
        let delete = Write::delete(Space::Meta, b"a");
        store.write(vec![delete]).await.unwrap();
        assert_eq!(store.get(Space::Meta, b"a").await.unwrap(), None);
    }

    async fn later_writes_of_one_list_win(store: &dyn Store) {
        let delete = Write::delete(Space::Meta, b"k");
        let writes =
            vec![Write::put(Space::Meta, b"k", b"1"), delete, Write::put(Space::Meta, b"k", b"3")];
        store.write(writes).await.unwrap();
        assert_eq!(store.get(Space::Meta, b"k").await.unwrap(), Some(b"3".to_vec()));
        let below = Write::DeleteBelow { space: Space::Psks, key: b"m".to_vec() };
        let writes =
            vec![Write::put(Space::Psks, b"b", b"1"), below, Write::put(Space::Psks, b"c", b"1")];
        store.write(writes).await.unwrap();
        assert_eq!(keys(store, Order::Ascending, 9).await, [b"c"]);
    }

    async fn ranges_are_dropped(store: &dyn Store) {
        let below = |key: &[u8]| Write::DeleteBelow { space: Space::Psks, key: key.to_vec() };
        let fill = [b"a", b"b", b"d", b"e"].map(|key| Write::put(Space::Psks, key, b"x"));
        store.write(fill.to_vec()).await.unwrap();
        store.write(vec![below(b"d")]).await.unwrap();
        assert_eq!(keys(store, Order::Ascending, 9).await, [b"d", b"e"]);
        // A key below a range that was dropped before, as after a clock was set back.
        store.write(vec![Write::put(Space::Psks, b"a", b"x")]).await.unwrap();
        store.write(vec![below(b"e")]).await.unwrap();
        assert_eq!(keys(store, Order::Ascending, 9).await, [b"e"]);
    }

    async fn scans_are_bounded_and_ordered(store: &dyn Store) {
        let fill = [b"f", b"g", b"h"].map(|key| Write::put(Space::Psks, key, b"x"));
        store.write(fill.to_vec()).await.unwrap();
        assert_eq!(keys(store, Order::Ascending, 2).await, [b"e", b"f"]);
        assert_eq!(keys(store, Order::Descending, 2).await, [b"h", b"g"]);
        let (from, to) = (Bound::Excluded(b"e".to_vec()), Bound::Included(b"g".to_vec()));
        let some = store.scan(Space::Psks, from, to, Order::Ascending, 9).await.unwrap();
        assert_eq!(some.iter().map(|(key, _)| key.as_slice()).collect::<Vec<_>>(), [b"f", b"g"]);
    }
}
