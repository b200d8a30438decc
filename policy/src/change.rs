//! What could be otherwise about a question: other risk, other evidence, another purpose. Where the
//! policies' answer changes is found among these.

mod candidates;

use std::fmt;

use claviger_core::decision::{EvidenceShown, Parameter, Party, Question, Resource, Transport};
use claviger_core::evidence::Tier;
use claviger_core::psk::{Purpose, Run};
use claviger_core::selector::Selector;
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;
use serde::Serialize;

pub(crate) use self::candidates::{best_evidence, changes, selectors, transports};

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
