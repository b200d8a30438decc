//! A made-up kind of evidence that carries the verifier's nonce and names the key: what Nitro, SEV-SNP
//! and TDX have in common.

use async_trait::async_trait;
use claviger_attestors::{Challenged, NodeClaim, NodeVerifier, VerifyError};
use claviger_core::evidence::{AttestedNode, Binding, Bond};
use claviger_core::id::SpiffeId;

use crate::registry::fixture;

pub(super) const KIND: &str = "tee";

/// What an enclave whose image is `image` shows for `spki` and the identity that it wants.
pub(super) fn evidence(
    image: &str,
    spki: &[u8],
    nonce: &[u8],
    wanted: Option<&SpiffeId>,
) -> Vec<u8> {
    let binding = Binding::new(KIND, spki, &fixture::domain()).requesting(wanted.cloned());
    [binding.digest(nonce).as_bytes(), image.as_bytes()].concat()
}

#[derive(Debug)]
pub(super) struct Tee;

#[async_trait]
impl NodeVerifier for Tee {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        if claim.evidence != b"{}" {
            return Err(VerifyError::Malformed);
        }
        let nonce = node.nonce()?;
        let evidence = node.answer(nonce.to_vec()).await?;
        let (bound, image) = evidence.split_at_checked(48).ok_or(VerifyError::Malformed)?;
        if bound != claim.binding.digest(&nonce).as_bytes() {
            return Err(VerifyError::not_genuine("bound to something else"));
        }
        let image = str::from_utf8(image).map_err(|_binary| VerifyError::Malformed)?;
        if image == "talkative" {
            node.answer(Vec::new()).await?;
        }
        let bond = if image == "unbound" { Bond::Bearer } else { Bond::Key };
        let image = if image == "unbound" { "app" } else { image };
        let id = fixture::id(&format!("/spire/agent/tee/{image}"));
        let selectors = [format!("tee:image:{image}").parse().unwrap()].into();
        Ok(AttestedNode::assertion(KIND, id, selectors, true, bond))
    }
}
