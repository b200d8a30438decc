//! Files in TOML that stand beside the policies: reading them, and saying where they are wrong.

use std::fmt;
use std::ops::{Deref, Range};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::load::{LoadError, line_of};
use crate::source::Source;

/// An empty list that stands nowhere.
pub(crate) fn nothing<T>() -> Spanned<Vec<T>> {
    Spanned::new(0..0, Vec::new())
}

/// A file, for whoever has to say where it is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TomlFile<'a> {
    /// Its name, without its folder.
    pub(crate) name: &'a str,
    /// All of it.
    pub(crate) text: &'a str,
}

impl<'a> TomlFile<'a> {
    /// The file `name` of `source` and what it holds, if there is one.
    pub(crate) fn read<T: DeserializeOwned>(
        source: &'a Source,
        name: &'a str,
    ) -> Result<Option<(Self, T)>, LoadError> {
        let Some(text) = source.file(name) else { return Ok(None) };
        let file = Self { name, text };
        Ok(Some((file, file.parse()?)))
    }

    /// What the file holds.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, LoadError> {
        toml::from_str(self.text).map_err(|error| {
            let line = error.span().map(|span| line_of(self.text, span.start));
            LoadError::new(self.name, line, error.message().to_owned())
        })
    }

    /// It is wrong there, for this reason.
    pub(crate) fn wrong(&self, at: Range<usize>, reason: String) -> LoadError {
        LoadError::new(self.name, Some(line_of(self.text, at.start)), reason)
    }

    /// Refuses a list that is too long.
    pub(crate) fn at_most(
        &self,
        at: Range<usize>,
        size: usize,
        most: usize,
        what: &str,
    ) -> Result<(), LoadError> {
        if size <= most {
            return Ok(());
        }
        Err(self.wrong(at, format!("{size} {what}; at most {most} are allowed")))
    }
}

/// A name or a value: 1 to [`Self::MAX_LEN`] bytes without control characters.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub(crate) struct Text(String);

impl Text {
    /// The longest, in bytes.
    pub(crate) const MAX_LEN: usize = 256;
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !(1..=Self::MAX_LEN).contains(&text.len()) || text.chars().any(char::is_control) {
            let most = Self::MAX_LEN;
            return Err(format!("a name has 1 to {most} bytes without control characters"));
        }
        Ok(Self(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
