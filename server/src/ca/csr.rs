//! What we take from a certificate signing request (PKCS#10, RFC 2986): the key, and the proof that
//! whoever asks holds it. Names, usages and everything else in it are for the policy to decide and
//! are ignored.

use claviger_core::evidence::KeyDigest;
use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::svid::DnsName;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;

use super::x509::{KeyError, SubjectKey};

/// The largest request, in bytes. One for RSA-4096 with some names has about 2,000.
pub const MAX_BYTES: usize = 16_384;

/// What may sign a request. SHA-1 proves nothing.
const SIGNATURES: [Oid<'static>; 7] = [
    OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ED25519,
    OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA,
    OID_PKCS1_RSASSAPSS,
];

/// A request whose sender holds the private key.
#[derive(Clone, Debug)]
pub struct Csr {
    spki: Vec<u8>,
    uris: Vec<String>,
    dns_names: Vec<String>,
}

impl Csr {
    /// Reads a request and verifies that the key it asks for has signed it.
    ///
    /// # Errors
    ///
    /// [`CsrError`] says what is wrong with it.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if MAX_BYTES < der.len() {
            return Err(CsrError::TooLarge(der.len()));
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(CsrError::Malformed);
        };
        // The key first: what we would not sign for is not worth a signature check.
        let spki = request.certification_request_info.subject_pki.raw;
        SubjectKey::parse(spki)?;
        if !SIGNATURES.contains(&request.signature_algorithm.algorithm) {
            return Err(CsrError::SignatureAlgorithm);
        }
        request.verify_signature().map_err(|_invalid| CsrError::Signature)?;
        let (uris, dns_names) = names(&request);
        Ok(Self { spki: spki.to_vec(), uris, dns_names })
    }

    /// The public key, as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key, to keep.
    #[must_use]
    pub fn into_spki(self) -> Vec<u8> {
        self.spki
    }

    /// The digest of the public key.
    #[must_use]
    pub fn key(&self) -> KeyDigest {
        KeyDigest::of_spki(&self.spki)
    }

    /// The SPIFFE ID and DNS names that an operator asks for.
    ///
    /// # Errors
    ///
    /// [`CsrError`] unless there is one URI, it is a SPIFFE ID, and the DNS names are such.
    pub fn names(&self) -> Result<(SpiffeId, Vec<DnsName>), CsrError> {
        let [uri] = self.uris.as_slice() else { return Err(CsrError::UriCount(self.uris.len())) };
        let names = self.dns_names.iter().map(|name| {
            name.parse().map_err(|_not_dns| CsrError::DnsName(name.chars().take(253).collect()))
        });
        Ok((uri.parse()?, names.collect::<Result<_, _>>()?))
    }
}

fn names(request: &X509CertificationRequest<'_>) -> (Vec<String>, Vec<String>) {
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(san) = extension else { continue };
        for name in &san.general_names {
            if let GeneralName::URI(uri) = name {
                uris.push((*uri).to_owned());
            } else if let GeneralName::DNSName(name) = name {
                dns_names.push((*name).to_owned());
            }
        }
    }
    (uris, dns_names)
}

/// Why a certificate signing request is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CsrError {
    /// We don't parse as much.
    #[error("a certificate request has at most {MAX_BYTES} bytes, not {0}")]
    TooLarge(usize),
    /// It is not DER, or not PKCS#10, or something follows it.
    #[error("the certificate request is not one PKCS#10 structure in DER")]
    Malformed,
    /// We don't sign for such keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is signed with something old or unusual.
    #[error(
        "the certificate request is signed with an algorithm that is not ECDSA or RSA with SHA-256 \
         or better, or Ed25519"
    )]
    SignatureAlgorithm,
    /// Whoever sends it does not hold the key.
    #[error("the certificate request is not signed by the key it is for")]
    Signature,
    /// It does not say who it is for.
    #[error("the certificate request has {0} URI names; an X.509-SVID has exactly one")]
    UriCount(usize),
    /// The URI is not a SPIFFE ID.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// A DNS name is not one.
    #[error("`{0}` is not a DNS name in lower case")]
    DnsName(String),
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
        PKCS_ECDSA_P521_SHA512, PKCS_ED25519, RsaKeySize, SanType, SignatureAlgorithm,
    };

    use super::*;

    fn csr(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(["web.example.org".to_owned()]).unwrap();
        let uri = "spiffe://example.org/web".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
        KeyPair::generate_for(algorithm).unwrap()
    }

    #[test]
    fn common_keys_are_taken() {
        let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        for key in
            [key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P384_SHA384), key(&PKCS_ED25519), rsa]
        {
            let parsed = Csr::parse(&csr(&key)).unwrap();
            assert_eq!(parsed.spki(), rcgen::PublicKeyData::subject_public_key_info(&key));
            let (id, dns) = parsed.names().unwrap();
            assert_eq!(id.to_string(), "spiffe://example.org/web");
            assert_eq!(dns[0].as_str(), "web.example.org");
        }
    }

    #[test]
    fn a_request_by_someone_else_is_refused() {
        let mut der = csr(&key(&PKCS_ECDSA_P256_SHA256));
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(Csr::parse(&der).unwrap_err(), CsrError::Signature);

        // Another key in the place of the one that signed.
        let (mine, theirs) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P256_SHA256));
        let mut der = csr(&mine);
        let [mine, theirs] = [&mine, &theirs].map(rcgen::PublicKeyData::subject_public_key_info);
        let at = der.windows(mine.len()).position(|part| part == mine).unwrap();
        der[at..at + mine.len()].copy_from_slice(&theirs);
        assert_eq!(Csr::parse(&der).unwrap_err(), CsrError::Signature);
    }

    #[test]
    fn weak_and_unusual_keys_are_refused() {
        assert_eq!(
            Csr::parse(&csr(&key(&PKCS_ECDSA_P521_SHA512))).unwrap_err(),
            CsrError::Key(KeyError::Kind)
        );
        let weak = include_bytes!("testdata/rsa1024.csr.der");
        assert_eq!(Csr::parse(weak).unwrap_err(), CsrError::Key(KeyError::RsaSize(1_024)));
        let sha1 = include_bytes!("testdata/rsa2048-sha1.csr.der");
        assert_eq!(Csr::parse(sha1).unwrap_err(), CsrError::SignatureAlgorithm);
    }

    #[test]
    fn garbage_is_refused() {
        let good = csr(&key(&PKCS_ECDSA_P256_SHA256));
        assert_eq!(Csr::parse(b"").unwrap_err(), CsrError::Malformed);
        assert_eq!(Csr::parse(&[0x30; 100]).unwrap_err(), CsrError::Malformed);
        assert_eq!(Csr::parse(&good[..good.len() - 1]).unwrap_err(), CsrError::Malformed);
        assert_eq!(Csr::parse(&[&good[..], b"x"].concat()).unwrap_err(), CsrError::Malformed);
        assert_eq!(Csr::parse(&[0; MAX_BYTES + 1]).unwrap_err(), CsrError::TooLarge(16_385));
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 0xff;
            Csr::parse(&bent).unwrap_err();
        }
    }

    #[test]
    fn an_operators_request_names_one_identity() {
        let key = key(&PKCS_ECDSA_P256_SHA256);
        let params = CertificateParams::new(["example.org".to_owned()]).unwrap();
        let der = params.serialize_request(&key).unwrap();
        assert_eq!(Csr::parse(der.der()).unwrap().names().unwrap_err(), CsrError::UriCount(0));
    }
}
