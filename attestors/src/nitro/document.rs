//! What the hypervisor signs: AWS' "attestation document".
//!
//! Fields and bounds are those of AWS' description. Where its text and its CDDL differ (`user_data` and
//! `nonce` have up to 512 bytes in one and up to 1,024 in the other) the larger bound holds: what we ask
//! for is far below either, and a genuine document must not be refused for what it carries besides.
//!
//! A field that AWS does not list is refused: its CDDL has none, and what we don't know might qualify
//! what we do. Absent fields are written as `null` by all hypervisors seen so far, so `null` is absence.

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::time::UnixTime;
use minicbor::Decoder;
use minicbor::data::Type;

use super::REGISTER;
use super::cbor::Entries;

/// A document, not verified yet.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// Which module made it: the instance, and the enclave or the TPM on it.
    pub(crate) module_id: &'a str,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) timestamp: u64,
    /// What was measured, by the number of the register.
    pub(crate) registers: BTreeMap<u8, [u8; REGISTER]>,
    pub(super) certificate: &'a [u8],
    pub(super) bundle: Vec<&'a [u8]>,
    pub(super) public_key: Option<&'a [u8]>,
    pub(super) user_data: Option<&'a [u8]>,
    pub(super) nonce: Option<&'a [u8]>,
}

/// There are this many registers at most.
pub(super) const REGISTERS: u8 = 32;

/// The largest certificate, and the largest field that the enclave chooses, in bytes.
const MAX_FIELD: usize = 1_024;

/// The most certificates beside the document's own. There are four (root, region, zone, instance); this
/// many more would still be a short chain.
const MAX_BUNDLE: usize = 8;

impl<'a> Document<'a> {
    /// Reads the document that is all of `payload`, and that calls its registers `registers`.
    pub(super) fn parse(payload: &'a [u8], registers: &str) -> Result<Self, DocumentError> {
        let mut decoder = Decoder::new(payload);
        let (mut draft, mut seen) = (Draft::default(), BTreeSet::new());
        let mut entries = Entries::of_map(&mut decoder)?;
        while entries.next(&mut decoder)? {
            let name = decoder.str()?;
            if !seen.insert(name) {
                return Err(DocumentError::Twice(shown(name)));
            }
            draft.read(name, registers, &mut decoder)?;
        }
        let trailing = payload.len().saturating_sub(decoder.position());
        if trailing != 0 {
            return Err(DocumentError::Trailing(trailing));
        }
        draft.finish()
    }

    /// When it was made.
    pub(crate) const fn made(&self) -> UnixTime {
        UnixTime::from_secs(self.timestamp / 1_000)
    }

    /// What register `index` holds, if anything was ever measured into it.
    pub(crate) fn measured(&self, index: u8) -> Option<&[u8; REGISTER]> {
        self.registers.get(&index).filter(|value| value.iter().any(|byte| *byte != 0))
    }

    /// The name of the instance that it was made on, which begins the module's.
    pub(crate) fn instance(&self) -> Option<&'a str> {
        let (instance, _module) = self.module_id.rsplit_once('-')?;
        instance.starts_with("i-").then_some(instance)
    }
}

/// The fields that were read so far.
#[derive(Default)]
struct Draft<'a> {
    module_id: Option<&'a str>,
    has_digest: bool,
    timestamp: Option<u64>,
    registers: Option<BTreeMap<u8, [u8; REGISTER]>>,
    certificate: Option<&'a [u8]>,
    bundle: Option<Vec<&'a [u8]>>,
    public_key: Option<&'a [u8]>,
    user_data: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
}

impl<'a> Draft<'a> {
    fn read(
        &mut self,
        name: &str,
        registers: &str,
        decoder: &mut Decoder<'a>,
    ) -> Result<(), DocumentError> {
        match name {
            "module_id" => self.module_id = Some(decoder.str()?),
            "digest" => {
                let digest = decoder.str()?;
                if digest != "SHA384" {
                    return Err(DocumentError::Digest(shown(digest)));
                }
                self.has_digest = true;
            }
            "timestamp" => self.timestamp = Some(decoder.u64()?),
            "certificate" => self.certificate = Some(certificate(decoder)?),
            "cabundle" => self.bundle = Some(bundle(decoder)?),
            "public_key" => self.public_key = optional("public_key", decoder)?,
            "user_data" => self.user_data = optional("user_data", decoder)?,
            "nonce" => self.nonce = optional("nonce", decoder)?,
            other if other == registers => self.registers = Some(register_map(decoder)?),
            other => return Err(DocumentError::Unknown(shown(other))),
        }
        Ok(())
    }

