//! The certificate of a platform (Intel's "SGX PCK Certificate and Certificate Revocation List
//! Profile"): which it is, and which versions its hardware and firmware have.

use x509_parser::asn1_rs::{Any, FromDer as _, Oid, Tag, oid};
use x509_parser::certificate::X509Certificate;

use super::Ca;

/// What the certificate of a platform says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pck {
    /// The name of the platform, which Intel derived from its keys.
    pub ppid: [u8; 16],
    /// The versions of the components of its TCB.
    pub components: [u8; 16],
    /// The version of its provisioning certification enclave.
    pub pce_svn: u16,
    /// That enclave's name.
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// Which of Intel's two authorities issued it.
    pub ca: Ca,
    /// Its key: an uncompressed point on P-256.
    pub(super) key: [u8; 65],
}

const SGX: Oid<'static> = oid!(1.2.840.113741.1.13.1);
const PPID: Oid<'static> = oid!(1.2.840.113741.1.13.1.1);
const TCB: Oid<'static> = oid!(1.2.840.113741.1.13.1.2);
const PCE_ID: Oid<'static> = oid!(1.2.840.113741.1.13.1.3);
const FMSPC: Oid<'static> = oid!(1.2.840.113741.1.13.1.4);

/// In the list of the TCB, the last number of a name: 1 to 16 are the components.
const PCE_SVN: u8 = 17;

impl Pck {
    /// Reads the certificate `der`.
    ///
    /// # Errors
    ///
    /// [`PckError`] if it is not the certificate of a platform.
    pub(super) fn parse(der: &[u8]) -> Result<Self, PckError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_not_one| PckError)?;
        let named = common_name(certificate.subject()) == Some("Intel SGX PCK Certificate");
        if !rest.is_empty() || !named {
            return Err(PckError);
        }
        let ca = match common_name(certificate.issuer()) {
            Some("Intel SGX PCK Platform CA") => Ca::Platform,
            Some("Intel SGX PCK Processor CA") => Ca::Processor,
            _ => return Err(PckError),
        };
        let key = certificate.public_key().subject_public_key.data.as_ref();
        let key = key.try_into().map_err(|_length| PckError)?;
        let extension = certificate.get_extension_unique(&SGX).ok().flatten().ok_or(PckError)?;
        let (rest, list) = sequence(extension.value)?;
        if !rest.is_empty() {
            return Err(PckError);
        }
        let values = members(list)?;
        let (components, pce_svn) = tcb(&values)?;
        Ok(Self {
            ppid: octets(&values, &PPID)?,
            components,
            pce_svn,
            pce_id: octets(&values, &PCE_ID)?,
            fmspc: octets(&values, &FMSPC)?,
            ca,
            key,
        })
    }
}

/// The only common name in `name`.
pub(super) fn common_name<'a>(name: &'a x509_parser::x509::X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    let first = names.next()?.as_str().ok()?;
    names.next().is_none().then_some(first)
}

/// `SEQUENCE OF SEQUENCE { name OBJECT IDENTIFIER, value ANY }`, in which no name comes twice.
type Members<'a> = Vec<(Oid<'a>, Any<'a>)>;

fn members(mut rest: &[u8]) -> Result<Members<'_>, PckError> {
    let mut members = Members::new();
    while !rest.is_empty() {
        let (after, member) = sequence(rest)?;
        let (value, name) = Oid::from_der(member).map_err(|_not_one| PckError)?;
        let (end, value) = Any::from_der(value).map_err(|_not_one| PckError)?;
        if !end.is_empty() || members.iter().any(|(known, _)| *known == name) {
            return Err(PckError);
        }
        members.push((name, value));
        rest = after;
    }
    Ok(members)
}

/// What follows a sequence, and what is in it.
fn sequence(der: &[u8]) -> Result<(&[u8], &[u8]), PckError> {
    let (rest, sequence) = Any::from_der(der).map_err(|_not_one| PckError)?;
    if sequence.tag() != Tag::Sequence {
        return Err(PckError);
    }
    Ok((rest, sequence.data))
}

fn value<'a>(members: &'a Members<'_>, name: &Oid<'_>) -> Result<&'a Any<'a>, PckError> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| value).ok_or(PckError)
}

fn octets<const N: usize>(members: &Members<'_>, name: &Oid<'_>) -> Result<[u8; N], PckError> {
    let value = value(members, name)?;
    if value.tag() != Tag::OctetString {
        return Err(PckError);
    }
    value.data.try_into().map_err(|_length| PckError)
}

fn tcb(members: &Members<'_>) -> Result<([u8; 16], u16), PckError> {
    let list = value(members, &TCB)?;
    if list.tag() != Tag::Sequence {
        return Err(PckError);
    }
    let list = self::members(list.data)?;
    let number = |last: u8| {
        let name = Oid::new([TCB.as_bytes(), &[last]].concat().into());
        value(&list, &name)?.as_u16().map_err(|_no_number| PckError)
    };
    let mut components = [0; 16];
    for (last, component) in (1..).zip(&mut components) {
        *component = u8::try_from(number(last)?).map_err(|_large| PckError)?;
    }
    Ok((components, number(PCE_SVN)?))
}

/// The certificate is not that of a platform.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no PCK certificate of Intel's with the platform's name and versions")]
pub(super) struct PckError;
