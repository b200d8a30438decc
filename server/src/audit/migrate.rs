//! Logs of the first versions, which were chains of hashes: each record was stored behind
//! `hash(n) = SHA-256(LP("claviger audit v1") n hash(n-1) body(n))`, where `hash(0)` is 32 zero bytes.
//!
//! The chain is checked from end to end a last time; then page by page the bodies are stored alone,
//! and the tree is built above them. A start that is interrupted is continued by the next.

use std::ops::Bound;

use aws_lc_rs::digest::{Context, SHA256};
use claviger_core::audit::tile::{Growth, WIDTH};
use claviger_core::audit::{BrokenLog, Sequence, TreeHash};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::check::CheckError;
use super::{record, tiles};
use crate::store::{Order, Space, Store, StoreError, Write, json, meta, parse};

/// The end of a chain, or of a part of it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Link {
    sequence: Sequence,
    #[serde(rename = "link", with = "hex::serde")]
    hash: [u8; 32],
}

impl Link {
    fn next(&self, body: &[u8]) -> Self {
        const LABEL: &[u8] = b"claviger audit v1";
        let sequence = self.sequence.saturating_add(1);
        let mut context = Context::new(&SHA256);
        context.update(&[0, 17]);
        context.update(LABEL);
        context.update(&sequence.to_be_bytes());
        context.update(&self.hash);
        context.update(body);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { sequence, hash }
    }
}

/// Makes a tree of the log in `store`, if that is a chain. Returns whether it was.
///
/// # Errors
///
/// [`CheckError`] if the chain is not whole; then nothing has changed.
pub(crate) async fn migrate(store: &dyn Store) -> Result<bool, CheckError> {
    let Some(end) = store.get(Space::Meta, meta::CHAIN).await? else { return Ok(false) };
    let end: Link = parse(&end)?;
    let done = store.get(Space::Meta, meta::MIGRATED).await?;
    let done: Link = done.map_or(Ok(Link::default()), |done| parse(&done))?;
    info!(records = end.sequence, "the audit log becomes a Merkle tree");

    let mut at = done;
    while let Some((next, _)) = page(store, at).await? {
        at = next;
    }
    if at.sequence != end.sequence {
        return Err(CheckError::End { expected: end.sequence, found: at.sequence });
    }
    if at != end {
        return Err(BrokenLog::Hash { sequence: end.sequence }.into());
    }

    let mut at = done;
    let mut growth = tiles::resume(store, done.sequence).await?;
    while let Some((next, bodies)) = page(store, at).await? {
        let mut writes = Vec::new();
        for (sequence, body) in (at.sequence.saturating_add(1)..).zip(bodies) {
            growth.push(TreeHash::of_leaf(&body));
            writes.push(record::encode(sequence, body));
        }
        at = next;
        write(store, writes, &mut growth, Write::put(Space::Meta, meta::MIGRATED, json(&at)))
            .await?;
    }
    let writes = vec![
        Write::put(Space::Meta, meta::HEAD, json(&growth.head())),
        Write::delete(Space::Meta, meta::CHAIN),
    ];
    write(store, writes, &mut growth, Write::delete(Space::Meta, meta::MIGRATED)).await?;
    Ok(true)
}

async fn write(
    store: &dyn Store,
    mut writes: Vec<Write>,
    growth: &mut Growth,
    progress: Write,
) -> Result<(), StoreError> {
    writes.extend(growth.take_changed().iter().map(|(id, hashes)| tiles::encode(*id, hashes)));
    writes.push(progress);
    store.write(writes).await
}

/// The bodies of the next records after `before`, as many as are under a tile, and the link behind
/// them; `None` at the end.
async fn page(store: &dyn Store, before: Link) -> Result<Option<(Link, Vec<Vec<u8>>)>, CheckError> {
    let from = Bound::Excluded(before.sequence.to_be_bytes().to_vec());
    let pairs = store.scan(Space::Audit, from, Bound::Unbounded, Order::Ascending, WIDTH).await?;
    let (mut at, mut bodies) = (before, Vec::new());
    for (key, value) in pairs {
        let expected = at.sequence.saturating_add(1);
        if key != expected.to_be_bytes() {
            let found = key.try_into().map_or(0, Sequence::from_be_bytes);
            return Err(BrokenLog::Gap { expected, found }.into());
        }
        let changed = BrokenLog::Hash { sequence: expected };
        let (hash, body) = value.split_first_chunk::<32>().ok_or(changed)?;
        at = at.next(body);
        if at.hash != *hash {
            return Err(changed.into());
        }
        bodies.push(body.to_vec());
    }
    Ok((!bodies.is_empty()).then_some((at, bodies)))
}

