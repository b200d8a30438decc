//! The server's side: a report that AMD's firmware signed names a guest.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};

use super::KIND;
use super::appraise::{Evidence, Guest, Standard, appraise};
use super::config::{Config, Policy};
use super::crl::{self, Lists};
use super::facts::{self, REGISTERS};
use super::product::Product;
use super::roots::{Roots, RootsError};
use super::wire::{Answer, Hello};
use crate::checklist::Checklist;
use crate::references::{ReferenceError, References};
use crate::{Challenged, NodeClaim, NodeVerifier, Nonce, VerifyError, files};

/// Admits guests that run known software on trusted processors.
#[derive(Debug)]
pub struct Verifier {
    roots: Roots,
    policy: Policy,
    crls: Vec<(Product, PathBuf)>,
    references: References,
}

impl Verifier {
    /// Reads the files that `config` names. It has no [`problems`](Config::problems).
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a file can't be used.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        Self::trusting(Roots::amd()?, config)
    }

    pub(super) fn trusting(roots: Roots, config: &Config) -> Result<Self, OpenError> {
        let paths = config
            .crl
            .iter()
            .flat_map(|(product, paths)| paths.iter().map(|path| (*product, path.clone())));
        let references = References::open(&config.reference_values, &REGISTERS)?;
        let verifier = Self { roots, policy: config.policy(), crls: paths.collect(), references };
        verifier.revoked()?;
        Ok(verifier)
    }

    /// The lists of revoked certificates as they are now: they are fetched anew before they end.
    fn revoked(&self) -> Result<Lists, OpenError> {
        let read = |(product, path): &(Product, PathBuf)| match files::read(path, crl::MAX) {
            Ok(list) => Ok((*product, list.to_vec())),
            Err(source) => Err(OpenError::Crl { path: path.clone(), source }),
        };
        self.crls.iter().map(read).collect()
    }

    /// The node that `answer` proves.
    fn judge(
        &self,
        answer: &Answer,
        claim: &NodeClaim<'_>,
        nonce: &Nonce,
    ) -> Result<AttestedNode, VerifyError> {
        let crls = self.revoked().map_err(|error| VerifyError::Unavailable(error.into()))?;
        let binding = claim.binding.digest(nonce);
        let standard = Standard {
            roots: &self.roots,
            now: Some(claim.now),
            policy: &self.policy,
            binding: Some(binding.as_bytes()),
            crls: &crls,
            references: Some(&self.references),
        };
        let evidence =
            Evidence { report: &answer.report.0, endorsement: Some(&answer.endorsement.0) };
        let mut checks = Checklist::strict();
        let guest = appraise(evidence, &standard, &mut checks)?;
        checks.kept()?;
        let Some(Guest { report, endorsement: Some(endorsement), image: Some(image) }) = guest
        else {
            return Err(VerifyError::Malformed);
        };
        let id = facts::agent_id(&report, claim.trust_domain)
            .map_err(|_too_long| VerifyError::Malformed)?;
        let selectors = facts::selectors(&report, &endorsement, &image)?;
        Ok(AttestedNode::assertion(KIND, id, selectors, true, Bond::Key)
            .trusted(facts::trust(&report))
            .measured(facts::measured(&report, &endorsement)))
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
        Hello::parse(claim.evidence)?;
        let nonce = node.nonce()?;
        let answer = Answer::parse(&node.answer(nonce.to_vec()).await?)?;
        self.judge(&answer, &claim, &nonce)
    }
}

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This program was built wrong.
    #[error("the certificates of AMD's that this program was built with are damaged")]
    Roots(#[from] RootsError),
    /// The reference values can't be used.
    #[error("cannot use the reference values for `{KIND}`")]
    References(#[from] ReferenceError),
    /// A list of revoked certificates can't be read.
    #[error("cannot read the revocation list `{path}`; fetch it from kdsintf.amd.com")]
    Crl {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
