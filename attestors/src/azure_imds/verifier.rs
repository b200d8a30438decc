//! The server's side: a document that Azure signed for our nonce names a machine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::selector::{Selector, Selectors};
use claviger_core::time::UnixTime;
use uuid::Uuid;

use super::KIND;
use super::attested::Attested;
use super::config::Config;
use super::signer::{OpenError, Signers};
use super::wire::Answer;
use crate::cms::SignedData;
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Admits the machines of some subscriptions.
#[derive(Debug)]
pub struct Verifier {
    /// The tenant of each subscription that is admitted.
    subscriptions: BTreeMap<Uuid, Uuid>,
    signers: Signers,
}

impl Verifier {
    /// Reads the certificates that `config` names. It has no [`problems`](Config::problems).
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a certificate can't be had.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let subscriptions = config.tenant_of_subscriptions();
        Ok(Self { subscriptions, signers: Signers::open(config)? })
    }

    /// The machine that `answer` proves for `nonce`, whosoever it is.
    fn identify(&self, answer: &[u8], nonce: &str, now: UnixTime) -> Result<Attested, VerifyError> {
        let signed = Answer::parse(answer)?.signed()?;
        let signed = SignedData::parse(&signed).map_err(|error| error.in_evidence())?;
        let signer = signed.signing_certificate().map_err(|error| error.in_evidence())?;
        self.signers.check(signer, signed.certificates(), now)?;
        let document = signed.verify(signer, now).map_err(|error| error.in_evidence())?;
        let attested = Attested::parse(&document)?;
        attested.check_fresh(nonce, now)?;
        Ok(attested)
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
        let nonce = nonce()?;
        let answer = node.answer(nonce.clone().into_bytes()).await?;
        let attested = self.identify(&answer, &nonce, claim.now)?;

        let (subscription, machine) = (attested.subscription(), attested.machine());
        let tenant = self.subscriptions.get(&subscription).ok_or_else(|| {
            VerifyError::not_genuine(format!("the subscription `{subscription}` is of no tenant's"))
        })?;
        let path = format!("/spire/agent/{KIND}/{tenant}/{subscription}/{machine}");
        let id = claim.trust_domain.join(&path).map_err(|_too_long| VerifyError::Malformed)?;
        let facts = [format!("subscription-id:{subscription}"), format!("vm-id:{machine}")];
        let selectors: Selectors = facts
            .iter()
            .map(|fact| Selector::new(KIND, fact))
            .collect::<Result<_, _>>()
            .map_err(|_invalid| VerifyError::Malformed)?;
        Ok(AttestedNode::assertion(KIND, id, selectors, false, Bond::Bearer))
    }
}

/// 128 random bits, in as many characters as SPIRE's nonces have, and of the same kinds.
fn nonce() -> Result<String, VerifyError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_unspecified| {
        VerifyError::Unavailable("the operating system has no random numbers".into())
    })?;
    Ok(hex::encode(bytes))
}
