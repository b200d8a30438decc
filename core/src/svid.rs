//! What SVIDs contain, as data, and when they and their authorities are renewed.
//!
//! | to find | look in |
//! |---|---|
//! | the profiles, lifetimes, and what is in an X.509-SVID | here |
//! | JWT-SVIDs: contents and validation | [`jwt`] |
//! | WIT-SVIDs: contents and validation | [`wit`] |

pub mod jwt;
pub mod wit;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::SpiffeId;
use crate::time::UnixTime;

/// What an SVID is made of, and so what its authorities are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A certificate (X509-SVID).
    #[default]
    X509,
    /// A token for an audience (JWT-SVID).
    Jwt,
    /// A token that is bound to a key (WIT-SVID).
    Wit,
}

impl Profile {
    /// The name in records, files and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
            Self::Wit => "wit",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The serial number of a certificate: 126 random bits, so that nobody can guess it; positive, and always
/// 16 bytes long, so that it has one spelling (RFC 5280 §4.1.2.2).
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct SerialNumber(#[serde(with = "hex::serde")] [u8; 16]);

impl SerialNumber {
    /// The number that `random` makes.
    #[must_use]
    pub const fn from_random(random: [u8; 16]) -> Self {
        let mut bytes = random;
        let [first, ..] = &mut bytes;
        *first = (*first & 0x3f) | 0x40;
        Self(bytes)
    }

    /// The content of the DER integer.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

/// A DNS name in a certificate: lower-case labels of letters, digits and inner hyphens, at most 253
/// bytes; the first label may be `*` (RFC 5280 §4.2.1.6, RFC 6125 §6.4.3).
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(Box<str>);

impl DnsName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = ParseDnsNameError;

    fn from_str(text: &str) -> Result<Self, ParseDnsNameError> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let labels = text.strip_prefix("*.").unwrap_or(text);
        if text.len() <= 253 && labels.split('.').all(is_label) {
            Ok(Self(text.into()))
        } else {
            Err(ParseDnsNameError)
        }
    }
}

impl TryFrom<String> for DnsName {
    type Error = ParseDnsNameError;

    fn try_from(text: String) -> Result<Self, ParseDnsNameError> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string is not a DNS name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a DNS name has at most 253 bytes: lower-case labels of letters, digits and inner hyphens")]
pub struct ParseDnsNameError;

/// How long an SVID lasts: five seconds to thirty days.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SvidTtl(u32);

impl SvidTtl {
    /// The bounds, in seconds.
    pub const SECS: std::ops::RangeInclusive<u32> = 5..=2_592_000;
    /// One hour, the default of X.509-SVIDs and WIT-SVIDs.
    pub const HOUR: Self = Self(3_600);
    /// Five minutes, the default of JWT-SVIDs.
    pub const FIVE_MINUTES: Self = Self(300);

    /// The lifetime.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// The lifetime in seconds.
    #[must_use]
    pub const fn as_secs(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for SvidTtl {
    type Error = SvidTtlError;

    fn try_from(secs: u32) -> Result<Self, SvidTtlError> {
        if Self::SECS.contains(&secs) { Ok(Self(secs)) } else { Err(SvidTtlError(secs)) }
    }
}

impl From<SvidTtl> for u32 {
    fn from(ttl: SvidTtl) -> Self {
        ttl.0
    }
}

/// A lifetime that no SVID should have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an SVID lasts {min} to {max} seconds, not {0}", min = SvidTtl::SECS.start(), max = SvidTtl::SECS.end())]
pub struct SvidTtlError(u32);

/// From when until when a certificate is valid; both ends included (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Validity {
    /// The first valid second.
    pub not_before: UnixTime,
    /// The last valid second.
    pub not_after: UnixTime,
}

impl Validity {
    /// How far back validity starts, for verifiers whose clock is behind.
    pub const CUSHION: Duration = Duration::from_secs(10);

    /// The validity of an SVID issued at `now` for `ttl` by an authority that ends at
    /// `authority_end`: it never outlives its authority.
    #[must_use]
    pub fn of_svid(now: UnixTime, ttl: SvidTtl, authority_end: UnixTime) -> Self {
        let not_after = now.after(ttl.duration()).min(authority_end);
        Self { not_before: now.before(Self::CUSHION), not_after }
    }

    /// The validity of an authority made at `now` for `ttl`.
    #[must_use]
    pub fn of_authority(now: UnixTime, ttl: Duration) -> Self {
        Self { not_before: now.before(Self::CUSHION), not_after: now.after(ttl).min(UnixTime::MAX) }
    }

