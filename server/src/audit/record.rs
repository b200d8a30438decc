//! Records of the audit log, and how they are stored: under their number, hash and then body.

use std::ops::Bound;

use claviger_core::audit::{Link, Sequence};

use crate::store::{Order, Pair, Space, Store, StoreError, Write};

/// One record of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditRecord {
    /// Its number.
    pub sequence: Sequence,
    /// The hash of the record before it.
    pub previous: Link,
    /// Its own hash.
    pub link: Link,
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
    // The record before the first tells its predecessor's hash.
    let before = from.saturating_sub(1);
    let from = Bound::Included(key(before));
    let limit = limit.min(MAX_PAGE).saturating_add(1);
    let pairs = store.scan(Space::Audit, from, Bound::Unbounded, Order::Ascending, limit).await?;
    let mut previous = Link::GENESIS;
    let mut records = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let record = decode(pair, previous)?;
        previous = record.link;
        if record.sequence > before {
            records.push(record);
        }
    }
    records.truncate(limit.saturating_sub(1));
    Ok(records)
}

/// The newest record, if there is one. Its predecessor's hash is not looked up.
pub(crate) async fn newest(store: &dyn Store) -> Result<Option<(Sequence, Link)>, StoreError> {
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    let newest = store.scan(Space::Audit, from, to, Order::Descending, 1).await?;
    let Some(pair) = newest.into_iter().next() else { return Ok(None) };
    let record = decode(pair, Link::GENESIS)?;
    Ok(Some((record.sequence, record.link)))
}

/// The hash of record `sequence`, if there is such a record.
pub(crate) async fn link(
    store: &dyn Store,
    sequence: Sequence,
) -> Result<Option<Link>, StoreError> {
    let Some(value) = store.get(Space::Audit, &key(sequence)).await? else { return Ok(None) };
    Ok(Some(decode((key(sequence), value), Link::GENESIS)?.link))
}

/// The write that stores a record.
pub(crate) fn encode(sequence: Sequence, link: Link, body: &[u8]) -> Write {
    Write::put(Space::Audit, key(sequence), [link.as_bytes(), body].concat())
}

fn key(sequence: Sequence) -> Vec<u8> {
    sequence.to_be_bytes().to_vec()
}

fn decode((key, value): Pair, previous: Link) -> Result<AuditRecord, StoreError> {
    let malformed = || StoreError::failed("decode an audit record", "it is malformed");
    let sequence = Sequence::from_be_bytes(key.try_into().map_err(|_length| malformed())?);
    let (link, body) = value.split_first_chunk().ok_or_else(malformed)?;
    Ok(AuditRecord { sequence, previous, link: Link::from_bytes(*link), body: body.to_vec() })
}
