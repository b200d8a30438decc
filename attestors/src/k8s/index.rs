//! The pods of this node, by their UIDs and their containers.

use std::collections::HashMap;
use std::sync::{Arc, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use claviger_core::selector::Selectors;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tracing::warn;

use super::pod::Known;
use crate::cgroup::Container;
use crate::workload::FactsError;

/// The most pods of one node; Kubernetes recommends 110, and permits a few hundred.
pub(super) const MAX_PODS: usize = 1_024;

/// What is known of the pods of this node.
#[derive(Debug)]
pub(super) struct Index {
    pods: RwLock<Pods>,
    /// Counts the changes.
    version: watch::Sender<u64>,
}

/// By UID.
type Pods = HashMap<Box<str>, Arc<Known>>;

/// What came of looking for a container.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Lookup {
    Facts(Selectors),
    NotYet,
}

impl Default for Index {
    fn default() -> Self {
        Self { pods: RwLock::default(), version: watch::channel(0).0 }
    }
}

impl Index {
    /// Tells of changes, by their number.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// How many pods there are.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    /// A pod is new, or has changed.
    pub(super) fn apply(&self, pod: &Pod) {
        if let Some(known) = Known::of(pod) {
            insert(&mut self.write(), known);
            self.changed();
        }
    }

    /// A pod is gone.
    pub(super) fn delete(&self, pod: &Pod) {
        if let Some(uid) = &pod.metadata.uid {
            self.write().remove(uid.as_str());
        }
        self.changed();
    }

    /// These are all the pods there are.
    pub(super) fn replace(&self, pods: &[Pod]) {
        self.replace_known(pods.iter().filter_map(Known::of));
    }

    /// The same.
    pub(super) fn replace_known(&self, known: impl IntoIterator<Item = Known>) {
        let mut pods = Pods::new();
        known.into_iter().for_each(|known| insert(&mut pods, known));
        *self.write() = pods;
        self.changed();
    }

    /// The facts about `container` and its pod.
    ///
    /// Kubernetes says which containers a pod has, and control groups say of which pod the container
    /// is: both have to say the same.
    pub(super) fn find(
        &self,
        container: &Container,
        container_facts: bool,
    ) -> Result<Lookup, FactsError> {
        let pods = self.read();
        let by_uid = container.pod.as_ref().and_then(|uid| pods.get(uid.as_str()));
        let found = match by_uid {
            Some(pod) => Some(pod),
            // A pod made from a file, or one whose UID is hidden from us.
            None => only_one_with(&pods, container)?,
        };
        let Some(pod) = found else { return Ok(Lookup::NotYet) };
        let of_container = pod.containers.iter().find(|(id, _)| *id == container.id);
        Ok(match of_container {
            Some((_, facts)) if container_facts => Lookup::Facts(&pod.facts | facts),
            Some(_) => Lookup::Facts(pod.facts.clone()),
            None if !container_facts => Lookup::Facts(pod.facts.clone()),
            None => Lookup::NotYet,
        })
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn read(&self) -> RwLockReadGuard<'_, Pods> {
        // Every change of the map is one call, so a panic leaves no half of one.
        self.pods.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pods> {
        self.pods.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(pods: &mut Pods, known: Known) {
    if MAX_PODS <= pods.len() && !pods.contains_key(&known.uid) {
        static WARNED: Once = Once::new();
        WARNED.call_once(|| {
            warn!(limit = MAX_PODS, "too many pods on this node; some have no `k8s` selectors");
        });
        return;
    }
    pods.insert(known.uid.clone(), Arc::new(known));
}

/// The only pod that has `container`, if its control groups do not say that it is another's.
fn only_one_with<'p>(
    pods: &'p Pods,
    container: &Container,
) -> Result<Option<&'p Arc<Known>>, FactsError> {
    let has_it = |pod: &&Arc<Known>| pod.containers.iter().any(|(id, _)| *id == container.id);
    let mut having = pods.values().filter(has_it);
    let Some(pod) = having.next() else { return Ok(None) };
    if let Some(other) = having.next() {
        let Known { uid, .. } = &**pod;
        return Err(FactsError::unknown(format!(
            "container {} is in two pods, {uid} and {}",
            container.id, other.uid
        )));
    }
    match &container.pod {
        Some(uid) if pod.mirror_of.as_deref() != Some(uid.as_str()) => {
            Err(FactsError::unknown(format!(
                "container {} is in pod {uid} by its control groups, and in pod {} by the API",
                container.id, pod.uid
            )))
        }
        Some(_) | None => Ok(Some(pod)),
    }
}
