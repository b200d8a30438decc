//! What the services of this machine say of a process.

use std::future::pending;
use std::io;
use std::sync::Arc;

use claviger_attestors::cgroup::Viewpoint;
use claviger_attestors::workload::{AttestError, Caller, FactsError, Process, WorkloadAttestor};
use claviger_attestors::{containerd, docker, k8s, model, systemd};
use claviger_core::selector::Selectors;
use claviger_core::time::Clock;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;
use tracing::warn;

use crate::config::Workload;

/// The attestors that ask services, in the order in which they are documented.
#[derive(Debug, Default)]
pub(super) struct Others {
    viewpoint: Arc<Viewpoint>,
    attestors: Vec<Other>,
}

#[derive(Debug)]
struct Other {
    attestor: Box<dyn WorkloadAttestor>,
    /// Whether nobody is attested without it.
    required: bool,
}

impl Others {
    pub(super) async fn open(
        config: &Workload,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, OpenAttestorsError> {
        let mut others = Self::default();
        if let Some(config) = &config.k8s {
            let (attestor, watch) = k8s::Attestor::open(config).await?;
            if let Some(watch) = watch {
                tasks.spawn("pods of this node", |stop| async move {
                    stop.run_until_cancelled_owned(watch.run()).await;
                    Ok(())
                });
            }
            others.add(attestor, config.required);
        }
        if let Some(config) = &config.docker {
            others.add(docker::Attestor::new(config.clone()), config.required);
        }
        if let Some(config) = &config.containerd {
            others.add(containerd::Attestor::new(config.clone()), config.required);
        }
        if let Some(config) = &config.systemd {
            others.add(systemd::Attestor::new(config), config.required);
        }
        if let Some(config) = &config.model {
            let (attestor, watch) = model::Attestor::open(config, clock)?;
            tasks.spawn("files of models", |stop| async move {
                let ended = stop.run_until_cancelled_owned(watch.run()).await;
                Ok(ended.transpose().map(drop)?)
            });
            others.add(attestor, config.required);
        }
        if !others.is_empty() {
            others.viewpoint = Viewpoint::own().map(Arc::new).map_err(OpenAttestorsError::Own)?;
        }
        Ok(others)
    }

    fn add(&mut self, attestor: impl WorkloadAttestor, required: bool) {
        self.attestors.push(Other { attestor: Box::new(attestor), required });
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.attestors.is_empty()
    }

    /// The process of `caller`, as it is now.
    pub(super) fn open_process(&self, caller: Caller) -> Result<Process, AttestError> {
        Process::open(caller, &self.viewpoint)
    }

    /// What all of them say of `process`. One that fails says nothing, which entitles to less and
    /// never to more.
    pub(super) async fn facts(&self, process: &Process) -> Result<Selectors, AttestError> {
        let answers = join_all(self.attestors.iter().map(|other| other.facts(process))).await;
        let mut facts = Selectors::new();
        for answer in answers {
            facts.extend(answer?);
        }
        Ok(facts)
    }

    /// Waits until what was `said` of `process` may no longer hold.
    pub(super) async fn changed(&self, process: &Process, said: &Selectors) {
        let waiting = self.attestors.iter().map(|Other { attestor, .. }| async {
            let kind = attestor.kind();
            let own = said.iter().filter(|fact| fact.kind() == kind).cloned().collect();
            attestor.changed(process, &own).await;
        });
        // Who has nothing to tell waits for ever.
        let mut waiting: FuturesUnordered<_> = waiting.collect();
        if waiting.next().await.is_none() {
            pending::<()>().await;
        }
    }
}

impl Other {
    async fn facts(&self, process: &Process) -> Result<Selectors, AttestError> {
        let (kind, patience) = (self.attestor.kind(), self.attestor.patience());
        let facts = timeout(patience, self.attestor.facts(process)).await;
        let facts = facts.unwrap_or_else(|_elapsed| {
            let what = format!("no answer within {} s", patience.as_secs());
            Err(FactsError::Unavailable { what, source: None })
        });
        let error = match facts {
            Ok(facts) => return Ok(facts),
            Err(error) => error,
        };
        if self.required {
            return Err(AttestError::Required { kind, source: error });
        }
        let pid = process.caller().pid;
        warn!(kind, pid, error = %Chain(&error), "attested without the facts of one attestor");
        Ok(Selectors::new())
    }
}

/// An attestor can't begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenAttestorsError {
    /// The one for Kubernetes.
    #[error(transparent)]
    K8s(#[from] k8s::OpenError),
    /// The one for models.
    #[error(transparent)]
    Model(#[from] model::OpenError),
    /// The agent can't tell where it is itself.
    #[error("cannot read the agent's own control groups, /proc/self/cgroup")]
    Own(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;

    /// An attestor that answers as it was told.
    #[derive(Debug)]
    struct Fixed(Option<&'static str>, Duration);

    #[async_trait]
    impl WorkloadAttestor for Fixed {
        fn kind(&self) -> &'static str {
            "fixed"
        }

        async fn facts(&self, _process: &Process) -> Result<Selectors, FactsError> {
            tokio::time::sleep(self.1).await;
            let fact = self.0.ok_or_else(|| FactsError::Unknown { what: "away".to_owned() })?;
            Ok([fact.parse().unwrap()].into())
        }
    }

    const AT_ONCE: Duration = Duration::ZERO;

    async fn facts(attestors: Vec<(Fixed, bool)>) -> Result<Vec<String>, AttestError> {
        let mut others = Others::default();
        for (attestor, required) in attestors {
            others.add(attestor, required);
        }
        let caller = Caller { pid: std::process::id(), uid: 0, gid: 0, since: None };
        let process = others.open_process(caller).unwrap();
        let facts = others.facts(&process).await?;
        Ok(facts.iter().map(ToString::to_string).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_asked_at_once() {
        let slow = Duration::from_secs(6);
        let start = tokio::time::Instant::now();
        let found =
            facts(vec![(Fixed(Some("a:1"), slow), true), (Fixed(Some("b:2"), slow), false)]);
        assert_eq!(found.await.unwrap(), ["a:1", "b:2"]);
        assert_eq!(start.elapsed(), slow);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_left_out_unless_it_is_required() {
        for late in [Fixed(None, AT_ONCE), Fixed(Some("c:3"), Duration::from_secs(20))] {
            let late_is = |required| {
                vec![(Fixed(Some("a:1"), AT_ONCE), true), (Fixed(late.0, late.1), required)]
            };
            assert_eq!(facts(late_is(false)).await.unwrap(), ["a:1"]);
            let error = facts(late_is(true)).await.unwrap_err();
            assert!(matches!(error, AttestError::Required { kind: "fixed", .. }), "{error}");
        }
    }
}
