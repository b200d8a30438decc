//! A bundle as the JWK Set of SPIFFE Trust Domain and Bundle §4.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use claviger_proto::convert::bundles::{X509Authority, X509Bundle};
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct JwkSet {
    keys: Vec<Jwk>,
    spiffe_sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

/// One authority. `kid` is left out, as X509-SVID §6.1 wants it.
#[derive(Debug, Serialize)]
struct Jwk {
    #[serde(rename = "use")]
    purpose: &'static str,
    #[serde(flatten)]
    key: Key,
    /// Exactly one certificate, DER in standard base64 (RFC 7517 §4.7).
    x5c: [String; 1],
}

/// The public key (RFC 7518 §6, RFC 8037 §2).
#[derive(Debug, Serialize)]
#[serde(tag = "kty")]
enum Key {
    #[serde(rename = "EC")]
    Ec { crv: &'static str, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "OKP")]
    Okp { crv: &'static str, x: String },
}

impl TryFrom<&X509Bundle> for JwkSet {
    type Error = JwkError;

    fn try_from(bundle: &X509Bundle) -> Result<Self, JwkError> {
        Ok(Self {
            keys: bundle.authorities.iter().map(Jwk::try_from).collect::<Result<_, _>>()?,
            spiffe_sequence: bundle.sequence,
            spiffe_refresh_hint: bundle.refresh_hint.map(|hint| hint.as_secs()),
        })
    }
}

impl TryFrom<&X509Authority> for Jwk {
    type Error = JwkError;

    fn try_from(authority: &X509Authority) -> Result<Self, JwkError> {
        let (_, certificate) =
            X509Certificate::from_der(&authority.der).map_err(|_detail| JwkError::Certificate)?;
        Ok(Self {
            purpose: "x509-svid",
            key: Key::try_from(certificate.public_key())?,
            x5c: [STANDARD.encode(&authority.der)],
        })
    }
}

impl TryFrom<&SubjectPublicKeyInfo<'_>> for Key {
    type Error = JwkError;

    fn try_from(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, JwkError> {
        let base64url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match spki.parsed().map_err(|_detail| JwkError::Certificate)? {
            PublicKey::EC(point) => {
                let (crv, size) = match point.key_size() {
                    256 => ("P-256", 32),
                    384 => ("P-384", 48),
                    _ => return Err(JwkError::Key),
                };
                // An uncompressed point: 4, then both coordinates (SEC 1 §2.3.3).
                let coordinates = point.data().strip_prefix(&[4]).ok_or(JwkError::Key)?;
                let (x, y) = coordinates.split_at_checked(size).ok_or(JwkError::Key)?;
                Ok(Self::Ec { crv, x: base64url(x), y: base64url(y) })
            }
            PublicKey::RSA(rsa) => {
                let number = |bytes: &[u8]| {
                    // Base64urlUInt has no leading zero, a DER INTEGER may (RFC 7518 §2).
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    base64url(bytes.get(zeros..).unwrap_or_default())
                };
                Ok(Self::Rsa { n: number(rsa.modulus), e: number(rsa.exponent) })
            }
            PublicKey::Unknown(key) if spki.algorithm.algorithm.to_id_string() == ED25519 => {
                Ok(Self::Okp { crv: "Ed25519", x: base64url(key) })
            }
            PublicKey::Unknown(_)
            | PublicKey::DSA(_)
            | PublicKey::GostR3410(_)
            | PublicKey::GostR3410_2012(_) => Err(JwkError::Key),
        }
    }
}

/// RFC 8410 §3.
const ED25519: &str = "1.3.101.112";

/// Why an authority is no JWK.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum JwkError {
    #[error("an authority is not an X.509 certificate")]
    Certificate,
    #[error("an authority has a kind of key that is neither P-256, P-384, RSA nor Ed25519")]
    Key,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=x`; coordinates by
    /// `openssl ec -text`.
    const P256: &str = include_str!("testdata/p256.txt");

    #[test]
    fn a_p256_authority_is_written_as_the_standard_says() {
        let [der, x, y] = P256.lines().collect::<Vec<_>>().try_into().unwrap();
        let der = hex::decode(der).unwrap();
        let bundle = X509Bundle {
            trust_domain: "example.org".parse().unwrap(),
            authorities: vec![X509Authority { der: der.clone().into(), tainted: false }],
            sequence: 7,
            refresh_hint: None,
        };
        let json = serde_json::to_value(JwkSet::try_from(&bundle).unwrap()).unwrap();
        let coordinate = |hex: &str| URL_SAFE_NO_PAD.encode(hex::decode(hex).unwrap());
        let want = serde_json::json!({
            "keys": [{
                "use": "x509-svid",
                "kty": "EC",
                "crv": "P-256",
                "x": coordinate(x),
                "y": coordinate(y),
                "x5c": [STANDARD.encode(&der)],
            }],
            "spiffe_sequence": 7,
        });
        assert_eq!(json, want);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let authority = X509Authority { der: vec![0x30, 0].into(), tainted: false };
        assert_eq!(Jwk::try_from(&authority).unwrap_err(), JwkError::Certificate);
    }
}
