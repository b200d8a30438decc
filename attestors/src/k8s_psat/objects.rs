//! Pods and nodes as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use claviger_core::time::UnixTime;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::claims::{Claims, Reference};
use super::names::Name;

/// Labels by their keys.
pub(super) type Labels = BTreeMap<String, String>;

/// What matters of the pod that a token is bound to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LivePod {
    /// The name of its node.
    pub(super) node: Name,
    /// The address of its node, once the node has said so.
    pub(super) host: Option<IpAddr>,
    /// Those of its labels that the operator wants to see.
    pub(super) labels: Labels,
}

/// What matters of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LiveNode {
    /// Which it is.
    pub(super) reference: Reference,
    /// Those of its labels that the operator wants to see.
    pub(super) labels: Labels,
}

impl LivePod {
    /// Checks that `pod` is what a token with these `claims` is bound to, and that it lives.
    pub(super) fn check(
        pod: Pod,
        claims: &Claims,
        labels: &BTreeSet<String>,
        now: UnixTime,
    ) -> Result<Self, ObjectError> {
        if pod.metadata.uid.as_deref() != Some(claims.pod.uid.as_str()) {
            return Err(ObjectError::PodReplaced);
        }
        // The deletion's time is when the pod has to be gone: until then, it is shutting down.
        let deleted = pod.metadata.deletion_timestamp.map(|time| time.0.as_second());
        let deleted = deleted.map(|seconds| u64::try_from(seconds).unwrap_or_default());
        if deleted.is_some_and(|seconds| UnixTime::from_secs(seconds) <= now) {
            return Err(ObjectError::PodDeleted);
        }
        let spec = pod.spec.unwrap_or_default();
        if spec.service_account_name.as_deref() != Some(claims.account.name.as_str()) {
            return Err(ObjectError::Account);
        }
        let status = pod.status.unwrap_or_default();
        // One that just started may be pending still: its kubelet tells about it afterwards.
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Err(ObjectError::PodEnded);
        }
        let node: Name =
            spec.node_name.and_then(|name| name.try_into().ok()).ok_or(ObjectError::Unscheduled)?;
        if claims.node.as_ref().is_some_and(|claimed| claimed.name != node) {
            return Err(ObjectError::AnotherNode);
        }
        let host = status.host_ip.and_then(|address| address.parse().ok());
        let labels = wanted(pod.metadata.labels, labels);
        Ok(Self { node, host, labels })
    }
}

impl LiveNode {
    /// Reads `node`, which was asked for by `name`.
    pub(super) fn read(
        node: Node,
        name: &Name,
        labels: &BTreeSet<String>,
    ) -> Result<Self, ObjectError> {
        let uid = node.metadata.uid.and_then(|uid| uid.try_into().ok());
        let reference = Reference { name: name.clone(), uid: uid.ok_or(ObjectError::Nameless)? };
        Ok(Self { reference, labels: wanted(node.metadata.labels, labels) })
    }
}

fn wanted(labels: Option<Labels>, keys: &BTreeSet<String>) -> Labels {
    labels.unwrap_or_default().into_iter().filter(|(key, _value)| keys.contains(key)).collect()
}

/// Why a pod or a node is not what a token says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ObjectError {
    #[error("there is no pod `{0}`")]
    NoPod(Name),
    #[error("the pod was replaced by another of its name")]
    PodReplaced,
    #[error("the pod is deleted")]
    PodDeleted,
    #[error("the pod has ended")]
    PodEnded,
    #[error("the pod runs under another service account than the token's")]
    Account,
    #[error("the pod is on no node")]
    Unscheduled,
    #[error("the pod is on another node than the token says")]
    AnotherNode,
    #[error("there is no node `{0}`")]
    NoNode(Name),
    #[error("the node was replaced by another of its name")]
    NodeReplaced,
    #[error("the node has no uid")]
    Nameless,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::{claims, node, pod, unsigned};
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_100);

    fn keys() -> BTreeSet<String> {
        ["app".to_owned()].into()
    }

    fn check(pod: Value) -> Result<LivePod, ObjectError> {
        let claims = Claims::read(&unsigned(&claims())).unwrap();
        LivePod::check(serde_json::from_value(pod).unwrap(), &claims, &keys(), NOW)
    }

    fn with(path: &str, value: Value) -> Result<LivePod, ObjectError> {
        let mut pod = pod();
        *pod.pointer_mut(path).unwrap() = value;
        check(pod)
    }

    #[test]
    fn a_pod_tells_its_node_and_the_labels_that_are_wanted() {
        let labels = Labels::from([("app".to_owned(), "agent".to_owned())]);
        let (node, host) = ("node-1".parse().unwrap(), "192.0.2.7".parse().ok());
        assert_eq!(check(pod()), Ok(LivePod { node, host, labels }));
    }

    #[test]
    fn a_pod_that_just_started_has_no_address_yet() {
        assert_eq!(with("/status", Value::Null).unwrap().host, None);
        assert_eq!(with("/status/hostIP", json!("a\nb")).unwrap().host, None);
        assert!(with("/status/phase", json!("Pending")).unwrap().host.is_some());
    }

    #[test]
    fn another_pod_is_refused() {
        assert_eq!(with("/metadata/uid", json!("other")), Err(ObjectError::PodReplaced));
        assert_eq!(with("/metadata/uid", Value::Null), Err(ObjectError::PodReplaced));
        assert_eq!(with("/spec/serviceAccountName", json!("x")), Err(ObjectError::Account));
        assert_eq!(with("/spec/nodeName", Value::Null), Err(ObjectError::Unscheduled));
        assert_eq!(with("/spec/nodeName", json!("../x")), Err(ObjectError::Unscheduled));
        assert_eq!(with("/spec/nodeName", json!("node-2")), Err(ObjectError::AnotherNode));
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(with("/status/phase", json!(phase)), Err(ObjectError::PodEnded));
        }
    }

    #[test]
    fn a_deleted_pod_has_its_grace() {
        let deleted = |time: &str| {
            let mut pod = pod();
            pod["metadata"]["deletionTimestamp"] = json!(time);
            check(pod).map(|pod| pod.node.to_string())
        };
        // 1,800,000,100 is 2027-01-15T08:01:40Z.
        assert_eq!(deleted("2027-01-15T08:01:41Z"), Ok("node-1".to_owned()));
        assert_eq!(deleted("2027-01-15T08:01:40Z"), Err(ObjectError::PodDeleted));
        assert_eq!(deleted("1969-01-01T00:00:00Z"), Err(ObjectError::PodDeleted));
    }

    #[test]
    fn a_node_has_a_uid_that_can_stand_in_an_identity() {
        let read = |uid: Value| {
            let mut node = node();
            node["metadata"]["uid"] = uid;
            let node = serde_json::from_value(node).unwrap();
            LiveNode::read(node, &"node-1".parse().unwrap(), &keys())
        };
        assert_eq!(read(json!("node-uid-1")).unwrap().reference.uid.as_str(), "node-uid-1");
        for uid in [Value::Null, json!(""), json!("a/b"), json!("..")] {
            assert_eq!(read(uid), Err(ObjectError::Nameless));
        }
    }
}
