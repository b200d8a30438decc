//! What was found out about containers. It does not change while they exist: an engine makes another
//! container rather than to change the labels, the environment or the image of one.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use claviger_core::selector::Selectors;

use crate::cgroup::{Container, ContainerId};

/// How many containers are remembered: more than a machine runs.
const REMEMBERED: usize = 1_024;

/// A bounded memory; the oldest goes first.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    containers: HashMap<Key, Remembered>,
    /// The keys of `containers`, oldest first.
    order: VecDeque<Key>,
}

/// Who told, and of what.
type Key = (PathBuf, ContainerId);

/// A container, where it is, and what is known of it.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) container: Container,
    pub(crate) facts: Selectors,
}

impl Memory {
    /// What `engine` told of `container`, if it is where it was then.
    pub(crate) fn find(&self, engine: &Path, container: &Container) -> Option<Selectors> {
        let inner = self.inner();
        let remembered = inner.containers.get(&(engine.to_owned(), container.id.clone()))?;
        container.is_where(&remembered.container).then(|| remembered.facts.clone())
    }

    pub(crate) fn remember(&self, engine: &Path, remembered: Remembered) {
        let key = (engine.to_owned(), remembered.container.id.clone());
        let mut inner = self.inner();
        if inner.containers.insert(key.clone(), remembered).is_some() {
            return;
        }
        inner.order.push_back(key);
        if REMEMBERED < inner.order.len()
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.containers.remove(&oldest);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic between the two insertions would at worst leave one container for ever.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
