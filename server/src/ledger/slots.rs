//! How many things there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts things up to a limit.
#[derive(Debug)]
pub(super) struct Slots {
    used: AtomicUsize,
    most: usize,
}

/// One place; free again when it is dropped, unless it is kept.
#[derive(Debug)]
#[must_use]
pub(super) struct Slot<'a>(Option<&'a Slots>);

impl Slots {
    pub(super) const fn new(most: usize, used: usize) -> Self {
        Self { used: AtomicUsize::new(used), most }
    }

    /// A place, if there is one.
    pub(super) fn take(&self) -> Option<Slot<'_>> {
        let more = |used: usize| used.checked_add(1).filter(|used| *used <= self.most);
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Slot(Some(self)))
    }

    /// `count` things are gone.
    pub(super) fn free(&self, count: usize) {
        let less = |used: usize| Some(used.saturating_sub(count));
        // There always is a new value, so it is always stored.
        let _stored = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// How many there are.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// How many there may be.
    pub(super) const fn most(&self) -> usize {
        self.most
    }
}

impl Slot<'_> {
    /// The thing exists now.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(slots) = self.0 {
            slots.free(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many() {
        let slots = Slots::new(2, 1);
        let last = slots.take().unwrap();
        assert!(slots.take().is_none());
        drop(last);
        slots.take().unwrap().keep();
        assert_eq!(slots.used(), 2);
        slots.free(3);
        assert_eq!(slots.used(), 0);
    }
}
