//! How long a decision takes with 1,000 policies and 10,000 identities: a realistic mix, and the bad
//! case that no policy says in its scope whom it is about.
//!
//! That nothing is left out that should be looked at is tested beside the code, against all policies
//! evaluated together.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::use_debug,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use claviger_core::decision::{
    Action, Context, EvidenceShown, Parameter, Party, Question, Resource, Verdict,
};
use claviger_core::evidence::{Bond, Tier};
use claviger_core::time::UnixTime;
use claviger_policy::{PolicySet, Source};
use rustix::time::{ClockId, clock_gettime};

/// p99 of a decision.
const TARGET: Duration = Duration::from_micros(100);

const POLICIES: usize = 1_000;
const IDENTITIES: usize = 10_000;
const GROUPS: usize = 200;
const TOOLS: usize = 50;
const QUESTIONS: usize = 20_000;
const PASSES: usize = 4;

fn main() -> ExitCode {
    let mut met = true;
    for (name, policies) in [("a realistic mix", mixed()), ("no policy has a scope", unscoped())] {
        let began = now();
        let set = compile(policies);
        println!("{name}: {} policies compiled in {:?}", set.count(), now() - began);
        met &= measure(name, &set);
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The processor time of this thread: what else runs on this machine is no matter.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

fn compile(policies: String) -> PolicySet {
    let files =
        [("bench.cedar", policies), ("identities.toml", identities()), ("tools.toml", tools())];
    let files = files.map(|(name, text)| (name.to_owned(), text)).to_vec();
    PolicySet::compile(Source::new(files)).unwrap()
}

/// Decides all questions [`PASSES`] times, and reports the least time of each: the first pass fills the
/// processor's caches, and now and then the machine under this one is at something else.
fn measure(name: &str, set: &PolicySet) -> bool {
    let questions: Vec<_> = (0..QUESTIONS).map(question).collect();
    let permitted = questions.iter().filter(|it| set.decide(it).verdict == Verdict::Permit).count();
    let mut times = vec![Duration::MAX; QUESTIONS];
    for _pass in 0..PASSES {
        for (question, least) in questions.iter().zip(&mut times) {
            let began = now();
            let decision = set.decide(question);
            *least = (*least).min(now() - began);
            assert!(decision.errors.is_empty(), "{:?}", decision.errors);
        }
    }
    times.sort_unstable();
    let (p50, p99) = (times[QUESTIONS / 2], times[QUESTIONS * 99 / 100]);
    let met = p99 < TARGET;
    println!(
        "{name}: p50 {p50:?}, p99 {p99:?} of {QUESTIONS} decisions, {permitted} of them permits; \
         target p99 < {TARGET:?}: {}",
        if met { "met" } else { "missed" }
    );
    met
}

/// Numbers that look random and are the same every time.
fn pick(seed: usize, most: usize) -> usize {
    let mixed =
        (seed as u64).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from((mixed ^ (mixed >> 31)) % most as u64).unwrap()
}

fn id(number: usize) -> String {
    format!("spiffe://example.org/team-{}/service-{number}", number % GROUPS)
}

fn identities() -> String {
    let mut text = String::new();
    for group in 0..GROUPS {
        let above = if group < 20 { String::new() } else { format!("\"group-{}\"", group % 20) };
        writeln!(text, "[[group]]\nname = \"group-{group}\"\nin = [{above}]").unwrap();
    }
    for number in 0..IDENTITIES {
        writeln!(
            text,
            "[[identity]]\nid = \"{}\"\ngroups = [\"group-{}\"]\npurposes = [\"read\", \"job-{}\"]\n\
             owner = \"team-{}\"\ntenant = \"tenant-{}\"\nstage = \"build\"",
            id(number),
            number % GROUPS,
            number % 7,
            number % GROUPS,
            number % 3,
        )
        .unwrap();
    }
    text
}

fn tools() -> String {
    let mut text = String::new();
    for tool in 0..TOOLS {
        writeln!(
            text,
            "[[tool]]\nname = \"tool-{tool}\"\n[tool.parameters.amount]\ntype = \"number\"\nmin = 1"
        )
        .unwrap();
    }
    text
}

/// Between services and between groups, for tools, and a few for everybody.
fn mixed() -> String {
    let mut text = String::new();
    for number in 0..POLICIES {
        let (a, b) = (pick(number, GROUPS), pick(number + 7, GROUPS));
        match number % 20 {
            0 => writeln!(
                text,
                "forbid (principal, action in Action::\"reach\", resource) when {{ \
                 principal has tenant && resource has tenant && principal.tenant != resource.tenant \
                 && resource has stage && resource.stage == \"stage-{number}\" }};"
            ),
            1..=3 => writeln!(
                text,
                "@rate(\"60/1m\") permit (principal in Group::\"group-{a}\", \
                 action == Action::\"call:tool-{}\", resource) \
                 when {{ context.parameters.amount <= {number} }};",
                number % TOOLS
            ),
            4..=9 => writeln!(
                text,
                "permit (principal == Identity::\"{}\", action in Action::\"reach\", \
                 resource == Identity::\"{}\") when {{ context.purpose == \"read\" }};",
                id(a),
                id(b)
            ),
            10..=11 => writeln!(
                text,
                "permit (principal in Group::\"group-{a}\", action in Action::\"issue\", resource) \
                 when {{ context has evidence && context.evidence.tier == \"affirming\" }};"
            ),
            _ => writeln!(
                text,
                "permit (principal in Group::\"group-{a}\", action in Action::\"reach\", \
                 resource in Group::\"group-{b}\") when {{ context.risk < 50 && \
                 principal.purposes.contains(context.purpose) }};"
            ),
        }
        .unwrap();
    }
    text
}

/// For everybody, everything and everywhere: whom they are about is in their conditions.
fn unscoped() -> String {
    let mut text = String::new();
    for number in 0..POLICIES {
        let (a, b) = (pick(number, GROUPS), pick(number, IDENTITIES));
        let condition = match number % 5 {
            0 => format!("principal == Identity::\"{}\"", id(b)),
            1 => format!("principal in Group::\"group-{a}\""),
            2 => format!("principal.path == \"/team-{a}/service-{b}\""),
            3 => format!("principal.purposes.contains(\"job-{number}\")"),
            _ => format!("principal has owner && principal.owner == \"owner-{number}\""),
        };
        let effect = if number % 10 == 0 { "forbid" } else { "permit" };
        writeln!(
            text,
            "{effect} (principal, action, resource) when {{ {condition} && context.risk < 90 }};"
        )
        .unwrap();
    }
    text
}

fn question(number: usize) -> Question {
    let party = |number: usize| {
        let selectors = ["k8s:ns:shop".parse().unwrap(), "k8s:sa:web".parse().unwrap()];
        let (tier, selectors) = (Tier::Affirming, selectors.into_iter().collect());
        Party { tier, selectors, ..Party::new(id(number).parse().unwrap()) }
    };
    let identity = |seed: usize| party(pick(seed, IDENTITIES));
    let tool = || format!("tool-{}", pick(number, TOOLS));
    let (action, resource) = match number % 10 {
        0..=4 => (Action::Connect, Resource::Identity(identity(number + 1))),
        5..=6 => (Action::IssuePsk, Resource::Identity(identity(number + 1))),
        7 => (Action::IssueX509, Resource::TrustDomain("example.org".parse().unwrap())),
        _ => (Action::Call(tool().parse().unwrap()), Resource::Tool(tool().parse().unwrap())),
    };
    let evidence = EvidenceShown {
        kind: "tpm".to_owned(),
        bond: Bond::Key,
        tier: Tier::Affirming,
        age_seconds: 9,
    };
    let amount = i64::try_from(1 + number % 1_000).unwrap();
    let context = Context {
        time: UnixTime::from_secs(1_800_000_000),
        requester: Some("agent".to_owned()),
        evidence: Some(evidence),
        ttl_seconds: Some(60),
        purpose: Some("read".parse().unwrap()),
        parameters: [("amount".to_owned(), Parameter::Number(amount))].into(),
        ..Context::default()
    };
    Question { principal: identity(number), action, resource, context }
}
