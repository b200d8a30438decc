//! What a host certificate says, and when it holds (OpenSSH's `PROTOCOL.certkeys`).
//!
//! Taken apart here and not by a library: what is verified is the very bytes that were sent, and the
//! end of time is a time at which a certificate can end, as most host certificates do.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_core::time::UnixTime;

use super::encoding::Reader;
use super::key::{Key, Purpose, Signature};
use crate::VerifyError;

/// A host certificate, in good form and not yet believed.
#[derive(Debug)]
pub struct HostCertificate {
    pub(super) key: Key,
    pub(super) serial: u64,
    pub(super) key_id: String,
    /// The names of the host; at least one.
    pub(super) principals: Vec<String>,
    /// In unpadded URL-safe base64: the SHA-256 of the certificate.
    pub(super) fingerprint: String,
    kind: u32,
    valid_after: u64,
    valid_before: u64,
    has_critical_options: bool,
    authority: Vec<u8>,
    signed: Vec<u8>,
    signature: (String, Vec<u8>),
}

/// Keys that may sign host certificates, by their encoding.
pub(super) type Authorities = BTreeMap<Vec<u8>, Key>;

/// The largest certificate, in bytes: room for one with two RSA keys of 8,192 bits, their signature
/// and 256 names.
const MAX_CERTIFICATE: usize = 32 << 10;

/// As many names as OpenSSH reads.
const MAX_PRINCIPALS: usize = 256;

/// The type of a certificate that names a host and not a user.
const HOST: u32 = 2;

impl HostCertificate {
    /// Reads a certificate, without believing it.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is none, or one for a key that nobody should rely on or
    /// compute with.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        if MAX_CERTIFICATE < bytes.len() {
            return Err(VerifyError::Malformed);
        }
        Self::read(bytes).ok_or(VerifyError::Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let kind_of_key = reader.text()?.strip_suffix("-cert-v01@openssh.com")?;
        let _authoritys_nonce = reader.string()?;
        let key = Key::fields(kind_of_key, &mut reader)?;
        let (serial, kind) = (reader.u64()?, reader.u32()?);
        let key_id = reader.text()?.to_owned();
        let principals = principals(reader.string()?)?;
        let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
        let has_critical_options = !reader.string()?.is_empty();
        let (_extensions, _reserved) = (reader.string()?, reader.string()?);
        let authority = reader.string()?.to_vec();
        let signed = bytes.get(..bytes.len().checked_sub(reader.left())?)?.to_vec();
        let signature = reader.string()?;
        let mut fields = Reader::new(signature);
        let (format, blob) = (fields.text()?.to_owned(), fields.string()?.to_vec());
        let signature = fields.finish((format, blob))?;
        let fingerprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes));
        reader.finish(Self {
            key,
            serial,
            key_id,
            principals,
            fingerprint,
            kind,
            valid_after,
            valid_before,
            has_critical_options,
            authority,
            signed,
            signature,
        })
    }

    /// Believes the certificate if one of `authorities` vouches for it and it holds at `now`.
    pub(super) fn check(
        &self,
        authorities: &Authorities,
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        if self.kind != HOST {
            return Err(VerifyError::not_genuine("the SSH certificate is not for a host"));
        }
        let authority = authorities.get(&self.authority).ok_or_else(|| {
            VerifyError::not_genuine("the SSH certificate is of none of `cert-authorities`")
        })?;
        let (format, blob) = &self.signature;
        let signature = Signature { format, blob };
        if !authority.has_signed(&self.signed, signature, Purpose::Certificate) {
            return Err(VerifyError::not_genuine(format!(
                "the authority's signature ({format}) under the SSH certificate is wrong"
            )));
        }
        if !(self.valid_after..self.valid_before).contains(&now.as_secs()) {
            return Err(VerifyError::not_genuine(format!(
                "the SSH certificate is valid from {} to {}, and it is {now}",
                self.valid_after, self.valid_before
            )));
        }
        if self.has_critical_options {
            return Err(VerifyError::not_genuine(
                "the SSH certificate has critical options, and none are known for hosts",
            ));
        }
        Ok(())
    }
}

fn principals(list: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(list);
    let mut principals = Vec::new();
    while 0 < reader.left() {
        if principals.len() == MAX_PRINCIPALS {
            return None;
        }
        principals.push(reader.text()?.to_owned());
    }
    (!principals.is_empty()).then_some(principals)
}
