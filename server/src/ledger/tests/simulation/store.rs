//! A store whose writes take their time, and fail before or after they have happened.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::super::*;
use crate::storage::fixture::dice::Dice;
use crate::store::{Group, Order, Pair, Store, Turn};

#[derive(Debug)]
pub(super) struct Flaky {
    inner: Arc<MemoryStore>,
    dice: Mutex<Dice>,
    /// Of a thousand writes, so many fail.
    failing: AtomicUsize,
}

impl Flaky {
    /// One that does not fail yet.
    pub(super) const fn over(inner: Arc<MemoryStore>, dice: Dice) -> Self {
        Self { inner, dice: Mutex::new(dice), failing: AtomicUsize::new(0) }
    }

    /// From now on, so many of a thousand writes fail.
    pub(super) fn fail(&self, failing: usize) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn roll(&self, bound: usize) -> usize {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }

    async fn lag(&self) {
        if self.roll(4) == 0 {
            let millis = self.roll(40).try_into().unwrap();
            sleep(Duration::from_millis(millis)).await;
        }
    }
}

#[async_trait]
impl Store for Flaky {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.lag().await;
        self.inner.get(space, key).await
    }

    async fn get_many(
        &self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.inner.get_many(keys).await
    }

    async fn scan(
        &self,
        space: Space,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        self.inner.scan(space, from, to, order, limit).await
    }

    async fn turn(&self) -> Result<Box<dyn Turn + '_>, StoreError> {
        self.lag().await;
        let turn = self.inner.turn().await?;
        Ok(Box::new(FlakyTurn { store: self, turn }))
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn others(&self) {
        self.inner.others().await;
    }

    async fn news(&self) -> Result<Vec<Group>, StoreError> {
        self.lag().await;
        self.inner.news().await
    }
}

#[derive(Debug)]
struct FlakyTurn<'a> {
    store: &'a Flaky,
    turn: Box<dyn Turn + 'a>,
}

#[async_trait]
impl Turn for FlakyTurn<'_> {
    async fn news(&mut self) -> Result<Vec<Group>, StoreError> {
        self.turn.news().await
    }

    async fn get_many(
        &mut self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.turn.get_many(keys).await
    }

    async fn write(self: Box<Self>, writes: Vec<Write>) -> Result<(), StoreError> {
        let Self { store, turn } = *self;
        store.lag().await;
        let failing = store.failing.load(Ordering::SeqCst);
        if store.roll(1_000) >= failing {
            turn.write(writes).await?;
            // A crash may come now: it has happened, and nobody was told.
            store.lag().await;
            return Ok(());
        }
        let gone = "the disk is gone";
        match store.roll(5) {
            0 => Err(StoreError::Full { free: 0, reserve: 1 }),
            1 => Err(StoreError::Unavailable { action: "write", source: gone.into() }),
            2 => Err(StoreError::failed("write", gone)),
            fate => {
                // It happens, and whoever wrote is not told; or not yet, of a store that can tell later.
                let later = fate == 4 && store.is_shared();
                store.inner.fail(if later { Fault::Unsettled } else { Fault::AfterWriting });
                let outcome = turn.write(writes).await;
                store.inner.fail(Fault::None);
                outcome
            }
        }
    }
}
