//! A server and a node for the tests of kinds that hold a conversation.

pub(crate) mod corpus;

use std::net::IpAddr;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Binding, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;

use crate::{Challenged, NodeClaim, NodeCollector, NodeVerifier, Presentation, VerifyError};

/// What a server knows about a node that calls.
pub(crate) struct World {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) caller: Option<IpAddr>,
    pub(crate) now: UnixTime,
}

/// The SubjectPublicKeyInfo in the node's certificate request.
pub(crate) const SPKI: &[u8] = b"the key that evidence is to earn a certificate for";

/// The first second of 2026.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);

impl Default for World {
    fn default() -> Self {
        Self { trust_domain: "example.org".parse().unwrap(), caller: None, now: NOW }
    }
}

impl World {
    /// What binds evidence of `kind` to the node's key.
    pub(crate) fn binding(&self, kind: &str) -> Binding {
        Binding::new(kind, SPKI, &self.trust_domain)
    }

    /// Lets `verifier` judge `evidence`, and ask `node`.
    pub(crate) async fn judge(
        &self,
        verifier: &dyn NodeVerifier,
        evidence: &[u8],
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let claim = NodeClaim {
            evidence,
            key: &KeyDigest::of_spki(SPKI),
            binding: &self.binding(verifier.kind()),
            trust_domain: &self.trust_domain,
            caller: self.caller,
            now: self.now,
        };
        verifier.verify(claim, node).await
    }

    /// Lets `collector` attest to `verifier`.
    pub(crate) async fn attest(
        &self,
        verifier: &dyn NodeVerifier,
        collector: &dyn NodeCollector,
    ) -> Result<AttestedNode, VerifyError> {
        self.attest_edited(verifier, collector, |answer| answer).await
    }

    /// The same, with answers that `edit` makes something else of.
    pub(crate) async fn attest_edited(
        &self,
        verifier: &dyn NodeVerifier,
        collector: &dyn NodeCollector,
        edit: fn(Vec<u8>) -> Vec<u8>,
    ) -> Result<AttestedNode, VerifyError> {
        let presentation = collector.present(&self.binding(collector.kind())).await.unwrap();
        let evidence = presentation.evidence().to_vec();
        self.judge(verifier, &evidence, &mut Presenter { presentation, edit }).await
    }
}

/// A node that answers by its collector.
struct Presenter {
    presentation: Box<dyn Presentation>,
    edit: fn(Vec<u8>) -> Vec<u8>,
}

#[async_trait]
impl Challenged for Presenter {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let answer = self.presentation.answer(&challenge).await;
        Ok((self.edit)(answer.map_err(|_silent| VerifyError::Silent)?.to_vec()))
    }
}

/// Why a node was not admitted, as the operator reads it.
pub(crate) fn reason(outcome: Result<AttestedNode, VerifyError>) -> String {
    outcome.map(|node| node.id().clone()).unwrap_err().to_string()
}
