//! The messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::report;
use crate::possession::Base64;
use crate::{MAX_EVIDENCE, VerifyError, json};

/// The most devices of one node: eight GPUs and their switches twice over.
pub const MAX_DEVICES: usize = 32;

/// The most certificates of one device. Real chains have five or six.
pub(super) const MAX_CERTIFICATES: usize = 8;

/// The most bytes of one device's certificates in PEM: more than NVML has room for.
const MAX_PEM: usize = 16 << 10;

/// The node's first message.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// How many devices it has.
    pub(super) devices: usize,
}

impl Hello {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        let hello: Self = json::read(bytes)?;
        let is_sound = (1..=MAX_DEVICES).contains(&hello.devices);
        is_sound.then_some(hello).ok_or(VerifyError::Malformed)
    }
}

/// The server asks for the evidence of a device. Each answer is a list, of one device or of more.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    /// The verifier's nonce, which is a part of what the evidence is bound to.
    pub(super) nonce: Base64,
    /// Which one: as many as it has had.
    pub(super) device: usize,
}

/// What one device says, as NVIDIA's SDKs write it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Entry {
    /// Its architecture, such as `HOPPER`. Nobody signed that.
    pub(super) arch: String,
    /// Its certificates in PEM, its own first, in base64.
    pub(super) certificate: String,
    /// Request and response, in base64.
    pub(super) evidence: String,
    /// The nonce in the request, in hexadecimal digits.
    #[serde(default)]
    pub(super) nonce: String,
}

/// What one device says. Nothing of it is verified.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The architecture that the node says it has, if it says so.
    pub(super) arch: Option<String>,
    /// In DER, its own first.
    pub(super) certificates: Vec<Vec<u8>>,
    /// Request and response.
    pub(super) report: Vec<u8>,
}

impl Evidence {
    /// Reads the evidence of at least one and at most `most` devices, as NVIDIA's SDKs write it.
    /// Members that are not known are ignored: newer SDKs write more.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is not that.
    pub fn parse(text: &[u8], most: usize) -> Result<Vec<Self>, VerifyError> {
        if MAX_EVIDENCE < text.len() {
            return Err(VerifyError::Malformed);
        }
        let entries: Vec<Entry> = json::read_list(text)?;
        if !(1..=most).contains(&entries.len()) {
            return Err(VerifyError::Malformed);
        }
        entries.iter().map(Self::of).collect()
    }

    fn of(entry: &Entry) -> Result<Self, VerifyError> {
        let (report, chain) = (decode(&entry.evidence)?, decode(&entry.certificate)?);
        if report::MAX < report.len() || MAX_PEM < chain.len() {
            return Err(VerifyError::Malformed);
        }
        let blocks = pem::parse_many(&chain).map_err(|_not_pem| VerifyError::Malformed)?;
        let sound = blocks.iter().all(|block| block.tag() == "CERTIFICATE");
        if !sound || !(2..=MAX_CERTIFICATES).contains(&blocks.len()) {
            return Err(VerifyError::Malformed);
        }
        let certificates = blocks.into_iter().map(pem::Pem::into_contents).collect();
        Ok(Self { arch: Some(entry.arch.clone()), certificates, report })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, VerifyError> {
    STANDARD.decode(text).map_err(|_not_base64| VerifyError::Malformed)
}
