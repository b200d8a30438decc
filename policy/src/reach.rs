//! Who reaches whom, for which purpose: every path that the policies leave open, in the most
//! favourable circumstances.
//!
//! A path leads from an identity to another if they may connect by certificates, or if one may have a
//! one-time key that the other may redeem; and to a tool if it may be called. That there is no path
//! is certain: [`possible`] leaves nothing out. That there is one is shown by questions that the
//! policies say yes to; where none was found, the path is said to be [`Proof::Open`].

mod declared;
mod population;
pub(crate) mod possible;
mod rules;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::PolicySet as CedarPolicies;
use claviger_core::decision::{Action, Decided, Question, ToolName};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use serde::Serialize;

pub(crate) use self::declared::{least, tool_is_in, tools};
pub use self::population::{Class, Subject, everyone};
use self::possible::{Act, Asked, Broken, End, For, Known, Surroundings, may};
use self::rules::{Rule, Rules};
use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// The most pairs of classes, or of a class and a tool, that are looked at.
pub const MOST_PAIRS: usize = 1_000_000;

/// How one gets there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By certificates.
    Connect,
    /// By a one-time key.
    Psk,
    /// By calling it.
    Call,
}

impl Way {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Psk => "psk",
            Self::Call => "call",
        }
    }
}

/// Where a path leads.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// To each of a class, by its number.
    Class(usize),
    /// To a tool.
    Tool(ToolName),
}

/// Why a path is said to be there.
#[derive(Clone, Debug)]
pub enum Proof {
    /// These questions are answered with yes, each by the decision beside it.
    Shown(Vec<Decided>),
    /// It could not be ruled out, and no such question was found.
    Open,
}

/// From each of a class to each of another, or to a tool.
#[derive(Clone, Debug)]
pub struct Path {
    /// The number of the class.
    pub from: usize,
    /// Where to.
    pub to: Target,
    /// What for; none stands for any purpose that nobody speaks of.
    pub purpose: Option<Purpose>,
    /// How.
    pub way: Way,
    /// Why.
    pub proof: Proof,
}

impl Path {
    /// Whether it was shown, and not only could not be ruled out.
    #[must_use]
    pub const fn is_shown(&self) -> bool {
        matches!(self.proof, Proof::Shown(_))
    }
}

/// Who reaches whom.
#[derive(Debug)]
pub struct Reach {
    /// Everyone, in classes that no policy can tell apart.
    pub classes: Vec<Class>,
    /// Every path, in the order of its ends.
    pub paths: Vec<Path>,
    /// The pairs that were asked about for a purpose, which is thereby not one that nobody speaks of.
    asked: BTreeMap<(usize, Target), BTreeSet<Purpose>>,
}

/// Why it cannot be told who reaches whom.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// There are more pairs than anyone can wait for.
    #[error(
        "policies tell apart so many identities that {pairs} pairs would have to be looked at, more than {MOST_PAIRS}; write them by groups and attributes rather than by identity"
    )]
    TooMany {
        /// How many.
        pairs: usize,
    },
    /// Cedar could not make sense of a question.
    #[error("cannot tell what the policies say: {0}")]
    Broken(Broken),
}

impl From<Broken> for ReachError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Reach {
    /// Who reaches whom by `set`, among those that it knows of and `known`.
    ///
    /// # Errors
    ///
    /// [`ReachError::TooMany`] if policies tell apart too many.
    pub fn of(set: &PolicySet, known: &[SpiffeId]) -> Result<Self, ReachError> {
        Self::among(set, everyone(set, known))
    }

