//! The container of a local process, as containerd tells of it: those of nerdctl, and those that a
//! kubelet has made.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator can set | `config` |
//! | what containerd says of a container | `engine` |
//! | how it is asked, and when it is believed | `crate::engines` |
//! | the messages of its API that are used | `wire` |

mod config;
mod engine;
mod wire;

use async_trait::async_trait;
use claviger_core::selector::Selectors;

use crate::cgroup::Runtime;
use crate::engines::{self, Engines};
use crate::workload::{FactsError, Process, WorkloadAttestor, fact};
use engine::Told;

pub use config::Config;

/// The kind of these facts.
pub const KIND: &str = "containerd";

/// Finds out about containers.
#[derive(Debug)]
pub struct Attestor {
    config: Config,
    engines: Engines,
}

impl Attestor {
    /// An attestor that has asked nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, engines: Engines::new() }
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
        let socket = &self.config.socket_path;
        let ask = async || {
            let told = engine::ask(socket, &self.config.namespaces, &container.id).await?;
            let facts = told.as_ref().map(facts_of).unwrap_or_default();
            Ok(told.map(|told| engines::Told { main_pid: told.main_pid, facts }))
        };
        self.engines.facts(socket, container, process, ask).await
    }
}

#[cfg(test)]
mod tests;
