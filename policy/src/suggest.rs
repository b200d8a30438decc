//! From what was denied or only observed to the fewest sensible policies that would permit it.
//!
//! A suggestion permits nothing but what was asked for: these identities, those actions, for these
//! purposes. Identities are put together by the path they are below only if everybody below it asked
//! for the same. What a policy forbids is not suggested, nor calls of tools, whose parameters somebody
//! has to think about, nor what makes an identity powerful.

mod rule;

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::{Action, Question, Resource, Verdict};
use claviger_core::id::SpiffeId;

use crate::load::LoadError;
use crate::set::PolicySet;
use crate::source::Source;
use rule::{Edge, Rule};

/// The name of the file that a suggestion is tried out as.
const FILE: &str = "suggested.cedar";

/// Something that was asked for, and was denied or only observed.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What was asked.
    pub question: Question,
    /// How often.
    pub times: u64,
}

/// Whom a suggestion takes into account.
#[derive(Clone, Copy, Debug)]
pub struct People<'a> {
    /// Everybody who is registered.
    pub known: &'a BTreeSet<SpiffeId>,
    /// Of whom nothing may be permitted: those in quarantine.
    pub shunned: &'a BTreeSet<SpiffeId>,
}

/// What is proposed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Suggestion {
    /// The policies, in Cedar; empty if there is nothing to propose.
    pub cedar: String,
    /// How many policies.
    pub policies: usize,
    /// How many different things that were asked for are permitted by them.
    pub wishes: usize,
    /// How many of those would be denied nevertheless.
    pub denied: usize,
    /// What is not proposed, and why.
    pub left_out: BTreeMap<LeftOut, usize>,
}

/// Why something is not proposed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LeftOut {
    /// The policies permit it by now.
    Permitted,
    /// A policy forbids it.
    Forbidden,
    /// One end is in quarantine.
    Quarantined,
    /// Somebody has to think about it.
    Delicate,
}

/// Proposes policies beside `source` by which `wishes` would be permitted. `date` is written into each.
///
/// # Errors
///
/// [`LoadError`] if `source` is wrong.
pub fn suggest(
    source: &Source,
    wishes: &[Wish],
    people: People<'_>,
    date: &str,
) -> Result<Suggestion, LoadError> {
    let now = PolicySet::compile(source.clone())?;
    // What is denied even beside a policy that permits everything is forbidden.
    let all = with(source, "permit (principal, action, resource);")?;
    let mut suggestion = Suggestion::default();
    let mut edges: BTreeMap<Edge, u64> = BTreeMap::new();
    let mut granted = Vec::new();
    for wish in wishes {
        match sort(wish, &now, &all, people) {
            Ok(edge) => {
                let times = edges.entry(edge).or_default();
                *times = times.saturating_add(wish.times);
                granted.push(wish);
            }
            Err(why) => *suggestion.left_out.entry(why).or_default() += 1,
        }
    }
    let rules = rule::fewest(edges, people);
    suggestion.cedar = cedar(&rules, date);
    suggestion.policies = rules.len();
    suggestion.wishes = granted.len();
    let then = with(source, &suggestion.cedar)?;
    let denied =
        granted.iter().filter(|wish| then.decide(&wish.question).verdict != Verdict::Permit);
    suggestion.denied = denied.count();
    Ok(suggestion)
}

/// What would have to be permitted for `wish`, or why it is left out.
fn sort(
    wish: &Wish,
    now: &PolicySet,
    all: &PolicySet,
    people: People<'_>,
) -> Result<Edge, LeftOut> {
    let Question { principal, action, resource, context } = &wish.question;
    let target = match resource {
        Resource::Identity(party) => Some(party.id.clone()),
        Resource::TrustDomain(_) | Resource::Tool(_) => None,
    };
    if [Some(&principal.id), target.as_ref()]
        .into_iter()
        .flatten()
        .any(|id| people.shunned.contains(id))
    {
        return Err(LeftOut::Quarantined);
    }
    let actions: &[Action] = match (action, &target) {
        (Action::Connect, Some(_)) => &[Action::Connect],
        // A key that nobody may take in is of no use.
        (Action::IssuePsk | Action::RedeemPsk, Some(_)) => &[Action::IssuePsk, Action::RedeemPsk],
        (Action::IssueX509, None) => &[Action::IssueX509],
        (Action::IssueJwt, None) => &[Action::IssueJwt],
        (Action::IssueWit, None) => &[Action::IssueWit],
        (
            Action::Connect
            | Action::IssuePsk
            | Action::RedeemPsk
            | Action::IssueX509
            | Action::IssueJwt
            | Action::IssueWit
            | Action::IssueX509Ca
            | Action::IssueEar
            | Action::RedeemPskByIdentity
            | Action::Call(_)
            | Action::Ask
            | Action::Signal,
            _,
        ) => return Err(LeftOut::Delicate),
    };
    if now.decide(&wish.question).verdict == Verdict::Permit {
        return Err(LeftOut::Permitted);
    }
    if all.decide(&wish.question).verdict != Verdict::Permit {
        return Err(LeftOut::Forbidden);
    }
    let domain = match resource {
        Resource::TrustDomain(domain) => domain.clone(),
        Resource::Identity(_) | Resource::Tool(_) => principal.id.trust_domain().clone(),
    };
    Ok(Edge {
        actions: actions.iter().cloned().collect(),
        from: principal.id.clone(),
        to: target.ok_or(domain),
        purpose: context.purpose.clone(),
    })
}

/// The policies of `source`, and beside them `cedar`.
fn with(source: &Source, cedar: &str) -> Result<PolicySet, LoadError> {
    let mut files = source.files().to_vec();
    files.retain(|(name, _)| name != FILE);
    files.push((FILE.to_owned(), cedar.to_owned()));
    PolicySet::compile(Source::new(files))
}

fn cedar(rules: &[Rule], date: &str) -> String {
    let texts = rules.iter().enumerate().map(|(n, rule)| rule.cedar(n.saturating_add(1), date));
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
