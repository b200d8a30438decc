//! Invariants: what must hold of the policies whatever else changes, in `invariants.toml` beside them.
//!
//! ```toml
//! [[invariant]]
//! name = "nobody both builds and promotes"
//! never-both = { targets = ["spiffe://example.org/ci/build", "spiffe://example.org/ci/promote"] }
//! ```

mod selector;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::ToolName;
use claviger_core::psk::Purpose;
use serde::Deserialize;
use toml::Spanned;

pub use self::selector::Selector;
use crate::load::{LoadError, line_of};
use crate::reach::{Class, Path, Reach, Subject, Target};
use crate::set::PolicySet;

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
    let Some(text) = set.source().file(FILE) else { return Ok(Vec::new()) };
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        LoadError::new(FILE, line, error.message().to_owned())
    })?;
    let invariant = |written: Spanned<Written>| {
        let line = line_of(text, written.span().start);
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

struct Check<'a, 's> {
    set: &'s PolicySet,
    invariant: &'a Invariant,
    reach: &'a Reach,
}

impl<'a> Check<'a, '_> {
    fn run(&self) -> Result<Option<Broken<'a>>, LoadError> {
        match &self.invariant.rule {
            Rule::Never(between) => self.never(between),
            Rule::NeverBoth(both) => self.never_both(&both.targets),
            Rule::Only(between) => self.only(between),
            Rule::Always(between) => self.always(between),
            Rule::AtMost(limit) => self.at_most(limit),
        }
    }

    fn broken(&self, what: String, paths: Vec<&'a Path>) -> Option<Broken<'a>> {
        Some(Broken { invariant: self.invariant, what, paths })
    }

    fn never(&self, between: &Between) -> Result<Option<Broken<'a>>, LoadError> {
        let (from, to) = (self.chosen(&between.from)?, self.chosen(&between.to)?);
        let path = self.reach.paths.iter().find_map(|path| {
            let ends = self.ends(path, |subject| from.has(subject), &to)?;
            for_purpose(path, between.purpose.as_ref()).then_some((path, ends))
        });
        Ok(path.and_then(|(path, (from, to))| {
            self.broken(format!("{from} reaches {to}{}", purpose(path)), vec![path])
        }))
    }

    fn only(&self, between: &Between) -> Result<Option<Broken<'a>>, LoadError> {
        let (from, to) = (self.chosen(&between.from)?, self.chosen(&between.to)?);
        let path = self.reach.paths.iter().find_map(|path| {
            let ends = self.ends(path, |subject| !from.has(subject), &to)?;
            for_purpose(path, between.purpose.as_ref()).then_some((path, ends))
        });
        Ok(path.and_then(|(path, (from, to))| {
            self.broken(format!("{from} reaches {to}, too{}", purpose(path)), vec![path])
        }))
    }

    fn never_both(&self, targets: &[Selector]) -> Result<Option<Broken<'a>>, LoadError> {
        let targets = targets.iter().map(|to| self.chosen(to)).collect::<Result<Vec<_>, _>>()?;
        for class in &self.reach.classes {
            for subject in &class.members {
                let reached = targets.iter().filter_map(|to| {
                    self.reach.paths.iter().find_map(|path| {
                        let ends = self.ends(path, |known| known == subject, to)?;
                        Some((path, ends))
                    })
                });
                let reached: Vec<_> = reached.take(2).collect();
                if let [(one, (_, first)), (other, (_, second))] = reached.as_slice() {
                    let what = format!("{} reaches both {first} and {second}", subject.name);
                    return Ok(self.broken(what, vec![*one, *other]));
                }
            }
        }
        Ok(None)
    }

    fn always(&self, between: &Between) -> Result<Option<Broken<'a>>, LoadError> {
        let (from, to) = (self.chosen(&between.from)?, self.chosen(&between.to)?);
        for source in from.subjects() {
            for target in to.names() {
                if source.name == target {
                    continue;
                }
                let there = self.reach.paths.iter().any(|path| {
                    path.is_shown()
                        && for_purpose(path, between.purpose.as_ref())
                        && self.leads(path, source, target)
                });
                if !there {
                    let purpose = between.purpose.as_ref();
                    let purpose = purpose.map_or_else(String::new, |p| format!(" for `{p}`"));
                    let what = format!("{} does not reach {target}{purpose}", source.name);
                    return Ok(self.broken(what, Vec::new()));
                }
            }
        }
        Ok(None)
    }

    fn at_most(&self, limit: &Limit) -> Result<Option<Broken<'a>>, LoadError> {
        for subject in self.chosen(&limit.from)?.subjects() {
            let Some(number) = self.reach.class_of(&subject.id) else { continue };
            let mut first: BTreeMap<&Target, &Path> = BTreeMap::new();
            for path in self.reach.paths.iter().filter(|path| path.from == number) {
                first.entry(&path.to).or_insert(path);
            }
            let services = self.reach.services(number);
            if limit.services < services {
                let what = format!(
                    "{} reaches {services} services, more than {}",
                    subject.name, limit.services
                );
                return Ok(self.broken(what, first.into_values().collect()));
            }
        }
        Ok(None)
    }

    /// Whoever `selector` means. Nobody is an error: the invariant would say nothing.
    fn chosen(&self, selector: &Selector) -> Result<Chosen<'a>, LoadError> {
        let mut chosen = Chosen::default();
        for class in &self.reach.classes {
            let members = class.members.iter();
            chosen.subjects.extend(
                members
                    .filter(|subject| selector.chooses(self.set, subject))
                    .map(|subject| (subject.name.as_str(), subject)),
            );
        }
        chosen.tools.extend(selector.tools(self.set));
        if chosen.subjects.is_empty() && chosen.tools.is_empty() {
            let reason = format!(
                "invariant `{}` speaks of {selector}, and nobody is meant by that",
                self.invariant.name
            );
            return Err(LoadError::new(FILE, Some(self.invariant.line), reason));
        }
        Ok(chosen)
    }

    /// Who of the path's ends are meant, if somebody is at each.
    fn ends(
        &self,
        path: &'a Path,
        from: impl Fn(&Subject) -> bool,
        to: &Chosen<'a>,
    ) -> Option<(String, String)> {
        let sources = self.reach.classes.get(path.from)?.members.iter();
        let sources: Vec<_> = sources.filter(|subject| from(subject)).collect();
        match &path.to {
            Target::Tool(tool) => {
                let from = sources.first()?;
                to.tools.contains(tool).then(|| (from.name.clone(), format!("the tool {tool}")))
            }
            Target::Class(number) => {
                let targets = self.reach.classes.get(*number)?.members.iter();
                let mut targets = targets.filter(|subject| to.has(subject));
                targets.find_map(|target| {
                    // Nobody's path to themselves counts.
                    let from = sources.iter().find(|from| from.id != target.id)?;
                    Some((from.name.clone(), target.name.clone()))
                })
            }
        }
    }

    fn leads(&self, path: &Path, from: &Subject, to: &str) -> bool {
        let has = |class: Option<&Class>, name: &str| {
            class.is_some_and(|class| class.members.iter().any(|known| known.name == name))
        };
        has(self.reach.classes.get(path.from), &from.name)
            && match &path.to {
                Target::Class(number) => has(self.reach.classes.get(*number), to),
                Target::Tool(tool) => tool.as_str() == to,
            }
    }
}

/// Who is meant.
#[derive(Debug, Default)]
struct Chosen<'a> {
    subjects: BTreeMap<&'a str, &'a Subject>,
    tools: BTreeSet<ToolName>,
}

impl<'a> Chosen<'a> {
    fn has(&self, subject: &Subject) -> bool {
        self.subjects.contains_key(subject.name.as_str())
    }

    fn subjects(&self) -> impl Iterator<Item = &'a Subject> {
        self.subjects.values().copied()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.subjects.keys().copied().chain(self.tools.iter().map(ToolName::as_str))
    }
}

/// Whether the path is there for `purpose`: every path is, for none in particular.
fn for_purpose(path: &Path, purpose: Option<&Purpose>) -> bool {
    purpose.is_none_or(|wanted| path.purpose.as_ref() == Some(wanted))
}

fn purpose(path: &Path) -> String {
    match &path.purpose {
        Some(purpose) => format!(" for `{purpose}`"),
        None => " for any purpose".to_owned(),
    }
}
