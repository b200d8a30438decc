//! One cluster, and what it takes to be admitted from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::evidence::AttestedNode;
use claviger_core::time::UnixTime;
use tokio::join;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::KIND;
use super::api::{ApiError, ApiServer};
use super::claims::{Claims, ClaimsError};
use super::config::ClusterConfig;
use super::facts::{AgentIdError, Facts};
use super::keys::{ClusterKeys, KeysError};
use super::names::{MalformedName, Name};
use super::nodes::Nodes;
use super::objects::{Labels, LiveNode, LivePod, ObjectError};
use super::review::{self, ReviewError};
use super::terms::{Addressed, Terms, TermsError};
use crate::{NodeClaim, VerifyError};

/// A cluster whose nodes may be admitted.
#[derive(Debug)]
pub(super) struct Cluster {
    name: String,
    api: Arc<ApiServer>,
    terms: Terms,
    pod_labels: BTreeSet<String>,
    node_labels: BTreeSet<String>,
    by_pod: bool,
    timeout: Duration,
    nodes: Nodes,
    keys: Option<ClusterKeys>,
}

/// What the API server knows beyond the token.
struct Live {
    pod: LivePod,
    node: Arc<LiveNode>,
}

impl Cluster {
    pub(super) fn new(
        name: &str,
        config: &ClusterConfig,
        api: ApiServer,
    ) -> Result<Self, MalformedName> {
        let api = Arc::new(api);
        let keys = config.offline_keys.then(|| ClusterKeys::new(name, Arc::clone(&api)));
        Ok(Self {
            name: name.to_owned(),
            api,
            terms: Terms::new(config)?,
            pod_labels: config.allowed_pod_label_keys.iter().cloned().collect(),
            node_labels: config.allowed_node_label_keys.iter().cloned().collect(),
            by_pod: config.use_pod_uid_for_agent_id,
            timeout: config.timeout,
            nodes: Nodes::new(),
            keys,
        })
    }

    /// Judges `token`, which `claim` presents.
    pub(super) async fn attest(
        &self,
        token: &str,
        claim: &NodeClaim<'_>,
    ) -> Result<AttestedNode, Refusal> {
        let claims = Claims::read(token)?;
        let addressed = self.terms.admit(&claims, claim.binding, claim.now)?;
        let asked = timeout(self.timeout, self.ask(token, &claims, &addressed, claim.now)).await;
        let live = match asked.unwrap_or(Err(Refusal::Unanswered(ApiError::Late(self.timeout)))) {
            Ok(live) => Some(live),
            Err(Refusal::Unanswered(error)) if error.is_away() => {
                self.believe_keys(token, &claims, error).await?;
                None
            }
            Err(refusal) => return Err(refusal),
        };

        let none = Labels::new();
        let facts = Facts {
            cluster: &self.name,
            claims: &claims,
            node: live.as_ref().map_or(claims.node.as_ref(), |live| Some(&live.node.reference)),
            host: live.as_ref().and_then(|live| live.pod.host),
            pod_labels: live.as_ref().map_or(&none, |live| &live.pod.labels),
            node_labels: live.as_ref().map_or(&none, |live| &live.node.labels),
        };
        let id = facts.agent_id(claim.trust_domain, self.by_pod)?;
        let source = if live.is_some() { "token review" } else { "cached keys" };
        let selectors = facts.selectors();
        Ok(AttestedNode::assertion(KIND, id, selectors, true, addressed.bond).by(source))
    }

    /// Asks the API server: is the token genuine, which pod is it, which node? Whom to look up says
    /// the token, so that no question waits for the answer to another. Before the token is known to be
    /// genuine, that is a stranger's word, and the answers are used only once it is.
    async fn ask(
        &self,
        token: &str,
        claims: &Claims,
        addressed: &Addressed,
        now: UnixTime,
    ) -> Result<Live, Refusal> {
        let (review, pod, node, ()) = join!(
            self.api.review(token, &addressed.audiences),
            self.api.pod(&claims.account.namespace, &claims.pod.name),
            self.claimed_node(claims, now),
            self.remember_keys(token, claims),
        );
        review::check(&review?, claims, &addressed.audiences)?;
        let pod = pod?.ok_or_else(|| ObjectError::NoPod(claims.pod.name.clone()))?;
        let pod = LivePod::check(pod, claims, &self.pod_labels, now)?;
        let node = match node {
            Some(node) => node?,
            None => self.node(&pod.node, now).await?,
        };
        match &claims.node {
            Some(claimed) if *claimed != node.reference => Err(ObjectError::NodeReplaced.into()),
            Some(_) | None => Ok(Live { pod, node }),
        }
    }

    /// The node that a token names, if it names one.
    async fn claimed_node(
        &self,
        claims: &Claims,
        now: UnixTime,
    ) -> Option<Result<Arc<LiveNode>, Refusal>> {
        let claimed = claims.node.as_ref()?;
        match self.nodes.find(&claimed.name, Some(claimed), now) {
            Some(known) => Some(Ok(known)),
            None => Some(self.fetch_node(&claimed.name, now).await),
        }
    }

    /// The node `name`.
    async fn node(&self, name: &Name, now: UnixTime) -> Result<Arc<LiveNode>, Refusal> {
        match self.nodes.find(name, None, now) {
            Some(known) => Ok(known),
            None => self.fetch_node(name, now).await,
        }
    }

    async fn fetch_node(&self, name: &Name, now: UnixTime) -> Result<Arc<LiveNode>, Refusal> {
        let node = self.api.node(name).await?.ok_or_else(|| ObjectError::NoNode(name.clone()))?;
        Ok(self.nodes.put(LiveNode::read(node, name, &self.node_labels)?, now))
    }

    /// Has the keys at hand for when they are needed. They are not yet: the API server's word counts.
    async fn remember_keys(&self, token: &str, claims: &Claims) {
        let Some(keys) = &self.keys else { return };
        if let Err(error) = keys.check(token, claims).await {
            debug!(%error, "the keys of the cluster would not vouch for a token");
        }
    }

    /// Checks a token without the API server, if the operator allows that.
    async fn believe_keys(
        &self,
        token: &str,
        claims: &Claims,
        away: ApiError,
    ) -> Result<(), Refusal> {
        let Some(keys) = &self.keys else { return Err(away.into()) };
        warn!(cluster = self.name, error = %away, "judging a token by the keys of its cluster");
        Ok(keys.check(token, claims).await?)
    }
}

/// Why a token admits nobody.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error(transparent)]
    Review(#[from] ReviewError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    AgentId(#[from] AgentIdError),
    #[error("cannot ask about the token")]
    Unanswered(#[from] ApiError),
}

impl Refusal {
    /// What that means for evidence of a node in `cluster`.
    pub(super) fn of(self, cluster: &str) -> VerifyError {
        match self {
            Self::Unanswered(error) => VerifyError::Unavailable(Box::new(error)),
            Self::Keys(error) if error.is_temporary() => VerifyError::Unavailable(Box::new(error)),
            Self::Claims(_)
            | Self::Terms(_)
            | Self::Review(_)
            | Self::Object(_)
            | Self::Keys(_)
            | Self::AgentId(_) => VerifyError::not_genuine(format!("cluster `{cluster}`: {self}")),
        }
    }
}
