//! How many things there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts things up to a limit.
#[derive(Debug)]
pub(super) struct Slots {
    used: AtomicUsize,
    most: usize,
}

/// Some places; free again when they are dropped, unless they are kept.
#[derive(Debug)]
#[must_use]
pub(super) struct Taken<'a> {
    slots: &'a Slots,
    count: usize,
}

impl Slots {
    pub(super) const fn new(most: usize, used: usize) -> Self {
        Self { used: AtomicUsize::new(used), most }
    }

    /// So many places, if there are as many.
    pub(super) fn take(&self, count: usize) -> Option<Taken<'_>> {
        let more = |used: usize| used.checked_add(count).filter(|used| *used <= self.most);
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Taken { slots: self, count })
    }

    /// `count` things are gone.
    pub(super) fn free(&self, count: usize) {
        let less = |used: usize| Some(used.saturating_sub(count));
        // There always is a new value, so it is always stored.
        let _stored = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// There are `count`, as others know who make and drop them, too.
    pub(super) fn recount(&self, count: usize) {
        self.used.store(count, Ordering::Release);
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

impl Taken<'_> {
    /// The things exist now.
    pub(super) fn keep(mut self) {
        self.count = 0;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.slots.free(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many() {
        let slots = Slots::new(2, 1);
        let last = slots.take(1).unwrap();
        assert!(slots.take(1).is_none());
        drop(last);
        assert!(slots.take(2).is_none(), "all or none");
        slots.take(1).unwrap().keep();
        assert_eq!(slots.used(), 2);
        slots.free(3);
        assert_eq!(slots.used(), 0);
    }
}
