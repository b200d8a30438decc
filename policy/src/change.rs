//! What could be otherwise about a question: other risk, other evidence, another purpose. Where the
//! policies' answer changes is found among these.

use std::collections::BTreeSet;
use std::fmt;

use claviger_core::decision::{
    Action, EvidenceShown, Parameter, Party, Question, Resource, Transport,
};
use claviger_core::evidence::{Bond, Tier};
use claviger_core::psk::{Purpose, Run};
use claviger_core::selector::Selector;
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;
use serde::Serialize;

use crate::reach::least;
use crate::set::PolicySet;
use crate::situation::ORDINARY_TIME;
use crate::vocabulary::Vocabulary;

/// Of whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Principal,
    Resource,
}

/// One thing that is otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Purpose(Purpose),
    Risk(Side, Risk),
    Tier(Side, Tier),
    Selector(Side, Selector),
    Evidence(Option<EvidenceShown>),
    Transport(Option<Transport>),
    Parameter(String, Parameter),
    NoParameter(String),
    Time(UnixTime),
    Requester(String),
    Ttl(u64),
    Run(Option<Run>),
    Audience(String),
    DnsName(String),
}

impl Change {
    /// The same question, but for this.
    pub(crate) fn apply(&self, question: &mut Question) {
        let context = &mut question.context;
        match self {
            Self::Purpose(purpose) => context.purpose = Some(purpose.clone()),
            Self::Evidence(shown) => context.evidence.clone_from(shown),
            Self::Transport(transport) => context.transport.clone_from(transport),
            Self::Parameter(name, value) => {
                context.parameters.insert(name.clone(), value.clone());
            }
            Self::NoParameter(name) => {
                context.parameters.remove(name);
            }
            Self::Time(time) => context.time = *time,
            Self::Requester(name) => context.requester = Some(name.clone()),
            Self::Ttl(seconds) => context.ttl_seconds = Some(*seconds),
            Self::Run(run) => context.run.clone_from(run),
            Self::Audience(name) => context.audience = vec![name.clone()],
            Self::DnsName(name) => context.dns_names = vec![name.clone()],
            Self::Risk(side, risk) => {
                with(*side, question, |party| party.risk = *risk);
            }
            Self::Tier(side, tier) => {
                with(*side, question, |party| party.tier = *tier);
            }
            Self::Selector(side, selector) => with(*side, question, |party| {
                party.selectors.insert(selector.clone());
            }),
        }
    }
}

/// Does something to the party on that side; of one and the same identity, to both.
fn with(side: Side, question: &mut Question, act: impl Fn(&mut Party)) {
    let Question { principal, resource, .. } = question;
    let other = match resource {
        Resource::Identity(party) => Some(party),
        Resource::TrustDomain(_) | Resource::Tool(_) => None,
    };
    let same = other.as_ref().is_some_and(|party| party.id == principal.id);
    if same || side == Side::Principal {
        act(principal);
    }
    if let Some(party) = other.filter(|_| same || side == Side::Resource) {
        act(party);
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = |side: &Side| match side {
            Side::Principal => "the principal",
            Side::Resource => "the resource",
        };
        match self {
            Self::Purpose(purpose) => write!(f, "ask for the purpose `{purpose}`"),
            Self::Risk(side, risk) => write!(f, "bring the risk of {} to {risk} %", whose(side)),
            Self::Tier(side, tier) => {
                write!(f, "have {} attest with the tier `{}`", whose(side), tier.name())
            }
            Self::Selector(side, selector) => {
                write!(f, "have `{selector}` attested of {}", whose(side))
            }
            Self::Evidence(None) => f.write_str("present no evidence"),
            Self::Evidence(Some(shown)) => write!(
                f,
                "present evidence of kind `{}`, bond `{}` and tier `{}`, {} s old",
                shown.kind,
                shown.bond.name(),
                shown.tier.name(),
                shown.age_seconds
            ),
            Self::Transport(None) => f.write_str("say nothing of the transport"),
            Self::Transport(Some(transport)) => write!(
                f,
                "connect by TLS {} with {}{}",
                transport.tls,
                transport.group,
                if transport.post_quantum { " (post-quantum)" } else { "" }
            ),
            Self::Parameter(name, value) => {
                write!(f, "call it with `{name}` = {}", Shown(value))
            }
            Self::NoParameter(name) => write!(f, "call it without `{name}`"),
            Self::Time(time) => write!(f, "ask at {time} (seconds since 1970)"),
            Self::Requester(name) => write!(f, "have `{name}` ask for it"),
            Self::Ttl(seconds) => write!(f, "ask for {seconds} s"),
            Self::Run(None) => f.write_str("ask outside of a run"),
            Self::Run(Some(run)) => write!(f, "ask within the run `{}`", run.as_str()),
            Self::Audience(name) => write!(f, "ask for the audience `{name}`"),
            Self::DnsName(name) => write!(f, "ask for the DNS name `{name}`"),
        }
    }
}

impl Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A parameter, as it is written in a table.
pub(crate) struct Shown<'a>(pub(crate) &'a Parameter);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Parameter::Flag(flag) => flag.fmt(f),
            Parameter::Number(number) => number.fmt(f),
            Parameter::Text(text) => fmt::Debug::fmt(text, f),
            Parameter::Texts(texts) => f.debug_list().entries(texts).finish(),
        }
    }
}

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
    if asks_for_a_purpose(action) && words.mentions("purpose") {
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

fn asks_for_a_purpose(action: &Action) -> bool {
    match action {
        Action::Connect
        | Action::IssuePsk
        | Action::RedeemPsk
        | Action::RedeemPskByIdentity
        | Action::Call(_) => true,
        Action::IssueX509
        | Action::IssueX509Ca
        | Action::IssueJwt
        | Action::IssueWit
        | Action::IssueEar
        | Action::Ask
        | Action::Signal => false,
    }
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