    fn finish(self) -> Result<Document<'a>, DocumentError> {
        let missing = DocumentError::Missing;
        if !self.has_digest {
            return Err(missing("digest"));
        }
        let document = Document {
            module_id: self.module_id.ok_or(missing("module_id"))?,
            timestamp: self.timestamp.ok_or(missing("timestamp"))?,
            registers: self.registers.ok_or(missing("the registers"))?,
            certificate: self.certificate.ok_or(missing("certificate"))?,
            bundle: self.bundle.ok_or(missing("cabundle"))?,
            public_key: self.public_key,
            user_data: self.user_data,
            nonce: self.nonce,
        };
        if document.module_id.is_empty() {
            return Err(DocumentError::Empty("module_id"));
        }
        if document.timestamp == 0 {
            return Err(DocumentError::Empty("timestamp"));
        }
        Ok(document)
    }
}

/// A map of registers: indices and values, each once.
fn register_map(decoder: &mut Decoder<'_>) -> Result<BTreeMap<u8, [u8; REGISTER]>, DocumentError> {
    let mut registers = BTreeMap::new();
    let mut entries = Entries::of_map(decoder)?;
    while entries.next(decoder)? {
        let index = decoder.u64()?;
        let index = u8::try_from(index).ok().filter(|index| *index < REGISTERS);
        let index = index.ok_or(DocumentError::Index)?;
        let value = decoder.bytes()?;
        let value: [u8; REGISTER] = value
            .try_into()
            .map_err(|_another_length| DocumentError::Register(index, value.len()))?;
        if registers.insert(index, value).is_some() {
            return Err(DocumentError::Twice(format!("register {index}")));
        }
    }
    if registers.is_empty() { Err(DocumentError::Empty("the registers")) } else { Ok(registers) }
}

fn bundle<'a>(decoder: &mut Decoder<'a>) -> Result<Vec<&'a [u8]>, DocumentError> {
    let mut certificates = Vec::new();
    let mut items = Entries::of_array(decoder)?;
    while items.next(decoder)? {
        if certificates.len() == MAX_BUNDLE {
            return Err(DocumentError::Bundle);
        }
        certificates.push(certificate(decoder)?);
    }
    if certificates.is_empty() { Err(DocumentError::Empty("cabundle")) } else { Ok(certificates) }
}

fn certificate<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], DocumentError> {
    let certificate = decoder.bytes()?;
    if (1..=MAX_FIELD).contains(&certificate.len()) {
        Ok(certificate)
    } else {
        Err(DocumentError::Length("a certificate", certificate.len()))
    }
}

fn optional<'a>(
    name: &'static str,
    decoder: &mut Decoder<'a>,
) -> Result<Option<&'a [u8]>, DocumentError> {
    if decoder.datatype()? == Type::Null {
        decoder.null()?;
        return Ok(None);
    }
    let value = decoder.bytes()?;
    if MAX_FIELD < value.len() {
        return Err(DocumentError::Length(name, value.len()));
    }
    Ok(Some(value))
}

/// As much of a stranger's text as is to be read by an operator.
fn shown(text: &str) -> String {
    text.chars().take(32).collect::<String>().escape_debug().to_string()
}

/// Why a payload is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is not as AWS describes it: {0}")]
    Cbor(minicbor::decode::Error),
    #[error("`{0}` is there twice")]
    Twice(String),
    #[error("`{0}` is no field of it")]
    Unknown(String),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{0}` is empty, or zero")]
    Empty(&'static str),
    #[error("the digest of its registers is `{0}` and not `SHA384`")]
    Digest(String),
    #[error("there is a register beyond {max}", max = REGISTERS - 1)]
    Index,
    #[error("register {0} has {1} bytes and not {REGISTER}")]
    Register(u8, usize),
    #[error("`{0}` has {1} bytes; {MAX_FIELD} are allowed")]
    Length(&'static str, usize),
    #[error("there are more than {MAX_BUNDLE} certificates in `cabundle`")]
    Bundle,
    #[error("{0} bytes follow its end")]
    Trailing(usize),
}

impl From<minicbor::decode::Error> for DocumentError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Cbor(error)
    }
}
