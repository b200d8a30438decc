//! The server's side.

use async_trait::async_trait;
use claviger_core::evidence::AttestedNode;

use super::{Config, FLAVOUR};
use crate::nitro::{self, Debugging, OpenError};
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Admits instances by what they have booted.
#[derive(Debug)]
pub struct Verifier(nitro::Verifier);

impl Verifier {
    /// Reads the files that `config` names. It has no [`problems`](Config::problems).
    ///
    /// # Errors
    ///
    /// [`OpenError`] if one of them can't be used.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let root = config.insecure_test_root.as_deref();
        // A NitroTPM has no debug mode.
        let debugging = Debugging::Refused;
        nitro::Verifier::open(&FLAVOUR, &config.reference_values, debugging, root).map(Self)
    }
}

#[async_trait]
impl NodeVerifier for Verifier {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        self.0.verify(claim, node).await
    }
}
