//! The log as it grows.

use std::sync::Arc;

use claviger_core::audit::{Head, Sequence};
use tokio::sync::watch;

use super::record::{AuditRecord, MAX_PAGE, read};
use crate::store::{Store, StoreError};

/// Reads the log from some record on, and waits at its end for more.
#[derive(Debug)]
pub struct Follow {
    store: Arc<dyn Store>,
    head: watch::Receiver<Head>,
    next: Sequence,
}

impl Follow {
    /// Follows the log in `store`, whose end `head` tells, beginning with record `from`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, head: watch::Receiver<Head>, from: Sequence) -> Self {
        Self { store, head, next: from.max(1) }
    }

    /// The next records, at least one; `None` when the journal has ended and all was read.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    pub async fn next_page(&mut self) -> Result<Option<Vec<AuditRecord>>, StoreError> {
        let next = self.next;
        if self.head.wait_for(|head| head.size >= next).await.is_err() {
            // The journal is gone; what it wrote last may still be unread.
            if self.head.borrow().size < next {
                return Ok(None);
            }
        }
        let page = read(&*self.store, next, MAX_PAGE).await?;
        match page.last() {
            Some(last) => self.next = last.sequence.saturating_add(1),
            None => return Ok(None),
        }
        Ok(Some(page))
    }
}
