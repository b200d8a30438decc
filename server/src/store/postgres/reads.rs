//! Questions for single keys, asked together: whoever asks while an answer is awaited is asked for with all
//! who wait by then. Nobody waits for company.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::PostgresStore;
use crate::store::{Space, Store as _, StoreError};

/// Those who want to know the value of a key.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Mutex<Vec<Wish>>,
    /// Held by who asks for all.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Wish {
    key: (Space, Vec<u8>),
    answer: oneshot::Sender<Option<Vec<u8>>>,
}

impl Reads {
    /// The value of `key`, as it was after this was called.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it can't be read.
    pub(super) async fn get(
        &self,
        store: &PostgresStore,
        key: (Space, Vec<u8>),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push(Wish { key: key.clone(), answer });
        let told = tokio::select! {
            biased;
            told = &mut answered => told,
            _turn = self.turn.lock() => {
                let all = std::mem::take(&mut *self.waiting());
                // Otherwise somebody has asked for this one meanwhile.
                if !all.is_empty() {
                    ask(store, all).await?;
                }
                answered.await
            }
        };
        match told {
            Ok(value) => Ok(value),
            // Who asked for it has failed, or gone away.
            Err(_gone) => Ok(store.get_many(vec![key]).await?.into_iter().next().flatten()),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Wish>> {
        // Pushing and taking leave it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(store: &PostgresStore, all: Vec<Wish>) -> Result<(), StoreError> {
    let (keys, waiting): (Vec<_>, Vec<_>) =
        all.into_iter().map(|wish| (wish.key, wish.answer)).unzip();
    let values = store.get_many(keys).await?;
    for (answer, value) in waiting.into_iter().zip(values) {
        // Whoever asked may be gone.
        drop(answer.send(value));
    }
    Ok(())
}
