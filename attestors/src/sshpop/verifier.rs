//! The server's side: a node shows that it has the key of a host certificate.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::selector::Selectors;

use super::certificate::{Authorities, HostCertificate};
use super::config::{ParseAuthorityError, add_authority};
use super::path::AgentPath;
use super::wire::{Challenge, Evidence, Response};
use super::{Config, KIND};
use crate::possession::{Base64, bond, fresh_nonce};
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError, files};

/// Admits nodes by their host certificates.
#[derive(Debug)]
pub struct Verifier {
    authorities: Authorities,
    canonical_domain: Option<String>,
    agent_path: AgentPath,
    require_binding: bool,
}

impl Verifier {
    /// A verifier with these settings.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the file of authorities is unusable, or if the settings have
    /// [`problems`](Config::problems).
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(OpenError::Config { key: problem.key, advice: problem.advice });
        }
        let wrong = |key: &str, advice: String| OpenError::Config { key: key.into(), advice };
        let mut authorities = Authorities::new();
        for line in &config.cert_authorities {
            add_authority(&mut authorities, line)
                .map_err(|error| wrong("cert-authorities", error.to_string()))?;
        }
        if let Some(path) = &config.cert_authorities_path {
            read_authorities(&mut authorities, path)?;
        }
        let template = config.agent_path_template.as_deref().unwrap_or(AgentPath::DEFAULT);
        let agent_path = AgentPath::parse(template)
            .map_err(|error| wrong("agent-path-template", error.to_string()))?;
        let canonical_domain = config.canonical_domain.clone();
        Ok(Self {
            authorities,
            canonical_domain,
            agent_path,
            require_binding: config.require_binding,
        })
    }

    /// What the host is called: its first name, without the domain that all have in common.
    fn hostname<'a>(&self, certificate: &'a HostCertificate) -> Result<&'a str, VerifyError> {
        let principal = certificate.principals.first().ok_or(VerifyError::Malformed)?;
        let Some(domain) = &self.canonical_domain else { return Ok(principal) };
        let host = principal.strip_suffix(domain).and_then(|host| host.strip_suffix('.'));
        host.filter(|host| !host.is_empty()).ok_or_else(|| {
            VerifyError::not_genuine(format!("the host `{principal}` is not in `{domain}`"))
        })
    }
}

/// Adds the keys in the file at `path`, at least one.
fn read_authorities(authorities: &mut Authorities, path: &Path) -> Result<(), OpenError> {
    let path = path.to_owned();
    let text = match files::read(&path, MAX_FILE) {
        Ok(text) => text,
        Err(source) => return Err(OpenError::Read { path, source }),
    };
    let text = String::from_utf8_lossy(&text);
    let before = authorities.len();
    for (number, line) in (1_usize..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(source) = add_authority(authorities, line) {
            return Err(OpenError::Line { path, number, source });
        }
    }
    if authorities.len() == before { Err(OpenError::Empty { path }) } else { Ok(()) }
}

/// The largest file of authorities, in bytes.
const MAX_FILE: usize = 1 << 20;

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
        let Evidence { certificate: Base64(certificate) } = Evidence::parse(claim.evidence)?;
        let certificate = HostCertificate::parse(&certificate)?;
        certificate.check(&self.authorities, claim.now)?;
        let hostname = self.hostname(&certificate)?;
        let id = self
            .agent_path
            .name(&certificate, hostname, claim.trust_domain)
            .map_err(|error| VerifyError::not_genuine(error.to_string()))?;

        let nonce = fresh_nonce().map_err(|error| VerifyError::Unavailable(error.into()))?;
        let challenge = serde_json::to_vec(&Challenge { nonce: Base64(nonce.to_vec()) })
            .map_err(|error| VerifyError::Unavailable(error.into()))?;
        let response = Response::parse(&node.answer(challenge).await?)?;
        let signed = response.signed_nonce(&nonce, &certificate.key).ok_or_else(|| {
            VerifyError::not_genuine("the node did not sign the nonces with its host key")
        })?;
        let bond = bond(claim.binding, &nonce, &signed);
        if self.require_binding && bond != Bond::Key {
            return Err(VerifyError::not_genuine(
                "the proof is not bound to the node's new key, and `require-binding` is set",
            ));
        }
        Ok(AttestedNode::assertion(KIND, id, Selectors::new(), true, bond))
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
    /// The file of authorities can't be read.
    #[error("cannot read authorities from `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line in it is not one of `authorized_keys`.
    #[error("line {number} of `{path}` names no authority", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: usize,
        /// Why.
        source: ParseAuthorityError,
    },
    /// There is none in it.
    #[error("`{path}` names no authority", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}
