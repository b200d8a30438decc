//! The certificates of a device: its own first, NVIDIA's root last.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use claviger_core::time::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::X509Extension;
use x509_parser::prelude::FromDer as _;

use crate::cms::ber::{OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use crate::signed::Signed;

/// NVIDIA's root for devices, "NVIDIA Device Identity CA", serial number
/// 2D3670B1CA100411C1FEC0E82A065B54, valid from 2021-11-05. NVIDIA publishes it in its attestation SDKs
/// (<https://github.com/NVIDIA/nvtrust>) and lets every device send it. SHA-256:
/// 102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48.
pub(super) const ROOT: &[u8] = include_bytes!("roots/device_identity_ca.der");

/// `ecdsa-with-SHA384`, `id-ecPublicKey`, `secp384r1`.
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
const EC_KEY: &str = "1.2.840.10045.2.1";
const P384: &str = "1.3.132.0.34";

/// Whose key it is and for which firmware, by TCG's DICE.
const DICE: &str = "2.23.133.5.4.1";
/// `id-sha384`.
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];

/// What RFC 5280 lets be critical and this module knows: basic constraints and key usage.
const KNOWN: [&str; 2] = ["2.5.29.19", "2.5.29.15"];

/// Certificates that were taken apart, at least two.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    certificates: Vec<X509Certificate<'a>>,
    ders: &'a [Vec<u8>],
}

/// What is wrong, with which certificate.
type Wrong = String;

impl<'a> Chain<'a> {
    pub(super) fn parse(ders: &'a [Vec<u8>]) -> Result<Self, Wrong> {
        let parse = |der: &'a Vec<u8>| match X509Certificate::from_der(der) {
            Ok(([], certificate)) if Signed::parse(der).is_ok() => Ok(certificate),
            Ok(_) | Err(_) => Err("one of them is no X.509 certificate".to_owned()),
        };
        let certificates = ders.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if certificates.len() < 2 {
            return Err("there are fewer than two".to_owned());
        }
        Ok(Self { certificates, ders })
    }

    /// The device's own: made by the device for the firmware that it runs.
    pub(super) fn leaf(&self) -> Option<&X509Certificate<'a>> {
        self.certificates.first()
    }

    /// The one that NVIDIA made for the device: it stays when the firmware changes.
    pub(super) fn identity(&self) -> Option<&X509Certificate<'a>> {
        self.certificates.get(1)
    }

    /// Those that somebody can revoke, each with the one that issued it: all but the device's own,
    /// which nobody keeps a record of, and the root.
    pub(super) fn revocable(
        &self,
    ) -> impl Iterator<Item = (&X509Certificate<'a>, &X509Certificate<'a>)> {
        self.links().skip(1)
    }

    /// The chip, such as `GH100`: the certificate below the root is for its kind.
    pub(super) fn chip(&self) -> Option<&str> {
        let below = self.certificates.len().checked_sub(2)?;
        let subject = self.certificates.get(below)?.subject();
        let name = subject.iter_common_name().last()?.as_str().ok()?;
        let chip = name.strip_prefix("NVIDIA ")?.strip_suffix(" Identity")?;
        chip.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(chip)
    }

    fn links(&self) -> impl Iterator<Item = (&X509Certificate<'a>, &X509Certificate<'a>)> {
        self.certificates.iter().zip(self.certificates.iter().skip(1))
    }

    /// Whether it ends with `root`.
    pub(super) fn ends_with(&self, root: &[u8]) -> bool {
        self.ders.last().is_some_and(|last| last == root)
    }

    /// Each is issued in the name of the next.
    pub(super) fn names(&self) -> Result<(), Wrong> {
        all(self.links(), |(below, above)| {
            let same = below.issuer().as_raw() == above.subject().as_raw();
            if same { Ok(()) } else { Err(format!("{} has another issuer", name(below))) }
        })
    }

    /// Each is valid at `now`.
    pub(super) fn valid_at(&self, now: UnixTime) -> Result<(), Wrong> {
        all(self.certificates.iter(), |certificate| {
            let valid = is_valid_at(certificate, now);
            if valid { Ok(()) } else { Err(format!("{} is not valid now", name(certificate))) }
        })
    }

    /// Each key is one of P-384, and each signature one of those with SHA-384.
    pub(super) fn algorithms(&self) -> Result<(), Wrong> {
        all(self.certificates.iter(), |certificate| {
            let key = &certificate.public_key().algorithm;
            let curve = key.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            let signed = &certificate.signature_algorithm;
            let known = key.algorithm.to_id_string() == EC_KEY
                && curve.is_some_and(|curve| curve.to_id_string() == P384)
                && signed.algorithm.to_id_string() == ECDSA_SHA384
                && *signed == certificate.tbs_certificate.signature;
            if known { Ok(()) } else { Err(format!("{} is not of P-384", name(certificate))) }
        })
    }

    /// The device's own certificate is for signatures, the others are for issuing as many below them
    /// as there are; none has a critical extension that is not known.
    pub(super) fn constraints(&self) -> Result<(), Wrong> {
        for (depth, certificate) in self.certificates.iter().enumerate() {
            let strange = certificate.extensions().iter().find(|found| is_strange(found));
            if let Some(strange) = strange {
                return Err(format!("{} has {} as critical", name(certificate), strange.oid));
            }
            let sound = match depth.checked_sub(1) {
                None => may_sign(certificate),
                Some(between) => may_issue(certificate, between),
            };
            if !sound {
                return Err(format!("{} is not for what it is used for", name(certificate)));
            }
        }
        Ok(())
    }

    /// Each is signed with the key of the next.
    pub(super) fn signatures(&self) -> Result<(), Wrong> {
        all(self.links(), |(below, above)| {
            is_signed_by(below, above).map_err(|()| {
                format!("{} is not signed with the key of {}", name(below), name(above))
            })
        })
    }

    /// Whether the device signed `message`.
    pub(super) fn device_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.leaf().is_some_and(|leaf| {
            let key = &leaf.public_key().subject_public_key.data;
            let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key.as_ref());
            key.verify(message, signature).is_ok()
        })
    }

    /// The digest of the firmware that the device's own certificate was made for.
    pub(super) fn firmware(&self) -> Option<&'a [u8]> {
        let certificate = self.certificates.first()?;
        let dice = certificate.extensions().iter().find(|found| is(found, DICE))?;
        firmware(dice.value)
    }
}

