//! The server's side: asks a TPM for what only it can read, and for a quote.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_core::evidence::{AttestedNode, Bond, TrustClaim, TrustVector};
use claviger_core::selector::{Selector, Selectors};
use tracing::info;
use zeroize::Zeroizing;

use super::KIND;
use super::certificate::EkCertificate;
use super::chain::{Roots, RootsError};
use super::config::Config;
use super::counters::Counters;
use super::credential::Credential;
use super::rules::{self, EkPolicy, Endorsement, Expected, Facts, Quoted};
use super::structure::{Hash, Public, Selection};
use super::wire::{self, Answer, Challenge, Hello};
use crate::checklist::Checklist;
use crate::possession::Base64;
use crate::references::{Image, ReferenceError, References, Registers};
use crate::{Challenged, NodeClaim, NodeVerifier, Nonce, VerifyError};

/// PCRs in a bank of SHA-256, `pcr0` to `pcr23`: what reference values can name.
pub static REGISTERS: Registers =
    Registers { kind: KIND, length: |name| pcr(name).map(|_| 32), identifies };
/// The same in a bank of SHA-384.
pub static REGISTERS_SHA384: Registers =
    Registers { kind: KIND, length: |name| pcr(name).map(|_| 48), identifies };

fn pcr(name: &str) -> Option<u8> {
    (0..super::structure::COUNT).find(|pcr| name == format!("pcr{pcr}"))
}

/// Whether software is measured there, and not how it is set up (TCG PC Client Platform Firmware
/// Profile §3.3.4): firmware, drivers and boot loaders, what the system measures, and what a dynamic
/// launch does. The registers 16 and 23 can be reset by anybody.
fn identifies(name: &str) -> bool {
    pcr(name).is_some_and(|pcr| matches!(pcr, 0 | 2 | 4 | 8..=15 | 17..=22))
}

/// Admits machines by their TPMs.
#[derive(Debug)]
pub struct Verifier {
    policy: EkPolicy,
    selection: Selection,
    references: References,
    counters: Counters,
}

/// What a node shows before it is asked, once it is judged.
struct Keys {
    certificate: EkCertificate,
    ek: Public,
    ak: Public,
}

impl Verifier {
    /// Reads the files that `config` names. It has no [`problems`](Config::problems).
    ///
    /// # Errors
    ///
    /// [`OpenError`] if one of them can't be used.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let registers = match config.bank {
            Hash::Sha256 => &REGISTERS,
            Hash::Sha384 => &REGISTERS_SHA384,
        };
        let roots = Roots::open(&config.ek_roots, &config.ek_intermediates)?;
        Ok(Self {
            policy: EkPolicy { roots, allowed: config.ek_allow_list.clone() },
            selection: Selection { bank: config.bank, pcrs: config.pcrs.clone() },
            references: References::open(&config.reference_values, registers)?,
            counters: Counters::new(),
        })
    }

    fn keys(&self, claim: &NodeClaim<'_>, checks: &mut Checklist) -> Result<Keys, VerifyError> {
        let hello = Hello::parse(claim.evidence)?;
        let key = |bytes: &Base64| {
            Public::parse(&bytes.0).map_err(|malformed| VerifyError::not_genuine(malformed.0))
        };
        let (ek, ak) = (key(&hello.ek)?, key(&hello.ak)?);
        let (certificate, others) = hello.certificates();
        let endorsement =
            Endorsement { certificate: Some(certificate), others: &others, ek: Some(&ek) };
        let judged_by = Some((&self.policy, claim.now));
        let certificate = rules::endorsed(endorsement, judged_by, checks)?;
        rules::attesting(Some(&ak), checks)?;
        let certificate = certificate.ok_or(VerifyError::Malformed)?;
        Ok(Keys { certificate, ek, ak })
    }

    fn challenge(&self, nonce: &Nonce, credential: Credential) -> Result<Vec<u8>, VerifyError> {
        let challenge = Challenge {
            nonce: Base64(nonce.to_vec()),
            credential: Base64(credential.blob),
            seed: Base64(credential.seed),
            bank: self.selection.bank,
            pcrs: self.selection.pcrs.iter().copied().collect(),
        };
        serde_json::to_vec(&challenge).map_err(|error| VerifyError::Unavailable(error.into()))
    }

    /// What the TPM says in its `answer`, which has to carry `extra`.
    fn facts(
        &self,
        ak: &Public,
        answer: &Answer,
        extra: &[u8],
        checks: &mut Checklist,
    ) -> Result<Facts, VerifyError> {
        let pcrs = wire::pcrs(self.selection.bank, &answer.pcrs);
        let quoted = Quoted {
            attest: &answer.quote.0,
            signature: Some(&answer.signature.0),
            ak: Some(ak),
            pcrs: Some(&pcrs),
        };
        let expected = Expected { extra: Some(extra), selection: Some(&self.selection) };
        rules::quoted(quoted, expected, checks)?.ok_or(VerifyError::Malformed)
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
        let mut checks = Checklist::strict();
        let keys = self.keys(&claim, &mut checks)?;

        let nonce = node.nonce()?;
        let mut secret = Zeroizing::new([0; 32]);
        let unavailable =
            |error: aws_lc_rs::error::Unspecified| VerifyError::Unavailable(error.into());
        rand::fill(secret.as_mut()).map_err(unavailable)?;
        let credential = Credential::make(&keys.ek, &keys.ak.name(), secret.as_ref()).map_err(
            |_unspecified| VerifyError::not_genuine("nothing can be encrypted to the EK"),
        )?;
        let answer = node.answer(self.challenge(&nonce, credential)?).await?;
        let answer = Answer::parse(&answer)?;

        rules::activated(Some((secret.as_ref(), &answer.secret.0)), &mut checks)?;
        let extra = claim.binding.digest(&nonce).short();
        let facts = self.facts(&keys.ak, &answer, &extra, &mut checks)?;
        let image = self.references.recognise(&facts.measured, claim.now, &mut checks)?;
        let (ek, pair) = (keys.certificate.digest, (&keys.ek, &keys.ak));
        let resets = self.counters.advance(ek, pair, &facts, &mut checks)?;
        checks.kept()?;
        if let Some(resets @ 1..) = resets {
            info!(%ek, resets, "the TPM was reset since it was seen last");
        }

        let id = claim.trust_domain.join(&format!("/spire/agent/{KIND}/{ek}"));
        let id = id.map_err(|_too_long| VerifyError::Malformed)?;
        let selectors = selectors(&keys.certificate, &facts, image.as_ref());
        let node = AttestedNode::assertion(KIND, id, selectors, true, Bond::Key);
        Ok(node.trusted(TRUST).measured(record(&facts)))
    }
}

