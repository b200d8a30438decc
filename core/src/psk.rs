//! One-time pre-shared keys for TLS 1.3: their names on the wire, how they are derived, and how a
//! ClientHello proves that it holds one.
//!
//! | to find | look in |
//! |---|---|
//! | the name a ClientHello shows, and the serial number inside it | [`identity`] |
//! | from the epoch's root to the key of one connection | [`derive`](mod@derive) |
//! | the binder that proves possession of the key | [`binder`] |
//! | the run of a CI job that a key may be for | [`run`] |
//! | series, of which a later epoch voids the earlier | [`series`] |
//! | the length of a key for a machine that is no TLS stack of ours | [`bits`] |
//!
//! Invariants:
//!
//! * **No key is stored.** Each is derived from the root of its epoch; when the root is destroyed,
//!   every key of the epoch is void.
//! * **No ambiguity.** No two bindings derive from the same input.
//! * **Fixed roles.** A key names one client and one server, so it cannot be reflected (the Selfie
//!   attack, RFC 9257 §4.1).
//!
//! The byte layouts are specified in `docs/protocol.md`; vectors computed with an independent
//! implementation pin them.

pub mod binder;
pub mod bits;
pub mod derive;
pub mod identity;
pub mod run;
pub mod series;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::SpiffeId;
use crate::once::State;
use crate::time::UnixTime;
pub use bits::KeyBits;
pub use run::{ParseRunError, Run};
pub use series::{Series, SeriesEpoch};

/// What a connection is for, as the client says and the policy judges, such as `checkout`.
///
/// Invariant: 1 to [`Self::MAX_LEN`] characters of `A-Z a-z 0-9 . _ : / -`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Purpose(Box<str>);

impl Purpose {
    /// The longest purpose, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The purpose as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Purpose {
    type Err = ParsePurposeError;

    fn from_str(text: &str) -> Result<Self, ParsePurposeError> {
        if is_word(text) { Ok(Self(text.into())) } else { Err(ParsePurposeError) }
    }
}

impl TryFrom<String> for Purpose {
    type Error = ParsePurposeError;

    fn try_from(text: String) -> Result<Self, ParsePurposeError> {
        text.parse()
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        purpose.0.into()
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is a plain word, as purposes and series are.
fn is_word(text: &str) -> bool {
    (1..=Purpose::MAX_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

/// A string is not a purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a purpose has 1 to {max} characters of `A-Z a-z 0-9 . _ : / -`", max = Purpose::MAX_LEN)]
pub struct ParsePurposeError;

/// How long a PSK waits to be redeemed: one second to five minutes, one minute by default.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PskTtl(u32);

impl PskTtl {
    /// The bounds, in seconds.
    pub const SECS: std::ops::RangeInclusive<u32> = 1..=300;

    /// The lifetime.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl Default for PskTtl {
    fn default() -> Self {
        Self(60)
    }
}

impl TryFrom<u32> for PskTtl {
    type Error = PskTtlError;

    fn try_from(secs: u32) -> Result<Self, PskTtlError> {
        if Self::SECS.contains(&secs) { Ok(Self(secs)) } else { Err(PskTtlError(secs)) }
    }
}

impl From<PskTtl> for u32 {
    fn from(ttl: PskTtl) -> Self {
        ttl.0
    }
}

/// A lifetime that no PSK should have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a PSK lasts {min} to {max} seconds, not {0}", min = PskTtl::SECS.start(), max = PskTtl::SECS.end())]
pub struct PskTtlError(u32);

/// The hash a PSK is provisioned for (RFC 9846 §4.2.11). One in version 1: SHA-256, the only one
/// that every stack can use with an external PSK.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PskHash {
    /// SHA-256; the suites TLS_AES_128_GCM_SHA256 and TLS_CHACHA20_POLY1305_SHA256.
    Sha256,
}

impl PskHash {
    /// Its number in key derivation, which is that of RFC 9258's KDF registry.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Sha256 => 1,
        }
    }
}

/// Everything a PSK is bound to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PskBinding {
    /// Who dials.
    pub client: SpiffeId,
    /// Who answers.
    pub server: SpiffeId,
    /// What for.
    pub purpose: Purpose,
    /// The last second at which it can be redeemed.
    pub not_after: UnixTime,
    /// The hash of the handshake.
    pub hash: PskHash,
    /// The run of the client that it is for, if it is for one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The epoch of a series that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesEpoch>,
    /// How long it is, if it is no PSK for TLS but a key for another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<KeyBits>,
}

/// What the ledger keeps about one PSK: no key, only what it is bound to and whether it is spent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PskRecord {
    /// What it is bound to.
    pub binding: PskBinding,
    /// Whether it was redeemed.
    pub state: State,
    /// The newest change to how identities stood when it was minted. A quarantine that begins or ends
    /// by a later one voids it. Records of the first versions leave it out.
    #[serde(default)]
    pub seen: u64,
    /// Whether the audit log says that somebody wanted to redeem it although it was void. One record per
    /// PSK: an attacker who tries for an hour must not fill the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void_reported: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_are_plain_words() {
        "billing:read/v1.2_x-y".parse::<Purpose>().unwrap();
        for bad in ["", "a b", "a\0", "ü", &"x".repeat(129)] {
            bad.parse::<Purpose>().unwrap_err();
        }
    }

    #[test]
    fn records_of_the_first_versions_are_still_read() {
        let old = r#"{"binding":{"client":"spiffe://a.org/c","server":"spiffe://a.org/s","purpose":"p",
            "not_after":9,"hash":"sha256"},"state":"unused"}"#;
        let old: PskRecord = serde_json::from_str(old).unwrap();
        assert_eq!((old.seen, old.void_reported), (0, false));
        assert_eq!((&old.binding.series, old.binding.bits), (&None, None));
        let written = serde_json::to_string(&old).unwrap();
        for later in ["void_reported", "series", "bits"] {
            assert!(!written.contains(later), "{written}");
        }
    }

    #[test]
    fn lifetimes_have_bounds() {
        assert_eq!(PskTtl::default().duration().as_secs(), 60);
        PskTtl::try_from(0).unwrap_err();
        PskTtl::try_from(301).unwrap_err();
    }
}
