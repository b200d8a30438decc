//! Asking a container engine: about each container once, and never believing it about another.
//!
//! Control groups say which container a process is in ([`crate::cgroup`]); the engine says what that
//! container is, and which process it began with. Only if that process is in the same place is the
//! container the one that the engine means: a group of the same name elsewhere is somebody's deceit.

mod memory;

use std::path::Path;

use claviger_core::selector::Selectors;
use tokio::sync::Semaphore;

use crate::cgroup::{Container, Runtime};
use crate::workload::{FactsError, Process};
use memory::{Memory, Remembered};

/// How many questions are asked at a time.
const QUESTIONS: usize = 16;

/// What engines have told, and the questions that are on their way.
#[derive(Debug)]
pub(crate) struct Engines {
    memory: Memory,
    questions: Semaphore,
}

/// What an engine tells of a container.
#[derive(Debug)]
pub(crate) struct Told {
    /// The process that it began with.
    pub(crate) main_pid: u32,
    /// What is known of it.
    pub(crate) facts: Selectors,
}

impl Engines {
    /// Nobody has told anything yet.
    pub(crate) fn new() -> Self {
        Self { memory: Memory::default(), questions: Semaphore::new(QUESTIONS) }
    }

    /// The facts about `container`, in which `process` is: what `engine` has told before, or what it
    /// answers now. To `ask` gives nothing if the engine doesn't know the container.
    ///
    /// # Errors
    ///
    /// [`FactsError`] if the engine can't be asked, doesn't know a container that must be its own, or
    /// means another one.
    pub(crate) async fn facts(
        &self,
        engine: &Path,
        container: &Container,
        process: &Process,
        ask: impl AsyncFnOnce() -> Result<Option<Told>, FactsError>,
    ) -> Result<Selectors, FactsError> {
        if let Some(facts) = self.memory.find(engine, container) {
            return Ok(facts);
        }
        let closed = |_closed| FactsError::unknown("shutting down");
        let _turn = self.questions.acquire().await.map_err(closed)?;
        // Somebody may have asked while we waited.
        if let Some(facts) = self.memory.find(engine, container) {
            return Ok(facts);
        }
        let Some(Told { main_pid, facts }) = ask().await? else {
            return unknown_to(engine, container);
        };
        let main = process.container_of(main_pid).filter(|main| container.is_where(main));
        let Some(main) = main else {
            return Err(FactsError::unknown(format!(
                "the process is in control groups named for container {}, but the one that {} calls \
                 so began with process {main_pid}, which is elsewhere",
                container.id,
                engine.display(),
            )));
        };
        self.memory.remember(engine, Remembered { container: main, facts: facts.clone() });
        Ok(facts)
    }
}

/// Bare ids are the names of other runtimes' containers, too.
fn unknown_to(engine: &Path, container: &Container) -> Result<Selectors, FactsError> {
    if container.runtime == Runtime::Unnamed {
        return Ok(Selectors::new());
    }
    let what = format!("{} knows no container {}", engine.display(), container.id);
    Err(FactsError::unknown(what))
}
