//! A store for tests: everything in memory, a disk that fails when told to, and others who write to it
//! when they have joined.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use tokio::sync::Notify;

use super::{Group, Order, Pair, Space, Store, StoreError, Turn, Write};

/// How the next writes go wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Fault {
    /// They do not.
    #[default]
    None,
    /// The disk is full, and nothing is written.
    Full,
    /// The write happens, and an error is reported.
    AfterWriting,
    /// The write happens, and it is reported that nobody knows yet.
    Unsettled,
}

#[derive(Debug, Default)]
struct Contents {
    pairs: BTreeMap<(Space, Vec<u8>), Vec<u8>>,
    /// All that was ever written.
    groups: Vec<Group>,
    fault: Fault,
}

/// What all handles share.
#[derive(Debug, Default)]
struct Shared {
    contents: Mutex<Contents>,
    /// Held by whose turn it is.
    turn: tokio::sync::Mutex<()>,
    written: Notify,
}

/// The fake: the handle of one server.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    shared: Arc<Shared>,
    /// How many groups this server knows of.
    seen: AtomicUsize,
}

impl MemoryStore {
    /// From now on, writes go wrong like this.
    pub(crate) fn fail(&self, fault: Fault) {
        self.contents().fault = fault;
    }

    /// A store with the same contents, as a backup would have them.
    pub(crate) fn copy(&self) -> Self {
        let pairs = self.contents().pairs.clone();
        let contents = Contents { pairs, ..Contents::default() };
        let shared = Shared { contents: Mutex::new(contents), ..Shared::default() };
        Self { shared: Arc::new(shared), seen: AtomicUsize::default() }
    }

    /// The same store, for another server.
    pub(crate) fn join(&self) -> Self {
        let seen = self.contents().groups.len().into();
        Self { shared: Arc::clone(&self.shared), seen }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.shared.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_news(&self) -> Vec<Group> {
        let contents = self.contents();
        let seen = self.seen.swap(contents.groups.len(), Ordering::SeqCst);
        contents.groups[seen..].to_vec()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents().pairs.get(&(space, key.to_vec())).cloned())
    }

    async fn get_many(
        &self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let contents = self.contents();
        Ok(keys.iter().map(|key| contents.pairs.get(key).cloned()).collect())
    }

    async fn scan(
        &self,
        space: Space,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let contents = self.contents();
        let all = contents.pairs.iter().filter_map(|((at, key), value)| {
            let inside =
                *at == space && std::ops::RangeBounds::contains(&(from.clone(), to.clone()), key);
            inside.then(|| (key.clone(), value.clone()))
        });
        Ok(match order {
            Order::Ascending => all.take(limit).collect(),
            Order::Descending => all.rev().take(limit).collect(),
        })
    }

    async fn turn(&self) -> Result<Box<dyn Turn + '_>, StoreError> {
        let guard = self.shared.turn.lock().await;
        Ok(Box::new(MemoryTurn { store: self, _guard: guard }))
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    async fn others(&self) {
        let written = self.shared.written.notified();
        if self.seen.load(Ordering::SeqCst) == self.contents().groups.len() {
            written.await;
        }
    }

    async fn news(&self) -> Result<Vec<Group>, StoreError> {
        Ok(self.take_news())
    }
}

#[derive(Debug)]
struct MemoryTurn<'s> {
    store: &'s MemoryStore,
    _guard: tokio::sync::MutexGuard<'s, ()>,
}

#[async_trait]
impl Turn for MemoryTurn<'_> {
    async fn news(&mut self) -> Result<Vec<Group>, StoreError> {
        Ok(self.store.take_news())
    }

    async fn get_many(
        &mut self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.store.get_many(keys).await
    }

    async fn write(self: Box<Self>, writes: Vec<Write>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut contents = self.store.contents();
        if contents.fault == Fault::Full {
            return Err(StoreError::Full { free: 0, reserve: 1 });
        }
        contents.groups.push(writes.clone().into());
        for write in writes {
            match write {
                Write::Put { space, key, value } => {
                    contents.pairs.insert((space, key), value);
                }
                Write::Delete { space, key } => {
                    contents.pairs.remove(&(space, key));
                }
                Write::DeleteBelow { space, key } => {
                    contents.pairs.retain(|(at, name), _| *at != space || *name >= key);
                }
            }
        }
        self.store.shared.written.notify_waiters();
        match contents.fault {
            Fault::None | Fault::Full => {
                self.store.seen.store(contents.groups.len(), Ordering::SeqCst);
                Ok(())
            }
            Fault::AfterWriting => Err(StoreError::failed("sync", "the disk went away")),
            Fault::Unsettled => Err(StoreError::Unsettled { source: "the line is cut".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn does_what_every_store_does() {
        crate::store::contract::holds(&MemoryStore::default()).await;
    }
}
