//! The pods of this node, as the API server tells of them.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config as WatchConfig, Event, watcher};
use kube::{Api, Client};
use serde::Deserialize;
use tokio::fs;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::OpenError;
use super::config::{Config, is_node_name};
use super::index::{Index, MAX_PODS};
use super::pod::Known;

/// Where a pod finds the token of its service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How many pods the API server tells of at a time in the beginning.
const PAGE: u32 = 100;

/// A watch of the pods of one node.
#[derive(Debug)]
pub struct Watch {
    pods: PodsOf,
    index: Arc<Index>,
}

struct PodsOf {
    node: String,
    client: Client,
}

impl std::fmt::Debug for PodsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodsOf").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) async fn open(config: &Config, index: Arc<Index>) -> Result<Self, OpenError> {
        let node = match &config.node_name {
            Some(name) => name.clone(),
            None => own_node(Path::new(TOKEN)).await?,
        };
        let client = client(config.kubeconfig.as_deref()).await?;
        Ok(Self { pods: PodsOf { node, client }, index })
    }

    /// Follows the pods for as long as it is polled. It never gives up: while the API server is away,
    /// what is known stays known.
    pub async fn run(self) {
        let Self { pods: PodsOf { node, client }, index } = self;
        let config =
            WatchConfig::default().fields(&format!("spec.nodeName={node}")).page_size(PAGE);
        let mut events = watcher(Api::<Pod>::all(client), config).default_backoff().boxed();
        // What is listed anew replaces what was known when the list is complete.
        let mut listed = Vec::new();
        let mut is_well = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod)) => index.apply(&pod),
                Ok(Event::Delete(pod)) => index.delete(&pod),
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) if listed.len() < MAX_PODS => {
                    listed.extend(Known::of(&pod));
                }
                Ok(Event::InitApply(_)) => warn!(limit = MAX_PODS, "too many pods on this node"),
                Ok(Event::InitDone) => {
                    index.replace_known(std::mem::take(&mut listed));
                    info!(node, pods = index.len(), "the pods of this node are known");
                    is_well = true;
                }
                Err(error) => {
                    let lost = if is_well { "lost" } else { "does not begin" };
                    warn!(
                        node,
                        error = %error,
                        "the watch of pods {lost}; trying again (it needs the rights to get, list and \
                         watch pods)"
                    );
                }
            }
        }
    }
}

async fn client(kubeconfig: Option<&Path>) -> Result<Client, OpenError> {
    let unusable = |what: String, source: Box<dyn std::error::Error + Send + Sync>| {
        OpenError::Client { what, source }
    };
    let config = match kubeconfig {
        Some(path) => {
            let what = || format!("`kubeconfig` = {}", path.display());
            let file = Kubeconfig::read_from(path).map_err(|e| unusable(what(), e.into()))?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| unusable(what(), error.into()))?
        }
        None => kube::Config::incluster().map_err(|error| {
            let what = "the service account of this pod; outside of a cluster, set `kubeconfig`";
            unusable(what.to_owned(), error.into())
        })?,
    };
    Client::try_from(config).map_err(|error| {
        unusable("the settings of the API server's client".to_owned(), error.into())
    })
}

/// The part of a service-account token that names the node of its pod (Kubernetes 1.30).
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Deserialize)]
struct Bound {
    node: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Which node this is, as our own token at `path` says. Nothing is verified: it is ours.
async fn own_node(path: &Path) -> Result<String, OpenError> {
    let unknown = |why| OpenError::NodeName { why };
    let token = fs::read(path).await.map(Zeroizing::new);
    let token = token
        .map_err(|_missing| unknown("this pod has no service-account token to read it from"))?;
    named_in(&token).ok_or_else(|| unknown("this pod's service-account token does not name it"))
}

fn named_in(token: &[u8]) -> Option<String> {
    let payload = token.split(|byte| *byte == b'.').nth(1)?;
    let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(claims.kubernetes.node.name).filter(|name| is_node_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Vec<u8> {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims)).into_bytes()
    }

    #[test]
    fn our_own_token_names_the_node() {
        let claims =
            r#"{"iss":"x","kubernetes.io":{"namespace":"a","node":{"name":"n-1","uid":"u"}}}"#;
        assert_eq!(named_in(&token(claims)).as_deref(), Some("n-1"));
        for other in
            [r#"{"kubernetes.io":{}}"#, "{}", r#"{"kubernetes.io":{"node":{"name":"a,b"}}}"#]
        {
            assert_eq!(named_in(&token(other)), None, "{other}");
        }
        assert_eq!(named_in(b"a.b"), None);
        assert_eq!(named_in(b""), None);
    }

    #[tokio::test]
    async fn without_a_token_the_operator_is_asked() {
        let error = own_node(Path::new("/nonexistent")).await.unwrap_err();
        assert!(error.to_string().contains("node-name"), "{error}");
    }
}
