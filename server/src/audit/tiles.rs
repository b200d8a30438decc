//! The Merkle tree in the store: its tiles, and what follows from them.

use std::collections::BTreeMap;

use claviger_core::audit::proof::Wanted;
use claviger_core::audit::tile::{Growth, TileId, WIDTH, from_bytes, to_bytes};
use claviger_core::audit::{Head, Sequence, TreeHash};

use super::record::{AuditRecord, read};
use crate::store::{Space, Store, StoreError, Write};

/// The write that stores a tile.
pub(crate) fn encode(id: TileId, hashes: &[TreeHash]) -> Write {
    Write::put(Space::Tiles, key(id), to_bytes(hashes))
}

fn key(TileId { level, index }: TileId) -> Vec<u8> {
    [&[level][..], &index.to_be_bytes()].concat()
}

/// The tile `id` as it is in a tree of `size` records; empty if that has none.
///
/// # Errors
///
/// [`StoreError`] if it can't be read, or is not there in full.
pub async fn tile(
    store: &dyn Store,
    id: TileId,
    size: Sequence,
) -> Result<Vec<TreeHash>, StoreError> {
    let width = id.width(size);
    let mut hashes = match stored(store, id).await? {
        Some(hashes) => hashes,
        // Not full: its records tell.
        None if id.level == 0 => {
            let records = entries(store, id.index, width).await?;
            records.iter().map(|record| TreeHash::of_leaf(&record.body)).collect()
        }
        None => Vec::new(),
    };
    if hashes.len() < width {
        return Err(incomplete());
    }
    hashes.truncate(width);
    Ok(hashes)
}

/// The records under tile number `index` of level 0, the first `width` of them.
///
/// # Errors
///
/// [`StoreError`] if they can't be read, or are not all there.
pub async fn entries(
    store: &dyn Store,
    index: u64,
    width: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let first = index.saturating_mul(256).saturating_add(1);
    let records = read(store, first, width.min(WIDTH)).await?;
    let in_order = (first..).zip(&records).all(|(number, record)| record.sequence == number);
    if in_order && records.len() == width { Ok(records) } else { Err(incomplete()) }
}

/// What is stored of a tile.
pub(super) async fn stored(
    store: &dyn Store,
    id: TileId,
) -> Result<Option<Vec<TreeHash>>, StoreError> {
    let Some(bytes) = store.get(Space::Tiles, &key(id)).await? else { return Ok(None) };
    from_bytes(&bytes).map(Some).ok_or_else(incomplete)
}

fn incomplete() -> StoreError {
    StoreError::failed("find a part of the audit log's tree", "it is missing or damaged")
}

/// The tree of the first `size` records, ready to grow.
///
/// # Errors
///
/// As [`tile`].
pub(crate) async fn resume(store: &dyn Store, size: Sequence) -> Result<Growth, StoreError> {
    let mut open = Vec::new();
    for id in Growth::open_tiles(size) {
        open.push(if id.width(size) == 0 { Vec::new() } else { tile(store, id, size).await? });
    }
    Growth::resume(size, open).ok_or_else(incomplete)
}

/// The hashes that `wanted` names, in a tree of `size` records.
///
/// # Errors
///
/// As [`tile`].
pub async fn resolve(
    store: &dyn Store,
    wanted: &Wanted,
    size: Sequence,
) -> Result<Vec<TreeHash>, StoreError> {
    let mut tiles = BTreeMap::new();
    for id in wanted.tiles() {
        tiles.insert(id, tile(store, id, size).await?);
    }
    wanted.resolve(|id| tiles.get(&id).map(Vec::as_slice)).ok_or_else(incomplete)
}

/// The head that the log had when there were `size` records. There must be as many.
///
/// # Errors
///
/// As [`tile`].
pub async fn head_at(store: &dyn Store, size: Sequence) -> Result<Head, StoreError> {
    let root = resolve(store, &Wanted::root(size), size).await?;
    let root = root.first().copied().ok_or_else(incomplete)?;
    Ok(Head { size, root })
}
