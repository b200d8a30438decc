//! What our certificates look like (X509-SVID §2–4, RFC 5280).

mod downstream;

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::bundle::{Bundle, X509Authority};
use claviger_core::grant::IssueX509;
use claviger_core::id::TrustDomain;
use claviger_core::svid::{self, Profile, Validity};
use claviger_core::time::UnixTime;
use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::SignedSvid;
use super::keys::AuthorityKey;
use super::slots::Slot;
use super::succession::Craft;
use crate::config::CaConfig;

/// How authorities for certificates are made.
#[derive(Debug)]
pub(super) struct X509 {
    pub(super) trust_domain: TrustDomain,
    pub(super) names: CaConfig,
}

impl Craft for X509 {
    type Public = Certificate;
    type Signer = Issuer;

    fn profile(&self) -> Profile {
        Profile::X509
    }

    fn public(&self, key: &AuthorityKey, validity: Validity) -> Result<Certificate, SignError> {
        let certificate = self_signed(key, &self.trust_domain, validity, &self.names)?;
        Ok(Certificate { certificate })
    }

    fn signer(&self, key: AuthorityKey, slot: &Slot<Certificate>) -> Result<Issuer, SignError> {
        Issuer::new(key, &slot.public.certificate, slot.validity, self.names.clone())
    }

    fn publish(&self, slots: &[Slot<Certificate>], bundle: &mut Bundle) {
        let authority = |slot: &Slot<Certificate>| X509Authority {
            der: slot.public.certificate.to_vec().into(),
            tainted: false,
        };
        bundle.x509_authorities = slots.iter().map(authority).collect();
    }

    fn revokes(&self) -> bool {
        true
    }
}

/// An authority's certificate, as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Certificate {
    /// In DER.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub certificate: CertificateDer<'static>,
}

fn to_base64<S: Serializer>(der: &CertificateDer<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(der))
}

fn from_base64<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<CertificateDer<'static>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Into::into).map_err(serde::de::Error::custom)
}

/// Signs as one authority.
pub(super) struct Issuer {
    issuer: rcgen::Issuer<'static, AuthorityKey>,
    validity: Validity,
    names: CaConfig,
}

impl Issuer {
    /// Signs with `key`, whose certificate is `certificate` and lasts as `validity` says.
    pub(super) fn new(
        key: AuthorityKey,
        certificate: &CertificateDer<'_>,
        validity: Validity,
        names: CaConfig,
    ) -> Result<Self, SignError> {
        // The subject as it stands in the certificate: the configured one may have changed since.
        let issuer = rcgen::Issuer::from_ca_cert_der(certificate, key)?;
        Ok(Self { issuer, validity, names })
    }

    /// Signs the leaf that `act` describes.
    pub(super) fn sign(&self, act: IssueX509, now: UnixTime) -> Result<SignedSvid, SignError> {
        if !self.validity.contains(now) {
            return Err(SignError::AuthorityExpired(self.validity.not_after));
        }
        let key = SubjectKey::parse(&act.public_key)?;
        let serial = *act.serial.as_bytes();
        let contents = act.contents;
        let validity = Validity::of_svid(now, contents.ttl, self.validity.not_after);

        let mut subject = names(&self.names)?;
        let mut params = params(validity, &serial)?;
        params.subject_alt_names = vec![SanType::URI(contents.subject.to_string().try_into()?)];
        for name in &contents.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        // The first DNS name, for peers that match by common name; RFC 5280 §A.1 allows 64 bytes.
        if let Some(first) = contents.dns_names.first().filter(|name| name.as_str().len() <= 64) {
            subject.push(DnType::CommonName, first.as_str());
        }
        params.distinguished_name = subject;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(SignedSvid { chain: vec![leaf.into()], validity, serial })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// The certificate of a new authority, signed by itself.
pub(super) fn self_signed(
    key: &AuthorityKey,
    trust_domain: &TrustDomain,
    validity: Validity,
    organization: &CaConfig,
) -> Result<CertificateDer<'static>, SignError> {
    let mut params = params(validity, fresh_serial()?.as_bytes())?;
    params.subject_alt_names = vec![SanType::URI(trust_domain.id().to_string().try_into()?)];
    let mut subject = names(organization)?;
    // Authorities that follow each other must differ by name: some verifiers look them up by it.
    let mut number = key.digest().to_string();
    number.truncate(32);
    subject.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), printable(&number)?);
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.into())
}

/// `id-at-serialNumber` (X.520).
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// The part of the subject that all our certificates share. It is never empty, so the alternative
/// name need not be critical (X509-SVID §4.1), as SPIRE has it.
fn names(names: &CaConfig) -> Result<DistinguishedName, SignError> {
    let mut subject = DistinguishedName::new();
    if let Some(country) = &names.country {
        subject.push(DnType::CountryName, printable(country)?);
    }
    subject.push(DnType::OrganizationName, names.organization.as_str());
    Ok(subject)
}

