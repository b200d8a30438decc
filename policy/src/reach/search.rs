//! The search for paths: by the heads of policies first, by each end alone, then pair by pair.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cedar_policy::PolicySet as CedarPolicies;
use claviger_core::decision::{Action, Question};
use claviger_core::psk::Purpose;

use super::possible::{Act, Asked, Broken, End, For, Known, Surroundings, may};
use super::rules::{Rule, Rules};
use super::{Class, MOST_PAIRS, Path, Proof, ReachError, Target, Way, population, witness};
use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) paths: Vec<Path>,
    pub(super) asked: BTreeMap<(usize, Target), BTreeSet<Purpose>>,
}

/// What the search goes by.
pub(super) struct Search<'a> {
    pub(super) set: &'a PolicySet,
    pub(super) rules: &'a Rules,
    pub(super) words: &'a Vocabulary,
    pub(super) classes: &'a [Class],
}

/// One of the actions that a way takes, and what concerns it.
struct Step<'a> {
    action: &'a Action,
    rules: Vec<(usize, &'a Rule)>,
    around: Surroundings,
}

impl Search<'_> {
    /// Finds every path of this way: all its actions have to be permitted.
    pub(super) fn way(
        &self,
        way: &Way,
        actions: &[Action],
        found: &mut Found,
    ) -> Result<(), ReachError> {
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
                    && may(&rule.alone, &step.around, (End::Known(known), End::Anyone), For::Any)?
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
                && may(&rule.alone, &step.around, (End::Anyone, End::Known(known)), For::Any)?
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
                if !may(slice, &step.around, (End::Known(&from), End::Known(&to)), purpose)? {
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
    ) -> Result<(Vec<&'s Rule>, Rc<CedarPolicies>), ReachError> {
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
        slices: &[(Vec<&Rule>, Rc<CedarPolicies>)],
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
