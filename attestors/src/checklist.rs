//! The rules that evidence has to keep, and which of them it keeps.
//!
//! A verifier goes through its rules in one function. In the server the first one that is broken ends
//! it; whoever wants to know all about a document goes on, and reads what became of each.

use std::borrow::Cow;
use std::fmt;

use crate::VerifyError;

/// A rule that evidence of some kind has to keep.
#[derive(Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its name, such as `aws_nitro.algorithm`: the kind, and what it is about.
    pub id: &'static str,
    /// What has to be so, as a sentence without a full stop.
    pub says: &'static str,
}

impl Rule {
    /// The rule `id`, by which it has to be so as `says` says.
    #[must_use]
    pub const fn new(id: &'static str, says: &'static str) -> Self {
        Self { id, says }
    }
}

/// What became of one rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is kept.
    Kept,
    /// It is broken, for this reason.
    Broken(Cow<'static, str>),
    /// It was not looked at, for this reason. Only where nobody is admitted.
    Open(Cow<'static, str>),
}

/// What became of each rule.
#[derive(Debug)]
pub struct Checklist {
    exhaustive: bool,
    checks: Vec<(&'static Rule, Outcome)>,
}

impl Checklist {
    /// For admission: ends at the first rule that is broken or can't be looked at.
    #[must_use]
    pub const fn strict() -> Self {
        Self { exhaustive: false, checks: Vec::new() }
    }

    /// For whoever wants to know all about a document: goes on. Nobody is to be admitted by it.
    #[must_use]
    pub const fn exhaustive() -> Self {
        Self { exhaustive: true, checks: Vec::new() }
    }

    /// Enters whether `rule` is kept, and if not, `why`.
    ///
    /// # Errors
    ///
    /// [`Broken`] if it is not, and this is for admission.
    pub fn require<W: Into<Cow<'static, str>>>(
        &mut self,
        rule: &'static Rule,
        kept: bool,
        why: impl FnOnce() -> W,
    ) -> Result<(), Broken> {
        let outcome = if kept { Outcome::Kept } else { Outcome::Broken(why().into()) };
        self.enter(rule, outcome)
    }

    /// Enters whether `rule` is kept: it is if there is a value, which is returned. There is none if
    /// the rule is broken and this is not for admission.
    ///
    /// # Errors
    ///
    /// [`Broken`] if it is not, and this is for admission.
    pub fn take<T, E: fmt::Display>(
        &mut self,
        rule: &'static Rule,
        found: Result<T, E>,
    ) -> Result<Option<T>, Broken> {
        match found {
            Ok(value) => self.enter(rule, Outcome::Kept).map(|()| Some(value)),
            Err(why) => self.enter(rule, Outcome::Broken(why.to_string().into())).map(|()| None),
        }
    }

    /// Enters that `rule` can't be looked at, and `why`.
    ///
    /// # Errors
    ///
    /// [`Broken`] if this is for admission: what was not looked at is not kept.
    pub fn leave_open(
        &mut self,
        rule: &'static Rule,
        why: impl Into<Cow<'static, str>>,
    ) -> Result<(), Broken> {
        self.enter(rule, Outcome::Open(why.into()))
    }

    fn enter(&mut self, rule: &'static Rule, outcome: Outcome) -> Result<(), Broken> {
        let broken = Broken::by(rule, &outcome).filter(|_| !self.exhaustive);
        self.checks.push((rule, outcome));
        broken.map_or(Ok(()), Err)
    }

    /// What became of each rule, in the order in which they were looked at.
    pub fn checks(&self) -> impl Iterator<Item = (&'static Rule, &Outcome)> {
        self.checks.iter().map(|(rule, outcome)| (*rule, outcome))
    }

    /// That every rule is kept.
    ///
    /// # Errors
    ///
    /// [`Broken`] for the first that is not, or was left open.
    pub fn kept(&self) -> Result<(), Broken> {
        let broken = self.checks.iter().find_map(|(rule, outcome)| Broken::by(rule, outcome));
        broken.map_or(Ok(()), Err)
    }
}

/// A rule is broken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {why}", rule.id)]
pub struct Broken {
    /// Which.
    pub rule: &'static Rule,
    /// Why.
    pub why: Cow<'static, str>,
}

impl Broken {
    fn by(rule: &'static Rule, outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Kept => None,
            Outcome::Broken(why) | Outcome::Open(why) => Some(Self { rule, why: why.clone() }),
        }
    }
}

impl From<Broken> for VerifyError {
    fn from(broken: Broken) -> Self {
        Self::not_genuine(broken.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FIRST: Rule = Rule::new("test.first", "it is first");
    static SECOND: Rule = Rule::new("test.second", "it is second");

    #[test]
    fn admission_ends_at_the_first_that_is_broken_or_open() {
        let mut checks = Checklist::strict();
        checks.require(&FIRST, true, || "").unwrap();
        assert_eq!(checks.take(&FIRST, Ok::<_, fmt::Error>(1)).unwrap(), Some(1));
        let broken = checks.require(&SECOND, false, || "it is third").unwrap_err();
        assert_eq!(broken.to_string(), "test.second: it is third");
        checks.leave_open(&FIRST, "no key").unwrap_err();
        checks.take(&FIRST, Err::<(), _>("no")).unwrap_err();
        checks.kept().unwrap_err();
    }

    #[test]
    fn whoever_wants_to_know_all_is_told_all_and_admits_nobody() {
        let mut checks = Checklist::exhaustive();
        checks.require(&FIRST, false, || "it is not").unwrap();
        assert_eq!(checks.take(&SECOND, Err::<(), _>("nor is it")).unwrap(), None);
        checks.leave_open(&SECOND, "nobody asked").unwrap();
        let outcomes: Vec<_> = checks.checks().map(|(rule, outcome)| (rule.id, outcome)).collect();
        assert_eq!(
            outcomes,
            [
                ("test.first", &Outcome::Broken("it is not".into())),
                ("test.second", &Outcome::Broken("nor is it".into())),
                ("test.second", &Outcome::Open("nobody asked".into())),
            ]
        );
        assert_eq!(checks.kept().unwrap_err().rule, &FIRST);
    }
}