    /// Who reaches whom by `set`, among these.
    ///
    /// # Errors
    ///
    /// [`ReachError::TooMany`] if policies tell apart too many.
    pub fn among(
        set: &PolicySet,
        everyone: BTreeMap<SpiffeId, Subject>,
    ) -> Result<Self, ReachError> {
        let rules = Rules::of(set)?;
        let words = Vocabulary::of_all(rules.all().iter().map(|rule| rule.words.clone()));
        let classes = population::classes(set, &words, everyone)?;
        let search = Search { set, rules: &rules, words: &words, classes: &classes };
        let mut found = Found::default();
        search.way(&Way::Connect, &[Action::Connect], &mut found)?;
        search.way(&Way::Psk, &[Action::IssuePsk, Action::RedeemPsk], &mut found)?;
        for tool in tools(set) {
            search.way(&Way::Call, &[Action::Call(tool)], &mut found)?;
        }
        let Found { mut paths, asked } = found;
        paths.sort_by(|a, b| {
            (a.from, &a.to, &a.purpose, &a.way).cmp(&(b.from, &b.to, &b.purpose, &b.way))
        });
        Ok(Self { classes, paths, asked })
    }

    /// The class of `id`, if it is known.
    #[must_use]
    pub fn class_of(&self, id: &SpiffeId) -> Option<usize> {
        self.classes.iter().position(|class| class.members.iter().any(|known| known.id == *id))
    }

    /// How many services and tools each of class `number` reaches.
    #[must_use]
    pub fn services(&self, number: usize) -> usize {
        let targets: BTreeSet<_> =
            self.paths.iter().filter(|path| path.from == number).map(|path| &path.to).collect();
        let size = |target: &Target| match target {
            Target::Tool(_) => 1,
            Target::Class(other) => {
                let members = self.classes.get(*other).map_or(0, |class| class.members.len());
                // Nobody counts for themselves.
                members.saturating_sub(usize::from(*other == number))
            }
        };
        targets.into_iter().map(size).sum()
    }

    /// What is written of `target`.
    #[must_use]
    pub fn label(&self, target: &Target) -> String {
        match target {
            Target::Class(number) => {
                self.classes.get(*number).map(Class::label).unwrap_or_default()
            }
            Target::Tool(tool) => format!("tool:{tool}"),
        }
    }

    /// Every purpose that was asked for between these, beside those that nobody speaks of.
    pub(crate) fn purposes(&self, from: usize, to: &Target) -> impl Iterator<Item = &Purpose> {
        self.asked.get(&(from, to.clone())).into_iter().flatten()
    }
}

#[derive(Default)]
struct Found {
    paths: Vec<Path>,
    asked: BTreeMap<(usize, Target), BTreeSet<Purpose>>,
}

/// What the search goes by.
struct Search<'a> {
    set: &'a PolicySet,
    rules: &'a Rules,
    words: &'a Vocabulary,
    classes: &'a [Class],
}

/// One of the actions that a way takes, and what concerns it.
struct Step<'a> {
    action: &'a Action,
    rules: Vec<(usize, &'a Rule)>,
    around: Surroundings,
}

