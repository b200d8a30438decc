//! Whether an invariant holds.

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::ToolName;
use claviger_core::psk::Purpose;

use super::{Between, Broken, FILE, Invariant, Limit, Rule, Selector};
use crate::load::LoadError;
use crate::reach::{Class, Path, Reach, Subject, Target};
use crate::set::PolicySet;

/// One invariant, and what it is held against.
pub(super) struct Check<'a, 's> {
    pub(super) set: &'s PolicySet,
    pub(super) invariant: &'a Invariant,
    pub(super) reach: &'a Reach,
}

impl<'a> Check<'a, '_> {
    pub(super) fn run(&self) -> Result<Option<Broken<'a>>, LoadError> {
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
                    let from =
                        sources.iter().find(|from| from.id != target.id || target.stands_in())?;
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
