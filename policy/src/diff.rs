//! What changes from one set of policies to another: who gains or loses a path to whom.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use serde::Serialize;

use crate::reach::{Class, Reach, ReachError, Subject, Target, Way, everyone};
use crate::set::PolicySet;

/// A path that is there in one of two sets of policies only.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// Whether it is new, or gone.
    pub gained: bool,
    /// From whom.
    pub from: Vec<String>,
    /// To whom, or to which tool.
    pub to: Vec<String>,
    /// What for; none stands for any purpose that nobody speaks of.
    pub purpose: Option<Purpose>,
    /// How.
    pub way: Way,
}

/// What `new` changes of `old`, among those that either knows of and `known`.
///
/// # Errors
///
/// [`ReachError`] if it cannot be told.
pub fn diff(
    old: &PolicySet,
    new: &PolicySet,
    known: &[SpiffeId],
) -> Result<Vec<Difference>, ReachError> {
    let mut all = everyone(old, known);
    for (id, subject) in everyone(new, known) {
        // Who stands for others in either does so in both.
        let stands_in = subject.stands_in();
        let kept = all.entry(id).or_insert_with(|| subject.clone());
        if stands_in {
            *kept = subject;
        }
    }
    let (old, new) = (Reach::among(old, all.clone())?, Reach::among(new, all.clone())?);
    let groups = Together::of(&all, &old, &new);
    let mut differences = groups.differences(&old, &new);
    differences.sort_by(|a, b| {
        (!a.gained, &a.from, &a.to, &a.purpose, &a.way)
            .cmp(&(!b.gained, &b.from, &b.to, &b.purpose, &b.way))
    });
    Ok(differences)
}

/// Whoever is in the same classes before and after: the names, by the number of either class.
struct Together(BTreeMap<(usize, usize), Vec<String>>);

/// Where a path leads, before and after.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Both {
    Classes(usize, usize),
    Tool(Target),
}

impl Both {
    fn before(&self) -> Target {
        match self {
            Self::Classes(old, _) => Target::Class(*old),
            Self::Tool(tool) => tool.clone(),
        }
    }

    fn after(&self) -> Target {
        match self {
            Self::Classes(_, new) => Target::Class(*new),
            Self::Tool(tool) => tool.clone(),
        }
    }
}

impl Together {
    fn of(all: &BTreeMap<SpiffeId, Subject>, old: &Reach, new: &Reach) -> Self {
        let (before, after) = (numbers(old), numbers(new));
        let mut groups: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (id, subject) in all {
            if let (Some(before), Some(after)) = (before.get(id), after.get(id)) {
                groups.entry((*before, *after)).or_default().push(subject.name.clone());
            }
        }
        Self(groups)
    }

    fn differences(&self, old: &Reach, new: &Reach) -> Vec<Difference> {
        let tools = old.paths.iter().chain(&new.paths).filter_map(|path| match &path.to {
            Target::Tool(_) => Some(Both::Tool(path.to.clone())),
            Target::Class(_) => None,
        });
        let classes = self.0.keys().map(|(before, after)| Both::Classes(*before, *after));
        let targets: BTreeSet<_> = tools.chain(classes).collect();
        let (was, is) = (Paths::of(old), Paths::of(new));
        let mut differences = Vec::new();
        for ((before, after), names) in &self.0 {
            for target in &targets {
                let (then, now) =
                    (was.of_pair(*before, &target.before()), is.of_pair(*after, &target.after()));
                if then.is_none() && now.is_none() {
                    continue;
                }
                let to = match target {
                    Both::Classes(before, after) => {
                        self.0.get(&(*before, *after)).cloned().unwrap_or_default()
                    }
                    Both::Tool(tool) => vec![new.label(tool)],
                };
                if to == *names && to.len() == 1 && !to.iter().any(|name| name.ends_with('*')) {
                    continue;
                }
                let difference = |gained, purpose, way| Difference {
                    gained,
                    from: names.clone(),
                    to: to.clone(),
                    purpose,
                    way,
                };
                differences.extend(
                    changed(&then, &now)
                        .into_iter()
                        .map(|(gained, purpose, way)| difference(gained, purpose, way)),
                );
            }
        }
        differences
    }
}

/// The paths of a pair: for each way, its purposes.
type Ways = BTreeMap<Way, BTreeSet<Option<Purpose>>>;

/// Paths by their ends.
struct Paths<'a> {
    reach: &'a Reach,
    pairs: BTreeMap<(usize, Target), Ways>,
}

/// The paths of a pair, and the purposes that were asked for.
type Pair<'a> = (&'a Ways, BTreeSet<&'a Purpose>);

impl<'a> Paths<'a> {
    fn of(reach: &'a Reach) -> Self {
        let mut pairs: BTreeMap<_, Ways> = BTreeMap::new();
        for path in &reach.paths {
            let ways = pairs.entry((path.from, path.to.clone())).or_default();
            ways.entry(path.way.clone()).or_default().insert(path.purpose.clone());
        }
        Self { reach, pairs }
    }

    fn of_pair(&self, from: usize, to: &Target) -> Option<Pair<'_>> {
        let ways = self.pairs.get(&(from, to.clone()))?;
        Some((ways, self.reach.purposes(from, to).collect()))
    }
}

/// What is there in one only: whether it is new, its purpose and its way.
fn changed(then: &Option<Pair<'_>>, now: &Option<Pair<'_>>) -> Vec<(bool, Option<Purpose>, Way)> {
    let spoken_of = |pair: &Option<Pair<'_>>| {
        let purposes = pair.iter().flat_map(|(_, purposes)| purposes.iter().copied());
        purposes.cloned().collect::<BTreeSet<Purpose>>()
    };
    let purposes = spoken_of(then).union(&spoken_of(now)).cloned().map(Some).collect::<Vec<_>>();
    let there = |pair: &Option<Pair<'_>>, way: &Way, purpose: &Option<Purpose>| {
        let Some((ways, asked)) = pair else { return false };
        let Some(open) = ways.get(way) else { return false };
        match purpose {
            // What nobody asked for is as good as any that nobody speaks of.
            Some(named) if !asked.contains(named) => open.contains(&None),
            named => open.contains(named),
        }
    };
    let mut changed = Vec::new();
    for way in [Way::Connect, Way::Psk, Way::Call] {
        for purpose in purposes.iter().chain([&None]) {
            let (was, is) = (there(then, &way, purpose), there(now, &way, purpose));
            if was != is {
                changed.push((is, purpose.clone(), way.clone()));
            }
        }
    }
    changed
}

fn numbers(reach: &Reach) -> BTreeMap<SpiffeId, usize> {
    let numbered = reach.classes.iter().enumerate();
    let members = |(number, class): (usize, &Class)| {
        class.members.iter().map(|subject| (subject.id.clone(), number)).collect::<Vec<_>>()
    };
    numbered.flat_map(members).collect()
}
