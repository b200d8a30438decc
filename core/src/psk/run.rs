//! The run of a program that a key is for, such as one attempt of a CI job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of one run: who runs it, which run it is, and which attempt, such as `github:8412:1`.
/// Whoever verified the evidence gives the name; nothing in it is read again.
///
/// Invariant: 1 to [`Self::MAX_LEN`] printable ASCII characters other than the space.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Run(Box<str>);

impl Run {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Run {
    type Err = ParseRunError;

    fn from_str(text: &str) -> Result<Self, ParseRunError> {
        let sound =
            (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(Self(text.into())) } else { Err(ParseRunError) }
    }
}

impl TryFrom<String> for Run {
    type Error = ParseRunError;

    fn try_from(text: String) -> Result<Self, ParseRunError> {
        text.parse()
    }
}

impl From<Run> for String {
    fn from(run: Run) -> Self {
        run.0.into()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string is not the name of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a run has 1 to {max} printable ASCII characters and no space", max = Run::MAX_LEN)]
pub struct ParseRunError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_one_printable_word() {
        assert_eq!("github:8412:1".parse::<Run>().unwrap().as_str(), "github:8412:1");
        for bad in ["", "a b", "a\n", "ü", &"x".repeat(256)] {
            assert_eq!(bad.parse::<Run>(), Err(ParseRunError), "{bad}");
        }
    }
}
