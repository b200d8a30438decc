//! Devices that a root of the tests' own vouches for.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nvml_wrapper::error::NvmlError;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SerialNumber,
};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::nvml::{Driver, Said};
use super::{Config, KIND, Revocation};
use crate::cms::fixture::der;
use crate::dsse::authenticated;
use crate::references::{self, PAYLOAD_TYPE};

/// The firmware that the devices' keys are made for.
pub(super) const FIRMWARE: [u8; 48] = [0x0f; 48];
/// What the devices measure at index 2; at index 1 there is nothing.
pub(super) const MEASURED: [u8; 48] = [0x22; 48];

/// Somebody with a certificate and its key.
pub(super) struct Holder {
    pub(super) der: Vec<u8>,
    params: CertificateParams,
    pub(super) key: KeyPair,
}

impl Holder {
    fn sign(&self, algorithm: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(algorithm, self.key.serialized_der()).unwrap();
        key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    pub(super) fn copy(&self) -> Self {
        let key = KeyPair::try_from(self.key.serialized_der()).unwrap();
        Self { der: self.der.clone(), params: self.params.clone(), key }
    }

    fn issue(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { der, params, key }
    }
}

/// A certificate of the chain, by its place: the device's own is 0, the root 4.
pub(super) type Edit = fn(usize, &mut CertificateParams);

/// A device and those who vouch for it, its own certificate first.
pub(super) struct Device {
    pub(super) chain: Vec<Holder>,
    pub(super) arch: &'static str,
}

/// Whoever made the devices.
pub(super) struct Vendor(Holder);

impl Vendor {
    pub(super) fn new() -> Self {
        let mut params = authority("NVIDIA Device Identity CA", 1);
        params.not_before = rcgen::date_time_ymd(2021, 11, 5);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self(Holder { der, params, key })
    }

    pub(super) fn root(&self) -> &[u8] {
        &self.0.der
    }

    pub(super) fn device(&self) -> Device {
        self.device_with(|_, _| {})
    }

    pub(super) fn device_with(&self, edit: Edit) -> Device {
        let with = |place, mut params| {
            edit(place, &mut params);
            params
        };
        let kind = self.0.issue(with(3, authority("NVIDIA GH100 Identity", 0x30)));
        let factory = kind.issue(with(2, authority("NVIDIA GH100 Provisioner ICA 1", 0x20)));
        let device = factory.issue(with(1, authority("GH100 A01 GSP BROM", 0x10)));
        let mut own = CertificateParams::default();
        own.distinguished_name.push(DnType::CommonName, "GH100 A01 GSP FMC LF");
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.serial_number = Some(SerialNumber::from(1_u64));
        own.custom_extensions.push(dice(&FIRMWARE));
        let own = device.issue(with(0, own));
        Device { chain: vec![own, device, factory, kind, self.0.copy()], arch: "HOPPER" }
    }
}

fn authority(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

/// TCG's `CompositeDeviceID`: a version, a key and the firmware.
pub(super) fn dice(firmware: &[u8]) -> CustomExtension {
    let algorithm = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    let firmware = der(0x30, &[&der(6, &[&algorithm]), &der(4, &[firmware])]);
    let content = der(0x30, &[&der(2, &[&[1]]), &der(0x30, &[]), &firmware]);
    CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], content)
}

impl Device {
    pub(super) fn pem(&self) -> String {
        let encode = |holder: &Holder| pem::Pem::new("CERTIFICATE", holder.der.clone());
        pem::encode_many(&self.chain.iter().map(encode).collect::<Vec<_>>())
    }

    /// What it answers to `nonce`.
    pub(super) fn report(&self, nonce: [u8; 32]) -> Vec<u8> {
        self.signed(&body(nonce, &opaque(&FIRMWARE)))
    }

    /// `body` and its signature.
    pub(super) fn signed(&self, body: &[u8]) -> Vec<u8> {
        let signature = self.chain[0].sign(&ECDSA_P384_SHA384_FIXED_SIGNING, body);
        [body, &signature].concat()
    }

    pub(super) fn said(&self, nonce: [u8; 32]) -> Said {
        Said {
            architecture: self.arch.to_owned(),
            report: self.report(nonce),
            certificates: self.pem().into_bytes(),
        }
    }
}

/// Request and response, to be signed.
pub(super) fn body(nonce: [u8; 32], opaque: &[u8]) -> Vec<u8> {
    let block = |index, value: &[u8; 48]| [&[index, 1, 51, 0, 1, 48, 0], value.as_slice()].concat();
    let record = [block(1, &[0; 48]), block(2, &MEASURED)].concat();
    let length = u8::try_from(record.len()).unwrap();
    let opaque_length = u16::try_from(opaque.len()).unwrap().to_le_bytes();
    [
        &[0x11, 0xe0, 1, 0xff][..],
        &nonce,
        &[0],
        &[0x11, 0x60, 0, 0, 2, length, 0, 0],
        &record,
        &[0x77; 32],
        &opaque_length,
        opaque,
    ]
    .concat()
}

