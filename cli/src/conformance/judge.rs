//! From what was seen to what it means, check by check.

mod bundles;
mod endpoint;
mod jwt;
mod reflection;
mod streams;
mod wit;
mod x509;

use std::collections::HashSet;

use tonic::Code;

use super::answer::Answer;
use super::notes::{Notes, ensure};
use super::observe::Observed;
use super::report::Advice;
use super::spiffe_id;

/// Notes on everything that was seen.
pub(super) fn judge(observed: &Observed) -> Notes {
    let mut notes = Notes::default();
    endpoint::judge(observed, &mut notes);
    if observed.first.is_silence() {
        notes.all_unseen(1..=66, "nothing is answered in time");
        return notes;
    }
    probes(observed, &mut notes);
    streams::judge(observed, &mut notes);
    reflection::judge(observed, &mut notes);
    x509::judge(observed, &mut notes);
    bundles::judge(observed, &mut notes);
    jwt::judge(observed, &mut notes);
    wit::judge(observed, &mut notes);
    unseen(observed, &mut notes);
    notes
}

/// Why some requests were not made.
const UNASKED: &str = "an RPC that was late too often was not called any more";

/// Requests that were to be granted or refused.
fn probes(observed: &Observed, notes: &mut Notes) {
    for (plan, answer) in &observed.second.probes {
        if matches!(answer, Answer::Unasked) {
            notes.unseen(plan.check, UNASKED);
            continue;
        }
        let seen =
            ensure(plan.want.is_met(answer), || format!("{}: {answer}", shortened(&plan.what)));
        notes.note(plan.check, plan.level, plan.expected, seen);
    }
}

/// Long IDs are told by their beginning.
fn shortened(what: &str) -> String {
    const MAX: usize = 160;

    match what.char_indices().nth(MAX).and_then(|(at, _)| what.split_at_checked(at)) {
        Some((start, _)) => format!("{start}…"),
        None => what.to_owned(),
    }
}

/// Says why the rest was not looked at.
fn unseen(observed: &Observed, notes: &mut Notes) {
    let first = &observed.first;
    if is_nobody(observed) {
        notes.all_unseen(10..=59, "this process has no identity here");
        return;
    }
    if first.jwt.is_unimplemented() {
        notes.all_unseen((13..=15).chain(18..=22).chain(33..=40), "the JWT profile is not served");
    } else if !observed.second.federated {
        notes.all_unseen(
            (15..=15).chain(18..=20).chain(34..=39),
            "what a validator makes of well-signed tokens that break the rule; see --foreign-domain",
        );
    }
    if first.wit.first.is_unimplemented() {
        notes.all_unseen((17..=17).chain(41..=51), "the WIT profile is not served");
    }
    if first.wit_bundles.first.is_unimplemented() {
        notes.unseen(52, "the WIT profile is not served");
    }
    notes.unseen(5, "whether it says UNAVAILABLE while it starts or has too much to do");
    notes.unseen(11, "whether a stream ends when the last identity is withdrawn");
}

/// Whether the caller is refused as somebody who has no identity.
fn is_nobody(observed: &Observed) -> bool {
    let first = &observed.first;
    first.identities().is_empty() && (turned_away(&first.x509.first) || turned_away(&first.jwt))
}

/// Whether a caller is refused for what it is, by whichever code.
fn turned_away<T>(answer: &Answer<T>) -> bool {
    let later = [Code::Unimplemented, Code::Unavailable];
    matches!(answer, Answer::Refused(code, _) if !later.contains(code))
}

/// What the user could do to see more.
pub(super) fn advice(observed: &Observed) -> Vec<Advice> {
    let mut advice = Vec::new();
    if is_nobody(observed) {
        advice.push(Advice::Register);
    } else if !observed.second.federated && observed.first.jwt.given().is_some() {
        advice.push(Advice::Federate);
    }
    advice
}

/// Notes on an ID that a server gave out, by the check that its flaw belongs to.
fn id(notes: &mut Notes, context: &str, id: &str) {
    const EXPECTED: &str = "the IDs given out are SPIFFE IDs";

    match spiffe_id::parse(id) {
        Ok(_) => {
            for check in 18..=22 {
                notes.must(check, EXPECTED, Ok(()));
            }
        }
        Err(flaw) => {
            let seen = format!("{context}: `{}` {}", shortened(id), flaw.why);
            notes.must(flaw.check, EXPECTED, Err(seen));
        }
    }
}

/// Notes on whether each hint, where there is one, is unique and short.
fn hints(notes: &mut Notes, check: u8, rpc: &str, hints: &[&str]) {
    let mut known = HashSet::new();
    for hint in hints.iter().filter(|hint| !hint.is_empty()) {
        let shown = shortened(hint);
        let seen = ensure(known.insert(hint), || format!("{rpc}: `{shown}` is given twice"));
        notes.must(check, "a hint is unique within its response", seen);
        let seen = ensure(hint.len() <= 1024, || format!("{rpc}: one of {} bytes", hint.len()));
        notes.should(17, "a hint has at most 1024 bytes", seen);
    }
}

/// The trust domains of the caller's identities.
fn own_trust_domains(observed: &Observed) -> Vec<&str> {
    let mut domains = Vec::new();
    for id in observed.first.identities() {
        if let Ok(id) = spiffe_id::parse(id)
            && !domains.contains(&id.trust_domain)
        {
            domains.push(id.trust_domain);
        }
    }
    domains
}

/// Notes on whether a bundle map is keyed by trust domain IDs and has the caller's own.
fn keyed(notes: &mut Notes, check: u8, rpc: &str, own: &[&str], keys: &[&str]) {
    for key in keys {
        let parsed = spiffe_id::parse(key);
        let seen = ensure(parsed.is_ok_and(|id| id.path.is_empty()), || {
            format!("{rpc}: the key `{}`", shortened(key))
        });
        notes.must(check, "bundles are keyed by the SPIFFE ID of their trust domain", seen);
    }
    for domain in own {
        let found = keys.iter().any(|key| key.strip_prefix("spiffe://") == Some(domain));
        let seen = ensure(found, || format!("{rpc}: no bundle of spiffe://{domain}"));
        notes.must(check, "the bundle of one's own trust domain is there", seen);
    }
}

/// A number of seconds to compare with a JSON number; exact until the year 2106.
pub(super) fn seconds(seconds: u64) -> f64 {
    f64::from(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// Notes on answers for a single identity: it is given, and no other.
fn by_id<M>(
    notes: &mut Notes,
    check: u8,
    rpc: &str,
    answers: &[(String, Answer<M>)],
    ids: impl Fn(&M) -> Vec<&str>,
) {
    for (id, answer) in answers {
        if matches!(answer, Answer::Unasked) {
            notes.unseen(check, UNASKED);
            continue;
        }
        let seen = match answer.given() {
            Some(message) => ensure(ids(message) == [id.as_str()], || {
                format!("{rpc} of `{id}` gave {:?}", ids(message))
            }),
            None => Err(format!("{rpc} of `{id}`: {answer}")),
        };
        notes.must(check, "who asks for an identity of its own gets that one alone", seen);
    }
}
