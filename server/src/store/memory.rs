//! A store for tests: everything in memory, and a disk that fails when told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Order, Pair, Space, Store, StoreError, Write};

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
}

#[derive(Debug, Default)]
struct Contents {
    pairs: BTreeMap<(Space, Vec<u8>), Vec<u8>>,
    fault: Fault,
}

/// The fake.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore(Mutex<Contents>);

impl MemoryStore {
    /// From now on, writes go wrong like this.
    pub(crate) fn fail(&self, fault: Fault) {
        self.contents().fault = fault;
    }

    /// A store with the same contents, as a backup would have them.
    pub(crate) fn copy(&self) -> Self {
        let pairs = self.contents().pairs.clone();
        Self(Mutex::new(Contents { pairs, fault: Fault::None }))
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut contents = self.contents();
        if contents.fault == Fault::Full {
            return Err(StoreError::Full { free: 0, reserve: 1 });
        }
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
        match contents.fault {
            Fault::None | Fault::Full => Ok(()),
            Fault::AfterWriting => Err(StoreError::failed("sync", "the disk went away")),
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
