//! The server's side: a node shows that it has the key of a certificate that a root vouches for.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::selector::{Selector, Selectors};
use claviger_core::time::UnixTime;

use super::certificate::{Leaf, check_intermediate};
use super::path::AgentPath;
use super::roots::{OwnAuthorities, Roots, RootsError};
use super::wire::{Evidence, Response};
use super::{Config, KIND, Mode};
use crate::possession::{bond, fresh_nonce};
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Admits nodes by their certificates.
#[derive(Debug)]
pub struct Verifier {
    trusted: Trusted,
    agent_path: AgentPath,
    max_intermediates: usize,
    max_rsa_bits: usize,
    verify_client_ip: bool,
    require_binding: bool,
}

#[derive(Debug)]
enum Trusted {
    Named(Roots),
    /// The trust domain's own authorities, for identities below this path.
    Own {
        authorities: Arc<dyn OwnAuthorities>,
        prefix: String,
    },
}

impl Verifier {
    /// A verifier with these settings. `own` is asked for with [`Mode::Spiffe`] only.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a file of roots is unusable, or if the settings have
    /// [`problems`](Config::problems).
    pub fn open(config: &Config, own: Arc<dyn OwnAuthorities>) -> Result<Self, OpenError> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(OpenError::Config { key: problem.key, advice: problem.advice });
        }
        let trusted = match config.mode {
            Mode::ExternalPki => {
                Trusted::Named(Roots::read(config.bundle_paths().map(ToOwned::to_owned))?)
            }
            Mode::Spiffe => {
                Trusted::Own { authorities: own, prefix: format!("{}/", config.prefix()) }
            }
        };
        let template = config.agent_path_template.as_deref();
        let template = template.unwrap_or(AgentPath::default_text(config.mode));
        let agent_path = AgentPath::parse(template, config.mode).map_err(|error| {
            OpenError::Config { key: "agent-path-template".into(), advice: error.to_string() }
        })?;
        Ok(Self {
            trusted,
            agent_path,
            max_intermediates: config.max_intermediates,
            max_rsa_bits: config.max_rsa_key_size,
            verify_client_ip: config.verify_client_ip,
            require_binding: config.require_binding,
        })
    }

    /// The fingerprints of the authorities that vouch for the node's certificate.
    fn authorities(&self, evidence: &Evidence, now: UnixTime) -> Result<Vec<String>, VerifyError> {
        for intermediate in &evidence.intermediates {
            check_intermediate(intermediate, self.max_rsa_bits)?;
        }
        let own;
        let roots = match &self.trusted {
            Trusted::Named(roots) => roots,
            Trusted::Own { authorities, .. } => {
                own = Roots::of(&authorities.current())
                    .map_err(|error| VerifyError::Unavailable(error.into()))?;
                &own
            }
        };
        roots.vouch(evidence, now, webpki::ALL_VERIFICATION_ALGS).map_err(|error| {
            VerifyError::not_genuine(format!("no authority vouches for the certificate: {error}"))
        })
    }

    fn check_caller(&self, leaf: &Leaf, caller: Option<IpAddr>) -> Result<(), VerifyError> {
        if !self.verify_client_ip || caller.is_some_and(|caller| leaf.names_address(caller)) {
            return Ok(());
        }
        Err(VerifyError::not_genuine(match caller {
            Some(caller) => format!("the certificate does not name the caller's address {caller}"),
            None => "the caller has no address for the certificate to name".into(),
        }))
    }

    fn name(&self, leaf: &Leaf, trust_domain: &TrustDomain) -> Result<SpiffeId, VerifyError> {
        let svid = match &self.trusted {
            Trusted::Named(_) => None,
            Trusted::Own { prefix, .. } => Some(exchanged(leaf, prefix, trust_domain)?),
        };
        let trimmed =
            svid.as_ref().map(|(id, length)| id.path().get(*length..).unwrap_or_default());
        self.agent_path
            .name(leaf, trimmed, trust_domain)
            .map_err(|error| VerifyError::not_genuine(error.to_string()))
    }
}

/// The identity that is to be exchanged, and where in its path the prefix ends.
fn exchanged(
    leaf: &Leaf,
    prefix: &str,
    trust_domain: &TrustDomain,
) -> Result<(SpiffeId, usize), VerifyError> {
    let id = leaf.spiffe_id().filter(|id| id.trust_domain() == trust_domain);
    let id = id.ok_or_else(|| {
        VerifyError::not_genuine(format!("the certificate is no SVID of `{trust_domain}`"))
    })?;
    if !id.path().starts_with(prefix) {
        return Err(VerifyError::not_genuine(format!("`{id}` is not below `{prefix}`")));
    }
    Ok((id, prefix.len()))
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
        let evidence = Evidence::parse(claim.evidence, self.max_intermediates)?;
        let leaf = Leaf::parse(&evidence.leaf, self.max_rsa_bits)?;
        let authorities = self.authorities(&evidence, claim.now)?;
        self.check_caller(&leaf, claim.caller)?;
        let id = self.name(&leaf, claim.trust_domain)?;

        let nonce = fresh_nonce().map_err(|error| VerifyError::Unavailable(error.into()))?;
        let challenge = serde_json::to_vec(&leaf.key.challenge(&nonce))
            .map_err(|error| VerifyError::Unavailable(error.into()))?;
        let response = Response::parse(&node.answer(challenge).await?)?;
        let signed = leaf.key.signed_nonce(&nonce, &response).ok_or_else(|| {
            VerifyError::not_genuine("the node did not sign the nonces with the certificate's key")
        })?;
        let bond = bond(claim.binding, &nonce, &signed);
        if self.require_binding && bond != Bond::Key {
            return Err(VerifyError::not_genuine(
                "the proof is not bound to the node's new key, and `require-binding` is set",
            ));
        }
        let selectors = selectors(&leaf, &authorities, claim.trust_domain);
        Ok(AttestedNode::assertion(KIND, id, selectors, true, bond))
    }
}

/// What the certificate says and who vouches for it. A fact that can't be a selector (a common name
/// with a line break in it) is left out, which can only entitle to less.
fn selectors(leaf: &Leaf, authorities: &[String], trust_domain: &TrustDomain) -> Selectors {
    let common_name = leaf.common_name.iter().map(|name| format!("subject:cn:{name}"));
    let authorities = authorities.iter().map(|print| format!("ca:fingerprint:{print}"));
    let serial = [format!("serialnumber:{}", leaf.serial)];
    let names = leaf.san_selectors(trust_domain).map(|(key, value)| format!("san:{key}:{value}"));
    let values = common_name.chain(authorities).chain(serial).chain(names);
    values.filter_map(|value| Selector::new(KIND, &value).ok()).collect()
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
    /// A file of roots is unusable.
    #[error(transparent)]
    Roots(#[from] RootsError),
}
