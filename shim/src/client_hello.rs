//! What a stranger's first bytes must look like before anything else happens.
//!
//! The acceptor asks its broker before the TLS stack sees a byte, so it reads the ClientHello
//! itself: strictly, within bounds, and only for the one kind of handshake it serves. Whatever it
//! does not understand it refuses; whatever it accepts, the TLS stack reads again.
//!
//! Section numbers are those of RFC 8446 (RFC 9846 keeps them).

mod first_flight;
mod reader;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::psk::binder::{Binder, TranscriptHash};
use claviger_core::psk::identity::{ParseIdentityError, WireIdentity};

pub use self::first_flight::FirstFlight;
use self::reader::Reader;

/// What a ClientHello says about the one PSK that it offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientHello {
    /// The PSK's name.
    pub identity: WireIdentity,
    /// The SHA-256 of the handshake message up to its binders (§4.2.11.2).
    pub transcript: TranscriptHash,
    /// The proof that the sender holds the key.
    pub binder: Binder,
}

/// More extensions than any client sends. It bounds the search for duplicates.
const MAX_EXTENSIONS: usize = 64;

/// The size of the binders at the end of the message: the list's length, the binder's, 32 bytes.
const BINDERS_LEN: usize = 2 + 1 + 32;

impl ClientHello {
    /// Reads a whole handshake message, its four-byte header included.
    ///
    /// # Errors
    ///
    /// [`HelloError`] unless it offers exactly the handshake we serve.
    pub fn parse(message: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(message);
        if reader.u8()? != 1 {
            return Err(HelloError::NotAClientHello);
        }
        let mut body = Reader::new(reader.vector24()?);
        reader.end()?;

        read_preamble(&mut body)?;
        let extensions = Extensions::read(body.vector16()?)?;
        body.end()?;
        extensions.check()?;
        let psk = extensions.pre_shared_key.ok_or(HelloError::Missing("pre_shared_key"))?;
        let (identity, binder) = read_offer(psk)?;

        // The extension is the last of the message and the binders are the last of the extension.
        let covered = message.len().checked_sub(BINDERS_LEN).and_then(|end| message.get(..end));
        let covered = covered.ok_or(HelloError::Malformed)?;
        let mut transcript = [0; 32];
        transcript.copy_from_slice(digest(&SHA256, covered).as_ref());
        Ok(Self { identity, transcript, binder })
    }
}

/// Everything before the extensions (§4.1.2).
fn read_preamble(body: &mut Reader<'_>) -> Result<(), HelloError> {
    const TLS_1_2: u16 = 0x0303;
    const TLS_AES_128_GCM_SHA256: u16 = 0x1301;
    const TLS_CHACHA20_POLY1305_SHA256: u16 = 0x1303;

    if body.u16()? != TLS_1_2 {
        return Err(HelloError::Version); // TLS 1.3 is asked for in an extension.
    }
    body.take(32)?; // random
    if 32 < body.vector8()?.len() {
        return Err(HelloError::Malformed); // legacy_session_id
    }
    let mut ours = false;
    let mut suites = Reader::new(body.vector16()?);
    while !suites.is_empty() {
        let suite = suites.u16()?;
        ours |= suite == TLS_AES_128_GCM_SHA256 || suite == TLS_CHACHA20_POLY1305_SHA256;
    }
    if !ours {
        return Err(HelloError::Suites);
    }
    if body.vector8()? != [0] {
        return Err(HelloError::Malformed); // legacy_compression_methods
    }
    Ok(())
}

