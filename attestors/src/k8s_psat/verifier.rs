//! The server's side: a token earns an identity, if its cluster vouches for it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use claviger_core::evidence::AttestedNode;

use super::KIND;
use super::api::{ApiServer, OpenError};
use super::cluster::Cluster;
use super::config::Config;
use super::evidence::Evidence;
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Admits the nodes of some clusters.
#[derive(Debug)]
pub struct Verifier {
    clusters: BTreeMap<String, Cluster>,
}

impl Verifier {
    /// A verifier for the clusters in `config`. Reads what is needed to reach their API servers, and
    /// does not call them. To be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenClusterError`] if a setting or a kubeconfig can't be used.
    pub fn open(config: &Config) -> Result<Self, OpenClusterError> {
        let mut clusters = BTreeMap::new();
        for (name, cluster) in &config.clusters {
            let failed = |source| OpenClusterError { cluster: name.clone(), source };
            let api = ApiServer::open(cluster.kubeconfig.as_deref()).map_err(failed)?;
            let opened =
                Cluster::new(name, cluster, api).map_err(|source| failed(source.into()))?;
            clusters.insert(name.clone(), opened);
        }
        Ok(Self { clusters })
    }
}

#[async_trait]
impl NodeVerifier for Verifier {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        _node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let Evidence { cluster, token } =
            Evidence::parse(claim.evidence).map_err(|_malformed| VerifyError::Malformed)?;
        let known = self.clusters.get(cluster).ok_or_else(|| {
            VerifyError::not_genuine(format!("`attestors.k8s_psat` has no cluster `{cluster}`"))
        })?;
        known.attest(token, &claim).await.map_err(|refusal| refusal.of(cluster))
    }
}

/// A cluster can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the cluster `{cluster}` of `attestors.k8s_psat`")]
pub struct OpenClusterError {
    cluster: String,
    source: OpenError,
}

#[cfg(test)]
mod tests;
