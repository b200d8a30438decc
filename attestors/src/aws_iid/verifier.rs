//! The server's side: a document that AWS signed names an instance.

use std::collections::BTreeSet;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::KIND;
use super::config::Config;
use super::identity::Identity;
use super::regions::{OpenError, Regions};
use crate::cms::SignedData;
use crate::{Challenged, MAX_EVIDENCE, NodeClaim, NodeVerifier, VerifyError, json};

/// What is sent, in SPIRE's format.
#[derive(Debug, Deserialize, Serialize)]
pub struct Evidence {
    /// The document in clear. What counts is the one in `rsa2048`; another one here is a forgery.
    #[serde(default)]
    pub(super) document: String,
    /// The document in PKCS#7, in base64 as the metadata service has it.
    #[serde(default)]
    pub(super) rsa2048: String,
}

impl Evidence {
    /// Reads what a node sent.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < bytes.len() {
            return Err(VerifyError::Malformed);
        }
        json::read(bytes)
    }

    /// The bytes of the PKCS#7 document. The metadata service breaks its base64 into lines.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if there is none.
    pub fn signed(&self) -> Result<Vec<u8>, VerifyError> {
        if self.rsa2048.is_empty() {
            return Err(VerifyError::not_genuine(
                "there is no `rsa2048` signature; one of 1024 bits (`signature`) is not believed",
            ));
        }
        let base64: String = self.rsa2048.split_ascii_whitespace().collect();
        STANDARD.decode(base64).map_err(|_detail| VerifyError::Malformed)
    }
}

/// Admits the instances of some accounts.
#[derive(Debug)]
pub struct Verifier {
    accounts: BTreeSet<String>,
    regions: Option<BTreeSet<String>>,
    signers: Regions,
}

impl Verifier {
    /// Reads the certificates that `config` names. It has no [`problems`](Config::problems).
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a certificate can't be had.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let (accounts, regions) =
            (config.account_allow_list.clone(), config.region_allow_list.clone());
        Ok(Self { accounts, regions, signers: Regions::open(config)? })
    }

    /// The instance that `evidence` proves, whosoever it is.
    fn identify(&self, evidence: &Evidence, now: UnixTime) -> Result<Identity, VerifyError> {
        let signed = evidence.signed()?;
        let signed = SignedData::parse(&signed).map_err(|error| error.in_evidence())?;
        let signer = self.signers.signer_of(&signed).ok_or_else(|| {
            VerifyError::not_genuine("its signer is none whose certificate is pinned for a region")
        })?;
        let document =
            signed.verify(&signer.certificate, now).map_err(|error| error.in_evidence())?;
        // SPIRE verified one document and believed the other (fixed in its 1.14.6).
        if !evidence.document.is_empty() && evidence.document.as_bytes() != document {
            return Err(VerifyError::not_genuine("`document` is not what `rsa2048` signs"));
        }
        let identity = Identity::parse(&document)?;
        if identity.region() != signer.region {
            let (says, signer) = (identity.region(), &signer.region);
            return Err(VerifyError::not_genuine(format!(
                "the document is of `{says}` and its signer is that of `{signer}`"
            )));
        }
        Ok(identity)
    }

    fn admit(&self, identity: &Identity) -> Result<(), VerifyError> {
        let (account, region) = (identity.account(), identity.region());
        if !self.accounts.contains(account) {
            return Err(VerifyError::not_genuine(format!(
                "the account `{account}` is not in `account-allow-list`"
            )));
        }
        if self.regions.as_ref().is_some_and(|regions| !regions.contains(region)) {
            return Err(VerifyError::not_genuine(format!(
                "the region `{region}` is not in `region-allow-list`"
            )));
        }
        Ok(())
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
        let evidence = Evidence::parse(claim.evidence)?;
        let identity = self.identify(&evidence, claim.now)?;
        self.admit(&identity)?;
        let id =
            identity.agent_id(claim.trust_domain).map_err(|_too_long| VerifyError::Malformed)?;
        Ok(AttestedNode::assertion(KIND, id, identity.selectors()?, false, Bond::Bearer))
    }
}
