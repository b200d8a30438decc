//! What is true of a node, in SPIRE's words.

use std::net::IpAddr;

use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};
use claviger_core::selector::{Selector, Selectors};
use tracing::warn;

use super::KIND;
use super::claims::{Claims, Reference};
use super::objects::Labels;

/// What was verified about a node, and the agent on it.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The name of the cluster.
    pub(super) cluster: &'a str,
    /// The token's claims, which hold.
    pub(super) claims: &'a Claims,
    /// The node, if it is known.
    pub(super) node: Option<&'a Reference>,
    /// The node's address, if it is known.
    pub(super) host: Option<IpAddr>,
    /// The pod's labels, if they are known.
    pub(super) pod_labels: &'a Labels,
    /// The node's labels, if they are known.
    pub(super) node_labels: &'a Labels,
}

impl Facts<'_> {
    /// The facts as selectors.
    pub(super) fn selectors(&self) -> Selectors {
        let mut selectors = Selectors::new();
        let mut say = |name: &str, value: &str| {
            match Selector::new(KIND, &format!("{name}:{value}")) {
                Ok(selector) => drop(selectors.insert(selector)),
                // No label that Kubernetes accepts; whatever it is, no entry can ask for it.
                Err(error) => warn!(name, %error, "left a selector out"),
            }
        };
        let Claims { account, pod, .. } = self.claims;
        say("cluster", self.cluster);
        say("agent_ns", account.namespace.as_str());
        say("agent_sa", account.name.as_str());
        say("agent_pod_name", pod.name.as_str());
        say("agent_pod_uid", pod.uid.as_str());
        if let Some(Reference { name, uid }) = self.node {
            say("agent_node_name", name.as_str());
            say("agent_node_uid", uid.as_str());
        }
        if let Some(host) = self.host {
            say("agent_node_ip", &host.to_string());
        }
        for (key, value) in self.pod_labels {
            say("agent_pod_label", &format!("{key}:{value}"));
        }
        for (key, value) in self.node_labels {
            say("agent_node_label", &format!("{key}:{value}"));
        }
        selectors
    }

    /// The identity of the agent: named for its node, or for its pod.
    pub(super) fn agent_id(
        &self,
        trust_domain: &TrustDomain,
        by_pod: bool,
    ) -> Result<SpiffeId, AgentIdError> {
        let cluster = self.cluster;
        let end = if by_pod {
            format!("pod/{}", self.claims.pod.uid)
        } else {
            self.node.ok_or(AgentIdError::NoNode)?.uid.to_string()
        };
        Ok(trust_domain.join(&format!("/spire/agent/{KIND}/{cluster}/{end}"))?)
    }
}

/// Why an agent has no name.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentIdError {
    #[error("nothing says which node it is")]
    NoNode,
    #[error("the agent's identity cannot be written")]
    Id(#[from] ParseIdError),
}
