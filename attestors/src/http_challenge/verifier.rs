//! The server's side: a node shows that it answers for a host's name.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::selector::{Selector, Selectors};
use regex::Regex;
use tokio::time::timeout;

use super::addresses::{self, ForbiddenAddress};
use super::config::{FIRST_USER_PORT, compile};
use super::host::{HostName, is_agent_name};
use super::visit::visit;
use super::wire::{Challenge, Evidence};
use super::{Config, KIND, path};
use crate::possession::fresh_nonce;
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Admits nodes by the names of their hosts.
#[derive(Debug)]
pub struct Verifier {
    config: Config,
    patterns: Vec<Regex>,
    network: Network,
}

/// Where names lead, and where we go.
pub(super) struct Network {
    pub(super) resolver: Box<dyn Resolve>,
    /// Whether an address can be connected to; private ones only if that is allowed.
    pub(super) check: fn(IpAddr, bool) -> Result<(), ForbiddenAddress>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network(..)")
    }
}

/// Finds the addresses of a host.
#[async_trait]
pub(super) trait Resolve: Send + Sync + 'static {
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>>;
}

/// What the operating system says.
struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        let addresses = tokio::net::lookup_host((host.as_str(), 0)).await?;
        Ok(addresses.map(|address| address.ip()).collect())
    }
}

/// The most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Time for all of a visit, from looking up the name to the last byte of the answer; as SPIRE's.
const DEADLINE: Duration = Duration::from_secs(10);

impl Verifier {
    /// A verifier with these settings.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the settings have [`problems`](Config::problems).
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let network = Network { resolver: Box::new(System), check: addresses::check };
        Self::within(network, config.clone())
    }

    pub(super) fn within(network: Network, config: Config) -> Result<Self, OpenError> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(OpenError::Config { key: problem.key, advice: problem.advice });
        }
        let patterns = config.allowed_dns_patterns.iter().map(|pattern| compile(pattern));
        let patterns = patterns.collect::<Result<_, _>>().map_err(OpenError::Pattern)?;
        Ok(Self { config, patterns, network })
    }

    /// The host that `evidence` names, if nodes may be asked there.
    fn host(&self, evidence: &Evidence) -> Result<HostName, VerifyError> {
        let host = HostName::parse(&evidence.hostname).ok_or_else(|| {
            VerifyError::not_genuine(format!(
                "`{}` is not the name of a host, in lower case and not local",
                evidence.hostname.escape_debug()
            ))
        })?;
        if !self.patterns.iter().any(|pattern| pattern.is_match(host.as_str())) {
            let why = format!("none of `allowed-dns-patterns` allows `{host}`");
            return Err(VerifyError::not_genuine(why));
        }
        if !is_agent_name(&evidence.agentname) {
            return Err(VerifyError::Malformed);
        }
        let port = evidence.port;
        let is_required = self.config.required_port.is_none_or(|required| required == port);
        let is_allowed = self.config.allow_non_root_ports || port < FIRST_USER_PORT;
        if port == 0 || !is_required || !is_allowed {
            let why = format!("`required-port` or `allow-non-root-ports` forbids port {port}");
            return Err(VerifyError::not_genuine(why));
        }
        Ok(host)
    }

    /// The addresses of the host, if all of them can be connected to. They are looked up once: what
    /// is checked is what is connected to.
    async fn addresses(&self, host: &HostName) -> Result<Vec<IpAddr>, VerifyError> {
        let addresses = self.network.resolver.resolve(host).await.map_err(|error| {
            VerifyError::not_genuine(format!("the name `{host}` cannot be looked up: {error}"))
        })?;
        for address in &addresses {
            (self.network.check)(*address, self.config.allow_private_networks)
                .map_err(|error| VerifyError::not_genuine(format!("`{host}`: {error}")))?;
        }
        Ok(addresses.into_iter().take(MAX_ADDRESSES).collect())
    }

    /// What the host serves. That it is not to be had is the node's fault or ours; which one, a
    /// stranger who uses us to look around is not told.
    async fn served(&self, host: &HostName, evidence: &Evidence) -> Result<Vec<u8>, VerifyError> {
        let visit = async {
            let addresses = self.addresses(host).await?;
            let path = path(&evidence.agentname);
            visit(host, &addresses, evidence.port, &path).await.map_err(|error| {
                VerifyError::not_genuine(format!("`{host}` port {}: {error}", evidence.port))
            })
        };
        timeout(DEADLINE, visit).await.map_err(|_elapsed| {
            VerifyError::not_genuine(format!("`{host}` did not answer within {DEADLINE:?}"))
        })?
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
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let evidence = Evidence::parse(claim.evidence)?;
        let host = self.host(&evidence)?;
        let bond = if evidence.binding { Bond::Key } else { Bond::Bearer };
        if self.config.require_binding && bond != Bond::Key {
            return Err(VerifyError::not_genuine(
                "the proof is not bound to the node's new key, and `require-binding` is set",
            ));
        }
        let id = claim.trust_domain.join(&format!("/spire/agent/{KIND}/{host}"));
        let id = id.map_err(|_too_long| VerifyError::Malformed)?;

        let nonce = fresh_nonce().map_err(|error| VerifyError::Unavailable(error.into()))?;
        let challenge = Challenge::new(&nonce, evidence.binding);
        let message = serde_json::to_vec(&challenge)
            .map_err(|error| VerifyError::Unavailable(error.into()))?;
        // What the node answers says no more than that it is ready.
        node.answer(message).await?;
        let served = self.served(&host, &evidence).await?;
        let expected = challenge.served(claim.binding);
        verify_slices_are_equal(served.trim_ascii(), expected.as_bytes()).map_err(|_differ| {
            VerifyError::not_genuine(format!("`{host}` does not serve the challenge"))
        })?;
        let selector = Selector::new(KIND, &format!("hostname:{host}"));
        let selectors = Selectors::from_iter(selector.ok());
        Ok(AttestedNode::assertion(KIND, id, selectors, !self.config.tofu, bond))
    }
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting makes no sense.
    #[error("`{key}`: {advice}")]
    Config {
        /// The setting.
        key: String,
        /// What to write.
        advice: String,
    },
    /// A pattern is too large.
    #[error("`allowed-dns-patterns` holds no regular expression")]
    Pattern(#[source] regex::Error),
}