fn printable(text: &str) -> Result<DnValue, SignError> {
    Ok(DnValue::PrintableString(PrintableString::try_from(text)?))
}

fn params(validity: Validity, serial: &[u8; 16]) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    Ok(params)
}

pub(super) fn date(time: UnixTime) -> Result<OffsetDateTime, SignError> {
    let secs = i64::try_from(time.as_secs()).map_err(|_too_late| SignError::Date(time))?;
    OffsetDateTime::from_unix_timestamp(secs).map_err(|_too_late| SignError::Date(time))
}

/// A serial number that no certificate has.
///
/// # Errors
///
/// [`SignError::NoRandomness`] if the operating system gives no random bytes.
pub fn fresh_serial() -> Result<svid::SerialNumber, SignError> {
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_unspecified| SignError::NoRandomness)?;
    Ok(svid::SerialNumber::from_random(random))
}

/// A public key that we sign for: EC P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits.
#[derive(Debug)]
pub struct SubjectKey {
    algorithm: &'static SignatureAlgorithm,
    bits: Vec<u8>,
}

impl SubjectKey {
    /// The sizes of RSA keys, in bits.
    pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in DER, in its one spelling.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is malformed or of another kind.
    pub fn parse(spki: &[u8]) -> Result<Self, KeyError> {
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(spki) else {
            return Err(KeyError::Malformed);
        };
        let algorithm = &info.algorithm.algorithm;
        let algorithm: &'static SignatureAlgorithm = if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            curve(&info)?
        } else if *algorithm == OID_SIG_ED25519 {
            &rcgen::PKCS_ED25519
        } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
            check_rsa(&info)?;
            &rcgen::PKCS_RSA_SHA256
        } else {
            return Err(KeyError::Kind);
        };
        let key = Self { algorithm, bits: info.subject_public_key.data.to_vec() };
        // Whatever would be written differently, such as other parameters, is another key's name.
        if key.subject_public_key_info() == spki { Ok(key) } else { Err(KeyError::Malformed) }
    }
}

fn curve(info: &SubjectPublicKeyInfo<'_>) -> Result<&'static SignatureAlgorithm, KeyError> {
    let curve = info.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
    match curve.ok_or(KeyError::Malformed)? {
        curve if curve == OID_EC_P256 => Ok(&rcgen::PKCS_ECDSA_P256_SHA256),
        curve if curve == OID_NIST_EC_P384 => Ok(&rcgen::PKCS_ECDSA_P384_SHA384),
        _ => Err(KeyError::Kind),
    }
}

fn check_rsa(info: &SubjectPublicKeyInfo<'_>) -> Result<(), KeyError> {
    let Ok(PublicKey::RSA(key)) = info.parsed() else { return Err(KeyError::Malformed) };
    let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros());
    let zeros = usize::try_from(zeros).unwrap_or_default();
    let bits = modulus.len().saturating_mul(8).saturating_sub(zeros);
    if SubjectKey::RSA_BITS.contains(&bits) { Ok(()) } else { Err(KeyError::RsaSize(bits)) }
}

impl PublicKeyData for SubjectKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// Why we don't sign for a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// It is not a key.
    #[error("the public key is malformed")]
    Malformed,
    /// It is of another kind.
    #[error("the public key is not EC P-256, EC P-384, Ed25519 or RSA")]
    Kind,
    /// It is RSA and too small or too large.
    #[error("an RSA key has {min} to {max} bits, not {0}", min = SubjectKey::RSA_BITS.start(), max = SubjectKey::RSA_BITS.end())]
    RsaSize(usize),
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key is none that we sign for.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The authority is too old: its successor should have been made long ago.
    #[error("the signing authority expired at {0}; is the clock right?")]
    AuthorityExpired(UnixTime),
    /// A time has no place in a certificate.
    #[error("{0} is later than a certificate can say")]
    Date(UnixTime),
    /// The operating system gives no random bytes.
    #[error("no random bytes")]
    NoRandomness,
    /// The certificate cannot be put together.
    #[error("the certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The token cannot be signed.
    #[error("the token cannot be signed")]
    Token,
}

#[cfg(test)]
mod tests {
    use claviger_core::grant::Requester;
    use claviger_core::svid::{SvidTtl, X509SvidContents};
    use claviger_runtime::tls::{TrustBundle, verify_svid};
    use rcgen::KeyPair;
    use x509_parser::certificate::X509Certificate;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const DAY: u64 = 86_400;

    fn names() -> CaConfig {
        CaConfig { country: Some("DE".to_owned()), ..CaConfig::default() }
    }

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn authority() -> (Issuer, CertificateDer<'static>) {
        let validity = Validity::of_authority(NOW, std::time::Duration::from_secs(DAY));
        let (key, _pkcs8) = AuthorityKey::generate(Profile::X509).unwrap();
        let certificate = self_signed(&key, &domain(), validity, &names()).unwrap();
        // A later configuration must not change who the issuer is.
        let later = CaConfig { organization: "Renamed".to_owned(), ..names() };
        (Issuer::new(key, &certificate, validity, later).unwrap(), certificate)
    }

