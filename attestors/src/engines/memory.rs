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
pub(super) struct Memory(Mutex<Inner>);

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
pub(super) struct Remembered {
    pub(super) container: Container,
    pub(super) facts: Selectors,
}

impl Memory {
    /// What `engine` told of `container`, if it is where it was then.
    pub(super) fn find(&self, engine: &Path, container: &Container) -> Option<Selectors> {
        let inner = self.inner();
        let remembered = inner.containers.get(&(engine.to_owned(), container.id.clone()))?;
        container.is_where(&remembered.container).then(|| remembered.facts.clone())
    }

    pub(super) fn remember(&self, engine: &Path, remembered: Remembered) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Viewpoint, find};

    const ID: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";

    fn on(path: &str) -> Container {
        let text = format!("0::{path}\n").replace("{ID}", ID);
        find(text.as_bytes(), &Viewpoint::default()).unwrap().unwrap()
    }

    #[test]
    fn it_is_bounded_and_knows_places() {
        let memory = Memory::default();
        let engine = Path::new("/e");
        let remember = |container: Container| {
            memory.remember(engine, Remembered { container, facts: Selectors::new() });
        };
        remember(on("/docker/{ID}"));
        assert!(memory.find(engine, &on("/docker/{ID}/sub")).is_some());
        assert!(memory.find(engine, &on("/x/docker/{ID}")).is_none());
        assert!(memory.find(Path::new("/f"), &on("/docker/{ID}")).is_none());
        for number in 0..2_000 {
            remember(on(&format!("/docker/{number:064x}")));
        }
        assert!(memory.find(engine, &on("/docker/{ID}")).is_none());
        assert!(memory.find(engine, &on(&format!("/docker/{:064x}", 1_999))).is_some());
        assert!(memory.find(engine, &on(&format!("/docker/{:064x}", 900))).is_none());
    }
}
