//! The facts about a pod. Names and meanings are SPIRE's.

use std::collections::BTreeSet;
use std::sync::Once;

use claviger_core::selector::{Selector, Selectors};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use tracing::warn;

use super::KIND;
use crate::cgroup::ContainerId;

/// The most labels, owners and containers of a pod that are told of. Kubernetes has no limit of its
/// own but the size of an object.
const MAX_EACH: usize = 256;

/// A pod, as far as anybody is told.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Known {
    pub(super) uid: Box<str>,
    /// The UID by which the kubelet knows a pod that it made from a file: the pod that the API server
    /// has is the mirror of that one.
    pub(super) mirror_of: Option<Box<str>>,
    pub(super) facts: Selectors,
    pub(super) containers: Vec<(ContainerId, Selectors)>,
}

/// What the kubelet writes on the mirror of a pod that it made from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Known {
    /// What is told of `pod`; nothing if it has no UID.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let uid = pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty())?;
        let annotations = pod.metadata.annotations.as_ref();
        let mirror_of = annotations.and_then(|all| all.get(MIRROR)).map(|uid| uid.as_str().into());
        let (started, init) = statuses(pod);
        let containers = started.iter().chain(init).take(2 * MAX_EACH);
        Some(Self {
            uid: uid.into(),
            mirror_of,
            facts: pod_facts(pod, uid),
            containers: containers
                .filter_map(|status| Some((container_id(status)?, container_facts(status))))
                .collect(),
        })
    }
}

fn statuses(pod: &Pod) -> (&[ContainerStatus], &[ContainerStatus]) {
    let Some(status) = &pod.status else { return (&[], &[]) };
    (
        status.container_statuses.as_deref().unwrap_or_default(),
        status.init_container_statuses.as_deref().unwrap_or_default(),
    )
}

/// The id in `containerd://<id>`, if the container has been made.
fn container_id(status: &ContainerStatus) -> Option<ContainerId> {
    let (_runtime, id) = status.container_id.as_deref()?.split_once("://")?;
    ContainerId::parse(id)
}

fn pod_facts(pod: &Pod, uid: &str) -> Selectors {
    let mut facts = Facts::default();
    facts.add("pod-uid", uid);
    facts.add("ns", pod.metadata.namespace.as_deref().unwrap_or_default());
    facts.add("pod-name", pod.metadata.name.as_deref().unwrap_or_default());
    if let Some(spec) = &pod.spec {
        facts.add("sa", spec.service_account_name.as_deref().unwrap_or_default());
        facts.add("node-name", spec.node_name.as_deref().unwrap_or_default());
    }
    let (started, init) = statuses(pod);
    facts.add("pod-image-count", &started.len().to_string());
    facts.add("pod-init-image-count", &init.len().to_string());
    for (name, statuses) in [("pod-image", started), ("pod-init-image", init)] {
        let images: BTreeSet<_> = statuses.iter().take(MAX_EACH).flat_map(images).collect();
        images.into_iter().for_each(|image| facts.add(name, image));
    }
    for (key, value) in pod.metadata.labels.iter().flatten().take(MAX_EACH) {
        facts.add_pair("pod-label", key, value);
    }
    for owner in pod.metadata.owner_references.iter().flatten().take(MAX_EACH) {
        facts.add_pair("pod-owner", &owner.kind, &owner.name);
        facts.add_pair("pod-owner-uid", &owner.kind, &owner.uid);
    }
    facts.0
}

fn container_facts(status: &ContainerStatus) -> Selectors {
    let mut facts = Facts::default();
    facts.add("container-name", &status.name);
    images(status).for_each(|image| facts.add("container-image", image));
    facts.0
}

/// The image by tag, as the pod asks for it or as the runtime chose among its names, and by digest.
fn images(status: &ContainerStatus) -> impl Iterator<Item = &str> {
    [status.image.as_str(), status.image_id.as_str()].into_iter().filter(|image| !image.is_empty())
}

#[derive(Default)]
struct Facts(Selectors);

impl Facts {
    fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        match Selector::new(KIND, &format!("{name}:{value}")) {
            Ok(fact) => drop(self.0.insert(fact)),
            Err(_unfit) => warn_once_about_odd_names(name),
        }
    }

    /// Both parts must be told apart in the selector: no Kubernetes name of either has a colon.
    fn add_pair(&mut self, name: &str, key: &str, value: &str) {
        match Selector::new(KIND, &format!("{name}:{key}:{value}")) {
            Ok(fact) if !key.contains(':') => drop(self.0.insert(fact)),
            Ok(_) | Err(_) => warn_once_about_odd_names(name),
        }
    }
}

fn warn_once_about_odd_names(name: &str) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        warn!(
            fact = name,
            "a pod has a name, label or image that no selector can express; it has no such \
             selector (this is said once)"
        );
    });
}
