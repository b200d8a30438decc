//! Everything that could be otherwise, as far as policies can tell.

use std::collections::BTreeSet;

use claviger_core::decision::{Action, EvidenceShown, Parameter, Question, Resource, Transport};
use claviger_core::evidence::{Bond, Tier};
use claviger_core::psk::Purpose;
use claviger_core::selector::Selector;
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;

use super::{Change, Side};
use crate::reach::least;
use crate::set::PolicySet;
use crate::situation::ORDINARY_TIME;
use crate::vocabulary::Vocabulary;

/// Everything that could be otherwise about `question`, as far as policies with this vocabulary can
/// tell: the mildest first.
pub(crate) fn changes(
    set: &PolicySet,
    question: &Question,
    words: &Vocabulary,
    purposes: &[Purpose],
) -> Vec<Change> {
    let action = &question.action;
    let between = matches!(question.resource, Resource::Identity(_));
    let mut changes = Vec::new();
    if action.has_purpose() && words.mentions("purpose") {
        changes.extend(purposes.iter().cloned().map(Change::Purpose));
    }
    for side in [Side::Principal, Side::Resource] {
        if side == Side::Principal || between {
            about(side, words, &mut changes);
        }
    }
    if words.mentions("evidence") {
        evidence(question, words, &mut changes);
    }
    if words.mentions("transport") {
        changes.extend(transports(words).into_iter().map(|known| Change::Transport(Some(known))));
        changes.push(Change::Transport(None));
    }
    fitting(set, question, &mut changes);
    parameters(question, words, &mut changes);
    if words.mentions("time") {
        let times = words.numbers("time").into_iter().filter_map(|n| u64::try_from(n).ok());
        changes.extend(times.map(|secs| Change::Time(UnixTime::from_secs(secs))));
        changes.push(Change::Time(ORDINARY_TIME));
    }
    if words.mentions("requester") {
        let known = ["agent", "operator", "admin", "server", "evidence"];
        changes.extend(known.into_iter().map(|name| Change::Requester(name.to_owned())));
    }
    if words.mentions("ttl_seconds") {
        let known = words.numbers("ttl_seconds").into_iter().filter_map(|n| u64::try_from(n).ok());
        changes.extend(known.map(Change::Ttl));
    }
    if words.mentions("run") {
        let runs = words.texts("run").filter_map(|run| run.parse().ok());
        changes.extend(runs.map(|run| Change::Run(Some(run))).chain([Change::Run(None)]));
    }
    if words.mentions("audience") {
        changes.extend(words.texts("audience").map(Change::Audience));
    }
    if words.mentions("dns_names") {
        changes.extend(words.texts("dns_names").map(Change::DnsName));
    }
    let changed = |change: &Change| {
        let mut other = question.clone();
        change.apply(&mut other);
        other != *question
    };
    changes.retain(changed);
    changes
}

/// What could be otherwise about an identity.
fn about(side: Side, words: &Vocabulary, changes: &mut Vec<Change>) {
    if words.mentions("risk") {
        let known = words.numbers("risk");
        let usual = [0, 25, 50, 75, 100];
        let risks: BTreeSet<_> = known.into_iter().chain(usual).collect();
        let risks = risks.into_iter().filter_map(|n| u8::try_from(n).ok()?.try_into().ok());
        // The greatest that will do is the least to ask for.
        let risks: Vec<Risk> = risks.collect();
        changes.extend(risks.into_iter().rev().map(|risk| Change::Risk(side, risk)));
    }
    if words.mentions("tier") {
        changes.extend(TIERS.map(|tier| Change::Tier(side, tier)));
    }
    if words.mentions("selectors") {
        changes.extend(selectors(words).map(|selector| Change::Selector(side, selector)));
    }
}

/// The selectors that policies ask for.
pub(crate) fn selectors(words: &Vocabulary) -> impl Iterator<Item = Selector> {
    words.texts("selectors").filter_map(|selector| selector.parse().ok())
}

/// The best first.
const TIERS: [Tier; 4] = [Tier::Affirming, Tier::Warning, Tier::None, Tier::Contraindicated];

