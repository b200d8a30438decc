//! The certificate of the key that signed a report (publication 57230, tables 8 and 9).

use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::der::parse_der;
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384};

use super::certificate::{self, Period, common_name};
use super::product::Product;
use super::report::SigningKey;
use super::roots::Role;
use super::tcb::{self, TcbVersion};

const PRODUCT_NAME: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.2);
const HARDWARE_ID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.4);
const CSP_ID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.5);
/// `1.3.6.1.4.1.3704.1.3`, below which the versions of the firmware's parts are.
const VERSIONS: [u8; 9] = [0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 3];

/// The longest text in an extension.
const MAX_TEXT: usize = 256;

/// A certificate of a VCEK or of a VLEK. Who issued it is not verified.
#[derive(Debug)]
pub(super) struct Endorsement<'a> {
    pub(super) certificate: X509Certificate<'a>,
    /// Who should have issued it, by its issuer's name.
    pub(super) role: Role,
    pub(super) product: Product,
    pub(super) period: Period,
    pub(super) product_name: String,
    /// The version of the firmware that the key is for.
    pub(super) tcb: TcbVersion,
    /// Of a VCEK: the chip.
    hardware_id: Option<Vec<u8>>,
    /// Of a VLEK: the operator of the cloud.
    pub(super) csp_id: Option<String>,
}

impl<'a> Endorsement<'a> {
    /// Reads a certificate.
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, EndorsementError> {
        let certificate = certificate::parse(der).ok_or(EndorsementError::Form)?;
        let (role, product) = named(&certificate).ok_or(EndorsementError::Names)?;
        if !is_for_reports(&certificate) {
            return Err(EndorsementError::Purpose);
        }
        let missing = |what| EndorsementError::Extension { what };
        let name = text(&certificate, &PRODUCT_NAME).ok_or(missing("productName"))?;
        let tcb = firmware(&certificate, product).ok_or(missing("version of the firmware"))?;
        let hardware_id = extension(&certificate, &HARDWARE_ID).and_then(chip);
        let csp_id = text(&certificate, &CSP_ID);
        match role {
            Role::Ask if hardware_id.is_none() => return Err(missing("hwID")),
            Role::Asvk if csp_id.is_none() => return Err(missing("cspID")),
            Role::Ark | Role::Ask | Role::Asvk => {}
        }
        let period = Period::of(certificate.validity());
        Ok(Self {
            certificate,
            role,
            product,
            period,
            product_name: name,
            tcb,
            hardware_id,
            csp_id,
        })
    }

    /// What kind of key it is about.
    pub(super) const fn kind(&self) -> SigningKey {
        self.role.certifies()
    }

    /// The key, as a point on P-384.
    pub(super) fn key(&self) -> &[u8] {
        &self.certificate.public_key().subject_public_key.data
    }

    /// Whether the key is that of the chip with this CHIP_ID. A chip of Turin's has an id of eight
    /// bytes, and zeros behind it in a report.
    pub(super) fn is_of_chip(&self, chip_id: &[u8; 64]) -> bool {
        self.hardware_id.as_deref().is_some_and(|id| {
            let rest = chip_id.strip_prefix(id);
            let whole = id.len() == 64 || self.product == Product::Turin && id.len() == 8;
            whole && rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
        })
    }
}

/// By whose name it is issued, if the subject is what that one certifies.
fn named(certificate: &X509Certificate<'_>) -> Option<(Role, Product)> {
    let (role, product) = Role::named(common_name(certificate.issuer())?)?;
    let subject = match role {
        Role::Ark => return None,
        Role::Ask => "SEV-VCEK",
        Role::Asvk => "SEV-VLEK",
    };
    (common_name(certificate.subject())? == subject).then_some((role, product))
}

/// Whether it is as AMD issues it: a key on P-384, for nothing that an extension forbids, and nothing in
/// it that has to be understood.
fn is_for_reports(certificate: &X509Certificate<'_>) -> bool {
    let spki = certificate.public_key();
    let curve = spki.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let is_p384 = spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == Some(OID_NIST_EC_P384)
        && spki.subject_public_key.unused_bits == 0;
    let may_sign = match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.digital_signature() && !usage.value.key_cert_sign(),
        Err(_broken) => false,
    };
    let certifies = certificate
        .basic_constraints()
        .map_or(true, |constraints| constraints.is_some_and(|constraints| constraints.value.ca));
    let unknown = certificate.iter_extensions().any(|extension| {
        let parsed = extension.parsed_extension();
        extension.critical && (parsed.unsupported() || parsed.error().is_some())
    });
    is_p384 && may_sign && !certifies && !unknown
}

/// The value of an extension that comes once.
fn extension<'a>(certificate: &X509Certificate<'a>, oid: &Oid<'_>) -> Option<&'a [u8]> {
    certificate.get_extension_unique(oid).ok().flatten().map(|extension| extension.value)
}

/// An IA5String.
fn text(certificate: &X509Certificate<'_>, oid: &Oid<'_>) -> Option<String> {
    let ([], value) = parse_der(extension(certificate, oid)?).ok()? else { return None };
    let text = value.content.as_str().ok()?;
    let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    (printable && (1..=MAX_TEXT).contains(&text.len())).then(|| text.to_owned())
}

/// A number of one byte.
fn number(value: &[u8]) -> Option<u8> {
    let ([], value) = parse_der(value).ok()? else { return None };
    value.as_u32().ok()?.try_into().ok()
}

/// An id, which AMD writes as it is; newer certificates have it in an OCTET STRING.
fn chip(value: &[u8]) -> Option<Vec<u8>> {
    let is_id = |id: &[u8]| matches!(id.len(), 8 | 64);
    if is_id(value) {
        return Some(value.to_vec());
    }
    let ([], wrapped) = parse_der(value).ok()? else { return None };
    wrapped.as_slice().ok().filter(|id| is_id(id)).map(<[u8]>::to_vec)
}

/// The version of the firmware, put together as a report has it.
fn firmware(certificate: &X509Certificate<'_>, product: Product) -> Option<TcbVersion> {
    let mut tcb = [0; 8];
    for (byte, (arc, required)) in tcb.iter_mut().zip(tcb::extensions(product)) {
        let oid = Oid::new([VERSIONS.as_slice(), &[arc]].concat().into());
        match extension(certificate, &oid) {
            Some(value) => *byte = number(value)?,
            None if required => return None,
            None => {}
        }
    }
    Some(TcbVersion(tcb))
}

/// This is no certificate of a key that signs reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum EndorsementError {
    #[error("it is no certificate in DER, or something follows it")]
    Form,
    #[error(
        "it is not named `SEV-VCEK` and issued by `SEV-<product>`, nor `SEV-VLEK` and issued by \
         `SEV-VLEK-<product>`, of a product that is known"
    )]
    Names,
    #[error(
        "it is not for a key on P-384 that signs reports, or has an unknown critical extension"
    )]
    Purpose,
    #[error("its {what} is missing, comes twice, or makes no sense")]
    Extension {
        /// Which extension.
        what: &'static str,
    },
}
