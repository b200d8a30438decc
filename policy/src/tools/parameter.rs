//! What a parameter of a tool may be.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use claviger_core::decision::Parameter;
use serde::Deserialize;
use toml::Spanned;

use crate::load::LoadError;
use crate::toml_file::TomlFile;

/// The longest text of a parameter that does not say `max-length`, in characters.
const MAX_LENGTH: usize = 4_096;

/// The most texts of a parameter that does not say `max-items`.
const MAX_ITEMS: usize = 256;

/// The most values of `one-of`.
const MAX_CHOICES: usize = 1_000;

/// The name of a parameter: 1 to [`Self::MAX_LEN`] characters of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct ParameterName(String);

impl ParameterName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ParameterName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let sound = (1..=Self::MAX_LEN).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if sound {
            return Ok(Self(name));
        }
        let most = Self::MAX_LEN;
        Err(format!("a parameter's name has 1 to {most} characters of `A-Z a-z 0-9 . _ -`"))
    }
}

impl Borrow<str> for ParameterName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of value a parameter has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
    /// Texts, of which neither order nor number counts.
    Texts,
}

impl Kind {
    /// The type in Cedar's words.
    pub(super) const fn in_cedar(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Number => "Long",
            Self::Flag => "Bool",
            Self::Texts => "Set<String>",
        }
    }

    /// As `tools.toml` writes it.
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Flag => "flag",
            Self::Texts => "texts",
        }
    }
}

/// What a parameter may be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// What kind of value.
    pub kind: Kind,
    /// Whether it may be left out.
    pub optional: bool,
    /// The least number.
    pub min: i64,
    /// The greatest number.
    pub max: i64,
    /// The longest text, in characters.
    pub max_length: usize,
    /// The only texts that there are; any if there are none here.
    pub one_of: BTreeSet<String>,
    /// The most texts.
    pub max_items: usize,
}

impl Limits {
    /// Whether `value` is within them; if not, what is wrong with the parameter.
    pub(super) fn check(&self, value: &Parameter) -> Result<(), String> {
        match (self.kind, value) {
            (Kind::Flag, Parameter::Flag(_)) => Ok(()),
            (Kind::Number, Parameter::Number(number)) => self.number(*number),
            (Kind::Text, Parameter::Text(text)) => self.text(text),
            (Kind::Texts, Parameter::Texts(texts)) => {
                if self.max_items < texts.len() {
                    return Err(format!("has more than {} texts", self.max_items));
                }
                texts.iter().try_for_each(|text| self.text(text))
            }
            (
                kind,
                Parameter::Flag(_)
                | Parameter::Number(_)
                | Parameter::Text(_)
                | Parameter::Texts(_),
            ) => Err(format!("is not of type `{}`", kind.name())),
        }
    }

    fn number(&self, number: i64) -> Result<(), String> {
        if number < self.min {
            return Err(format!("is less than {}", self.min));
        }
        if self.max < number {
            return Err(format!("is greater than {}", self.max));
        }
        Ok(())
    }

    fn text(&self, text: &str) -> Result<(), String> {
        // As many bytes as characters at least: most texts need not be counted.
        if self.max_length < text.len() && self.max_length < text.chars().count() {
            return Err(format!("is longer than {} characters", self.max_length));
        }
        if !self.one_of.is_empty() && !self.one_of.contains(text) {
            return Err("is none of the values that are allowed".to_owned());
        }
        Ok(())
    }
}

/// One `[tool.parameters.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    r#type: Spanned<Kind>,
    #[serde(default)]
    optional: bool,
    min: Option<Spanned<i64>>,
    max: Option<Spanned<i64>>,
    max_length: Option<Spanned<usize>>,
    one_of: Option<Spanned<Vec<String>>>,
    max_items: Option<Spanned<usize>>,
}

impl Written {
    pub(super) fn checked(self, file: TomlFile<'_>) -> Result<Limits, LoadError> {
        let Self { r#type: kind, optional, min, max, max_length, one_of, max_items } = self;
        let (at, kind) = (kind.span(), kind.into_inner());
        let texts = matches!(kind, Kind::Text | Kind::Texts);
        let misplaced: [(&str, Option<Range<usize>>, bool); 5] = [
            ("min", min.as_ref().map(Spanned::span), kind == Kind::Number),
            ("max", max.as_ref().map(Spanned::span), kind == Kind::Number),
            ("max-length", max_length.as_ref().map(Spanned::span), texts),
            ("one-of", one_of.as_ref().map(Spanned::span), texts),
            ("max-items", max_items.as_ref().map(Spanned::span), kind == Kind::Texts),
        ];
        for (limit, span, fits) in misplaced {
            if let (Some(span), false) = (span, fits) {
                let reason =
                    format!("`{limit}` is no limit for a parameter of type `{}`", kind.name());
                return Err(file.wrong(span, reason));
            }
        }
        if let Some(choices) = &one_of {
            file.at_most(choices.span(), choices.get_ref().len(), MAX_CHOICES, "values")?;
            if choices.get_ref().is_empty() {
                let reason = "`one-of` without values allows none; remove the parameter".to_owned();
                return Err(file.wrong(choices.span(), reason));
            }
        }
        let (min, max) =
            (min.map_or(i64::MIN, Spanned::into_inner), max.map_or(i64::MAX, Spanned::into_inner));
        if max < min {
            return Err(file.wrong(at, format!("no number is between {min} and {max}")));
        }
        Ok(Limits {
            kind,
            optional,
            min,
            max,
            max_length: max_length.map_or(MAX_LENGTH, Spanned::into_inner),
            one_of: one_of.map(Spanned::into_inner).unwrap_or_default().into_iter().collect(),
            max_items: max_items.map_or(MAX_ITEMS, Spanned::into_inner),
        })
    }
}
