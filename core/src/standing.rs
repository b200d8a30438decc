//! How an identity stands: how much it is risked by talking to it, and whether it is in quarantine.
//!
//! An identity of which nothing was said is of no risk and in no quarantine. The server keeps what was
//! said, and every agent has it within moments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::UnixTime;

/// How likely it is that an identity is not in the hands it should be in, in percent: 0 of which
/// nothing is known, 100 of one that is certainly lost.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Risk(u8);

impl Risk {
    /// Of which nothing is known.
    pub const NONE: Self = Self(0);
    /// Certainly lost.
    pub const MAX: Self = Self(100);

    /// In percent.
    #[must_use]
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// What is left of `most` at this risk, rounded down: all of it at none, nothing at the most.
    #[must_use]
    pub fn shrink(self, most: u32) -> u32 {
        let left = u64::from(Self::MAX.0.saturating_sub(self.0));
        let shrunk = u64::from(most).saturating_mul(left).div_euclid(100);
        u32::try_from(shrunk).unwrap_or(most)
    }
}

impl TryFrom<u8> for Risk {
    type Error = ParseRiskError;

    fn try_from(percent: u8) -> Result<Self, ParseRiskError> {
        if percent <= Self::MAX.0 { Ok(Self(percent)) } else { Err(ParseRiskError) }
    }
}

impl From<Risk> for u8 {
    fn from(risk: Risk) -> Self {
        risk.0
    }
}

impl FromStr for Risk {
    type Err = ParseRiskError;

    fn from_str(text: &str) -> Result<Self, ParseRiskError> {
        text.parse::<u8>().map_err(|_no_number| ParseRiskError)?.try_into()
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number is not a risk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a risk is a whole number of percent, from 0 to 100")]
pub struct ParseRiskError;

/// How an identity stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// How much it is risked.
    pub risk: Risk,
    /// Whether it is in quarantine: nothing is issued to it, nothing it holds is believed, and its
    /// connections are closed.
    pub quarantined: bool,
    /// When this was last changed. What was attested of it before counts no more.
    pub changed_at: UnixTime,
    /// The number of the change by which it stands so: in the order of the server's, from 1. 0 of an
    /// identity of which nothing was ever said.
    pub version: u64,
}

/// Why an identity stands as it does, in a few words, for whoever reads the audit log.
///
/// Invariant: 1 to [`Self::MAX_LEN`] bytes on one line, without control characters.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(Box<str>);

impl Reason {
    /// The longest reason, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = ParseReasonError;

    fn from_str(text: &str) -> Result<Self, ParseReasonError> {
        let sound = text.len() <= Self::MAX_LEN
            && !text.trim().is_empty()
            && !text.contains(|c: char| c.is_control());
        if sound { Ok(Self(text.into())) } else { Err(ParseReasonError) }
    }
}

impl TryFrom<String> for Reason {
    type Error = ParseReasonError;

    fn try_from(text: String) -> Result<Self, ParseReasonError> {
        text.parse()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0.into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string is not a reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a reason is one line of 1 to {max} bytes", max = Reason::MAX_LEN)]
pub struct ParseReasonError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn risk_is_a_percentage() {
        assert_eq!("100".parse(), Ok(Risk::MAX));
        for bad in ["101", "-1", "", "1.5", "256"] {
            assert_eq!(bad.parse::<Risk>(), Err(ParseRiskError), "{bad}");
        }
        serde_json::from_str::<Risk>("101").unwrap_err();
    }

    #[test]
    fn reasons_are_short_lines() {
        "beacons to 203.0.113.7 (case 12)".parse::<Reason>().unwrap();
        for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(257)] {
            bad.parse::<Reason>().unwrap_err();
        }
    }

    #[test]
    fn a_limit_shrinks_with_risk() {
        let at = |percent: u8, most| Risk::try_from(percent).unwrap().shrink(most);
        assert_eq!(at(0, 60), 60);
        assert_eq!(at(50, 5), 2);
        assert_eq!(at(90, 60), 6);
        assert_eq!(at(100, u32::MAX), 0);
        assert_eq!(at(0, u32::MAX), u32::MAX);
    }
}