/// The extensions that decide.
#[derive(Debug, Default)]
struct Extensions<'a> {
    supported_versions: Option<&'a [u8]>,
    psk_key_exchange_modes: Option<&'a [u8]>,
    pre_shared_key: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// Reads the list (§4.2): each at most once, `pre_shared_key` last.
    fn read(list: &'a [u8]) -> Result<Self, HelloError> {
        let mut found = Self::default();
        let mut seen = Vec::with_capacity(MAX_EXTENSIONS);
        let mut list = Reader::new(list);
        while !list.is_empty() {
            if found.pre_shared_key.is_some() {
                return Err(HelloError::PskNotLast);
            }
            let (kind, body) = (list.u16()?, list.vector16()?);
            if seen.contains(&kind) {
                return Err(HelloError::Duplicate(kind));
            }
            if seen.len() == MAX_EXTENSIONS {
                return Err(HelloError::TooManyExtensions);
            }
            seen.push(kind);
            match kind {
                33 => return Err(HelloError::CertWithExternPsk),
                41 => found.pre_shared_key = Some(body),
                42 => return Err(HelloError::EarlyData),
                43 => found.supported_versions = Some(body),
                45 => found.psk_key_exchange_modes = Some(body),
                _other => {}
            }
        }
        Ok(found)
    }

    /// Requires TLS 1.3 (§4.2.1) with a PSK and a Diffie-Hellman exchange (§4.2.9).
    fn check(&self) -> Result<(), HelloError> {
        const TLS_1_3: [u8; 2] = [3, 4];
        const PSK_DHE_KE: u8 = 1;

        let versions = self.supported_versions.ok_or(HelloError::Missing("supported_versions"))?;
        let mut reader = Reader::new(versions);
        let (versions, odd) = reader.vector8()?.as_chunks();
        reader.end()?;
        if !odd.is_empty() {
            return Err(HelloError::Malformed);
        }
        if !versions.contains(&TLS_1_3) {
            return Err(HelloError::Version);
        }

        let modes =
            self.psk_key_exchange_modes.ok_or(HelloError::Missing("psk_key_exchange_modes"))?;
        let mut reader = Reader::new(modes);
        let modes = reader.vector8()?;
        reader.end()?;
        if modes.contains(&PSK_DHE_KE) { Ok(()) } else { Err(HelloError::Modes) }
    }
}

/// Reads `pre_shared_key` (§4.2.11): one identity, one binder.
fn read_offer(psk: &[u8]) -> Result<(WireIdentity, Binder), HelloError> {
    let mut psk = Reader::new(psk);
    let mut identities = Reader::new(psk.vector16()?);
    let identity = identities.vector16()?;
    // The age is 0 for an external PSK, and to be ignored whatever it is.
    identities.take(4)?;
    let mut binders = Reader::new(psk.vector16()?);
    psk.end()?;
    let binder = binders.vector8()?;
    if !identities.is_empty() || !binders.is_empty() {
        return Err(HelloError::SeveralPsks);
    }
    let binder = binder.try_into().map_err(|_length| HelloError::BinderLength(binder.len()))?;
    Ok((WireIdentity::parse(identity)?, binder))
}

/// Why bytes are not the start of a handshake we serve. For the log only: a peer sees the same
/// whichever it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HelloError {
    /// The first record is not a handshake record of TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The first flight does not fit into [`FirstFlight::MAX_LEN`].
    #[error("the first flight is longer than {max} bytes", max = FirstFlight::MAX_LEN)]
    TooLong,
    /// The first message is another one.
    #[error("the first handshake message is not a ClientHello")]
    NotAClientHello,
    /// A length disagrees with another, or a fixed value has another value.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// The client does not offer TLS 1.3.
    #[error("the client does not offer TLS 1.3")]
    Version,
    /// The client offers no TLS 1.3 suite with SHA-256, the hash of the PSK.
    #[error("the client offers no TLS 1.3 cipher suite with SHA-256")]
    Suites,
    /// An extension is absent.
    #[error("the ClientHello has no extension `{0}`; does the client use a PSK?")]
    Missing(&'static str),
    /// An extension comes twice.
    #[error("extension {0} comes twice")]
    Duplicate(u16),
    /// There are more extensions than any client sends.
    #[error("the ClientHello has more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
    /// Something follows the extension `pre_shared_key`.
    #[error("`pre_shared_key` is not the last extension")]
    PskNotLast,
    /// The client wants no Diffie-Hellman exchange, hence no forward secrecy.
    #[error("the client does not offer `psk_dhe_ke`")]
    Modes,
    /// The client announces 0-RTT data.
    #[error("the client wants to send early data")]
    EarlyData,
    /// The client wants a certificate beside the PSK (RFC 8773).
    #[error("the client offers `tls_cert_with_extern_psk`")]
    CertWithExternPsk,
    /// The client offers more than one PSK.
    #[error("the client offers more than one PSK")]
    SeveralPsks,
    /// The binder is not one of SHA-256.
    #[error("the binder has {0} bytes, not 32")]
    BinderLength(usize),
    /// The PSK is not one of ours.
    #[error(transparent)]
    Identity(#[from] ParseIdentityError),
}

impl From<reader::Short> for HelloError {
    fn from(_short: reader::Short) -> Self {
        Self::Malformed
    }
}
