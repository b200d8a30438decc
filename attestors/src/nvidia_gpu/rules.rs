//! The rules that the evidence of one device has to keep.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use claviger_core::evidence::KeyDigest;
use claviger_core::time::UnixTime;

use super::KIND;
use super::chain::{Chain, serial};
use super::config::Revocation;
use super::opaque::vbios_name;
use super::report::Report;
use super::wire::Evidence;
use crate::checklist::{Broken, Checklist, Rule};
use crate::references::{Image, Measured, References, Registers};

static FORMAT: Rule = Rule::new(
    "nvidia_gpu.format",
    "it is an SPDM 1.1 request for all measurements and the response to it, to the last byte",
);
static NONCE: Rule = Rule::new(
    "nvidia_gpu.nonce",
    "the request carries the nonce that it was to carry, which names the key to be certified",
);
static CERTIFICATES: Rule =
    Rule::new("nvidia_gpu.certificates", "the certificates are X.509, two at least");
static ROOT: Rule = Rule::new("nvidia_gpu.root", "the last certificate is NVIDIA's device root");
static NAMES: Rule =
    Rule::new("nvidia_gpu.names", "each certificate is issued in the name of the next one");
static VALIDITY: Rule = Rule::new("nvidia_gpu.validity", "each certificate is valid now");
static ALGORITHMS: Rule =
    Rule::new("nvidia_gpu.algorithms", "all keys are P-384, and all signatures with SHA-384");
static CONSTRAINTS: Rule = Rule::new(
    "nvidia_gpu.constraints",
    "each certificate is used for what it is made for, and nothing critical in it is unknown",
);
static CHAIN: Rule =
    Rule::new("nvidia_gpu.chain", "each certificate is signed with the key of the next one");
static SIGNATURE: Rule =
    Rule::new("nvidia_gpu.signature", "request and response are signed with the device's key");
static FIRMWARE: Rule = Rule::new(
    "nvidia_gpu.firmware",
    "the firmware that the device names is the one that its key was made for",
);
static ARCHITECTURE: Rule = Rule::new(
    "nvidia_gpu.architecture",
    "the architecture that the node names is the one that the certificates are for",
);
static REVOCATION: Rule =
    Rule::new("nvidia_gpu.revocation", "no certificate is revoked or on hold");

/// What reference values are about: the measurements by their index, the digest of the firmware and
/// the version of the VBIOS.
pub static REGISTERS: Registers =
    Registers { kind: KIND, length, identifies: |name| name != "vbios" };

fn length(register: &str) -> Option<usize> {
    match register {
        "vbios" => Some(8),
        "fwid" => Some(48),
        _ => {
            let index = register.strip_prefix("measurement_")?;
            let plain = !index.starts_with(['0', '+']) && index.parse::<u8>().is_ok();
            plain.then_some(48)
        }
    }
}

/// What evidence is judged by. What is missing leaves rules open.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    /// In DER.
    pub(super) root: &'a [u8],
    pub(super) now: UnixTime,
    /// What the request has to carry.
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) revocation: Option<&'a Revocation>,
    pub(super) references: Option<&'a References>,
}

/// A device, as it was found.
#[derive(Debug)]
pub(super) struct Device {
    /// The key that NVIDIA certified, which stays when the firmware changes.
    pub(super) key: KeyDigest,
    /// The serial number of the certificate for it.
    pub(super) serial: String,
    /// Such as `GH100`.
    pub(super) chip: Option<String>,
    pub(super) driver: Option<String>,
    pub(super) vbios: Option<String>,
    pub(super) measured: Measured,
    pub(super) image: Option<Image>,
}

impl Device {
    /// Such as `HOPPER`.
    pub(super) fn architecture(&self) -> Option<&'static str> {
        self.chip.as_deref().and_then(architecture)
    }
}

