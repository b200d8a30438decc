//! Records of the audit log, and how they are stored: bodies under their numbers.

use std::ops::Bound;

use claviger_core::audit::{Event, Sequence};
use claviger_core::time::UnixTime;

use crate::store::{Order, Pair, Space, Store, StoreError, Write, json};

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

/// An event that will be in the log as soon as it is known when: all of its record but the time.
#[derive(Clone, Debug)]
pub(crate) struct Prepared(Vec<u8>);

impl From<Event> for Prepared {
    fn from(event: Event) -> Self {
        Self(json(&event))
    }
}

impl Prepared {
    /// The body of its record, byte for byte what a `claviger_core::audit::Body` is as JSON.
    pub(crate) fn at(&self, time: UnixTime) -> Vec<u8> {
        let Self(event) = self;
        let mut body = Vec::with_capacity(event.len().saturating_add(32));
        body.extend_from_slice(b"{\"time\":");
        body.extend_from_slice(&json(&time));
        body.push(b',');
        body.extend_from_slice(event.strip_prefix(b"{").unwrap_or_default());
        body
    }
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

#[cfg(test)]
mod tests {
    use claviger_core::audit::Body;

    use super::*;

    #[test]
    fn what_is_prepared_is_what_is_read() {
        let time = UnixTime::from_secs(1_800_000_000);
        let fenced = Event::EpochFenced { epoch: 7, reason: "\"}{\u{e9}".to_owned() };
        for event in [Event::ServerStarted { epoch: 3 }, fenced] {
            let body = Prepared::from(event.clone()).at(time);
            assert_eq!(body, json(&Body { time, event }));
        }
    }
}
