//! Putting together what can be permitted by one policy, and writing it.

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::Action;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::psk::Purpose;

use super::People;

/// One identity, one resource, one purpose.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Edge {
    pub(super) actions: BTreeSet<Action>,
    pub(super) from: SpiffeId,
    /// Another identity, or the trust domain that issues.
    pub(super) to: Result<SpiffeId, TrustDomain>,
    pub(super) purpose: Option<Purpose>,
}

/// One end of a policy.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    One(SpiffeId),
    /// Everybody below a path, which ends in a slash.
    Below(TrustDomain, String),
    Issuer(TrustDomain),
}

/// One policy.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    actions: BTreeSet<Action>,
    from: End,
    to: End,
    purposes: BTreeSet<Purpose>,
    times: u64,
}

/// The fewest rules that permit `edges` and nothing that was not asked for.
pub(super) fn fewest(edges: BTreeMap<Edge, u64>, people: People<'_>) -> Vec<Rule> {
    // All that one identity wants of another is one policy...
    let mut pairs: BTreeMap<_, (BTreeSet<Action>, u64)> = BTreeMap::new();
    for (Edge { actions, from, to, purpose }, times) in edges {
        let (all, sum) = pairs.entry((from, to, purpose)).or_default();
        all.extend(actions);
        *sum = sum.saturating_add(times);
    }
    let mut wants: BTreeMap<_, (BTreeSet<Purpose>, u64)> = BTreeMap::new();
    for ((from, to, purpose), (actions, times)) in pairs {
        let to = to.map_or_else(End::Issuer, End::One);
        let (purposes, sum) = wants.entry((actions, End::One(from), to)).or_default();
        purposes.extend(purpose);
        *sum = sum.saturating_add(times);
    }
    // ... and so is what everybody below a path wants of it, or it of everybody below a path.
    let mut rules: Vec<_> = wants
        .into_iter()
        .map(|((actions, from, to), (purposes, times))| Rule { actions, from, to, purposes, times })
        .collect();
    rules = join(rules, people, |rule| &mut rule.from);
    rules = join(rules, people, |rule| &mut rule.to);
    rules.sort_by(|one, next| {
        (&one.from, &one.to, &one.actions).cmp(&(&next.from, &next.to, &next.actions))
    });
    rules
}

/// Joins rules that differ at one end only, where everybody below a path has one of them.
fn join(rules: Vec<Rule>, people: People<'_>, end: fn(&mut Rule) -> &mut End) -> Vec<Rule> {
    type Like = (BTreeSet<Action>, End, End, BTreeSet<Purpose>);
    let mut alike: BTreeMap<Like, (Vec<Rule>, BTreeSet<SpiffeId>)> = BTreeMap::new();
    let mut done = Vec::new();
    for mut rule in rules {
        let this = end(&mut rule).clone();
        let below = match &this {
            End::One(id) => parent(id).map(|path| (id.clone(), path)),
            End::Below(..) | End::Issuer(_) => None,
        };
        let Some((id, path)) = below else {
            done.push(rule);
            continue;
        };
        let mut like = rule.clone();
        *end(&mut like) = End::Below(id.trust_domain().clone(), path);
        let like = (like.actions, like.from, like.to, like.purposes);
        let (rules, ids) = alike.entry(like).or_default();
        rules.push(rule);
        ids.insert(id);
    }
    for ((actions, from, to, purposes), (rules, ids)) in alike {
        let everybody = ids.first().and_then(parent).is_some_and(|path| {
            let mut below = people.known.iter().filter(|id| is_below(id, &ids, &path));
            1 < ids.len() && below.all(|id| ids.contains(id))
        });
        if everybody {
            let times = rules.iter().map(|rule| rule.times).fold(0, u64::saturating_add);
            done.push(Rule { actions, from, to, purposes, times });
        } else {
            done.extend(rules);
        }
    }
    done
}

/// The path that `id` is directly below, with a slash at its end; `None` at the top, where everybody is.
fn parent(id: &SpiffeId) -> Option<String> {
    let (path, _name) = id.path().rsplit_once('/')?;
    (!path.is_empty()).then(|| format!("{path}/"))
}

fn is_below(id: &SpiffeId, like: &BTreeSet<SpiffeId>, path: &str) -> bool {
    let domain = like.first().map(SpiffeId::trust_domain);
    domain == Some(id.trust_domain()) && id.path().starts_with(path)
}

impl Rule {
    /// The policy, which is the `number`th.
    pub(super) fn cedar(&self, number: usize, date: &str) -> String {
        let (times, action) = (self.times, self.action());
        let (principal, resource) = (scope("principal", &self.from), scope("resource", &self.to));
        let conditions =
            [below("principal", &self.from), below("resource", &self.to), self.purpose()];
        let conditions: Vec<_> = conditions.into_iter().flatten().collect();
        let when = match conditions.as_slice() {
            [] => String::new(),
            some => format!("\nwhen {{ {} }}", some.join(" && ")),
        };
        format!(
            "@id(\"suggested-{number}\")\n@suggested(\"{date}; seen {times} times\")\n\
             permit (\n    {principal},\n    {action},\n    {resource}\n){when};\n"
        )
    }

    fn action(&self) -> String {
        let reach = [Action::Connect, Action::IssuePsk, Action::RedeemPsk];
        if self.actions == BTreeSet::from(reach) {
            return r#"action in Action::"reach""#.to_owned();
        }
        let names: Vec<_> =
            self.actions.iter().map(|action| format!(r#"Action::"{action}""#)).collect();
        match names.as_slice() {
            [one] => format!("action == {one}"),
            several => format!("action in [{}]", several.join(", ")),
        }
    }

    fn purpose(&self) -> Option<String> {
        let names: Vec<_> = self.purposes.iter().map(|purpose| format!(r#""{purpose}""#)).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("context.purpose == {one}")),
            several => Some(format!("[{}].contains(context.purpose)", several.join(", "))),
        }
    }
}

fn scope(variable: &str, end: &End) -> String {
    match end {
        End::One(id) => format!(r#"{variable} == Identity::"{id}""#),
        End::Below(domain, _) => format!(r#"{variable} in TrustDomain::"{domain}""#),
        End::Issuer(domain) => format!(r#"{variable} == TrustDomain::"{domain}""#),
    }
}

fn below(variable: &str, end: &End) -> Option<String> {
    match end {
        End::Below(_, path) => Some(format!(r#"{variable}.path like "{path}*""#)),
        End::One(_) | End::Issuer(_) => None,
    }
}
