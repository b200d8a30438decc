//! Invariants: what must hold of the policies whatever else changes, in `invariants.toml` beside them.
//!
//! ```toml
//! [[invariant]]
//! name = "nobody both builds and promotes"
//! never-both = { targets = ["spiffe://example.org/ci/build", "spiffe://example.org/ci/promote"] }
//! ```

mod check;
mod selector;
#[cfg(test)]
mod tests;

use claviger_core::psk::Purpose;
use serde::Deserialize;
use toml::Spanned;

use self::check::Check;
pub use self::selector::Selector;
use crate::load::{LoadError, line_of};
use crate::reach::{Path, Reach};
use crate::set::PolicySet;
use crate::toml_file::TomlFile;

/// The file they stand in.
pub const FILE: &str = "invariants.toml";

/// Something that must hold.
#[derive(Clone, Debug)]
pub struct Invariant {
    /// What it is called.
    pub name: String,
    /// The line it begins on.
    pub line: usize,
    /// What must hold.
    pub rule: Rule,
}

/// What must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Nobody of these reaches any of those, for this purpose or, if none is named, for any.
    Never(Between),
    /// No identity reaches more than one of these.
    NeverBoth(Targets),
    /// Nobody but these reaches any of those.
    Only(Between),
    /// Each of these reaches each of those, for this purpose.
    Always(Between),
    /// Each of these reaches so many services and tools at most.
    AtMost(Limit),
}

/// From whom to whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// From whom.
    pub from: Selector,
    /// To whom.
    pub to: Selector,
    /// For which purpose; for any, if none is named.
    pub purpose: Option<Purpose>,
}

/// What one identity must not reach together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Two or more.
    pub targets: Vec<Selector>,
}

/// How many services may be reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// By whom.
    pub from: Selector,
    /// How many.
    pub services: usize,
}

/// An invariant that does not hold, and what shows it.
#[derive(Clone, Debug)]
pub struct Broken<'a> {
    /// Which.
    pub invariant: &'a Invariant,
    /// In a sentence, what is not as it must be.
    pub what: String,
    /// The paths that show it; none if one is missing.
    pub paths: Vec<&'a Path>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "invariant")]
    invariants: Vec<Spanned<Written>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: String,
    never: Option<Between>,
    never_both: Option<Targets>,
    only: Option<Between>,
    always: Option<Between>,
    at_most: Option<Limit>,
}

impl Written {
    fn rule(self) -> Result<(String, Rule), &'static str> {
        let rules = [
            self.never.map(Rule::Never),
            self.never_both.map(Rule::NeverBoth),
            self.only.map(Rule::Only),
            self.always.map(Rule::Always),
            self.at_most.map(Rule::AtMost),
        ];
        let mut rules = rules.into_iter().flatten();
        match (rules.next(), rules.next()) {
            (Some(Rule::NeverBoth(Targets { targets })), None) if targets.len() < 2 => {
                Err("`never-both` needs two targets at least")
            }
            (Some(rule), None) => Ok((self.name, rule)),
            _ => {
                Err("each invariant says one of `never`, `never-both`, `only`, `always`, `at-most`")
            }
        }
    }
}

/// The invariants beside the policies of `set`.
///
/// # Errors
///
/// [`LoadError`] names the line and what is wrong.
pub fn read(set: &PolicySet) -> Result<Vec<Invariant>, LoadError> {
    let Some((file, document)) = TomlFile::read::<Document>(set.source(), FILE)? else {
        return Ok(Vec::new());
    };
    let invariant = |written: Spanned<Written>| {
        let line = line_of(file.text, written.span().start);
        let wrong = |reason: &str| LoadError::new(FILE, Some(line), reason.to_owned());
        let (name, rule) = written.into_inner().rule().map_err(wrong)?;
        Ok(Invariant { name, line, rule })
    };
    document.invariants.into_iter().map(invariant).collect()
}

/// Those of `invariants` that do not hold.
///
/// # Errors
///
/// [`LoadError`] if one of them speaks of somebody who is not there: it would hold whatever the
/// policies say.
pub fn check<'a>(
    set: &PolicySet,
    invariants: &'a [Invariant],
    reach: &'a Reach,
) -> Result<Vec<Broken<'a>>, LoadError> {
    let mut broken = Vec::new();
    for invariant in invariants {
        let check = Check { set, invariant, reach };
        broken.extend(check.run()?);
    }
    Ok(broken)
}