/// The firmware id in a `CompositeDeviceID`: its last part, an algorithm and a digest.
fn firmware(value: &[u8]) -> Option<&[u8]> {
    let mut parts = Reader::new(value).expect(SEQUENCE).ok()?.inside().ok()?;
    let mut last = parts.next().ok()?;
    while !parts.is_empty() {
        last = parts.next().ok()?;
    }
    let mut inside = last.inside().ok()?;
    let algorithm = inside.expect(OBJECT_IDENTIFIER).ok()?;
    let digest = inside.expect(OCTET_STRING).ok()?;
    (algorithm.content == SHA384 && digest.content.len() == 48).then_some(digest.content)
}

/// Whether `below` is signed with the key of `above`.
pub(super) fn is_signed_by(
    below: &X509Certificate<'_>,
    above: &X509Certificate<'_>,
) -> Result<(), ()> {
    let key = &above.public_key().subject_public_key.data;
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key.as_ref());
    let signed = Signed::parse(below.as_raw()).map_err(|_loosely_framed| ())?;
    key.verify(signed.content, signed.signature).map_err(|_unspecified| ())
}

pub(super) fn is_valid_at(certificate: &X509Certificate<'_>, now: UnixTime) -> bool {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}

/// A name for people: the common name and the serial number.
pub(super) fn name(certificate: &X509Certificate<'_>) -> String {
    let common = certificate.subject().iter_common_name().last();
    let common = common.and_then(|name| name.as_str().ok()).unwrap_or("a certificate");
    format!("`{common}` ({})", serial(certificate))
}

/// The serial number in hexadecimal digits, as OpenSSL writes it.
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    let octets = certificate.raw_serial();
    let digits = match octets {
        [0, digits @ ..] if !digits.is_empty() => digits,
        digits => digits,
    };
    hex::encode_upper(digits)
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    let issues = certificate.basic_constraints().map(|found| found.is_some_and(|e| e.value.ca));
    let usage = certificate.key_usage();
    issues.is_ok_and(|issues| !issues)
        && usage.is_ok_and(|usage| usage.is_some_and(|usage| usage.value.digital_signature()))
}

/// Whether it may issue certificates with `between` others between it and the device's own.
fn may_issue(certificate: &X509Certificate<'_>, between: usize) -> bool {
    let within = |most: Option<u32>| {
        most.is_none_or(|most| usize::try_from(most).is_ok_and(|most| between <= most))
    };
    let issues = certificate.basic_constraints().is_ok_and(|found| {
        let sound = |constraints: &x509_parser::extensions::BasicConstraints| {
            constraints.ca && within(constraints.path_len_constraint)
        };
        found.is_some_and(|found| found.critical && sound(found.value))
    });
    let usage = certificate.key_usage();
    issues && usage.is_ok_and(|usage| usage.is_some_and(|usage| usage.value.key_cert_sign()))
}

fn is_strange(extension: &X509Extension<'_>) -> bool {
    extension.critical && !KNOWN.iter().any(|known| is(extension, known))
}

fn is(extension: &X509Extension<'_>, oid: &str) -> bool {
    extension.oid.to_id_string() == oid
}

fn all<T>(
    mut items: impl Iterator<Item = T>,
    check: impl FnMut(T) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    items.try_for_each(check)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_root_is_the_one_that_nvidia_publishes() {
        assert_eq!(
            hex::encode(digest(&SHA256, ROOT)),
            "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
        );
        let (_, root) = X509Certificate::from_der(ROOT).unwrap();
        assert_eq!(serial(&root), "2D3670B1CA100411C1FEC0E82A065B54");
        is_signed_by(&root, &root).unwrap();
    }
}
