//! The pod and the container of a local process, as Kubernetes tells them.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator can set | `config` |
//! | the facts about a pod | `pod` |
//! | the pods of this node, by their containers | `index` |
//! | how the index learns of changes: a watch of the API server | `watch` |
//! | or, without rights there, from the kubelet | `kubelet` |
//!
//! Control groups say which pod and which container a process is in ([`crate::cgroup`]), and the index
//! says what those are. No request asks the API server anything. A container that has just started
//! may not be in the index yet: then the look-up waits for it, for a while.

mod config;
mod index;
mod kubelet;
mod pod;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::selector::Selectors;
use tokio::time::{Instant, timeout_at};

use crate::cgroup::{Container, Runtime};
use crate::workload::{FactsError, Process, WorkloadAttestor};
use index::{Index, Lookup};
use kubelet::Kubelet;

pub use config::{Config, KubeletConfig};
pub use kubelet::read_pod_list;
pub use watch::Watch;

/// The kind of these facts.
pub const KIND: &str = "k8s";

/// How long a look-up waits for a pod or a container to become known. The kubelet reports a new
/// container within a second or two.
const PATIENCE: Duration = Duration::from_secs(8);

/// Finds out about pods.
#[derive(Debug)]
pub struct Attestor {
    index: Arc<Index>,
    kubelet: Option<Kubelet>,
    container_facts: bool,
}

impl Attestor {
    /// An attestor, and what has to run so that it learns of pods, if it is not the kubelet that it
    /// asks.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a file can't be used.
    pub async fn open(config: &Config) -> Result<(Self, Option<Watch>), OpenError> {
        let index = Arc::new(Index::default());
        let container_facts = !config.disable_container_selectors;
        if let Some(kubelet) = &config.kubelet {
            let kubelet = Some(Kubelet::open(kubelet)?);
            return Ok((Self { index, kubelet, container_facts }, None));
        }
        let watch = Watch::open(config, Arc::clone(&index)).await?;
        Ok((Self { index, kubelet: None, container_facts }, Some(watch)))
    }

    /// Waits until the index knows `container`, or until that takes too long.
    async fn find(&self, container: &Container) -> Result<Selectors, FactsError> {
        let deadline = Instant::now() + PATIENCE;
        let mut changes = self.index.changes();
        loop {
            let seen = *changes.borrow_and_update();
            match self.index.find(container, self.container_facts)? {
                Lookup::Facts(facts) => return Ok(facts),
                Lookup::NotYet => {}
            }
            let changed = async {
                match &self.kubelet {
                    Some(kubelet) => kubelet.refresh(&self.index, seen).await,
                    None => {
                        // The index is ours: it does not go away.
                        drop(changes.changed().await);
                        Ok(())
                    }
                }
            };
            match timeout_at(deadline, changed).await {
                Ok(changed) => changed?,
                Err(_elapsed) => return Err(self.unknown(container)),
            }
        }
    }

    fn unknown(&self, container: &Container) -> FactsError {
        let Container { id, pod, .. } = container;
        let pod = pod.as_ref().map_or_else(String::new, |pod| format!(" of pod {pod}"));
        let source = if self.kubelet.is_some() { "the kubelet" } else { "the API server" };
        let told = match self.index.len() {
            0 => "none at all; see the warnings before this one".to_owned(),
            pods => format!("{pods}, and not this one"),
        };
        FactsError::unknown(format!(
            "container {id}{pod} is not among the pods of this node that {source} told of ({told})"
        ))
    }
}

/// Whether a container may be a pod's: one whose path says so, or does not show it.
fn may_be_a_pods(container: &Container) -> bool {
    let shown = container.pod.is_some() || container.beside_us;
    container.rooted && container.user.is_none() && (shown || container.runtime == Runtime::CriO)
}

#[async_trait]
impl WorkloadAttestor for Attestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError> {
        match process.container()? {
            Some(container) if may_be_a_pods(container) => self.find(container).await,
            Some(_) | None => Ok(Selectors::new()),
        }
    }
}

/// The attestor can't begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration of the API server's client can't be used.
    #[error("workload.k8s: cannot use {what}")]
    Client {
        /// What was to be used.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is not known which node this is.
    #[error(
        "workload.k8s: the name of this node is not known, since {why}; set `node-name` to what \
         `kubectl get nodes` calls it"
    )]
    NodeName {
        /// Why.
        why: &'static str,
    },
    /// A file for the kubelet can't be used.
    #[error("workload.k8s.kubelet.{key}: cannot use `{path}`")]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There can be no connection to the kubelet.
    #[error("workload.k8s.kubelet: cannot prepare connections")]
    Kubelet(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests;
