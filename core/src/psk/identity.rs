//! What a ClientHello shows: `p1.` and 22 characters of base64url.
//!
//! The 16 bytes behind them are one AES-256 block under a key of the epoch: the minute in which
//! the PSK expires, and 96 random bits. An observer can neither read nor link them; the server
//! finds the record by its expiry-ordered key and turns garbage away without a look-up.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::time::UnixTime;

/// The name of a PSK on the wire. Not a secret: it travels in clear text.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct WireIdentity([u8; 16]);

impl WireIdentity {
    /// How every identity of version 1 begins. No resumption ticket looks like it (RFC 9257
    /// §6.1.2).
    pub const PREFIX: &str = "p1.";
    /// The length of every identity, in ASCII characters.
    pub const LEN: usize = 25;

    /// The identity with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes behind the name.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads an identity out of a ClientHello.
    ///
    /// # Errors
    ///
    /// [`ParseIdentityError`] unless `wire` is exactly one spelling of one identity.
    pub fn parse(wire: &[u8]) -> Result<Self, ParseIdentityError> {
        let text = wire.strip_prefix(Self::PREFIX.as_bytes()).ok_or(ParseIdentityError)?;
        if wire.len() != Self::LEN {
            return Err(ParseIdentityError);
        }
        let mut bytes = [0; 16];
        // Trailing bits that are not zero are a second spelling; this engine refuses them.
        let decoded = URL_SAFE_NO_PAD
            .decode_slice_unchecked(text, &mut bytes)
            .map_err(|_not_base64| ParseIdentityError)?;
        if decoded == bytes.len() { Ok(Self(bytes)) } else { Err(ParseIdentityError) }
    }
}

impl FromStr for WireIdentity {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, ParseIdentityError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for WireIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for WireIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireIdentity({self})")
    }
}

/// Bytes are not a PSK identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a PSK identity is `p1.` and 22 characters of base64url")]
pub struct ParseIdentityError;

/// The number of a PSK in its epoch, and its key in the ledger: records sort by expiry, so that
/// expired ones are dropped by range.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Serial {
    /// The minute since the Unix epoch by whose end the PSK has expired.
    minute: u32,
    /// What tells it from its neighbours.
    random: [u8; 12],
}

impl Serial {
    /// A serial for a PSK that expires at `not_after`.
    #[must_use]
    pub fn new(not_after: UnixTime, random: [u8; 12]) -> Self {
        Self { minute: minute_of(not_after), random }
    }

    /// The serial as a ledger key: the minute in big-endian order, then the random part.
    #[must_use]
    pub fn to_key(self) -> [u8; 16] {
        let mut key = [0; 16];
        let (minute, random) = key.split_at_mut(4);
        minute.copy_from_slice(&self.minute.to_be_bytes());
        random.copy_from_slice(&self.random);
        key
    }

    /// The serial with this ledger key.
    #[must_use]
    pub fn from_key(key: [u8; 16]) -> Self {
        let [a, b, c, d, random @ ..] = key;
        Self { minute: u32::from_be_bytes([a, b, c, d]), random }
    }

    /// Whether a PSK with this serial can be alive at `now`: it has not expired, and it does not
    /// expire later than any PSK may. Nearly every forged identity fails here.
    #[must_use]
    pub fn plausible(self, now: UnixTime) -> bool {
        let longest = std::time::Duration::from_secs((*super::PskTtl::SECS.end()).into());
        (minute_of(now)..=minute_of(now.after(longest))).contains(&self.minute)
    }

    /// The first ledger key that has not expired at `now`: all below may be dropped.
    #[must_use]
    pub fn first_alive(now: UnixTime) -> [u8; 16] {
        Self { minute: minute_of(now), random: [0; 12] }.to_key()
    }
}

/// The minute in which `time` lies. A `u32` of minutes lasts until the year 10136.
fn minute_of(time: UnixTime) -> u32 {
    u32::try_from(time.as_secs() / 60).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identity_has_one_spelling() {
        let identity = WireIdentity::from_bytes([0xff; 16]);
        assert_eq!(identity.to_string(), "p1._____________________w");
        assert_eq!(identity.to_string().len(), WireIdentity::LEN);
        for bad in [
            "p1._____________________x", // the same bytes, other trailing bits
            "p1._____________________w=",
            "p1.____________________w",
            "p2._____________________w",
            "p1./////////////////////w",
            "",
            "p1.",
        ] {
            assert_eq!(bad.parse::<WireIdentity>(), Err(ParseIdentityError), "{bad}");
        }
    }

    #[test]
    fn a_serial_is_plausible_only_near_its_expiry() {
        let expiry = UnixTime::from_secs(600_030);
        let serial = Serial::new(expiry, [7; 12]);
        assert!(serial.plausible(expiry));
        assert!(serial.plausible(UnixTime::from_secs(600_000 - 300)));
        assert!(!serial.plausible(UnixTime::from_secs(600_000 - 361)));
        assert!(!serial.plausible(UnixTime::from_secs(600_060)));
    }

    #[test]
    fn serials_sort_by_expiry() {
        let early = Serial::new(UnixTime::from_secs(60), [255; 12]).to_key();
        let late = Serial::new(UnixTime::from_secs(120), [0; 12]).to_key();
        assert!(early < late);
        assert!(early < Serial::first_alive(UnixTime::from_secs(120)));
        assert!(late >= Serial::first_alive(UnixTime::from_secs(120)));
        assert_eq!(Serial::from_key(early).to_key(), early);
    }

    proptest! {
        #[test]
        fn printing_undoes_parsing(bytes: [u8; 16]) {
            let identity = WireIdentity::from_bytes(bytes);
            prop_assert_eq!(identity.to_string().parse(), Ok(identity));
        }

        #[test]
        fn whatever_parses_prints_the_same(text in "p1\\.[A-Za-z0-9_-]{21,23}") {
            if let Ok(identity) = text.parse::<WireIdentity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }
    }
}
