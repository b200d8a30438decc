//! The container of a local process, as Docker's engine or Podman tells of it.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator can set | `config` |
//! | what an engine says of a container | `engine` |
//! | what was found out and does not change | `memory` |
//!
//! Control groups say which container a process is in ([`crate::cgroup`]); the engine says what that
//! container is, and which process it began with. Only if that process is in the same place is the
//! container the one that the engine means: a group of the same name elsewhere is somebody's deceit.

mod config;
mod engine;
pub(crate) mod memory;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use claviger_core::selector::Selectors;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::cgroup::{Container, Runtime};
use crate::workload::{FactsError, Process, WorkloadAttestor, fact};
use memory::{Memory, Remembered};

pub use config::Config;
pub use engine::{Inspected, read_container};

/// The kind of these facts.
pub const KIND: &str = "docker";

/// How many questions are asked at a time.
const QUESTIONS: usize = 16;

/// Finds out about containers.
#[derive(Debug)]
pub struct Attestor {
    config: Config,
    memory: Memory,
    questions: Semaphore,
}

impl Attestor {
    /// An attestor that has asked nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, memory: Memory::default(), questions: Semaphore::new(QUESTIONS) }
    }

    /// Who knows about `container`, if any engine that we may ask.
    fn engine(&self, container: &Container) -> Option<PathBuf> {
        match (container.runtime, container.user) {
            (Runtime::Docker | Runtime::Unnamed, None) => Some(self.config.socket_path.clone()),
            (Runtime::Podman, None) => Some(self.config.podman_socket_path.clone()),
            (Runtime::Podman, Some(uid)) => {
                let path = self.config.rootless_socket(uid);
                if path.is_none() {
                    debug!(uid, "a container of a user who is not in `rootless-podman-uids`");
                }
                path
            }
            (Runtime::Docker | Runtime::Unnamed, Some(_))
            | (Runtime::Containerd | Runtime::CriO, _) => None,
        }
    }

    async fn ask(
        &self,
        engine: &Path,
        container: &Container,
        process: &Process,
    ) -> Result<Selectors, FactsError> {
        let closed = |_closed| FactsError::unknown("shutting down");
        let _turn = self.questions.acquire().await.map_err(closed)?;
        // Somebody may have asked while we waited.
        if let Some(facts) = self.memory.find(engine, container) {
            return Ok(facts);
        }
        let Some(inspected) = engine::inspect(engine, &container.id).await? else {
            return unknown_to(engine, container);
        };
        let main = process.container_of(inspected.main_pid);
        let Some(main) = main.filter(|main| container.is_where(main)) else {
            return Err(FactsError::unknown(format!(
                "the process is in control groups named for container {}, but the one that {} calls \
                 so began with process {}, which is elsewhere",
                container.id,
                engine.display(),
                inspected.main_pid
            )));
        };
        let facts = self.facts_of(&inspected, container.user);
        self.memory.remember(engine, Remembered { container: main, facts: facts.clone() });
        Ok(facts)
    }

    fn facts_of(&self, inspected: &Inspected, user: Option<u32>) -> Selectors {
        let mut facts = Selectors::new();
        facts.extend(user.and_then(|uid| fact(KIND, "rootless_uid", uid)));
        for (key, value) in &inspected.labels {
            // Else `a:b` = `c` would be taken for `a` = `b:c`.
            if !key.contains(':') {
                facts.extend(fact(KIND, "label", format_args!("{key}:{value}")));
            }
        }
        for (name, value) in &inspected.env {
            if self.config.env.iter().flatten().any(|listed| listed == name) {
                facts.extend(fact(KIND, "env", format_args!("{name}={}", value.as_str())));
            }
        }
        if !inspected.image_name.is_empty() {
            facts.extend(fact(KIND, "image_id", &inspected.image_name));
        }
        if !inspected.image_digest.is_empty() {
            facts.extend(fact(KIND, "image_config_digest", &inspected.image_digest));
        }
        facts
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

#[async_trait]
impl WorkloadAttestor for Attestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError> {
        let Some(container) = process.container()? else { return Ok(Selectors::new()) };
        let Some(engine) = self.engine(container) else { return Ok(Selectors::new()) };
        if let Some(facts) = self.memory.find(&engine, container) {
            return Ok(facts);
        }
        self.ask(&engine, container, process).await
    }
}

#[cfg(test)]
mod tests;
