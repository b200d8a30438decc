//! The container of a local process, as containerd tells of it: those of nerdctl, and those that a
//! kubelet has made.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator can set | `config` |
//! | what containerd says of a container | `engine` |
//! | the messages of its API that are used | `wire` |
//!
//! As with Docker ([`crate::docker`]), a container is the one that containerd means only where the
//! process is that it began with.

mod config;
mod engine;
mod wire;

use async_trait::async_trait;
use claviger_core::selector::Selectors;
use tokio::sync::Semaphore;

use crate::cgroup::{Container, Runtime};
use crate::docker::memory::{Memory, Remembered};
use crate::workload::{FactsError, Process, WorkloadAttestor, fact};
use engine::Told;

pub use config::Config;

/// The kind of these facts.
pub const KIND: &str = "containerd";

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

    async fn ask(&self, container: &Container, process: &Process) -> Result<Selectors, FactsError> {
        let closed = |_closed| FactsError::unknown("shutting down");
        let _turn = self.questions.acquire().await.map_err(closed)?;
        let socket = &self.config.socket_path;
        // Somebody may have asked while we waited.
        if let Some(facts) = self.memory.find(socket, container) {
            return Ok(facts);
        }
        let told = engine::ask(socket, &self.config.namespaces, &container.id).await?;
        let Some(told) = told else { return unknown(container) };
        let main = process.container_of(told.main_pid);
        let Some(main) = main.filter(|main| container.is_where(main)) else {
            return Err(FactsError::unknown(format!(
                "the process is in control groups named for container {}, but the one that \
                 containerd calls so began with process {}, which is elsewhere",
                container.id, told.main_pid
            )));
        };
        let facts = facts_of(&told);
        self.memory.remember(socket, Remembered { container: main, facts: facts.clone() });
        Ok(facts)
    }
}

fn facts_of(told: &Told) -> Selectors {
    let mut facts = Selectors::new();
    facts.extend(fact(KIND, "namespace", &told.namespace));
    for (key, value) in &told.labels {
        // Else `a:b` = `c` would be taken for `a` = `b:c`.
        if !key.contains(':') {
            facts.extend(fact(KIND, "label", format_args!("{key}:{value}")));
        }
    }
    if !told.image.is_empty() {
        facts.extend(fact(KIND, "image", &told.image));
    }
    if let Some(digest) = &told.image_digest {
        facts.extend(fact(KIND, "image_digest", digest));
    }
    facts
}

/// Bare ids are the names of other runtimes' containers, too.
fn unknown(container: &Container) -> Result<Selectors, FactsError> {
    if container.runtime == Runtime::Unnamed {
        return Ok(Selectors::new());
    }
    Err(FactsError::unknown(format!(
        "containerd knows no container {} in the namespaces that it is asked about",
        container.id
    )))
}

#[async_trait]
impl WorkloadAttestor for Attestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError> {
        let Some(container) = process.container()? else { return Ok(Selectors::new()) };
        let is_ours = matches!(container.runtime, Runtime::Containerd | Runtime::Unnamed);
        if !is_ours || container.user.is_some() {
            return Ok(Selectors::new());
        }
        if let Some(facts) = self.memory.find(&self.config.socket_path, container) {
            return Ok(facts);
        }
        self.ask(container, process).await
    }
}

#[cfg(test)]
mod tests;
