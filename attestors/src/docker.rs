//! The container of a local process, as Docker's engine or Podman tells of it.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator can set | `config` |
//! | what an engine says of a container | `engine` |
//! | how it is asked, and when it is believed | `crate::engines` |

mod config;
mod engine;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use claviger_core::selector::Selectors;
use tracing::debug;

use crate::cgroup::{Container, Runtime};
use crate::engines::{Engines, Told};
use crate::workload::{FactsError, Process, WorkloadAttestor, fact};

pub use config::Config;
pub use engine::{Inspected, read_container};

/// The kind of these facts.
pub const KIND: &str = "docker";

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
        let ask = async || {
            let inspected = engine::inspect(engine, &container.id).await?;
            Ok(inspected.map(|inspected| Told {
                main_pid: inspected.main_pid,
                facts: self.facts_of(&inspected, container.user),
            }))
        };
        self.engines.facts(engine, container, process, ask).await
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

#[async_trait]
impl WorkloadAttestor for Attestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError> {
        let Some(container) = process.container()? else { return Ok(Selectors::new()) };
        let Some(engine) = self.engine(container) else { return Ok(Selectors::new()) };
        self.ask(&engine, container, process).await
    }
}

#[cfg(test)]
mod tests;
