//! Records of the audit log, and how they are stored: bodies under their numbers.

use std::ops::Bound;

use claviger_core::audit::Sequence;

use crate::store::{Order, Pair, Space, Store, StoreError, Write};

/// One record of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditRecord {
    /// Its number.
    pub sequence: Sequence,
    /// What it says: a `claviger_core::audit::Body` as JSON, exactly as it was hashed.
    pub body: Vec<u8>,
}

/// The most records that [`read`] returns at once.
pub const MAX_PAGE: usize = 1_000;

/// The records from number `from` on, at most `limit` and at most [`MAX_PAGE`] of them.
///
/// # Errors
///
/// [`StoreError`] if the store can't be read or holds what is no record.
pub async fn read(
    store: &dyn Store,
    from: Sequence,
    limit: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let from = Bound::Included(key(from));
    let limit = limit.min(MAX_PAGE);
    let pairs = store.scan(Space::Audit, from, Bound::Unbounded, Order::Ascending, limit).await?;
    pairs.into_iter().map(decode).collect()
}

/// The number of the newest record; 0 if there is none.
pub(crate) async fn newest(store: &dyn Store) -> Result<Sequence, StoreError> {
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    let newest = store.scan(Space::Audit, from, to, Order::Descending, 1).await?;
    newest.into_iter().next().map_or(Ok(0), |pair| Ok(decode(pair)?.sequence))
}

/// The write that stores a record.
pub(crate) fn encode(sequence: Sequence, body: Vec<u8>) -> Write {
    Write::put(Space::Audit, key(sequence), body)
}

fn key(sequence: Sequence) -> Vec<u8> {
    sequence.to_be_bytes().to_vec()
}

fn decode((key, body): Pair) -> Result<AuditRecord, StoreError> {
    let malformed = |_length| StoreError::failed("decode an audit record", "its key is malformed");
    let sequence = Sequence::from_be_bytes(key.try_into().map_err(malformed)?);
    Ok(AuditRecord { sequence, body })
}