    /// Whether `now` lies inside.
    #[must_use]
    pub fn contains(&self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// When the holder should ask for a new one: at half life, or up to a tenth of the life before, so that
    /// whoever renews in time never has less than half left. `jitter` is random, so that a fleet started
    /// together does not renew together.
    ///
    /// The cushion does not count as life: of a life of ten seconds it would be half, and the
    /// holder would renew without a pause.
    #[must_use]
    pub fn renew_at(&self, jitter: u16) -> UnixTime {
        let (issued, life) = (self.issued(), self.life());
        let earliest = life.saturating_mul(4).checked_div(10).unwrap_or_default();
        let spread = life.checked_div(10).unwrap_or_default();
        let moved =
            spread.saturating_mul(jitter.into()).checked_div(u16::MAX.into()).unwrap_or_default();
        issued.after(earliest.saturating_add(moved))
    }

    /// How long it lasts from when it was issued.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.not_after.since(self.issued())
    }

    /// When it was issued.
    #[must_use]
    pub fn issued(&self) -> UnixTime {
        self.not_before.after(Self::CUSHION).min(self.not_after)
    }

    /// When the successor of an authority is made and published: at half life, but no earlier than
    /// thirty days before the end.
    #[must_use]
    pub fn prepare_at(&self) -> UnixTime {
        self.before_end(2, Duration::from_secs(30 * 86_400))
    }

    /// When the successor of an authority starts to sign: when a sixth of the life is left, but no
    /// earlier than seven days before the end.
    #[must_use]
    pub fn activate_at(&self) -> UnixTime {
        self.before_end(6, Duration::from_secs(7 * 86_400))
    }

    fn before_end(&self, fraction: u32, cap: Duration) -> UnixTime {
        let life = self.not_after.since(self.not_before);
        self.not_after.before(life.checked_div(fraction).unwrap_or_default().min(cap))
    }
}

/// What the signer is allowed to put into one X.509-SVID (X509-SVID §2–4).
///
/// Everything else about the certificate is the same for all: critical basic constraints with
/// `cA: false`, critical key usage `digitalSignature`, extended key usage for both TLS roles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509SvidContents {
    /// The only URI in the subject alternative name.
    pub subject: SpiffeId,
    /// Further names; the first is also the common name.
    pub dns_names: Vec<DnsName>,
    /// How long it is asked to last; the signer shortens it to the authority's end.
    pub ttl: SvidTtl,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn an_svid_never_outlives_its_authority() {
        let now = UnixTime::from_secs(1_000);
        let validity = Validity::of_svid(now, SvidTtl::HOUR, UnixTime::from_secs(1_500));
        assert_eq!(validity.not_after, UnixTime::from_secs(1_500));
        assert_eq!(validity.not_before, UnixTime::from_secs(990));
    }

    #[test]
    fn an_authority_is_succeeded_at_half_life_and_replaced_at_a_sixth() {
        let at = UnixTime::from_secs;
        let day = Validity { not_before: at(0), not_after: at(DAY) };
        assert_eq!(day.prepare_at(), at(DAY / 2));
        assert_eq!(day.activate_at(), at(DAY - DAY / 6));
        let decade = Validity { not_before: at(0), not_after: at(3_650 * DAY) };
        assert_eq!(decade.prepare_at(), at(3_620 * DAY));
        assert_eq!(decade.activate_at(), at(3_643 * DAY));
    }

    #[test]
    fn serial_numbers_are_positive_and_of_one_length() {
        for random in [[0; 16], [0xff; 16]] {
            let [first, rest @ ..] = *SerialNumber::from_random(random).as_bytes();
            assert!((0x40..0x80).contains(&first) && rest == random[1..], "{random:?}");
        }
    }

    #[test]
    fn profiles_are_written_by_their_names() {
        for profile in [Profile::X509, Profile::Jwt, Profile::Wit] {
            let json = serde_json::to_string(&profile).unwrap();
            assert_eq!(json, format!("\"{profile}\""));
        }
    }

    #[test]
    fn lifetimes_have_bounds() {
        SvidTtl::try_from(4).unwrap_err();
        SvidTtl::try_from(2_592_001).unwrap_err();
        assert_eq!(SvidTtl::try_from(3_600), Ok(SvidTtl::HOUR));
    }

    #[test]
    fn dns_names_have_one_spelling() {
        for good in ["db", "db.example.org", "*.example.org", "a-1.b"] {
            assert_eq!(good.parse::<DnsName>().unwrap().as_str(), good);
        }
        for bad in ["", "DB", "a..b", "-a", "a-", "a.*", "*", "a_b", "a.", &"a".repeat(64)] {
            bad.parse::<DnsName>().unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn renewal_lies_between_forty_and_fifty_percent(ttl in SvidTtl::SECS, jitter: u16) {
            let now = UnixTime::from_secs(1_000);
            let ttl = SvidTtl(ttl);
            let validity = Validity::of_svid(now, ttl, UnixTime::MAX);
            let waited = validity.renew_at(jitter).since(now).as_secs() * 10;
            let life = u64::from(ttl.as_secs());
            prop_assert!(life * 4 < waited + 10 && waited <= life * 5);
        }
    }
}
