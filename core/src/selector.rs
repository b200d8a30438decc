//! Facts about a process or a node, such as `unix:uid:1000`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One verified fact: its kind, which names the attestor, and a value in that attestor's terms.
///
/// Invariant: the kind is 1 to [`Self::MAX_KIND`] bytes of `a-z 0-9 _ -`; the value is 1 to
/// [`Self::MAX_VALUE`] bytes without control characters. Written `kind:value`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    kind: Box<str>,
    value: Box<str>,
}

/// A set of facts. An entry asks for some of them, an attestor reports all it found.
pub type Selectors = BTreeSet<Selector>;

impl Selector {
    /// The longest kind, in bytes.
    pub const MAX_KIND: usize = 64;
    /// The longest value, in bytes; room for a path of `PATH_MAX`.
    pub const MAX_VALUE: usize = 4_200;

    /// The selector `kind:value`.
    ///
    /// # Errors
    ///
    /// [`ParseSelectorError`] if either part is empty, too long or holds a forbidden character.
    pub fn new(kind: &str, value: &str) -> Result<Self, ParseSelectorError> {
        let kind_is_sound = (1..=Self::MAX_KIND).contains(&kind.len())
            && kind
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        if !kind_is_sound {
            return Err(ParseSelectorError::Kind(kind.chars().take(Self::MAX_KIND).collect()));
        }
        if !(1..=Self::MAX_VALUE).contains(&value.len()) {
            return Err(ParseSelectorError::ValueLength(value.len()));
        }
        if value.chars().any(char::is_control) {
            return Err(ParseSelectorError::ValueControl);
        }
        Ok(Self { kind: kind.into(), value: value.into() })
    }

    /// The attestor's name, such as `unix`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What the fact is about, such as `uid`: the value up to its first colon.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value.split_once(':').map_or(&self.value, |(name, _)| name)
    }

    /// The fact, such as `uid:1000`.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        let (kind, value) = text.split_once(':').ok_or(ParseSelectorError::Colon)?;
        Self::new(kind, value)
    }
}

impl TryFrom<String> for Selector {
    type Error = ParseSelectorError;

    fn try_from(text: String) -> Result<Self, ParseSelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Why a string is not a selector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseSelectorError {
    /// There is no colon.
    #[error("a selector is written `kind:value`, such as `unix:uid:1000`")]
    Colon,
    /// The kind is empty, too long or outside its alphabet.
    #[error("selector kind `{0}` is not 1 to {max} characters of `a-z 0-9 _ -`", max = Selector::MAX_KIND)]
    Kind(String),
    /// The value is empty or too long.
    #[error("a selector value has 1 to {max} bytes, not {0}", max = Selector::MAX_VALUE)]
    ValueLength(usize),
    /// The value holds a control character.
    #[error("a selector value holds no control characters")]
    ValueControl,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_colon_separates() {
        let selector: Selector = "unix:path:/usr/bin/x:y".parse().unwrap();
        assert_eq!((selector.kind(), selector.value()), ("unix", "path:/usr/bin/x:y"));
        assert_eq!(selector.to_string(), "unix:path:/usr/bin/x:y");
    }

    #[test]
    fn what_is_not_a_fact_is_refused() {
        assert_eq!("unix".parse::<Selector>(), Err(ParseSelectorError::Colon));
        assert_eq!("Unix:a".parse::<Selector>(), Err(ParseSelectorError::Kind("Unix".into())));
        assert_eq!("unix:".parse::<Selector>(), Err(ParseSelectorError::ValueLength(0)));
        assert_eq!("unix:a\nb".parse::<Selector>(), Err(ParseSelectorError::ValueControl));
        let long = format!("unix:{}", "x".repeat(4_201));
        assert_eq!(long.parse::<Selector>(), Err(ParseSelectorError::ValueLength(4_201)));
    }
}
