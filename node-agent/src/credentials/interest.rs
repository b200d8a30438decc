//! Whether anybody wants what is made on demand only.
//!
//! Whoever looks at such an SVID wants it: the keeper then asks for it, and for its successor, as
//! long as somebody has looked at the newest one. An open stream looks at each as it comes, so what
//! it shows is renewed; once the last stream has closed, at most one more is made, and left to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The interest in one SVID.
#[derive(Debug)]
pub(crate) struct Interest {
    wanted: AtomicBool,
    /// Wakes the keeper.
    bell: Arc<Notify>,
}

impl Interest {
    pub(super) fn new(bell: &Arc<Notify>) -> Self {
        Self { wanted: AtomicBool::new(false), bell: Arc::clone(bell) }
    }

    /// Somebody looked.
    pub(super) fn show(&self) {
        if !self.wanted.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Whether somebody looked since [`Self::forget`].
    pub(super) fn is_there(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    pub(super) fn forget(&self) {
        self.wanted.store(false, Ordering::Release);
    }
}
