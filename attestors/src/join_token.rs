//! Join tokens: for a first node, and for nodes that have nothing better to show.
//!
//! An operator makes a token and hands it to a node, which presents it once. That proves possession
//! of the token and nothing about the machine.
//!
//! The format is SPIRE's: the evidence is the token itself, and the node that spends the token
//! `T` becomes `spiffe://trust-domain/spire/agent/join_token/T`.

mod collector;
mod verifier;

pub use collector::{Collector, ReadTokenError};
pub use verifier::{SpendError, SpendToken, Verifier};

use std::fmt;
use std::str::FromStr;

use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};
use zeroize::Zeroizing;

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "join_token";

/// A token. Worth an agent's identity until it is spent, so it is wiped, and never printed.
///
/// Invariant: one segment of a SPIFFE ID's path, 1 to [`Self::MAX_LEN`] bytes.
pub struct JoinToken(Zeroizing<String>);

impl JoinToken {
    /// The longest token, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The token that was sent as evidence.
    ///
    /// # Errors
    ///
    /// [`ParseTokenError`] if the bytes can't be a token.
    pub fn parse(evidence: &[u8]) -> Result<Self, ParseTokenError> {
        str::from_utf8(evidence).map_err(|_not_text| ParseTokenError)?.parse()
    }

    /// The token in clear, for the ledger and for the operator who asked for it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A copy, as secret as the original.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The identity of the node that spends this token.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] if it would be too long, which with the present limits it never is.
    pub fn agent_id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, ParseIdError> {
        trust_domain.join(&format!("/spire/agent/{KIND}/{}", self.expose()))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let is_segment = !matches!(text, "." | "..")
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if (1..=Self::MAX_LEN).contains(&text.len()) && is_segment {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(ParseTokenError)
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

/// A string is not a join token. The string may be a mistyped secret, so it is not shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a join token has 1 to {max} characters of `A-Z a-z 0-9 . - _` and is not `.` or `..`", max = JoinToken::MAX_LEN)]
pub struct ParseTokenError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_segment_of_a_path() {
        for good in ["a", "0f2a7c1e-93d4-4f8e-9b51-6f1f0a1f7f10", "A.b_c-9", &"x".repeat(255)] {
            assert_eq!(JoinToken::parse(good.as_bytes()).unwrap().expose(), good);
        }
        // A path in a token once let a node take another's name (Cure53, SPI-01-007).
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a%2fb", "é", "a\n", &"x".repeat(256)] {
            assert_eq!(JoinToken::parse(bad.as_bytes()).unwrap_err(), ParseTokenError, "{bad}");
        }
        assert_eq!(JoinToken::parse(b"\xff").unwrap_err(), ParseTokenError);
    }

    #[test]
    fn the_longest_names_still_make_an_identity() {
        let trust_domain: TrustDomain = "d".repeat(255).parse().unwrap();
        let token: JoinToken = "t".repeat(255).parse().unwrap();
        let id = token.agent_id(&trust_domain).unwrap();
        assert_eq!(id.path(), format!("/spire/agent/join_token/{}", token.expose()));
        assert!(id.is_reserved());
    }

    #[test]
    fn a_token_is_not_printed() {
        let token: JoinToken = "secret".parse().unwrap();
        assert_eq!(format!("{token:?}"), "JoinToken(..)");
    }
}
