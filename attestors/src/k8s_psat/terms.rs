//! Which tokens are asked about at all. The answer is not trusted, only cheap: what a stranger made up
//! is mostly refused here, and does not become the API server's work.

use std::collections::BTreeSet;
use std::time::Duration;

use claviger_core::evidence::{Binding, Bond};
use claviger_core::time::UnixTime;

use super::claims::Claims;
use super::config::ClusterConfig;
use super::names::{MalformedName, ServiceAccount};
use crate::jwks::audience::{bond, is_for};

/// How far an API server's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(60);

/// What the operator asks of the tokens of a cluster.
#[derive(Debug)]
pub(super) struct Terms {
    accounts: BTreeSet<ServiceAccount>,
    audiences: Vec<String>,
    require_binding: bool,
}

/// A token that says it meets the terms.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Addressed {
    /// Those of its audiences that are ours. The API server has to confirm one of them.
    pub(super) audiences: Vec<String>,
    /// Whether they name the key.
    pub(super) bond: Bond,
}

impl Terms {
    pub(super) fn new(config: &ClusterConfig) -> Result<Self, MalformedName> {
        let accounts = config.service_account_allow_list.iter().map(|account| account.parse());
        Ok(Self {
            accounts: accounts.collect::<Result<_, _>>()?,
            audiences: config.audience.clone(),
            require_binding: config.require_binding,
        })
    }

    /// Whether a token with these `claims`, presented for the key that `binding` names, can be
    /// acceptable at `now`.
    pub(super) fn admit(
        &self,
        claims: &Claims,
        binding: &Binding,
        now: UnixTime,
    ) -> Result<Addressed, TermsError> {
        if !self.accounts.contains(&claims.account) {
            return Err(TermsError::Account(claims.account.clone()));
        }
        if claims.expires_at <= now {
            return Err(TermsError::Expired(claims.expires_at));
        }
        if claims.not_before.is_some_and(|start| now.after(SKEW) < start) {
            return Err(TermsError::NotYet);
        }
        let addressed = self.addressed(&claims.audiences, binding)?;
        if self.require_binding && addressed.bond == Bond::Bearer {
            return Err(TermsError::Unbound);
        }
        Ok(addressed)
    }

    /// Which audiences of a token are ours. One that is bound counts alone: it is for one key, whoever
    /// else the token is for.
    fn addressed(&self, said: &[String], binding: &Binding) -> Result<Addressed, TermsError> {
        let (mut bound, mut plain, mut foreign) = (Vec::new(), Vec::new(), false);
        for audience in said {
            let Some(own) = self.audiences.iter().find(|own| is_for(audience, own)) else {
                continue;
            };
            match bond(audience, own, Some(binding)) {
                Some(Bond::Key) => bound.push(audience.clone()),
                Some(Bond::Bearer) => plain.push(audience.clone()),
                None => foreign = true,
            }
        }
        if !bound.is_empty() {
            Ok(Addressed { audiences: bound, bond: Bond::Key })
        } else if foreign {
            Err(TermsError::AnotherKey)
        } else if !plain.is_empty() {
            Ok(Addressed { audiences: plain, bond: Bond::Bearer })
        } else {
            Err(TermsError::Audience)
        }
    }
}

/// Why nobody has to be asked about a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum TermsError {
    #[error("the service account `{0}` is not in `service-account-allow-list`")]
    Account(ServiceAccount),
    #[error("the token ended at {0}")]
    Expired(UnixTime),
    #[error("the token is from the future; compare the clocks of this server and the API server")]
    NotYet,
    #[error("the token is meant for somebody else: none of its audiences is in `audience`")]
    Audience,
    #[error("the token is bound to another key")]
    AnotherKey,
    #[error("the token is not bound to the node's key, and `require-binding` is set")]
    Unbound,
}

#[cfg(test)]
mod tests {
    use super::super::KIND;
    use super::super::fake::{claims, unsigned};
    use super::*;
    use crate::jwks::audience::bound;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_100);

    fn terms(more: &str) -> Terms {
        let toml = format!("service-account-allow-list = ['claviger:agent']\n{more}");
        Terms::new(&toml::from_str(&toml).unwrap()).unwrap()
    }

    fn binding(key: &[u8]) -> Binding {
        Binding::new(KIND, key, &"example.org".parse().unwrap())
    }

    fn token(audiences: &[&str]) -> Claims {
        let mut claims = claims();
        claims["aud"] = audiences.to_vec().into();
        Claims::read(&unsigned(&claims)).unwrap()
    }

    #[test]
    fn a_token_for_us_is_asked_about() {
        let addressed =
            terms("").admit(&token(&["other", "spire-server"]), &binding(b"key"), NOW).unwrap();
        let audiences = vec!["spire-server".to_owned()];
        assert_eq!(addressed, Addressed { audiences, bond: Bond::Bearer });
    }

    #[test]
    fn a_token_can_be_bound_to_the_key() {
        let ours = bound("spire-server", &binding(b"key"));
        assert_eq!(ours.len(), "spire-server#".len() + 43);
        let admit = |audiences: &[&str], more: &str| {
            terms(more).admit(&token(audiences), &binding(b"key"), NOW)
        };
        let addressed = admit(&["spire-server", &ours], "require-binding = true").unwrap();
        assert_eq!((addressed.bond, addressed.audiences), (Bond::Key, vec![ours]));
        assert_eq!(admit(&["spire-server"], "require-binding = true"), Err(TermsError::Unbound));
        // A token for a key is a thief's with any other, even if it is for everybody besides.
        let theirs = bound("spire-server", &binding(b"other"));
        assert_eq!(admit(&[&theirs], ""), Err(TermsError::AnotherKey));
        assert_eq!(admit(&["spire-server", &theirs], ""), Err(TermsError::AnotherKey));
        // For another server, bound or not, it says nothing to us.
        let elsewhere = bound("elsewhere", &binding(b"key"));
        assert_eq!(admit(&[&elsewhere], ""), Err(TermsError::Audience));
    }

    #[test]
    fn a_binding_is_for_one_trust_domain() {
        let ours = bound("spire-server", &binding(b"key"));
        let other = Binding::new(KIND, b"key", &"example.com".parse().unwrap());
        let refused = terms("").admit(&token(&[&ours]), &other, NOW);
        assert_eq!(refused, Err(TermsError::AnotherKey));
    }

    #[test]
    fn others_and_old_ones_are_not() {
        let admit = |claims: &Claims| terms("").admit(claims, &binding(b"key"), NOW).unwrap_err();
        assert_eq!(admit(&token(&["kubernetes"])), TermsError::Audience);
        assert_eq!(admit(&token(&[])), TermsError::Audience);
        let mut stranger = token(&["spire-server"]);
        stranger.account.name = "other".parse().unwrap();
        assert_eq!(admit(&stranger), TermsError::Account("claviger:other".parse().unwrap()));
        let mut old = token(&["spire-server"]);
        old.expires_at = NOW;
        assert_eq!(admit(&old), TermsError::Expired(NOW));
        let mut early = token(&["spire-server"]);
        early.not_before = Some(NOW.after(SKEW));
        let admitted = terms("").admit(&early, &binding(b"key"), NOW);
        assert_eq!(admitted.map(|addressed| addressed.bond), Ok(Bond::Bearer));
        early.not_before = Some(NOW.after(SKEW + Duration::from_secs(1)));
        assert_eq!(admit(&early), TermsError::NotYet);
    }
}