/// Who it is and that its hardware is genuine are known; that what it booted is approved of is what
/// the value 3 says of executables (draft-ietf-rats-ar4si §2.3.4.2).
const TRUST: TrustVector = TrustVector {
    instance_identity: TrustClaim::AFFIRMING,
    hardware: TrustClaim::AFFIRMING,
    executables: TrustClaim::new(3),
    configuration: TrustClaim::NONE,
    file_system: TrustClaim::NONE,
    runtime_opaque: TrustClaim::NONE,
    storage_opaque: TrustClaim::NONE,
    sourced_data: TrustClaim::NONE,
};

/// A fact that can't be a selector (a model with a line break in its name) is left out, which can only
/// entitle to less.
fn selectors(certificate: &EkCertificate, facts: &Facts, image: Option<&Image>) -> Selectors {
    let maker = [
        ("manufacturer", &certificate.manufacturer),
        ("model", &certificate.model),
        ("tpm-version", &certificate.version),
    ];
    let maker = maker.into_iter().filter(|(_, value)| !value.is_empty());
    let maker = maker.map(|(name, value)| format!("{name}:{value}"));
    let pcrs = facts.measured.iter().map(|(pcr, value)| format!("{pcr}:{}", hex::encode(value)));
    let image = image.into_iter().flat_map(|image| {
        let version = image.version.iter().map(|version| format!("version:{version}"));
        std::iter::once(format!("image:{}", image.name)).chain(version)
    });
    let ek = std::iter::once(format!("ek:{}", certificate.digest));
    let values = ek.chain(maker).chain(pcrs).chain(image);
    values.filter_map(|value| Selector::new(KIND, &value).ok()).collect()
}

/// What goes on record.
fn record(facts: &Facts) -> BTreeMap<String, String> {
    let pcrs = facts.measured.iter().map(|(pcr, value)| (pcr.clone(), hex::encode(value)));
    let clock = facts.clock;
    let counters = [
        ("clock-ms", clock.milliseconds.to_string()),
        ("clock-safe", clock.is_safe.to_string()),
        ("firmware-version", format!("{:016x}", facts.firmware)),
        ("reset-count", clock.resets.to_string()),
        ("restart-count", clock.restarts.to_string()),
    ];
    let counters = counters.into_iter().map(|(name, value)| (name.to_owned(), value));
    pcrs.chain(counters).collect()
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of certificates is unusable.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The reference values are.
    #[error(transparent)]
    References(#[from] ReferenceError),
}