#[cfg(test)]
mod tests {
    use super::super::check::{check_all, check_end};
    use super::*;
    use crate::store::memory::MemoryStore;

    /// What a server of the first versions left, with `records` in its log.
    async fn chain(records: u64) -> MemoryStore {
        let store = MemoryStore::default();
        let (mut at, mut writes) = (Link::default(), Vec::new());
        for number in 1..=records {
            let body = format!(r#"{{"time":{number},"event":"server_started","epoch":1}}"#);
            at = at.next(body.as_bytes());
            let value = [&at.hash[..], body.as_bytes()].concat();
            writes.push(Write::put(Space::Audit, number.to_be_bytes(), value));
        }
        writes.push(Write::put(Space::Meta, meta::CHAIN, json(&at)));
        store.write(writes).await.unwrap();
        store
    }

    /// As Python's `hashlib` has it: the bytes of the first versions.
    #[test]
    fn links_are_those_of_the_first_versions() {
        let body = br#"{"time":1800000000,"event":"server_started","epoch":1}"#;
        let link = hex::encode(Link::default().next(body).hash);
        assert_eq!(link, "c56d6a3790f6a9ae41771415afc1d524dae469166786358b04ff85546145fa06");
    }

    #[tokio::test]
    async fn a_chain_becomes_a_tree_of_the_same_records() {
        for records in [0, 1, 255, 256, 257, 1_300] {
            let store = chain(records).await;
            assert!(migrate(&store).await.unwrap());
            assert!(!migrate(&store).await.unwrap(), "once");
            let head = check_all(&store).await.unwrap();
            assert_eq!(head.size, records);
            assert_eq!(check_end(&store).await.unwrap().head(), head);
            let last = record::read(&store, records.max(1), 1).await.unwrap();
            let is_there =
                |body: &[u8]| body.starts_with(format!(r#"{{"time":{records},"#).as_bytes());
            assert!(records == 0 || is_there(&last[0].body));
        }
    }

    #[tokio::test]
    async fn a_chain_that_was_changed_is_left_as_it_is() {
        for changed in [1_u64, 300, 600] {
            let store = chain(600).await;
            let value = [&[0; 32][..], b"{}"].concat();
            let forged = Write::put(Space::Audit, changed.to_be_bytes(), value);
            store.write(vec![forged]).await.unwrap();
            let before = store.copy();
            let error = migrate(&store).await.unwrap_err();
            assert!(
                matches!(error, CheckError::Broken(BrokenLog::Hash { sequence }) if sequence == changed)
            );
            let first = record::read(&store, 1, 2).await.unwrap();
            assert_eq!(first, record::read(&before, 1, 2).await.unwrap());
        }
        let store = chain(600).await;
        store.write(vec![Write::delete(Space::Audit, 600_u64.to_be_bytes())]).await.unwrap();
        let error = migrate(&store).await.unwrap_err();
        assert!(matches!(error, CheckError::End { expected: 600, found: 599 }), "{error}");
    }

    #[tokio::test]
    async fn an_interrupted_start_is_continued() {
        let store = chain(700).await;
        // As far as a start would have come that was interrupted after its first page.
        let (at, bodies) = page(&store, Link::default()).await.unwrap().unwrap();
        let (mut growth, mut writes) = (Growth::default(), Vec::new());
        for (sequence, body) in (1..).zip(bodies) {
            growth.push(TreeHash::of_leaf(&body));
            writes.push(record::encode(sequence, body));
        }
        let progress = Write::put(Space::Meta, meta::MIGRATED, json(&at));
        write(&store, writes, &mut growth, progress).await.unwrap();
        assert!(migrate(&store).await.unwrap());
        assert_eq!(check_all(&store).await.unwrap().size, 700);
    }
}
