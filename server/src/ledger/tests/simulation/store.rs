//! A store whose writes take their time, and fail before or after they have happened; and the line to it,
//! which can be cut.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::*;
use crate::storage::fixture::dice::Dice;
use crate::store::{Group, Order, Pair, Store, Turn};

/// The line between a server and its store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Line {
    Up,
    /// Nothing gets through.
    Cut,
    /// The server is dead: whatever was on its way, nobody hears of it.
    Dead,
}

#[derive(Debug)]
pub(super) struct Flaky {
    inner: Arc<MemoryStore>,
    dice: Mutex<Dice>,
    /// Of a thousand writes, so many fail.
    failing: AtomicUsize,
    /// Whether there are other servers, even if none of them is there.
    shared: bool,
    line: watch::Sender<Line>,
}

impl Flaky {
    /// One that does not fail yet.
    pub(super) fn over(inner: Arc<MemoryStore>, dice: Dice, shared: bool) -> Self {
        let (dice, line) = (Mutex::new(dice), watch::Sender::new(Line::Up));
        Self { inner, dice, failing: AtomicUsize::new(0), shared, line }
    }

    /// From now on, the line is like this.
    pub(super) fn line_is(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// From now on, so many of a thousand writes fail.
    pub(super) fn fail(&self, failing: usize) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn roll(&self, bound: usize) -> usize {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }

    /// Whether the store can be reached. It takes a moment to find out that it can't.
    async fn reach(&self) -> Result<(), StoreError> {
        let line = *self.line.borrow();
        match line {
            Line::Up => Ok(()),
            Line::Cut => {
                sleep(Duration::from_millis(100)).await;
                Err(StoreError::Unavailable { action: "be reached", source: "cut".into() })
            }
            Line::Dead => Err(StoreError::failed("be reached", "the server is dead")),
        }
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
        self.reach().await?;
        self.inner.get(space, key).await
    }

    async fn get_many(
        &self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.reach().await?;
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
        self.reach().await?;
        self.inner.scan(space, from, to, order, limit).await
    }

    async fn turn(&self) -> Result<Box<dyn Turn + '_>, StoreError> {
        self.lag().await;
        self.reach().await?;
        let turn = self.inner.turn().await?;
        Ok(Box::new(FlakyTurn { store: self, turn }))
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    async fn others(&self) {
        let mut line = self.line.subscribe();
        if *line.borrow_and_update() == Line::Cut {
            drop(line.changed().await);
        }
        tokio::select! {
            () = self.inner.others() => {}
            _ = line.wait_for(|line| *line == Line::Dead) => {}
        }
    }

    async fn news(&self) -> Result<Vec<Group>, StoreError> {
        self.lag().await;
        self.reach().await?;
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
        self.store.reach().await?;
        self.turn.news().await
    }

    async fn get_many(
        &mut self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.store.reach().await?;
        self.turn.get_many(keys).await
    }

    async fn write(self: Box<Self>, writes: Vec<Write>) -> Result<(), StoreError> {
        let Self { store, turn } = *self;
        store.lag().await;
        store.reach().await?;
        let failing = store.failing.load(Ordering::SeqCst);
        if store.roll(1_000) >= failing {
            turn.write(writes).await?;
            // A crash may come now: it has happened, and nobody was told.
            store.lag().await;
            return match *store.line.borrow() {
                Line::Dead => Err(StoreError::failed("tell", "the server is dead")),
                Line::Up | Line::Cut => Ok(()),
            };
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