/// Fresh evidence of the best kind that policies speak of.
pub(crate) fn best_evidence(words: &Vocabulary) -> EvidenceShown {
    EvidenceShown {
        kind: words.texts("kind").next().unwrap_or_else(|| "x509pop".to_owned()),
        bond: if words.texts("bond").all(|bond| bond == "bearer") && words.mentions("bond") {
            Bond::Bearer
        } else {
            Bond::Key
        },
        tier: TIERS
            .into_iter()
            .find(|tier| words.texts("tier").any(|t| t == tier.name()))
            .unwrap_or(Tier::Affirming),
        age_seconds: 0,
    }
}

fn evidence(question: &Question, words: &Vocabulary, changes: &mut Vec<Change>) {
    let shown = question.context.evidence.clone().unwrap_or_else(|| best_evidence(words));
    let mut add = |shown: EvidenceShown| changes.push(Change::Evidence(Some(shown)));
    add(shown.clone());
    for age in words.numbers("age_seconds").into_iter().rev() {
        if let Ok(age_seconds) = u64::try_from(age) {
            add(EvidenceShown { age_seconds, ..shown.clone() });
        }
    }
    for tier in TIERS {
        add(EvidenceShown { tier, ..shown.clone() });
    }
    for kind in words.texts("kind") {
        add(EvidenceShown { kind, ..shown.clone() });
    }
    for bond in [Bond::Key, Bond::Bearer] {
        add(EvidenceShown { bond, ..shown.clone() });
    }
    changes.push(Change::Evidence(Some(best_evidence(words))));
    changes.push(Change::Evidence(None));
}

/// Ways to protect a connection: a post-quantum one, a classical one, and what policies name.
pub(crate) fn transports(words: &Vocabulary) -> Vec<Transport> {
    let usual = [("X25519MLKEM768", true), ("X25519", false)];
    let named: Vec<_> = words.texts("group").collect();
    let named = named.iter().flat_map(|group| {
        // Whether a group withstands a quantum computer is not ours to know.
        [true, false].map(|post_quantum| (group.as_str(), post_quantum))
    });
    let groups: Vec<_> = named.chain(usual).collect();
    let versions: BTreeSet<_> =
        words.texts("tls").chain(["1.3".to_owned(), "1.2".to_owned()]).collect();
    let mut transports = Vec::new();
    for tls in versions.into_iter().rev() {
        for (group, post_quantum) in &groups {
            transports.push(Transport {
                tls: tls.clone(),
                group: (*group).to_owned(),
                post_quantum: *post_quantum,
            });
        }
    }
    transports
}

/// What makes the parameters fit the tool: those that are missing, out of bounds or unknown to it.
fn fitting(set: &PolicySet, question: &Question, changes: &mut Vec<Change>) {
    let Action::Call(name) = &question.action else { return };
    let Some(tool) = set.tools().named(name) else { return };
    let given = &question.context.parameters;
    let unknown = given.keys().filter(|name| !tool.parameters.contains_key(name.as_str()));
    changes.extend(unknown.cloned().map(Change::NoParameter));
    for (name, limits) in &tool.parameters {
        let mut add = |value| changes.push(Change::Parameter(name.as_str().to_owned(), value));
        match given.get(name.as_str()) {
            Some(Parameter::Number(number)) => {
                add(Parameter::Number((*number).clamp(limits.min, limits.max)));
            }
            Some(Parameter::Text(_)) => {
                limits.one_of.iter().cloned().map(Parameter::Text).for_each(add);
            }
            None if limits.optional => {}
            Some(Parameter::Flag(_) | Parameter::Texts(_)) | None => add(least(limits)),
        }
    }
}

/// Other values of the parameters that are given: those that policies compare them with.
fn parameters(question: &Question, words: &Vocabulary, changes: &mut Vec<Change>) {
    for (name, value) in &question.context.parameters {
        let mut add = |value| changes.push(Change::Parameter(name.clone(), value));
        match value {
            Parameter::Flag(flag) => add(Parameter::Flag(!flag)),
            Parameter::Number(_) => {
                // The greatest that will do is the least to ask for.
                words.numbers(name).into_iter().rev().map(Parameter::Number).for_each(&mut add);
            }
            Parameter::Text(_) => words.texts(name).map(Parameter::Text).for_each(&mut add),
            Parameter::Texts(_) => {
                let all: BTreeSet<_> = words.texts(name).collect();
                let one = all.iter().map(|text| BTreeSet::from([text.clone()]));
                one.map(Parameter::Texts).for_each(&mut add);
                add(Parameter::Texts(all));
                add(Parameter::Texts(BTreeSet::new()));
            }
        }
    }
}