/// A driver, a VBIOS, this firmware, and a field that nobody knows.
pub(super) fn opaque(firmware: &[u8; 48]) -> Vec<u8> {
    [
        &b"\x03\0\x0a\x00570.86.10\0\x06\0\x08\0\x00\xa5\x00\x96\x01\0\0\0\xff\0\x01\0x\x14\0\x30\0"
            [..],
        firmware,
    ]
    .concat()
}

/// The driver of a machine with these devices.
#[derive(Debug)]
pub(super) struct Machine(pub(super) Vec<Device>);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.arch)
    }
}

impl Driver for Machine {
    fn count(&self) -> Result<usize, NvmlError> {
        Ok(self.0.len())
    }

    fn ask(&self, device: usize, nonce: [u8; 32]) -> Result<Said, NvmlError> {
        self.0.get(device).map(|device| device.said(nonce)).ok_or(NvmlError::NotFound)
    }
}

/// Settings, with reference values for what the devices measure.
pub(super) fn config(dir: &TempDir, revocation: Revocation) -> Config {
    let registers = serde_json::json!({
        "measurement_2": hex::encode(MEASURED),
        "fwid": hex::encode(FIRMWARE),
        "vbios": "00a5009601000000",
    });
    config_of(dir, revocation, &registers)
}

/// The same, with other registers.
pub(super) fn config_of(
    dir: &TempDir,
    revocation: Revocation,
    registers: &serde_json::Value,
) -> Config {
    let payload = serde_json::json!({
        "kind": KIND,
        "expires": "2030-01-01T00:00:00Z",
        "images": [{ "name": "h100", "version": "1.2", "registers": registers }],
    });
    let payload = payload.to_string();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, key.serialized_der()).unwrap();
    let signed = authenticated(PAYLOAD_TYPE, payload.as_bytes());
    let signature = pair.sign(&SystemRandom::new(), &signed).unwrap();
    let envelope = serde_json::json!({
        "payloadType": PAYLOAD_TYPE,
        "payload": STANDARD.encode(payload),
        "signatures": [{ "sig": STANDARD.encode(signature.as_ref()) }],
    });
    let write = |name: &str, text: String| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let keys = vec![write("key.pem", key.public_key_pem())];
    let path = write("references.json", envelope.to_string());
    Config { reference_values: references::Config { path, keys }, revocation }
}

/// What an OCSP response says.
pub(super) struct Says {
    /// In DER.
    pub(super) status: Vec<u8>,
    pub(super) since: &'static str,
    pub(super) until: Option<&'static str>,
}

impl Says {
    pub(super) fn copy(&self) -> Self {
        Self { status: self.status.clone(), ..*self }
    }
}

/// `good`, around the time of the tests.
pub(super) fn good() -> Says {
    Says { status: vec![0x80, 0], since: "20251231000000Z", until: Some("20260102000000Z") }
}

/// `revoked`, for this reason.
pub(super) fn revoked(reason: u8) -> Says {
    let reason = der(0xa0, &[&der(0x0a, &[&[reason]])]);
    let status = der(0xa1, &[&der(0x18, &[b"20251230000000Z"]), &reason]);
    Says { status, ..good() }
}

/// What `issuer` says about `certificate`, signed by `signer`, whose certificate goes with it.
pub(super) fn response(
    certificate: &Holder,
    issuer: &Holder,
    signer: &Holder,
    says: &Says,
) -> Vec<u8> {
    let (_, about) = X509Certificate::from_der(&certificate.der).unwrap();
    let (_, above) = X509Certificate::from_der(&issuer.der).unwrap();
    let hash = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
    let name = hash(above.subject().as_raw());
    let key = hash(&above.public_key().subject_public_key.data);
    let sha1 = der(0x30, &[&der(6, &[&[0x2b, 0x0e, 0x03, 0x02, 0x1a]]), &[5, 0]]);
    let id = [&sha1[..], &der(4, &[&name]), &der(4, &[&key]), &der(2, &[about.raw_serial()])];
    let until = says.until.map(|until| der(0xa0, &[&der(0x18, &[until.as_bytes()])]));
    let single = der(
        0x30,
        &[
            &der(0x30, &id),
            &says.status,
            &der(0x18, &[says.since.as_bytes()]),
            &until.unwrap_or_default(),
        ],
    );
    let data = der(
        0x30,
        &[
            &der(0xa2, &[&der(4, &[&key])]),
            &der(0x18, &[b"20251231000000Z"]),
            &der(0x30, &[&single]),
        ],
    );
    let algorithm = der(0x30, &[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]])]);
    let signature = signer.sign(&ECDSA_P384_SHA384_ASN1_SIGNING, &data);
    let certificates = der(0xa0, &[&der(0x30, &[&signer.der])]);
    let basic = der(0x30, &[&data, &algorithm, &der(3, &[&[0], &signature]), &certificates]);
    let kind = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
    let bytes = der(0x30, &[&der(6, &[&kind]), &der(4, &[&basic])]);
    der(0x30, &[&der(0x0a, &[&[0]]), &der(0xa0, &[&bytes])])
}

/// Whom `issuer` lets speak for it, if `purpose` is to sign responses.
pub(super) fn responder(issuer: &Holder, purpose: ExtendedKeyUsagePurpose) -> Holder {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a responder");
    params.extended_key_usages = vec![purpose];
    issuer.issue(params)
}
