//! Series: keys of which those of one epoch void those of the epochs before, such as the epochs of a
//! training run.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Purpose, is_word};

/// The name of a series, between one client and one server for one purpose.
///
/// Invariant: 1 to [`Self::MAX_LEN`] characters of `A-Z a-z 0-9 . _ : / -`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Series(Box<str>);

impl Series {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = Purpose::MAX_LEN;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Series {
    type Err = ParseSeriesError;

    fn from_str(text: &str) -> Result<Self, ParseSeriesError> {
        if is_word(text) { Ok(Self(text.into())) } else { Err(ParseSeriesError) }
    }
}

impl TryFrom<String> for Series {
    type Error = ParseSeriesError;

    fn try_from(text: String) -> Result<Self, ParseSeriesError> {
        text.parse()
    }
}

impl From<Series> for String {
    fn from(series: Series) -> Self {
        series.0.into()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string is not the name of a series.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a series has 1 to {max} characters of `A-Z a-z 0-9 . _ : / -`", max = Series::MAX_LEN)]
pub struct ParseSeriesError;

/// One epoch of a series. The first key of a later one voids what is unspent of it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct SeriesEpoch {
    /// Which series.
    pub name: Series,
    /// Which of its epochs; later ones have higher numbers.
    pub epoch: NonZeroU64,
}

impl SeriesEpoch {
    /// Reads the two fields that messages have for it: an empty name and epoch 0 are no series at all.
    ///
    /// # Errors
    ///
    /// [`ParseSeriesEpochError`] says which of the two is wrong.
    pub fn from_wire(name: &str, epoch: u64) -> Result<Option<Self>, ParseSeriesEpochError> {
        match (name, NonZeroU64::new(epoch)) {
            ("", None) => Ok(None),
            ("", Some(_)) => Err(ParseSeriesEpochError::NoSeries),
            (_, None) => Err(ParseSeriesEpochError::NoEpoch),
            (name, Some(epoch)) => Ok(Some(Self { name: name.parse()?, epoch })),
        }
    }

    /// What [`Self::from_wire`] reads.
    #[must_use]
    pub fn to_wire(this: Option<&Self>) -> (String, u64) {
        this.map(|this| (this.name.to_string(), this.epoch.get())).unwrap_or_default()
    }
}

impl fmt::Display for SeriesEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of `{}`", self.epoch, self.name)
    }
}

/// Two fields name no epoch of a series.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseSeriesEpochError {
    /// The name is none.
    #[error(transparent)]
    Series(#[from] ParseSeriesError),
    /// There is an epoch, and no series.
    #[error("an epoch is that of a series; name it")]
    NoSeries,
    /// There is a series, and no epoch.
    #[error("a series begins with epoch 1")]
    NoEpoch,
}

impl ParseSeriesEpochError {
    /// Which of the two fields is wrong.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Series(_) | Self::NoSeries => "series",
            Self::NoEpoch => "epoch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_that_of_a_series() {
        let read = SeriesEpoch::from_wire;
        assert_eq!(read("", 0), Ok(None));
        let third = read("train/run-7", 3).unwrap().unwrap();
        assert_eq!((third.name.as_str(), third.epoch.get()), ("train/run-7", 3));
        assert_eq!(SeriesEpoch::to_wire(Some(&third)), ("train/run-7".to_owned(), 3));
        assert_eq!(SeriesEpoch::to_wire(None), (String::new(), 0));
        assert_eq!(read("", 1), Err(ParseSeriesEpochError::NoSeries));
        assert_eq!(read("a", 0), Err(ParseSeriesEpochError::NoEpoch));
        for bad in ["a b", "ü", &"x".repeat(129)] {
            assert_eq!(read(bad, 1), Err(ParseSeriesEpochError::Series(ParseSeriesError)), "{bad}");
        }
    }
}
