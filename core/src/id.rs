//! Names: trust domains and SPIFFE IDs (SPIFFE-ID §2).
//!
//! A name is parsed once, where it enters the program; from there on the type is the proof that it
//! is well formed. An identity has exactly one spelling, so `==` on bytes is `==` on identities:
//! upper case in the scheme or trust domain, percent-encoding and empty segments are refused,
//! never repaired.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The part of the world that one set of keys speaks for, such as `prod.example.org`.
///
/// Invariant: 1 to [`Self::MAX_LEN`] bytes of `a-z 0-9 . - _` (SPIFFE-ID §2.1).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// The longest name allowed, in bytes (SPIFFE-ID §2.3).
    pub const MAX_LEN: usize = 255;

    /// The name, without the scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity of the trust domain itself, `spiffe://name`.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), path: "".into() }
    }

    /// The identity `path` in this trust domain.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] if `path` is not empty and not a sequence of valid `/segment`s, or if the
    /// whole would be too long.
    pub fn join(&self, path: &str) -> Result<SpiffeId, ParseIdError> {
        SpiffeId::new(self.clone(), path)
    }
}

impl FromStr for TrustDomain {
    type Err = ParseIdError;

    fn from_str(name: &str) -> Result<Self, ParseIdError> {
        if name.is_empty() || Self::MAX_LEN < name.len() {
            return Err(ParseIdError::TrustDomainLength(name.len()));
        }
        match name.bytes().position(|b| !is_domain_byte(b)) {
            Some(at) => Err(ParseIdError::TrustDomainByte { at }),
            None => Ok(Self(name.into())),
        }
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = ParseIdError;

    fn try_from(name: String) -> Result<Self, ParseIdError> {
        name.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(name: TrustDomain) -> Self {
        name.0.into()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one workload, such as `spiffe://prod.example.org/db/writer`.
///
/// Invariant: `path` is empty, or a sequence of `/segment` in which no segment is empty, `.` or
/// `..` and each is made of `A-Z a-z 0-9 . - _` (SPIFFE-ID §2.2); at most [`Self::MAX_LEN`] bytes.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Box<str>,
}

impl SpiffeId {
    /// The longest identity accepted, in bytes (SPIFFE-ID §2.3).
    pub const MAX_LEN: usize = 2_048;

    const SCHEME: &str = "spiffe://";

    /// The identity `path` in `trust_domain`; an empty path names the trust domain itself.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] if `path` is malformed or the whole is too long.
    pub fn new(trust_domain: TrustDomain, path: &str) -> Result<Self, ParseIdError> {
        let length =
            Self::SCHEME.len().saturating_add(trust_domain.0.len()).saturating_add(path.len());
        if Self::MAX_LEN < length {
            return Err(ParseIdError::Length(length));
        }
        let mut segments = path.split('/');
        // Whatever stands before the first slash must be nothing.
        if segments.next() != Some("") || !segments.all(is_segment) {
            return Err(ParseIdError::Path);
        }
        Ok(Self { trust_domain, path: path.into() })
    }

    /// The trust domain this identity belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path, with its leading slash; empty for the trust domain itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this names the trust domain and no workload in it.
    #[must_use]
    pub fn is_trust_domain(&self) -> bool {
        self.path.is_empty()
    }

    /// Whether the path is reserved for the broker itself: `/spire` and everything below it. SPIRE
    /// reserves the same, and its tools expect the agents' names there.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.path.split('/').nth(1) == Some("spire")
    }
}

impl FromStr for SpiffeId {
    type Err = ParseIdError;

    fn from_str(uri: &str) -> Result<Self, ParseIdError> {
        if Self::MAX_LEN < uri.len() {
            return Err(ParseIdError::Length(uri.len()));
        }
        let rest = uri.strip_prefix(Self::SCHEME).ok_or(ParseIdError::Scheme)?;
        let (trust_domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        Self::new(trust_domain.parse()?, path)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = ParseIdError;

    fn try_from(uri: String) -> Result<Self, ParseIdError> {
        uri.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", Self::SCHEME, self.trust_domain, self.path)
    }
}

fn is_domain_byte(b: u8) -> bool {
    matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Why a string is not an identity.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseIdError {
    /// The URI does not start with `spiffe://`.
    #[error("a SPIFFE ID starts with `spiffe://` in lower case")]
    Scheme,
    /// The URI is too long.
    #[error("a SPIFFE ID has at most {max} bytes, not {0}", max = SpiffeId::MAX_LEN)]
    Length(usize),
    /// The trust domain is empty or too long.
    #[error("a trust domain has 1 to {max} bytes, not {0}", max = TrustDomain::MAX_LEN)]
    TrustDomainLength(usize),
    /// The trust domain holds a byte outside its alphabet.
    #[error("byte {at} of the trust domain is not one of `a-z 0-9 . - _`")]
    TrustDomainByte {
        /// Offset of the first such byte.
        at: usize,
    },
    /// A path segment is empty, relative, or outside its alphabet.
    #[error(
        "a path is empty or `/segment`s that are not empty, `.` or `..`, of `A-Z a-z 0-9 . - _`"
    )]
    Path,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(uri: &str, want: Result<&str, ParseIdError>) {
        let got = uri.parse::<SpiffeId>().map(|id| id.path().to_owned());
        assert_eq!(got, want.map(str::to_owned), "{uri}");
    }

    #[test]
    fn accepts_what_the_standard_accepts() {
        check("spiffe://example.org", Ok(""));
        check("spiffe://example.org/db/Writer_1", Ok("/db/Writer_1"));
        check("spiffe://10.0.0.1/a", Ok("/a"));
        check("spiffe://a_b-c.d/...", Ok("/..."));
    }

    #[test]
    fn refuses_a_second_spelling() {
        check("SPIFFE://example.org/db", Err(ParseIdError::Scheme));
        check("spiffe://Example.org/db", Err(ParseIdError::TrustDomainByte { at: 0 }));
        check("spiffe://example.org/", Err(ParseIdError::Path));
        check("spiffe://example.org/a//b", Err(ParseIdError::Path));
        check("spiffe://example.org/a/", Err(ParseIdError::Path));
        check("spiffe://example.org/a/../b", Err(ParseIdError::Path));
        check("spiffe://example.org/a/./b", Err(ParseIdError::Path));
        check("spiffe://example.org/%61", Err(ParseIdError::Path));
    }

    #[test]
    fn refuses_what_is_no_part_of_an_identity() {
        check("https://example.org/db", Err(ParseIdError::Scheme));
        check("spiffe:///db", Err(ParseIdError::TrustDomainLength(0)));
        check("spiffe://user@example.org", Err(ParseIdError::TrustDomainByte { at: 4 }));
        check("spiffe://example.org:80/a", Err(ParseIdError::TrustDomainByte { at: 11 }));
        check("spiffe://[::1]/a", Err(ParseIdError::TrustDomainByte { at: 0 }));
        check("spiffe://example.org?q", Err(ParseIdError::TrustDomainByte { at: 11 }));
        check("spiffe://example.org/a?q", Err(ParseIdError::Path));
        check("spiffe://example.org/a#f", Err(ParseIdError::Path));
        check("spiffe://example.org/ü", Err(ParseIdError::Path));
    }

    #[test]
    fn length_is_bounded() {
        let domain = "d".repeat(255);
        check(&format!("spiffe://{domain}"), Ok(""));
        check(&format!("spiffe://{domain}d"), Err(ParseIdError::TrustDomainLength(256)));
        let path = format!("/{}", "p".repeat(2_048 - 9 - 1 - 1));
        check(&format!("spiffe://d{path}"), Ok(&path));
        check(&format!("spiffe://d{path}p"), Err(ParseIdError::Length(2_049)));
    }

    #[test]
    fn a_path_is_joined_only_if_it_is_one() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert_eq!(domain.join("/a").unwrap().to_string(), "spiffe://example.org/a");
        assert_eq!(domain.join("").unwrap(), domain.id());
        assert_eq!(domain.join("a"), Err(ParseIdError::Path));
    }

    #[test]
    fn the_brokers_own_names_are_reserved() {
        let reserved = |uri: &str| uri.parse::<SpiffeId>().unwrap().is_reserved();
        assert!(reserved("spiffe://example.org/spire/agent/x"));
        assert!(reserved("spiffe://example.org/spire"));
        assert!(!reserved("spiffe://example.org/spireless"));
        assert!(!reserved("spiffe://example.org/a/spire"));
    }

    proptest! {
        #[test]
        fn printing_undoes_parsing(uri in "spiffe://[a-z.]{1,9}(/[a-zA-Z.]{1,5}){0,3}") {
            if let Ok(id) = uri.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), uri);
            }
        }

        #[test]
        fn parsing_never_panics(uri in "\\PC*") {
            drop(uri.parse::<SpiffeId>());
            drop(format!("spiffe://{uri}").parse::<SpiffeId>());
        }
    }
}
