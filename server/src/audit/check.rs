//! Whether the log is whole.

use claviger_core::audit::tile::{Growth, TileId, WIDTH};
use claviger_core::audit::{BrokenLog, Head, Sequence, TreeHash};

use super::record::{AuditRecord, MAX_PAGE, newest, read};
use super::tiles;
use crate::store::{Space, Store, StoreError, meta, parse};

/// The log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A record was changed, or is missing.
    #[error("the audit log was changed after it was written")]
    Broken(#[from] BrokenLog),
    /// A hash above the records was changed, or is missing.
    #[error(
        "the tree of the audit log was changed after it was written, at level {level}, tile {index}"
    )]
    Tree {
        /// The level of the tile.
        level: u8,
        /// Which one.
        index: u64,
    },
    /// The log ends where it should not.
    #[error(
        "the audit log ends with record {found}, but the store remembers record {expected} as the \
         newest"
    )]
    End {
        /// The newest record according to the store's own note.
        expected: Sequence,
        /// The newest record that there is.
        found: Sequence,
    },
    /// The store can't be read.
    #[error("cannot read the audit log")]
    Store(#[from] StoreError),
}

/// Checks the whole log in `store`, from its first record to its last, and all of its tree.
///
/// # Errors
///
/// [`CheckError`].
pub async fn check_all(store: &dyn Store) -> Result<Head, CheckError> {
    let noted = noted(store).await?;
    let checked = check_from(store, Growth::default()).await?;
    compare(&checked, noted)?;
    Ok(noted)
}

/// Finds the end of the log and checks the records just before it, about as many as [`read`] returns
/// at once, against the tree, and that the store's own note of the head agrees.
///
/// # Errors
///
/// [`CheckError`].
pub(crate) async fn check_end(store: &dyn Store) -> Result<Growth, CheckError> {
    let noted = noted(store).await?;
    let found = newest(store).await?;
    if noted.size != found {
        return Err(CheckError::End { expected: noted.size, found });
    }
    let length = Sequence::try_from(MAX_PAGE.saturating_sub(WIDTH)).unwrap_or(Sequence::MAX);
    let begin = found.saturating_sub(length) / 256 * 256;
    let checked = check_from(store, tiles::resume(store, begin).await?).await?;
    compare(&checked, noted)?;
    Ok(checked)
}

/// The head as the last group of writes left it.
async fn noted(store: &dyn Store) -> Result<Head, StoreError> {
    let stored = store.get(Space::Meta, meta::HEAD).await?;
    stored.map_or(Ok(Head::default()), |stored| parse(&stored))
}

fn compare(checked: &Growth, noted: Head) -> Result<(), CheckError> {
    let head = checked.head();
    if head.size != noted.size {
        return Err(CheckError::End { expected: noted.size, found: head.size });
    }
    if head != noted {
        return Err(BrokenLog::Root { size: head.size }.into());
    }
    Ok(())
}

/// Checks what continues the tree `growth` of the records before: full tiles above it are compared
/// with those that are stored.
async fn check_from(store: &dyn Store, mut growth: Growth) -> Result<Growth, CheckError> {
    loop {
        let next = growth.head().size.saturating_add(1);
        let page = read(store, next, MAX_PAGE).await?;
        if page.is_empty() {
            return Ok(growth);
        }
        for (expected, AuditRecord { sequence, body }) in (next..).zip(&page) {
            if *sequence != expected {
                return Err(BrokenLog::Gap { expected, found: *sequence }.into());
            }
            growth.push(TreeHash::of_leaf(body));
        }
        for (id, hashes) in growth.take_changed() {
            check_tile(store, id, &hashes).await?;
        }
    }
}

/// Compares the beginning of a stored tile.
async fn check_tile(store: &dyn Store, id: TileId, hashes: &[TreeHash]) -> Result<(), CheckError> {
    let TileId { level, index } = id;
    let stored = tiles::stored(store, id).await?.unwrap_or_default();
    let Some(stored) = stored.get(..hashes.len()) else {
        return Err(CheckError::Tree { level, index });
    };
    match (0..).zip(hashes.iter().zip(stored)).find(|(_, (now, then))| now != then) {
        None => Ok(()),
        Some((at, _)) if level == 0 => {
            let sequence = index.saturating_mul(256).saturating_add(at).saturating_add(1);
            Err(BrokenLog::Hash { sequence }.into())
        }
        Some(_) => Err(CheckError::Tree { level, index }),
    }
}