impl Search<'_> {
    /// Finds every path of this way: all its actions have to be permitted.
    fn way(&self, way: &Way, actions: &[Action], found: &mut Found) -> Result<(), ReachError> {
        let steps =
            actions.iter().map(|action| self.step(action)).collect::<Result<Vec<_>, _>>()?;
        let mut pairs: Option<BTreeSet<(usize, Target)>> = None;
        for step in &steps {
            let some = self.pairs(step)?;
            pairs = Some(match pairs {
                Some(known) => known.intersection(&some).cloned().collect(),
                None => some,
            });
        }
        for (from, to) in pairs.unwrap_or_default() {
            self.pair(way, &steps, (from, to), found)?;
        }
        Ok(())
    }

    fn step<'s>(&'s self, action: &'s Action) -> Result<Step<'s>, ReachError> {
        let act = Act::new(self.set.schema(), &action.to_string())?;
        let somebody = self.classes.first().and_then(|class| class.known.first());
        let somebody = somebody.ok_or_else(|| Broken::from("there is nobody"))?;
        let question = self.question(somebody, action, somebody)?;
        let asked = Asked::new(self.set, &witness::favourable(&question, self.words))?;
        let named = asked.named()?;
        // Of a connection, the purpose is always known.
        let optional = |name: &str| name != "purpose" || matches!(action, Action::Call(_));
        let contexts = asked.contexts(|name| optional(name) && self.words.mentions(name))?;
        let rules = self.rules.about(&act);
        Ok(Step { action, rules, around: Surroundings { act, contexts, named } })
    }

    /// The pairs that some policy might permit this to, going by its head and by each end alone.
    fn pairs(&self, step: &Step<'_>) -> Result<BTreeSet<(usize, Target)>, ReachError> {
        let mut pairs = BTreeSet::new();
        let mut looked_at = 0_usize;
        for (_, rule) in step.rules.iter().filter(|(_, rule)| rule.permits) {
            let mut froms = Vec::new();
            for (number, class) in self.classes.iter().enumerate() {
                let Some(known) = class.known.first() else { continue };
                if rule.admits_principal(known)
                    && self.may(&rule.alone, step, (End::Known(known), End::Anyone), For::Any)?
                {
                    froms.push(number);
                }
            }
            let tos = if froms.is_empty() { Vec::new() } else { self.targets(step, rule)? };
            looked_at = looked_at.saturating_add(froms.len().saturating_mul(tos.len()));
            if MOST_PAIRS < looked_at {
                return Err(ReachError::TooMany { pairs: looked_at });
            }
            for from in froms {
                pairs.extend(tos.iter().map(|to| (from, to.clone())));
            }
        }
        Ok(pairs)
    }

    /// Whom a policy might permit to get to.
    fn targets(&self, step: &Step<'_>, rule: &Rule) -> Result<Vec<Target>, ReachError> {
        if let Action::Call(tool) = step.action {
            return Ok(vec![Target::Tool(tool.clone())]);
        }
        let mut tos = Vec::new();
        for (number, class) in self.classes.iter().enumerate() {
            let Some(known) = class.known.first() else { continue };
            if rule.admits_resource(known)
                && self.may(&rule.alone, step, (End::Anyone, End::Known(known)), For::Any)?
            {
                tos.push(Target::Class(number));
            }
        }
        Ok(tos)
    }

    fn pair(
        &self,
        way: &Way,
        steps: &[Step<'_>],
        pair: (usize, Target),
        found: &mut Found,
    ) -> Result<(), ReachError> {
        let Some((from, to)) = self.ends(&pair, steps)? else { return Ok(()) };
        let slices =
            steps.iter().map(|step| self.slice(step, &from, &to)).collect::<Result<Vec<_>, _>>()?;
        let may = |purpose: For<'_>| {
            for (step, (_, slice)) in steps.iter().zip(&slices) {
                if !self.may(slice, step, (End::Known(&from), End::Known(&to)), purpose)? {
                    return Ok::<_, ReachError>(false);
                }
            }
            Ok(true)
        };
        if !may(For::Any)? {
            return Ok(());
        }
        let purposes = self.purposes_between(&from, &to, slices.iter().flat_map(|slice| &slice.0));
        let nobodys = nobodys(&purposes)?;
        let mut others = false;
        for purpose in purposes.iter().chain([&nobodys]) {
            let spoken_of = *purpose != nobodys;
            if !may(if spoken_of { For::Only(purpose) } else { For::Nobodys(purpose) })? {
                continue;
            }
            let mut proof = self.proof(steps, &slices, (&from, &to), Some(purpose))?;
            if !spoken_of && matches!(proof, Proof::Open) {
                proof = self.proof(steps, &slices, (&from, &to), None)?;
            }
            others |= !spoken_of;
            found.paths.push(Path {
                from: pair.0,
                to: pair.1.clone(),
                purpose: spoken_of.then(|| purpose.clone()),
                way: way.clone(),
                proof,
            });
        }
        // Who looks into the text of a purpose may know one that we did not think of.
        if !others && self.words.patterns("purpose").next().is_some() {
            found.paths.push(Path {
                from: pair.0,
                to: pair.1.clone(),
                purpose: None,
                way: way.clone(),
                proof: Proof::Open,
            });
        }
        found.asked.entry(pair).or_default().extend(purposes);
        Ok(())
    }

    /// Who stands for the ends of a pair; nobody, if they would be one and the same.
    fn ends(
        &self,
        (from, to): &(usize, Target),
        steps: &[Step<'_>],
    ) -> Result<Option<(Known, Known)>, ReachError> {
        let of = |number: usize, which: usize| {
            self.classes.get(number).and_then(|class| class.known.get(which)).cloned()
        };
        let Some(principal) = of(*from, 0) else { return Ok(None) };
        let resource = match to {
            Target::Class(number) if number == from => of(*number, 1),
            Target::Class(number) => of(*number, 0),
            Target::Tool(_) => {
                let action = steps.first().map(|step| step.action.clone());
                let Some(action) = action else { return Ok(None) };
                let question = self.question(&principal, &action, &principal)?;
                Some(Asked::new(self.set, &question)?.resource()?)
            }
        };
        Ok(resource.map(|resource| (principal, resource)))
    }

    /// The policies that might have a say, permits and forbids.
    fn slice<'s>(
        &'s self,
        step: &Step<'s>,
        from: &Known,
        to: &Known,
    ) -> Result<(Vec<&'s Rule>, std::rc::Rc<CedarPolicies>), ReachError> {
        let admits = |rule: &Rule| rule.admits_principal(from) && rule.admits_resource(to);
        let chosen: Vec<_> = step.rules.iter().filter(|(_, rule)| admits(rule)).collect();
        let numbers = chosen.iter().map(|(number, _)| *number).collect();
        let rules = chosen.iter().map(|(_, rule)| *rule).collect();
        Ok((rules, self.rules.slice(&numbers)?))
    }

    /// The purposes that make a difference between these: those that the policies name, and whatever
    /// stands beside the policies of either end.
    fn purposes_between<'s>(
        &self,
        from: &Known,
        to: &Known,
        rules: impl Iterator<Item = &'s &'s Rule>,
    ) -> BTreeSet<Purpose> {
        let mut texts: BTreeSet<String> = BTreeSet::new();
        for rule in rules {
            texts.extend(rule.words.texts("purpose").chain(rule.words.texts("purposes")));
        }
        for known in [from, to] {
            let registered = known.registered(self.words.attributes());
            texts.extend(registered);
        }
        texts.into_iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn proof(
        &self,
        steps: &[Step<'_>],
        slices: &[(Vec<&Rule>, std::rc::Rc<CedarPolicies>)],
        (from, to): (&Known, &Known),
        purpose: Option<&Purpose>,
    ) -> Result<Proof, ReachError> {
        let mut shown = Vec::new();
        for (step, (rules, _)) in steps.iter().zip(slices) {
            let mut question = self.question(from, step.action, to)?;
            question.context.purpose = purpose.cloned();
            let permits: Vec<_> =
                rules.iter().filter(|rule| rule.permits).map(|rule| &rule.words).collect();
            match witness::find(self.set, &question, &permits, self.words) {
                Some(decided) => shown.push(decided),
                None => return Ok(Proof::Open),
            }
        }
        Ok(Proof::Shown(shown))
    }

    fn question(&self, from: &Known, action: &Action, to: &Known) -> Result<Question, ReachError> {
        let (from, to) = (from.party()?.id, to.resource()?);
        Ok(population::ordinary(self.set, &from, action, &to)?)
    }

    fn may(
        &self,
        policies: &CedarPolicies,
        step: &Step<'_>,
        ends: (End<'_>, End<'_>),
        purpose: For<'_>,
    ) -> Result<bool, ReachError> {
        Ok(may(policies, &step.around, ends, purpose)?)
    }
}

/// A purpose that is none of these.
fn nobodys(purposes: &BTreeSet<Purpose>) -> Result<Purpose, Broken> {
    let mut text = "any-other".to_owned();
    loop {
        let purpose: Purpose = text.parse()?;
        if !purposes.contains(&purpose) {
            return Ok(purpose);
        }
        text.push('-');
    }
}
