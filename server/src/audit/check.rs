//! Whether the log is whole.

use claviger_core::audit::{BrokenChain, Head, Link, Sequence, Verifier};

use super::record::{AuditRecord, MAX_PAGE, newest, read};
use crate::store::{Space, Store, StoreError, meta, parse};

/// The log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A record was changed, or is missing.
    #[error("the audit log was changed after it was written")]
    Broken(#[from] BrokenChain),
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

/// Checks `records`, which continue a log that was checked up to the state of `verifier`.
///
/// # Errors
///
/// [`BrokenChain`] says where and how the log was changed.
pub fn check_page(verifier: &mut Verifier, records: &[AuditRecord]) -> Result<(), BrokenChain> {
    records.iter().try_for_each(|record| verifier.push(record.sequence, &record.body, record.link))
}

/// Checks the whole log in `store`, from its first record to its last.
///
/// # Errors
///
/// [`CheckError`].
pub async fn check_all(store: &dyn Store) -> Result<Head, CheckError> {
    let mut verifier = Verifier::default();
    loop {
        let next = verifier.head().sequence.saturating_add(1);
        let page = read(store, next, MAX_PAGE).await?;
        if page.is_empty() {
            return Ok(verifier.head());
        }
        check_page(&mut verifier, &page)?;
    }
}

/// Finds the end of the log and checks the records just before it, as many as [`read`] returns at
/// once, and that the store's own note of the head agrees.
///
/// # Errors
///
/// [`CheckError`].
pub(crate) async fn check_end(store: &dyn Store) -> Result<Head, CheckError> {
    let (found, link) = newest(store).await?.unwrap_or((0, Link::GENESIS));
    let head = Head { sequence: found, link };
    let noted = match store.get(Space::Meta, meta::HEAD).await? {
        Some(stored) => parse(&stored)?,
        None => Head::default(),
    };
    if noted.sequence != found {
        return Err(CheckError::End { expected: noted.sequence, found });
    }
    if noted.link != link {
        return Err(BrokenChain::Hash { sequence: found }.into());
    }
    let length = Sequence::try_from(MAX_PAGE).unwrap_or(Sequence::MAX);
    let first = found.saturating_sub(length).saturating_add(1);
    let page = read(store, first, MAX_PAGE).await?;
    if let Some(oldest) = page.first() {
        let before = Head { sequence: first.saturating_sub(1), link: oldest.previous };
        check_page(&mut Verifier::after(before), &page)?;
    }
    Ok(head)
}
