//! The server's side: a quote about an enclave.

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};

use super::KIND;
use super::config::{Config, Signed};
use super::rules::{self, Expected, REGISTERS};
use crate::checklist::Checklist;
use crate::dcap::{Body, Desk, Judgement, OpenError, Quote};
use crate::references::References;
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

/// Admits enclaves that are known.
#[derive(Debug)]
pub struct Verifier {
    desk: Desk,
    references: References,
    signed: Option<Signed>,
    allow_debug: bool,
}

impl Verifier {
    /// Reads the reference values. `config` has no [`problems`](Config::problems).
    ///
    /// # Errors
    ///
    /// [`OpenError`] if something that it names can't be used.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let root = config.insecure_test_root.as_deref();
        let desk = Desk::open(&config.collateral, &config.tcb, root)?;
        let references = References::open(&config.reference_values, &REGISTERS)?;
        let (signed, allow_debug) = (config.signed, config.allow_debug);
        Ok(Self { desk, references, signed, allow_debug })
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
        let answer = Desk::ask(&claim, node).await?;
        let quote = Quote::parse(&answer.presented.quote)
            .map_err(|error| VerifyError::not_genuine(error.to_string()))?;
        let Body::Enclave(report) = &quote.body else {
            return Err(VerifyError::not_genuine("the quote is of a TDX virtual machine"));
        };
        let (mut checks, now) = (Checklist::strict(), claim.now);
        let platform = self.desk.authenticate(&quote, now, &mut checks)?;
        let expected = Expected {
            report_data: Some(answer.report_data),
            references: Some(&self.references),
            signed: self.signed,
            allow_debug: self.allow_debug,
            now,
        };
        let image = rules::examine(report, expected, &mut checks)?.ok_or(VerifyError::Malformed)?;
        let brought = answer.presented.collateral;
        let standing = self.desk.appraise(&quote, &platform, brought, now, &mut checks).await?;
        checks.kept()?;

        let judgement = Judgement {
            kind: KIND,
            pck: &platform.pck,
            standing: &standing,
            image: &image,
            measured: &rules::measured(report),
            is_debug: rules::is_debug(report),
        };
        // What tells enclaves on one platform apart, and stays from one version to the next.
        let product = report.isv_prod_id.to_be_bytes();
        let launched: [&[u8]; 5] = [
            &report.mr_signer,
            &product,
            &report.isv_ext_prod_id,
            &report.isv_family_id,
            &report.config_id,
        ];
        let id = judgement
            .id(claim.trust_domain, &launched)
            .map_err(|_too_long| VerifyError::Malformed)?;
        let product = format!("isvprodid:{}", report.isv_prod_id);
        let selectors = judgement.selectors(&[product, format!("isvsvn:{}", report.isv_svn)])?;
        Ok(AttestedNode::assertion(KIND, id, selectors, true, Bond::Key)
            .by("Intel's collateral")
            .trusted(judgement.trust())
            .measured(judgement.on_record()))
    }
}
