//! The server's side: a token earns an identity, once.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond, KeyDigest};
use claviger_core::selector::Selectors;

use super::{JoinToken, KIND};
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Remembers which tokens exist, and who spent them.
#[async_trait]
pub trait SpendToken: fmt::Debug + Send + Sync + 'static {
    /// Spends `token` for the node that holds `key`, durably before it returns.
    ///
    /// The same key may spend the same token again, so that an answer lost on the way does not lock
    /// the node out. Any other key is a replay.
    ///
    /// # Errors
    ///
    /// [`SpendError`] if the token earns nothing.
    async fn spend(&self, token: &JoinToken, key: &KeyDigest) -> Result<(), SpendError>;
}

/// Why a token earns nothing.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// It was never made, or has expired.
    #[error("the join token is unknown or has expired")]
    Unknown,
    /// Another key spent it.
    #[error("the join token was spent by another node")]
    Replayed,
    /// The ledger did not answer.
    #[error("the ledger of join tokens does not answer")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// Admits whoever holds a token that `S` lets them spend.
#[derive(Debug)]
pub struct Verifier<S>(S);

impl<S: SpendToken> Verifier<S> {
    /// A verifier of the tokens in `ledger`.
    pub const fn new(ledger: S) -> Self {
        Self(ledger)
    }
}

#[async_trait]
impl<S: SpendToken> NodeVerifier for Verifier<S> {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        _node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let token =
            JoinToken::parse(claim.evidence).map_err(|_not_a_token| VerifyError::Malformed)?;
        let id = token.agent_id(claim.trust_domain).map_err(|_too_long| VerifyError::Malformed)?;
        self.0.spend(&token, claim.key).await?;
        Ok(AttestedNode::assertion(KIND, id, Selectors::new(), false, Bond::Bearer))
    }
}

impl From<SpendError> for VerifyError {
    fn from(error: SpendError) -> Self {
        match error {
            SpendError::Unknown => Self::not_genuine("the join token is unknown or has expired"),
            SpendError::Replayed => Self::not_genuine("the join token was spent by another node"),
            SpendError::Unavailable(source) => Self::Unavailable(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use claviger_core::evidence::Binding;
    use claviger_core::id::TrustDomain;
    use claviger_core::time::UnixTime;

    use super::*;
    use crate::NoConversation;

    /// A ledger that knows one token.
    #[derive(Debug, Default)]
    struct OneToken(Mutex<Option<KeyDigest>>);

    #[async_trait]
    impl SpendToken for OneToken {
        async fn spend(&self, token: &JoinToken, key: &KeyDigest) -> Result<(), SpendError> {
            if token.expose() != "the-one" {
                return Err(SpendError::Unknown);
            }
            match *self.0.lock().unwrap().get_or_insert(*key) {
                first if first == *key => Ok(()),
                _other => Err(SpendError::Replayed),
            }
        }
    }

    struct World {
        verifier: Verifier<OneToken>,
        trust_domain: TrustDomain,
    }

    impl World {
        fn new() -> Self {
            let verifier = Verifier::new(OneToken::default());
            Self { verifier, trust_domain: "example.org".parse().unwrap() }
        }

        async fn present(&self, evidence: &[u8], key: &[u8]) -> Result<AttestedNode, VerifyError> {
            let (binding, now) =
                (&Binding::new(KIND, key, &self.trust_domain), UnixTime::from_secs(1));
            let (key, trust_domain, caller) = (&KeyDigest::of_spki(key), &self.trust_domain, None);
            let claim = NodeClaim { evidence, key, binding, trust_domain, caller, now };
            self.verifier.verify(claim, &mut NoConversation).await
        }
    }

    #[tokio::test]
    async fn a_token_earns_the_identity_that_names_it() {
        let node = World::new().present(b"the-one", b"key").await.unwrap();
        let id = "spiffe://example.org/spire/agent/join_token/the-one";
        assert_eq!(node.id().to_string(), id);
        assert_eq!((node.kind(), node.reattestable()), ("join_token", false));
        assert!(node.selectors().is_empty());
    }

    #[tokio::test]
    async fn the_same_key_may_ask_again_and_another_may_not() {
        let world = World::new();
        for _ in 0..2 {
            let node = world.present(b"the-one", b"key").await.unwrap();
            assert!(node.id().path().ends_with("/the-one"));
        }
        let error = world.present(b"the-one", b"thief").await.unwrap_err();
        assert!(error.to_string().contains("spent by another node"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_looked_up() {
        let world = World::new();
        let error = world.present(b"a/../the-one", b"key").await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed));
        let error = world.present(b"guess", b"key").await.unwrap_err();
        assert!(matches!(error, VerifyError::NotGenuine(_)));
    }

    #[test]
    fn a_claim_does_not_show_its_evidence() {
        let world = World::new();
        let (binding, now) =
            (&Binding::new(KIND, b"key", &world.trust_domain), UnixTime::from_secs(1));
        let (key, trust_domain, caller) = (&KeyDigest::of_spki(b"key"), &world.trust_domain, None);
        let claim = NodeClaim { evidence: b"secret", key, binding, trust_domain, caller, now };
        let text = format!("{claim:?}");
        assert!(text.contains("(6 bytes)") && !text.contains("secret"), "{text}");
    }
}
