//! Certificates and their keys, judged apart from the code that issues and verifies them in this
//! program.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use claviger_core::time::UnixTime;
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, KeyUsage};
use x509_parser::prelude::X509Certificate;

/// More certificates than anybody has in one bundle.
const MAX_CERTIFICATES: usize = 1_000;

/// Reads certificates that stand one after the other.
pub(super) fn split(der: &[u8]) -> Result<Vec<X509Certificate<'_>>, String> {
    let (mut certificates, mut rest) = (Vec::new(), der);
    while !rest.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(format!("more than {MAX_CERTIFICATES} certificates"));
        }
        let (after, certificate) = X509Certificate::from_der(rest).map_err(|error| {
            let form = if rest.starts_with(b"-----BEGIN") { " (it is PEM)" } else { "" };
            let number = certificates.len() + 1;
            format!("certificate {number} is no DER certificate{form}: {error}")
        })?;
        certificates.push(certificate);
        rest = after;
    }
    if certificates.is_empty() { Err("no certificate".to_owned()) } else { Ok(certificates) }
}

/// The URIs among its subject alternative names.
pub(super) fn uris(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice());
    let uri = |name: &GeneralName<'_>| {
        if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
    };
    names.unwrap_or_default().iter().filter_map(uri).collect()
}

/// Whether its subject alternative names are critical; `None` if it has none.
pub(super) fn names_are_critical(certificate: &X509Certificate<'_>) -> Option<bool> {
    certificate.subject_alternative_name().ok().flatten().map(|extension| extension.critical)
}

/// Its key usage, and whether that is critical.
pub(super) fn key_usage<'a>(certificate: &'a X509Certificate<'_>) -> Option<(bool, &'a KeyUsage)> {
    let extension = certificate.key_usage().ok().flatten()?;
    Some((extension.critical, extension.value))
}

/// Whether its issuer meant it for a CA.
pub(super) fn is_ca(certificate: &X509Certificate<'_>) -> bool {
    let constraints = certificate.basic_constraints().ok().flatten();
    constraints.is_some_and(|extension| extension.value.ca)
}

/// The server's and the client's extended key usage; `None` if it has no such extension.
pub(super) fn extended_key_usage(certificate: &X509Certificate<'_>) -> Option<(bool, bool)> {
    let extension = certificate.extended_key_usage().ok().flatten()?;
    Some((extension.value.server_auth, extension.value.client_auth))
}

/// Its subject, for people.
pub(super) fn subject(certificate: &X509Certificate<'_>) -> String {
    match uris(certificate).first() {
        Some(uri) => uri.clone(),
        None => format!("\"{}\"", certificate.subject()),
    }
}

/// Whether `issuer` signed `certificate`; `None` if it cannot be told, for want of the algorithm.
fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Option<bool> {
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return Some(false);
    }
    match certificate.verify_signature(Some(issuer.public_key())) {
        Ok(()) => Some(true),
        Err(X509Error::SignatureUnsupportedAlgorithm) => None,
        Err(_wrong) => Some(false),
    }
}

/// Follows the chain of its first certificate to an authority (RFC 5280 §6.1: names, signatures
/// and times); `None` if a signature is of a kind that cannot be verified here.
pub(super) fn leads_to(
    leaf: &X509Certificate<'_>,
    others: &[&X509Certificate<'_>],
    authorities: &[X509Certificate<'_>],
    now: UnixTime,
) -> Option<Result<(), String>> {
    let mut current = leaf;
    // Each step takes another intermediate.
    for _ in 0..=others.len() {
        if let Err(why) = is_timely(current, now) {
            return Some(Err(why));
        }
        for authority in authorities {
            if is_signed_by(current, authority)? {
                return Some(Ok(()));
            }
        }
        let mut issuer = None;
        for other in others {
            if is_signed_by(current, other)? && other.as_raw() != current.as_raw() {
                issuer = Some(*other);
            }
        }
        let Some(issuer) = issuer else { break };
        current = issuer;
    }
    Some(Err(format!("no authority of the bundle signed {}", subject(current))))
}

fn is_timely(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), String> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(format!("{} is not valid yet", subject(certificate)));
    }
    if validity.not_after.timestamp() < now {
        return Err(format!("{} is not valid any more", subject(certificate)));
    }
    Ok(())
}

