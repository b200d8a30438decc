//! The server's side: a token of an issuer's earns an identity, once.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::evidence::{AttestedNode, Binding, Bond, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::psk::Run;
use claviger_core::selector::{Selector, Selectors};
use claviger_core::time::UnixTime;

use super::config::{Config, Issuer};
use super::profile::Profile;
use super::{KIND, facts};
use crate::fetch::{Endpoint, EndpointError, Fetch, Plain, RootsError};
use crate::jwks::claims::{Claims, TimeRules, Times};
use crate::jwks::{self, Jwks, Token, Verified, audience};
use crate::{Challenged, ConsumeError, ConsumeOnce, NodeClaim, NodeVerifier, Once, VerifyError};

/// The longest `jti`, in bytes.
const MAX_JTI: usize = 256;

/// Admits whoever presents a token of an issuer that the operator believes.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Accepted>,
    ledger: Arc<dyn ConsumeOnce>,
}

/// An issuer, ready to be asked.
#[derive(Debug)]
struct Accepted {
    name: String,
    issuer: String,
    audience: String,
    profile: Profile,
    keys: Jwks,
    times: TimeRules,
    selected: Vec<String>,
    require: BTreeMap<String, Vec<String>>,
    require_binding: bool,
}

/// How a token is presented.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// What it should be bound to; nothing, if it is not to earn something for a key.
    pub binding: Option<&'a Binding>,
    /// The key that it is to earn a certificate for, if any. The same key may present it again.
    pub key: Option<&'a KeyDigest>,
    /// Where it earns an identity.
    pub trust_domain: &'a TrustDomain,
    /// When it is judged.
    pub now: UnixTime,
}

impl Verifier {
    /// Gets ready to believe the issuers in `config`, in which there are no problems. What was used
    /// goes to `ledger`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a file can't be used.
    pub fn open(config: Config, ledger: Arc<dyn ConsumeOnce>) -> Result<Self, OpenError> {
        let issuers = config.0.into_iter().map(|(name, issuer)| Accepted::open(name, issuer));
        Ok(Self { issuers: issuers.collect::<Result<_, _>>()?, ledger })
    }

    /// Judges `token`, and uses it up if it is accepted.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it proves nothing, or if that can't be told right now.
    pub async fn verify_token(
        &self,
        token: &[u8],
        presented: Presented<'_>,
    ) -> Result<AttestedNode, VerifyError> {
        let token = Token::parse(token).map_err(|_no_token| VerifyError::Malformed)?;
        let issuer = self.issuer_of(token.unverified())?;
        let token = issuer.keys.check(token).await?;
        let (facts, times) = issuer.judge(token.claims(), presented)?;
        self.use_up(issuer, &token, times, presented.key).await?;
        let Facts { id, selectors, bond, run } = facts;
        let source = if token.stale() { "cached keys" } else { "issuer's keys" };
        Ok(AttestedNode::assertion(KIND, id, selectors, true, bond).by(source).in_run(run))
    }

    /// Who is to judge a token that says this about itself.
    fn issuer_of(&self, claims: &Claims) -> Result<&Accepted, VerifyError> {
        let issuer = claims.text("iss").map_err(not_genuine)?;
        let audience = claims.audience().map_err(not_genuine)?;
        let mut known = self.issuers.iter().filter(|known| known.issuer == issuer).peekable();
        if known.peek().is_none() {
            let issuer: String = issuer.escape_debug().take(128).collect();
            return Err(VerifyError::not_genuine(format!(
                "nobody here believes the issuer `{issuer}`"
            )));
        }
        known.find(|known| audience::is_for(audience, &known.audience)).ok_or_else(|| {
            let audience: String = audience.escape_debug().take(128).collect();
            VerifyError::not_genuine(format!("the token is for the audience `{audience}`"))
        })
    }

    /// Lets nobody else use the token.
    async fn use_up(
        &self,
        issuer: &Accepted,
        token: &Verified,
        times: Times,
        key: Option<&KeyDigest>,
    ) -> Result<(), VerifyError> {
        let by_digest;
        let id = match token.claims().optional_text("jti").map_err(not_genuine)? {
            Some(jti) if (1..=MAX_JTI).contains(&jti.len()) => jti,
            Some(_odd) => return Err(VerifyError::not_genuine("the token's jti is no name")),
            // What was signed names a token as well; how it is spelled does not matter.
            None => {
                by_digest = format!("sha256:{}", hex::encode(token.digest()));
                &by_digest
            }
        };
        let once = Once {
            kind: KIND,
            issuer: &issuer.issuer,
            id,
            issued_at: times.issued_at,
            expires_at: times.expires_at.after(issuer.times.leeway),
            key,
        };
        self.ledger.consume(once).await.map_err(|error| match error {
            ConsumeError::Replayed => VerifyError::not_genuine("the token was used before"),
            ConsumeError::TooOld | ConsumeError::TooLong => not_genuine(error),
            ConsumeError::Unavailable(source) => VerifyError::Unavailable(source),
        })
    }
}

