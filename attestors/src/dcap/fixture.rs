//! An Intel of our own, for tests: its authorities, a platform, quotes of what runs there, and what is
//! said about it.

mod collateral;
mod node;
mod quote;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

pub(crate) use collateral::{Sayings, pem_of};
pub(crate) use node::{Node, settings};
pub(crate) use quote::{Parts, domain, enclave};

use super::Roots;

/// The family of the platform.
pub(crate) const FMSPC: [u8; 6] = [0xb0, 0xc0, 0x6f, 0, 0, 1];
/// The versions of the components of its TCB.
pub(crate) const COMPONENTS: [u8; 16] = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
/// The version of its PCE.
pub(crate) const PCE_SVN: u8 = 13;
/// Its name.
pub(crate) const PPID: [u8; 16] = [7; 16];

/// Everybody who signs.
pub(crate) struct Intel {
    pub(crate) root: Authority,
    pub(crate) platform_ca: Authority,
    pub(crate) processor_ca: Authority,
    pub(crate) tcb_signer: Holder,
    pub(crate) pck: Holder,
    pub(crate) attestation_key: EcdsaKeyPair,
}

/// Who issues certificates.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

/// Who has a certificate.
pub(crate) struct Holder {
    pub(crate) key: EcdsaKeyPair,
    pub(crate) der: Vec<u8>,
}

/// The number of the platform's certificate.
pub(crate) const PCK_SERIAL: u64 = 7;
/// The number of the certificate of the authority of platforms.
pub(crate) const CA_SERIAL: u64 = 5;
/// The number of the certificate of the signer of collateral.
pub(crate) const SIGNER_SERIAL: u64 = 6;

impl Intel {
    pub(crate) fn new() -> Self {
        Self::with_pck(sgx_extension(&COMPONENTS, PCE_SVN))
    }

    /// The same, with another extension in the platform's certificate.
    pub(crate) fn with_pck(extension: Vec<u8>) -> Self {
        let root = Authority::root("Intel SGX Root CA");
        let platform_ca = root.authority("Intel SGX PCK Platform CA", CA_SERIAL);
        let processor_ca = root.authority("Intel SGX PCK Processor CA", CA_SERIAL + 100);
        let tcb_signer = root.holder("Intel SGX TCB Signing", SIGNER_SERIAL, |_| ());
        let pck = platform_ca.holder("Intel SGX PCK Certificate", PCK_SERIAL, |params| {
            let extension = CustomExtension::from_oid_content(SGX, extension);
            params.custom_extensions.push(extension);
        });
        let attestation_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { root, platform_ca, processor_ca, tcb_signer, pck, attestation_key }
    }

    /// What is trusted.
    pub(crate) fn roots(&self) -> Roots {
        Roots::of([self.root.der.clone()]).unwrap()
    }
}

const SGX: &[u64] = &[1, 2, 840, 113_741, 1, 13, 1];

impl Authority {
    fn root(name: &str) -> Self {
        let (params, key) = (authority(name), key());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn authority(&self, name: &str, serial: u64) -> Self {
        let (mut params, key) = (authority(name), key());
        params.serial_number = Some(serial.into());
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// Issues a certificate, of which `edit` makes something else.
    pub(crate) fn holder(
        &self,
        name: &str,
        serial: u64,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Holder {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.serial_number = Some(serial.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2032, 1, 1);
        edit(&mut params);
        let key = key();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let pkcs8 = key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
        Holder { key, der }
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "A test's");
    name
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

/// `r || s` over `message`.
pub(crate) fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

/// Whether the fixture's signatures are what it says.
#[test]
fn a_signature_is_r_and_s() {
    let intel = Intel::new();
    let signature = sign(&intel.attestation_key, b"message");
    let key = intel.attestation_key.public_key().as_ref();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
    UnparsedPublicKey::new(algorithm, key).verify(b"message", &signature).unwrap();
    assert_eq!((signature.len(), key.len()), (64, 65));
}

/// What Intel writes into the certificate of a platform.
pub(crate) fn sgx_extension(components: &[u8; 16], pce_svn: u8) -> Vec<u8> {
    let svns = components.iter().chain([&pce_svn]).zip(1..);
    let mut tcb: Vec<u8> =
        svns.flat_map(|(svn, last)| member(&[2, last], &der(0x02, &[*svn]))).collect();
    tcb.extend(member(&[2, 18], &der(0x04, components)));
    let members = [
        member(&[1], &der(0x04, &PPID)),
        member(&[2], &der(0x30, &tcb)),
        member(&[3], &der(0x04, &[0, 0])),
        member(&[4], &der(0x04, &FMSPC)),
        member(&[5], &der(0x0a, &[1])),
    ];
    der(0x30, &members.concat())
}

/// `SEQUENCE { name, value }`, with a name below Intel's.
fn member(name: &[u8], value: &[u8]) -> Vec<u8> {
    let intels = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1];
    let name = der(0x06, &[&intels, name].concat());
    der(0x30, &[name.as_slice(), value].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..0x80 => vec![tag, u8::try_from(length).unwrap()],
        _ => {
            let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
            vec![tag, 0x82, high, low]
        }
    };
    // Lengths from 128 to 255 have a shorter form, which DER wants.
    let head = if (0x80..0x100).contains(&length) { vec![tag, 0x81, head[3]] } else { head };
    [head.as_slice(), content].concat()
}