/// The public half of a private key, as in a certificate's `subjectPublicKey`; `Ok(None)` if it is
/// of a kind that we do not know.
pub(super) fn public_key(pkcs8: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if !is_pkcs8(pkcs8) {
        return Err("no unencrypted PKCS #8 key in DER".to_owned());
    }
    for algorithm in [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        &ECDSA_P521_SHA512_ASN1_SIGNING,
    ] {
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8) {
            return Ok(Some(key.public_key().as_ref().to_vec()));
        }
    }
    if let Ok(key) = RsaKeyPair::from_pkcs8(pkcs8) {
        return Ok(Some(key.public_key().as_ref().to_vec()));
    }
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
        return Ok(Some(key.public_key().as_ref().to_vec()));
    }
    Ok(None)
}

/// Whether it has the shape of a `PrivateKeyInfo` (RFC 5208 §5): a version, an algorithm, a key.
fn is_pkcs8(der: &[u8]) -> bool {
    let Ok((rest, outer)) = Any::from_der(der) else { return false };
    if !rest.is_empty() || outer.tag() != Tag::Sequence {
        return false;
    }
    let mut content = outer.data;
    for tag in [Tag::Integer, Tag::Sequence, Tag::OctetString] {
        let Ok((rest, part)) = Any::from_der(content) else { return false };
        if part.tag() != tag {
            return false;
        }
        content = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn authority() -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        (certificate, Issuer::new(params, key))
    }

    fn leaf(issuer: &Issuer<'_, KeyPair>) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI("spiffe://a.org/x".try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.signed_by(&key, issuer).unwrap(), key)
    }

    #[test]
    fn a_leaf_is_read() {
        let (_, issuer) = authority();
        let (leaf, key) = leaf(&issuer);
        let certificates = split(leaf.der()).unwrap();
        let certificate = &certificates[0];
        assert_eq!(
            (uris(certificate), is_ca(certificate)),
            (vec!["spiffe://a.org/x".into()], false)
        );
        assert_eq!(names_are_critical(certificate), Some(true));
        let (critical, usage) = key_usage(certificate).unwrap();
        assert!(critical && usage.digital_signature() && !usage.key_cert_sign());
        assert_eq!(extended_key_usage(certificate), None);
        let public = public_key(&key.serialize_der()).unwrap().unwrap();
        assert_eq!(public, certificate.public_key().subject_public_key.data.as_ref());
    }

    #[test]
    fn certificates_are_split_and_what_is_none_is_refused() {
        let (one, issuer) = authority();
        let both = [leaf(&issuer).0.der().as_ref(), one.der().as_ref()].concat();
        assert_eq!(split(&both).unwrap().len(), 2);
        assert!(split(one.pem().as_bytes()).unwrap_err().contains("PEM"));
        assert!(split(&both[..both.len() - 1]).unwrap_err().contains("certificate 2"));
        assert_eq!(split(&[]).unwrap_err(), "no certificate");
    }

    #[test]
    fn a_chain_leads_to_the_authority_that_signed_it() {
        let ((root, issuer), (stranger, _)) = (authority(), authority());
        let (leaf, _) = leaf(&issuer);
        let leaf = split(leaf.der()).unwrap().remove(0);
        let to = |authority: &rcgen::Certificate, now| {
            leads_to(&leaf, &[], &split(authority.der()).unwrap(), now).unwrap()
        };
        to(&root, NOW).unwrap();
        assert!(to(&stranger, NOW).unwrap_err().contains("no authority"));
        assert!(to(&root, UnixTime::from_secs(1)).unwrap_err().contains("yet"));
        assert!(to(&root, UnixTime::MAX).unwrap_err().contains("any more"));
    }

    #[test]
    fn only_pkcs8_is_pkcs8() {
        let pkcs8 = KeyPair::generate().unwrap().serialize_der();
        assert!(is_pkcs8(&pkcs8));
        // SEC 1: version 1, then the key at once (RFC 5915 §3).
        let sec1 = [&[0x30, 37, 2, 1, 1, 4, 32][..], &[7; 32]].concat();
        for bad in [&sec1[..], &pkcs8[1..], &pkcs8[..pkcs8.len() - 1], b"-----BEGIN", b""] {
            assert!(public_key(bad).is_err(), "{bad:?}");
        }
    }
}
