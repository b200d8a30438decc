//! A bound on what is open at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// A bound on how many things are open at a time, overall and for each caller.
#[derive(Clone, Debug)]
pub struct Slots<K> {
    taken: Arc<Mutex<Taken<K>>>,
    limit: usize,
    limit_per_caller: usize,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    /// Callers with at least one slot, so it has at most `total` entries.
    by_caller: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash> Slots<K> {
    /// Room for `limit` things, and for `limit_per_caller` of each caller.
    #[must_use]
    pub fn new(limit: usize, limit_per_caller: usize) -> Self {
        let taken = Taken { total: 0, by_caller: HashMap::new() };
        Self { taken: Arc::new(Mutex::new(taken)), limit, limit_per_caller }
    }

    /// A slot for `caller`, given back on drop.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is none.
    pub fn take(&self, caller: K) -> Result<Slot<K>, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.limit <= taken.total {
            return Err(Full::Overall(self.limit));
        }
        let own = taken.by_caller.get(&caller).copied().unwrap_or(0);
        if self.limit_per_caller <= own {
            return Err(Full::PerCaller(self.limit_per_caller));
        }
        taken.total = taken.total.saturating_add(1);
        taken.by_caller.insert(caller.clone(), own.saturating_add(1));
        Ok(Slot { taken: Arc::clone(&self.taken), caller })
    }
}

/// One taken slot.
#[derive(Debug)]
pub struct Slot<K: Eq + Hash> {
    taken: Arc<Mutex<Taken<K>>>,
    caller: K,
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_caller.get_mut(&self.caller) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
    }
}

/// No slot is free.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// For anyone.
    #[error("all {0} slots are taken")]
    Overall(usize),
    /// For this caller.
    #[error("this caller already has {0} of them")]
    PerCaller(usize),
}

impl Full {
    /// The value of a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Overall(_) => "full",
            Self::PerCaller(_) => "caller-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_cannot_take_the_slots_of_another() {
        let slots = Slots::new(3, 2);
        let held = [slots.take('a').unwrap(), slots.take('a').unwrap()];
        assert_eq!(slots.take('a').unwrap_err(), Full::PerCaller(2));
        let _other = slots.take('b').unwrap();
        assert_eq!(slots.take('b').unwrap_err(), Full::Overall(3));
        drop(held);
        let _again = slots.take('a').unwrap();
    }

    #[test]
    fn callers_who_left_take_no_memory() {
        let slots = Slots::new(10, 10);
        drop(slots.take('a').unwrap());
        assert!(slots.taken.lock().unwrap().by_caller.is_empty());
    }
}
