//! Which services to ask about processes, besides the kernel.

use claviger_attestors::{ConfigProblem, containerd, docker, k8s, model, systemd};
use claviger_runtime::settings::Section;
use serde::de::DeserializeOwned;

/// The attestors that look at more than the kernel tells of every process. One that is not set is not
/// asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Workload {
    /// Kubernetes, about pods.
    pub k8s: Option<k8s::Config>,
    /// Docker or Podman, about containers.
    pub docker: Option<docker::Config>,
    /// containerd, about containers.
    pub containerd: Option<containerd::Config>,
    /// systemd, about units.
    pub systemd: Option<systemd::Config>,
    /// Signed manifests, about models that are loaded.
    pub model: Option<model::Config>,
}

/// The tables `[workload.<kind>]`.
pub(super) fn read(section: &mut Section<'_>) -> Workload {
    Workload {
        k8s: attestor(section, k8s::KIND, k8s::Config::problems),
        docker: attestor(section, docker::KIND, docker::Config::problems),
        containerd: attestor(section, containerd::KIND, containerd::Config::problems),
        systemd: attestor(section, systemd::KIND, systemd::Config::problems),
        model: attestor(section, model::KIND, model::Config::problems),
    }
}

fn attestor<C: DeserializeOwned>(
    section: &mut Section<'_>,
    kind: &'static str,
    problems: impl FnOnce(&C) -> Vec<ConfigProblem>,
) -> Option<C> {
    let config = section.value::<C>(kind)?;
    for ConfigProblem { key, value, advice } in problems(&config) {
        section.problem(
            &format!("{kind}.{key}"),
            &value.unwrap_or_else(|| "set".to_owned()),
            advice,
        );
    }
    Some(config)
}
