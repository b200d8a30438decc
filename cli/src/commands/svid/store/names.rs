//! What the files are called.

use std::str::FromStr;

/// How the files of identity N are called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names<'a> {
    /// As SPIRE's `api fetch` calls them: `svid.N.pem`, `svid.N.key`, `bundle.N.pem`,
    /// `federated_bundle.N.M.pem`.
    Spire,
    /// After one name, for one identity.
    Given(&'a Name),
}

impl Names<'_> {
    pub(super) fn chain(self, n: usize) -> String {
        format!("{}.pem", self.svid(n))
    }

    pub(super) fn key(self, n: usize) -> String {
        format!("{}.key", self.svid(n))
    }

    pub(super) fn combined(self, n: usize) -> String {
        format!("{}.combined.pem", self.svid(n))
    }

    pub(super) fn bundle(self, n: usize) -> String {
        match self {
            Self::Spire => format!("bundle.{n}.pem"),
            Self::Given(Name(name)) => format!("{name}.bundle.pem"),
        }
    }

    /// The bundle of the trust domain M, in alphabetical order.
    pub(super) fn federated(self, n: usize, m: usize) -> String {
        match self {
            Self::Spire => format!("federated_bundle.{n}.{m}.pem"),
            Self::Given(Name(name)) => format!("{name}.federated.{m}.pem"),
        }
    }

    /// All files of an identity, except those of federated trust domains.
    pub(super) fn of(self, n: usize) -> [String; 4] {
        [self.chain(n), self.key(n), self.combined(n), self.bundle(n)]
    }

    fn svid(self, n: usize) -> String {
        match self {
            Self::Spire => format!("svid.{n}"),
            Self::Given(Name(name)) => name.clone(),
        }
    }
}

/// The beginning of files' names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name(String);

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        const LONGEST: usize = 128;

        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > LONGEST {
            return Err(ParseNameError::Length);
        }
        if text.starts_with(['.', '-']) || !text.chars().all(fine) {
            return Err(ParseNameError::Characters);
        }
        Ok(Self(text.into()))
    }
}

/// Why a text begins no file's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ParseNameError {
    #[error("a name has 1 to 128 characters")]
    Length,
    #[error("a name has letters, digits, `.`, `_` and `-`, and begins with neither `.` nor `-`")]
    Characters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_directory() {
        assert_eq!("web-1.example".parse(), Ok(Name("web-1.example".into())));
        for refused in ["../web", "a/b", ".web", "-web", "we b", "wéb"] {
            assert_eq!(refused.parse::<Name>(), Err(ParseNameError::Characters), "{refused}");
        }
        assert_eq!("".parse::<Name>(), Err(ParseNameError::Length));
        assert_eq!("x".repeat(129).parse::<Name>(), Err(ParseNameError::Length));
    }
}