/// What a token says, as far as it matters.
struct Facts {
    id: claviger_core::id::SpiffeId,
    selectors: Selectors,
    bond: Bond,
    run: Option<Run>,
}

impl Accepted {
    fn open(name: String, issuer: Issuer) -> Result<Self, OpenError> {
        let keys = keys_of(&issuer)
            .map_err(|source| OpenError { issuer: name.clone(), source: Box::new(source) })?;
        let selected = issuer.selected();
        let Issuer { max_age, max_lifetime, leeway, require, require_binding, .. } = issuer;
        Ok(Self {
            name,
            issuer: issuer.issuer,
            audience: issuer.audience,
            profile: issuer.profile,
            keys,
            times: TimeRules { leeway, max_age, max_lifetime },
            selected,
            require,
            require_binding,
        })
    }

    /// Whether a token of the issuer's, for us, is to be accepted, and what it says.
    fn judge(
        &self,
        claims: &Claims,
        presented: Presented<'_>,
    ) -> Result<(Facts, Times), VerifyError> {
        let claimed = claims.audience().map_err(not_genuine)?;
        let bond = audience::bond(claimed, &self.audience, presented.binding);
        let bond = bond.ok_or(VerifyError::not_genuine("the token is bound to another key"))?;
        if self.require_binding && bond != Bond::Key {
            return Err(VerifyError::not_genuine("the token is bound to no key"));
        }
        let times = claims.times().map_err(not_genuine)?;
        times.check(presented.now, self.times).map_err(not_genuine)?;
        facts::require(claims, &self.require).map_err(not_genuine)?;
        let mut selectors = facts::selectors(claims, &self.selected).map_err(not_genuine)?;
        let mut add = |name: &str, value: &str| {
            let selector = Selector::new(KIND, &format!("{name}:{value}")).map_err(not_genuine)?;
            selectors.insert(selector);
            Ok::<_, VerifyError>(())
        };
        add("issuer", &self.name)?;
        if let Some(fork) = self.profile.fork(claims) {
            add("fork", fork.name())?;
        }
        let subject = claims.text("sub").map_err(not_genuine)?;
        if subject.is_empty() {
            return Err(VerifyError::not_genuine("the token's sub is empty"));
        }
        // A subject may hold anything, and may be long.
        let name = hex::encode(digest(&SHA256, subject.as_bytes()));
        let name: String = name.chars().take(32).collect();
        let id = presented.trust_domain.join(&format!("/spire/agent/{KIND}/{}/{name}", self.name));
        let run = self.profile.run(&self.name, claims).map_err(not_genuine)?;
        let id = id.map_err(not_genuine)?;
        Ok((Facts { id, selectors, bond, run }, times))
    }
}

fn not_genuine(error: impl std::error::Error) -> VerifyError {
    VerifyError::not_genuine(error.to_string())
}

/// Where the keys of an issuer are.
fn keys_of(issuer: &Issuer) -> Result<Jwks, KeysError> {
    if let Some(path) = &issuer.jwks_file {
        return Ok(Jwks::from_file(path)?);
    }
    let fetch = Fetch::open(issuer.ca_file.as_deref())?;
    match &issuer.jwks_uri {
        Some(uri) => Ok(Jwks::from_url(Endpoint::parse(uri, Plain::Loopback)?, fetch)),
        None => Ok(Jwks::from_issuer(&issuer.issuer, fetch)?),
    }
}

/// An issuer of the configuration can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot get at the keys of the issuer `{issuer}`")]
pub struct OpenError {
    /// Its name.
    issuer: String,
    /// Why.
    #[source]
    source: Box<KeysError>,
}

#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error(transparent)]
    Keys(#[from] jwks::OpenError),
    #[error(transparent)]
    Address(#[from] EndpointError),
    #[error(transparent)]
    Roots(#[from] RootsError),
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
        let NodeClaim { evidence, key, binding, trust_domain, caller: _, now } = claim;
        let presented = Presented { binding: Some(binding), key: Some(key), trust_domain, now };
        self.verify_token(evidence, presented).await
    }
}

#[cfg(test)]
mod tests;
