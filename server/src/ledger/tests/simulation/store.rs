//! A store whose writes take their time, and fail before or after they have happened.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::super::*;
use crate::storage::fixture::dice::Dice;
use crate::store::{Order, Pair};

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

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (fate, failing) = (self.roll(1_000), self.failing.load(Ordering::SeqCst));
        self.lag().await;
        if fate < failing / 3 {
            return Err(StoreError::Full { free: 0, reserve: 1 });
        }
        if fate < failing * 2 / 3 {
            return Err(StoreError::failed("write", "the disk is gone"));
        }
        self.inner.write(writes).await?;
        // A crash may come now: it has happened, and nobody was told.
        self.lag().await;
        if fate < failing {
            return Err(StoreError::failed("sync", "the disk went away"));
        }
        Ok(())
    }
}
