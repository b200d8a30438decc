//! The server's side: the devices of a node, over one nonce.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use claviger_core::evidence::{AttestedNode, Bond, TrustClaim, TrustVector};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::selector::{Selector, Selectors};

use super::chain::ROOT;
use super::rules::{Device, REGISTERS, Terms, appraise};
use super::wire::{Challenge, Evidence, Hello};
use super::{Config, KIND, Revocation};
use crate::checklist::{Checklist, Rule};
use crate::possession::Base64;
use crate::references::{ReferenceError, References};
use crate::{Challenged, NodeClaim, NodeVerifier, VerifyError};

static DISTINCT: Rule = Rule::new("nvidia_gpu.distinct", "no device comes twice");

/// Admits nodes by their devices.
#[derive(Debug)]
pub struct Verifier {
    /// In DER.
    root: Vec<u8>,
    revocation: Revocation,
    references: References,
}

impl Verifier {
    /// A verifier with these settings.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the reference values can't be used, or if the settings have
    /// [`problems`](Config::problems).
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(OpenError::Config { key: problem.key, advice: problem.advice });
        }
        let references = References::open(&config.reference_values, &REGISTERS)?;
        Ok(Self { root: ROOT.to_vec(), revocation: config.revocation.clone(), references })
    }

    /// The same, which trusts another root.
    #[cfg(test)]
    pub(crate) fn trusting(self, root: &[u8]) -> Self {
        Self { root: root.to_vec(), ..self }
    }

    /// What all of them say, each by the rules.
    fn judge(
        &self,
        evidence: &[Evidence],
        nonce: &[u8],
        claim: &NodeClaim<'_>,
    ) -> Result<Vec<Device>, VerifyError> {
        let terms = Terms {
            root: &self.root,
            now: claim.now,
            nonce: Some(nonce),
            revocation: Some(&self.revocation),
            references: Some(&self.references),
        };
        let mut checks = Checklist::strict();
        let mut devices = Vec::with_capacity(evidence.len());
        for evidence in evidence {
            devices.extend(appraise(evidence, &terms, &mut checks)?);
        }
        let keys: BTreeSet<_> = devices.iter().map(|device| device.key).collect();
        let distinct = keys.len() == evidence.len();
        checks.require(&DISTINCT, distinct, || "one device is shown as several")?;
        checks.kept()?;
        Ok(devices)
    }

    fn trust(&self) -> TrustVector {
        let checked = self.revocation != Revocation::NotChecked;
        TrustVector {
            hardware: TrustClaim::AFFIRMING,
            executables: TrustClaim::AFFIRMING,
            // Whether NVIDIA still stands by the device is not known.
            instance_identity: if checked { TrustClaim::AFFIRMING } else { TrustClaim::NONE },
            ..TrustVector::default()
        }
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
        let hello = Hello::parse(claim.evidence)?;
        let nonce = node.nonce()?;
        let mut evidence: Vec<Evidence> = Vec::with_capacity(hello.devices);
        while evidence.len() < hello.devices {
            let challenge = Challenge { nonce: Base64(nonce.to_vec()), device: evidence.len() };
            let challenge = serde_json::to_vec(&challenge)
                .map_err(|error| VerifyError::Unavailable(error.into()))?;
            let left = hello.devices.saturating_sub(evidence.len());
            evidence.extend(Evidence::parse(&node.answer(challenge).await?, left)?);
        }
        let bound = claim.binding.digest(&nonce).short();
        let devices = self.judge(&evidence, &bound, &claim)?;
        let id = id(&devices, claim.trust_domain)?;
        let node = AttestedNode::assertion(KIND, id, selectors(&devices), true, Bond::Key);
        Ok(node.trusted(self.trust()).measured(measured(&devices)))
    }
}

/// The identity of a node with just these devices.
fn id(devices: &[Device], trust_domain: &TrustDomain) -> Result<SpiffeId, VerifyError> {
    let keys: BTreeSet<_> = devices.iter().map(|device| *device.key.as_bytes()).collect();
    let mut context = Context::new(&SHA256);
    keys.iter().for_each(|key| context.update(key));
    let digest = hex::encode(context.finish());
    let id = trust_domain.join(&format!("/spire/agent/{KIND}/{digest}"));
    id.map_err(|_too_long| VerifyError::not_genuine("the name of the trust domain is too long"))
}

fn selectors(devices: &[Device]) -> Selectors {
    let facts = devices.iter().flat_map(facts);
    let count = ("devices".to_owned(), devices.len().to_string());
    let facts = facts.chain([count]);
    // What no selector can say is left out, which entitles to less.
    facts.filter_map(|(name, value)| Selector::new(KIND, &format!("{name}:{value}")).ok()).collect()
}

/// What is known of one device. Of its measurements, those that its image is recognised by.
fn facts(device: &Device) -> Vec<(String, String)> {
    let image = device.image.as_ref();
    let known = [
        ("arch", device.architecture().map(ToOwned::to_owned)),
        ("chip", device.chip.clone()),
        ("device", Some(device.key.to_string())),
        ("serial", Some(device.serial.clone())),
        ("driver", device.driver.clone()),
        ("vbios", device.vbios.clone()),
        ("fwid", device.measured.get("fwid").map(hex::encode)),
        ("image", image.map(|image| image.name.clone())),
        ("version", image.and_then(|image| image.version.clone())),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let registers = image.iter().flat_map(|image| &image.registers);
    let registers = registers.filter_map(|(register, value)| {
        let index = register.strip_prefix("measurement_")?;
        Some((format!("measurement:{index}"), value.clone()))
    });
    known.chain(registers).collect()
}

/// What goes on record of each device, by its serial number.
fn measured(devices: &[Device]) -> BTreeMap<String, String> {
    let of = |device: &Device| {
        let serial = device.serial.clone();
        facts(device).into_iter().map(move |(name, value)| (format!("{serial}.{name}"), value))
    };
    devices.iter().flat_map(of).collect()
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting makes no sense.
    #[error("`{key}`: {advice}")]
    Config {
        /// The setting.
        key: String,
        /// What to write.
        advice: String,
    },
    /// The reference values can't be used.
    #[error(transparent)]
    References(#[from] ReferenceError),
}
