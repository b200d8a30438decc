//! The server's side: Google vouches for a machine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::selector::{Selector, Selectors};
use serde::Deserialize;

use super::{AUDIENCE, KIND};
use crate::fetch::{Endpoint, EndpointError, Fetch, Plain, RootsError};
use crate::jwks::claims::{Claims, TimeRules};
use crate::jwks::{self, Jwks, audience};
use crate::{Challenged, ConfigProblem, NodeClaim, NodeVerifier, VerifyError};

/// Who signs the tokens.
const ISSUER: &str = "https://accounts.google.com";

/// Where the keys are. Google's discovery document says so, too, and they are on another server.
const KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// Google's tokens last an hour, and its metadata server hands the same one out again meanwhile.
const TIMES: TimeRules = TimeRules {
    leeway: Duration::from_secs(30),
    max_age: Duration::from_hours(1),
    max_lifetime: Duration::from_hours(1),
};

/// Which machines are admitted: `[attestors.gcp_iit]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The projects whose machines are admitted, by their ids.
    pub projectid_allow_list: BTreeSet<String>,
    /// Where Google's keys are, instead of at Google's.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// A file that holds Google's keys, if Google can't be asked.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// The authorities, in PEM, of the server at `jwks-uri`. Instead of this machine's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether only tokens that are bound to a key are accepted; SPIRE's agents have none.
    #[serde(default)]
    pub require_binding: bool,
}

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut add = |key: &str, value: Option<String>, advice: &str| {
            problems.push(ConfigProblem::new(key, value.as_deref(), advice));
        };
        if self.projectid_allow_list.is_empty() || self.projectid_allow_list.contains("") {
            add(
                "projectid-allow-list",
                None,
                "list the ids of the projects whose machines are admitted; anybody has a project",
            );
        }
        if let Some(uri) = &self.jwks_uri
            && let Err(error) = Endpoint::parse(uri, Plain::Loopback)
        {
            add("jwks-uri", Some(uri.clone()), &error.to_string());
        }
        if self.jwks_file.is_some() && (self.jwks_uri.is_some() || self.ca_file.is_some()) {
            add(
                "jwks-file",
                None,
                "with a file nobody is asked; leave `jwks-uri` and `ca-file` out",
            );
        }
        for (key, path) in [("jwks-file", &self.jwks_file), ("ca-file", &self.ca_file)] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                add(key, Some(path.display().to_string()), "write the file's absolute path");
            }
        }
        problems
    }
}

/// Admits machines of the projects that the operator lists.
#[derive(Debug)]
pub struct Verifier {
    keys: Jwks,
    projects: BTreeSet<String>,
    require_binding: bool,
}

/// What is read of a token, from the very bytes that were signed. Google adds to it from time to time.
#[derive(Deserialize)]
struct Identity {
    iss: String,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    google: Option<Google>,
}

#[derive(Deserialize)]
struct Google {
    compute_engine: Machine,
}

#[derive(Deserialize)]
struct Machine {
    project_id: String,
    zone: String,
    instance_id: String,
    instance_name: String,
}

impl Verifier {
    /// Gets ready to judge by `config`, in which there are no problems.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a file can't be used.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let Config {
            projectid_allow_list: projects,
            jwks_uri,
            jwks_file,
            ca_file,
            require_binding,
        } = config;
        let keys = match jwks_file {
            Some(path) => Jwks::from_file(&path)?,
            None => {
                let url = Endpoint::parse(jwks_uri.as_deref().unwrap_or(KEYS), Plain::Loopback)?;
                Jwks::from_url(url, Fetch::open(ca_file.as_deref())?)
            }
        };
        Ok(Self { keys, projects, require_binding })
    }

    /// Whether a token is for us, and what keeps others from presenting it.
    fn bond(&self, claims: &Claims, claim: &NodeClaim<'_>) -> Result<Bond, VerifyError> {
        let claimed = claims.audience().map_err(not_genuine)?;
        if !audience::is_for(claimed, AUDIENCE) {
            return Err(VerifyError::not_genuine("the token is for another audience"));
        }
        let bond = audience::bond(claimed, AUDIENCE, Some(claim.binding));
        let bond = bond.ok_or(VerifyError::not_genuine("the token is bound to another key"))?;
        if self.require_binding && bond != Bond::Key {
            return Err(VerifyError::not_genuine("the token is bound to no key"));
        }
        Ok(bond)
    }

    /// The machine, if it is of a project that is admitted.
    fn admit(&self, payload: &[u8]) -> Result<(Machine, Option<String>), VerifyError> {
        let identity: Identity = serde_json::from_slice(payload).map_err(not_genuine)?;
        if identity.iss != ISSUER {
            return Err(VerifyError::not_genuine("the token is not of Google's accounts"));
        }
        let machine = identity.google.map(|google| google.compute_engine).ok_or(
            VerifyError::not_genuine("the token names no machine; ask for it with `format=full`"),
        )?;
        if !self.projects.contains(&machine.project_id) {
            let project: String = machine.project_id.escape_debug().take(128).collect();
            return Err(VerifyError::not_genuine(format!(
                "the project `{project}` is not in `projectid-allow-list`"
            )));
        }
        Ok((machine, identity.email.filter(|_| identity.email_verified)))
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
        let token = self.keys.verify(claim.evidence).await?;
        let bond = self.bond(token.claims(), &claim)?;
        let times = token.claims().times().map_err(not_genuine)?;
        times.check(claim.now, TIMES).map_err(not_genuine)?;
        let (machine, account) = self.admit(token.payload())?;
        let path = format!("/spire/agent/{KIND}/{}/{}", machine.project_id, machine.instance_id);
        let id = claim.trust_domain.join(&path).map_err(not_genuine)?;
        let selectors = selectors(&machine, account.as_deref())?;
        let source = if token.stale() { "cached keys" } else { "issuer's keys" };
        Ok(AttestedNode::assertion(KIND, id, selectors, false, bond).by(source))
    }
}

/// The facts, spelled as SPIRE spells them.
fn selectors(machine: &Machine, account: Option<&str>) -> Result<Selectors, VerifyError> {
    let Machine { project_id, zone, instance_name, instance_id: _ } = machine;
    let mut facts = vec![
        format!("project-id:{project_id}"),
        format!("zone:{zone}"),
        format!("instance-name:{instance_name}"),
    ];
    facts.extend(account.map(|account| format!("sa:{account}")));
    facts.iter().map(|fact| Selector::new(KIND, fact).map_err(not_genuine)).collect()
}

fn not_genuine(error: impl std::error::Error) -> VerifyError {
    VerifyError::not_genuine(error.to_string())
}

/// Why nothing can be judged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There are no keys in the file.
    #[error(transparent)]
    Keys(#[from] jwks::OpenError),
    /// The address of the keys is none.
    #[error("`jwks-uri` is no address to ask")]
    Address(#[from] EndpointError),
    /// The server that has the keys can't be believed.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

#[cfg(test)]
mod tests;
