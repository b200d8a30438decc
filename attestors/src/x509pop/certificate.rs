//! What a certificate says.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use claviger_core::id::{SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::key::{self, Key};
use crate::VerifyError;

/// A node's certificate: facts that hold once a root vouches for it.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) key: Key,
    /// In lower-case hexadecimal, of the whole certificate.
    pub(super) fingerprint: String,
    /// In lower-case hexadecimal, of an even number of digits.
    pub(super) serial: String,
    pub(super) common_name: Option<String>,
    /// The URIs and addresses among its names.
    uris: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Leaf {
    /// Reads a node's own certificate, which must be one to sign with.
    pub(super) fn parse(
        der: &CertificateDer<'_>,
        max_rsa_bits: usize,
    ) -> Result<Self, VerifyError> {
        let certificate = parse(der)?;
        let usage = certificate.key_usage().map_err(|_broken| VerifyError::Malformed)?;
        if !usage.is_some_and(|usage| usage.value.digital_signature()) {
            return Err(VerifyError::not_genuine(
                "the certificate is not for digital signatures (key usage)",
            ));
        }
        let key = Key::parse(certificate.public_key(), max_rsa_bits)?;
        let (uris, addresses) = names(&certificate)?;
        // Of several, Go and so SPIRE take the last.
        let common_name = certificate.subject().iter_common_name().last();
        let common_name = common_name.and_then(|name| name.as_str().ok()).map(ToOwned::to_owned);
        let (fingerprint, serial) = (fingerprint(der), serial(&certificate)?);
        Ok(Self { key, fingerprint, serial, common_name, uris, addresses })
    }

    /// Whether the certificate is for a node at `address`.
    pub(super) fn names_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }

    /// The identity that it is an SVID of, if it is one (X509-SVID §2).
    pub(super) fn spiffe_id(&self) -> Option<SpiffeId> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }

    /// The keys and values that its names `x509pop://trust-domain/KEY/VALUE` stand for.
    pub(super) fn san_selectors<'a>(
        &'a self,
        trust_domain: &TrustDomain,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = format!("x509pop://{trust_domain}/");
        self.uris.iter().filter_map(move |uri| {
            let rest = uri.strip_prefix(&prefix)?;
            // Escapes and the like are left alone: there is to be one way to write a name.
            let (key, value) = rest.trim_matches('/').split_once('/')?;
            let is_plain = !rest.contains(['%', '?', '#']) && !key.is_empty() && !value.is_empty();
            is_plain.then_some((key, value))
        })
    }
}

/// Refuses an intermediate certificate that must not have signed others, or has a key that would be
/// too dear to verify with.
pub(super) fn check_intermediate(
    der: &CertificateDer<'_>,
    max_rsa_bits: usize,
) -> Result<(), VerifyError> {
    let certificate = parse(der)?;
    key::measure(certificate.public_key(), max_rsa_bits)?;
    let usage = certificate.key_usage().map_err(|_broken| VerifyError::Malformed)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(VerifyError::not_genuine(
            "an intermediate certificate is not for signing certificates (key usage)",
        ));
    }
    Ok(())
}

/// The SHA-1 of a certificate, by which SPIRE names it. Nothing relies on it to be hard to collide:
/// whoever can make certificates that a root vouches for needs no collision.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, der))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, VerifyError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(VerifyError::Malformed),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<(Vec<String>, Vec<IpAddr>), VerifyError> {
    let (mut uris, mut addresses) = (Vec::new(), Vec::new());
    let extension =
        certificate.subject_alternative_name().map_err(|_broken| VerifyError::Malformed)?;
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::URI(uri) = name {
            uris.push((*uri).to_owned());
        } else if let GeneralName::IPAddress(octets) = name {
            let address = address(octets).ok_or(VerifyError::Malformed)?;
            addresses.push(address.to_canonical());
        }
    }
    Ok((uris, addresses))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_not_four| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn serial(certificate: &X509Certificate<'_>) -> Result<String, VerifyError> {
    let octets = certificate.raw_serial();
    let is_positive = octets.first().is_some_and(|first| *first < 0x80);
    if !is_positive {
        return Err(VerifyError::Malformed);
    }
    let digits = match octets {
        [0, digits @ ..] if !digits.is_empty() => digits,
        digits => digits,
    };
    Ok(hex::encode(digits))
}