/// Judges what one device says.
pub(super) fn appraise(
    evidence: &Evidence,
    terms: &Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<Device>, Broken> {
    let report = checks.take(&FORMAT, Report::parse(&evidence.report))?;
    let chain = checks.take(&CERTIFICATES, Chain::parse(&evidence.certificates))?;
    let (Some(report), Some(chain)) = (report, chain) else { return Ok(None) };
    match terms.nonce {
        Some(nonce) => {
            let same = verify_slices_are_equal(&report.nonce, nonce).is_ok();
            checks.require(&NONCE, same, || "it carries another one")?;
        }
        None => checks.leave_open(&NONCE, "nobody says which nonce")?,
    }
    vouch(&chain, terms, checks)?;
    let signed = chain.device_signed(&report.signed, &report.signature);
    checks.require(&SIGNATURE, signed, || "the signature is not the device's")?;
    let device = describe(&report, &chain);
    let Some(device) = device else { return Ok(None) };
    firmware(&report, &chain, checks)?;
    let named = device.architecture().zip(evidence.arch.as_deref());
    let same = named.is_none_or(|(known, named)| known.eq_ignore_ascii_case(named));
    checks.require(&ARCHITECTURE, same, || "they are for another one")?;
    match terms.revocation {
        Some(revocation) => {
            checks.take(&REVOCATION, revocation.check(&chain, terms.now))?;
        }
        None => checks.leave_open(&REVOCATION, "there is no OCSP response")?,
    }
    let image = match terms.references {
        Some(references) => references.recognise(&device.measured, terms.now, checks)?,
        None => None,
    };
    Ok(Some(Device { image, ..device }))
}

/// Whether NVIDIA vouches for the device.
fn vouch(chain: &Chain<'_>, terms: &Terms<'_>, checks: &mut Checklist) -> Result<(), Broken> {
    checks.require(&ROOT, chain.ends_with(terms.root), || "it is another certificate")?;
    checks.take(&NAMES, chain.names())?;
    checks.take(&VALIDITY, chain.valid_at(terms.now))?;
    checks.take(&ALGORITHMS, chain.algorithms())?;
    checks.take(&CONSTRAINTS, chain.constraints())?;
    checks.take(&CHAIN, chain.signatures())?;
    Ok(())
}

/// Reports of old drivers name no firmware. Where one does, it has to be that of the certificate.
fn firmware(report: &Report, chain: &Chain<'_>, checks: &mut Checklist) -> Result<(), Broken> {
    let named = report.opaque.firmware();
    let same = named.is_none_or(|named| chain.firmware() == Some(named));
    checks.require(&FIRMWARE, same, || "the device's certificate is for other firmware")
}

fn describe(report: &Report, chain: &Chain<'_>) -> Option<Device> {
    let identity = chain.identity()?;
    let vbios = report.opaque.vbios();
    let digests = report.measurements.iter().filter(|(_, measured)| measured.is_digest());
    let measured = digests
        .map(|(index, measured)| (format!("measurement_{index}"), measured.value.clone()))
        .chain(vbios.map(|version| ("vbios".to_owned(), version.to_vec())))
        .chain(chain.firmware().map(|digest| ("fwid".to_owned(), digest.to_vec())));
    Some(Device {
        key: KeyDigest::of_spki(identity.public_key().raw),
        serial: serial(identity),
        chip: chain.chip().map(ToOwned::to_owned),
        driver: report.opaque.driver().map(ToOwned::to_owned),
        vbios: vbios.map(vbios_name),
        measured: measured.collect(),
        image: None,
    })
}

/// The architecture of a chip, as NVIDIA's SDKs write it, if it is known.
fn architecture(chip: &str) -> Option<&'static str> {
    match chip.get(..2)? {
        "GH" => Some("HOPPER"),
        "GB" => Some("BLACKWELL"),
        "LS" => Some("LS10"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_the_measurements_and_two_more() {
        for (name, expected) in [
            ("measurement_1", Some(48)),
            ("measurement_254", Some(48)),
            ("measurement_0", None),
            ("measurement_01", None),
            ("measurement_+1", None),
            ("measurement_256", None),
            ("measurement_", None),
            ("fwid", Some(48)),
            ("vbios", Some(8)),
            ("driver", None),
        ] {
            assert_eq!(length(name), expected, "{name}");
        }
        assert!(!(REGISTERS.identifies)("vbios") && (REGISTERS.identifies)("measurement_9"));
    }
}
