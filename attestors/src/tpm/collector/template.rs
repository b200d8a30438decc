//! What keys are made from: the same template makes the same primary key, as long as the TPM keeps its
//! seed.

use super::super::structure::{ECDSA, Hash, Key, NULL, Writer, attribute};
use crate::possession::ecdsa::Curve;

const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;
const P256: u16 = 0x0003;
const P384: u16 = 0x0004;

/// One of the templates of EKs (TCG EK Credential Profile for TPM Family 2.0, §B.3, §B.4).
#[derive(Debug, Eq, PartialEq)]
pub(super) struct EkTemplate {
    /// What people call the key.
    pub(super) name: &'static str,
    /// Where its certificate is (§2.2.1.4, §2.2.1.5).
    pub(super) certificate: u32,
    /// Where the key is, if somebody made it before (TCG TPM v2.0 Provisioning Guidance §7.8).
    pub(super) persistent: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// L-1.
    Rsa2048,
    /// L-2.
    P256,
    /// H-3.
    P384,
}

/// Those that TPMs have certificates for, the usual one first.
pub(super) static TEMPLATES: [EkTemplate; 3] = [
    EkTemplate {
        name: "RSA 2048",
        certificate: 0x01c0_0002,
        persistent: 0x8101_0001,
        kind: Kind::Rsa2048,
    },
    EkTemplate {
        name: "ECC P-256",
        certificate: 0x01c0_000a,
        persistent: 0x8101_0002,
        kind: Kind::P256,
    },
    EkTemplate {
        name: "ECC P-384",
        certificate: 0x01c0_0016,
        persistent: 0x8101_0016,
        kind: Kind::P384,
    },
];

/// The policy of the older templates: whoever may use the endorsement hierarchy may use the EK
/// (PolicyA).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// That of the newer ones, for SHA-384 (PolicyB). Their EK has a password as well, which is empty.
const POLICY_B: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

const EK_ATTRIBUTES: u32 = attribute::FIXED_TPM
    | attribute::FIXED_PARENT
    | attribute::SENSITIVE_DATA_ORIGIN
    | attribute::ADMIN_WITH_POLICY
    | attribute::RESTRICTED
    | attribute::DECRYPT;

impl EkTemplate {
    /// Whether it makes keys like `key`.
    pub(super) fn makes(&self, key: &Key) -> bool {
        match (self.kind, key) {
            (Kind::Rsa2048, Key::Rsa { modulus, .. }) => modulus.len() == 256,
            (Kind::P256, Key::Ecc { curve, .. }) => *curve == Curve::P256,
            (Kind::P384, Key::Ecc { curve, .. }) => *curve == Curve::P384,
            (Kind::Rsa2048, Key::Ecc { .. }) | (Kind::P256 | Kind::P384, Key::Rsa { .. }) => false,
        }
    }

    /// Whether the EK is used by its policy, and not by its password.
    pub(super) fn has_policy(&self) -> bool {
        self.kind != Kind::P384
    }

    /// The public area, as far as it is the same for all TPMs: without the key itself.
    pub(super) fn common(&self) -> Vec<u8> {
        let low = |kind| {
            let start = Writer::default().u16(kind).u16(Hash::Sha256.number()).u32(EK_ATTRIBUTES);
            start.sized(&POLICY_A).u16(AES).u16(128).u16(CFB).u16(NULL)
        };
        let common = match self.kind {
            Kind::Rsa2048 => low(RSA).u16(2_048).u32(0),
            Kind::P256 => low(ECC).u16(P256).u16(NULL),
            Kind::P384 => {
                let start = Writer::default().u16(ECC).u16(Hash::Sha384.number());
                let start = start.u32(EK_ATTRIBUTES | attribute::USER_WITH_AUTH).sized(&POLICY_B);
                start.u16(AES).u16(256).u16(CFB).u16(NULL).u16(P384).u16(NULL)
            }
        };
        common.finish()
    }

    /// The whole template.
    pub(super) fn area(&self) -> Vec<u8> {
        let area = Writer::default().bytes(&self.common());
        let area = match self.kind {
            Kind::Rsa2048 => area.sized(&[0; 256]),
            Kind::P256 => area.sized(&[0; 32]).sized(&[0; 32]),
            Kind::P384 => area.sized(&[]).sized(&[]),
        };
        area.finish()
    }
}

/// An AK: ECDSA on P-256, for what the TPM makes and nothing else. Another one for each `unique`.
pub(super) fn ak_template(unique: &[u8]) -> Vec<u8> {
    let attributes = attribute::FIXED_TPM
        | attribute::FIXED_PARENT
        | attribute::SENSITIVE_DATA_ORIGIN
        | attribute::USER_WITH_AUTH
        | attribute::NO_DA
        | attribute::RESTRICTED
        | attribute::SIGN;
    let sha256 = Hash::Sha256.number();
    let area = Writer::default().u16(ECC).u16(sha256).u32(attributes).sized(&[]).u16(NULL);
    area.u16(ECDSA).u16(sha256).u16(P256).u16(NULL).sized(unique).sized(&[]).finish()
}