    fn act(key: &KeyPair, dns_names: &[&str]) -> IssueX509 {
        IssueX509 {
            contents: X509SvidContents {
                subject: "spiffe://example.org/web".parse().unwrap(),
                dns_names: dns_names.iter().map(|name| name.parse().unwrap()).collect(),
                ttl: SvidTtl::HOUR,
            },
            serial: fresh_serial().unwrap(),
            public_key: key.subject_public_key_info(),
            requester: Requester::Server,
            entry: None,
        }
    }

    fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
        let (rest, certificate) = X509Certificate::from_der(der).unwrap();
        assert_eq!(rest, b"");
        certificate
    }

    #[test]
    fn a_leaf_is_what_the_standard_asks_for() {
        let (issuer, ca) = authority();
        let key = KeyPair::generate().unwrap();
        let svid = issuer.sign(act(&key, &["web.example.org", "www.example.org"]), NOW).unwrap();
        let [der] = svid.chain.as_slice() else { panic!("one certificate") };

        let bundle = TrustBundle::new(domain(), std::slice::from_ref(&ca)).unwrap();
        let id = verify_svid(&svid.chain, &bundle, NOW).unwrap();
        assert_eq!(id.to_string(), "spiffe://example.org/web");

        let leaf = parse(der);
        assert_eq!(leaf.subject().to_string(), "C=DE, O=Renamed, CN=web.example.org");
        assert_eq!(leaf.issuer().as_raw(), parse(&ca).subject().as_raw());
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
        assert_eq!(leaf.raw_serial(), svid.serial);
        assert!((0x40..0x80).contains(&svid.serial[0]));
        assert_eq!(leaf.validity().not_before.timestamp(), 1_799_999_990);
        assert_eq!(leaf.validity().not_after.timestamp(), 1_800_003_600);

        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(!san.critical);
        let names: Vec<_> = san.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "URI(spiffe://example.org/web)",
                "DNSName(web.example.org)",
                "DNSName(www.example.org)"
            ]
        );
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1, "digital signature and nothing else");
        let purposes = leaf.extended_key_usage().unwrap().unwrap();
        assert!(!purposes.critical && purposes.value.server_auth && purposes.value.client_auth);
        let basic = leaf.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && !basic.value.ca);
        let text = format!("{:?}", leaf.extensions());
        for extension in ["SubjectKeyIdentifier", "AuthorityKeyIdentifier"] {
            assert!(text.contains(extension), "{text}");
        }
        assert_eq!(leaf.extensions().len(), 6);
    }

    #[test]
    fn an_authority_is_what_the_standard_asks_for() {
        let (_, der) = authority();
        let ca = parse(&der);
        ca.verify_signature(None).unwrap();
        let san = ca.subject_alternative_name().unwrap().unwrap();
        assert_eq!(san.value.general_names[0].to_string(), "URI(spiffe://example.org)");
        let usage = ca.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        let basic = ca.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca);
        assert!(ca.subject().to_string().starts_with("C=DE, O=Claviger, "), "{}", ca.subject());
        assert_ne!(ca.subject().as_raw(), parse(&authority().1).subject().as_raw());
    }

    #[test]
    fn a_leaf_ends_with_its_authority() {
        let (issuer, _) = authority();
        let key = KeyPair::generate().unwrap();
        let late = NOW.after(std::time::Duration::from_secs(DAY - 60));
        let svid = issuer.sign(act(&key, &[]), late).unwrap();
        assert_eq!(svid.validity.not_after.as_secs(), NOW.as_secs() + DAY);
        let after = NOW.after(std::time::Duration::from_secs(DAY + 1));
        let error = issuer.sign(act(&key, &[]), after).unwrap_err();
        assert!(matches!(error, SignError::AuthorityExpired(_)), "{error}");
    }

    #[test]
    fn no_dns_name_no_common_name() {
        let (issuer, _) = authority();
        let key = KeyPair::generate().unwrap();
        let long = format!("{}.example.org", "a".repeat(60));
        for names in [&[][..], &[long.as_str()]] {
            let svid = issuer.sign(act(&key, names), NOW).unwrap();
            assert_eq!(parse(&svid.chain[0]).subject().to_string(), "C=DE, O=Renamed");
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let spki = KeyPair::generate().unwrap().subject_public_key_info();
        assert_eq!(SubjectKey::parse(&spki).unwrap().subject_public_key_info(), spki);
        let trailing = [&spki[..], &[0]].concat();
        assert_eq!(SubjectKey::parse(&trailing).unwrap_err(), KeyError::Malformed);
        for at in 0..25 {
            let mut bent = spki.clone();
            bent[at] ^= 0x40;
            SubjectKey::parse(&bent).unwrap_err();
        }
    }
}
