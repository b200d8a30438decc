//! Streams (SPIFFE Workload API §4.3, §8).

use super::super::answer::Answer;
use super::super::client::{State, Watched};
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let first = &observed.first;
    stream(&first.x509, notes);
    stream(&first.x509_bundles, notes);
    stream(&first.jwt_bundles, notes);
    stream(&first.wit, notes);
    stream(&first.wit_bundles, notes);
    if let (Some(one), Some(other)) = (first.x509.first.given(), first.x509.again.given()) {
        order("FetchX509SVID", one, other, notes);
    }
    if let (Some(one), Some(other)) = (first.wit.first.given(), first.wit.again.given()) {
        order("FetchWITSVID", one, other, notes);
    }
}

fn stream<M: State>(watched: &Watched<M>, notes: &mut Notes) {
    let rpc = watched.rpc.name();
    let late = |answer: &Answer<M>| matches!(answer, Answer::Late);
    let (first, again) = (&watched.first, &watched.again);
    let seen = ensure(!late(first) && !late(again), || format!("{rpc}: no message in time"));
    notes.must(8, "the first message of a stream comes at once", seen);
    let (Some(first), again) = (first.given(), again.given()) else { return };
    let Some(again) = again else { return };
    let set = |message: &M| {
        let mut contents: Vec<_> = message.contents().into_iter().map(str::to_owned).collect();
        contents.sort_unstable();
        contents
    };
    let (one, other) = (set(first), set(again));
    let seen = ensure(one == other, || format!("{rpc}: {one:?}, then on another stream {other:?}"));
    notes.must(8, "every message has the full set", seen);
    let seen = ensure(watched.repeated == 0, || {
        format!("{rpc}: {} messages that equal the one before", watched.repeated)
    });
    notes.should(8, "a stream has news when something changed, and no other", seen);
}

/// The first identity is the default one, and has to stay it.
fn order<M: State>(rpc: &str, one: &M, other: &M, notes: &mut Notes) {
    let (one, other) = (one.contents(), other.contents());
    let (first, again) = (one.first(), other.first());
    let seen = ensure(first == again || one.len() != other.len(), || {
        format!("{rpc}: {one:?}, then on another stream {other:?}")
    });
    notes.must(17, "the default identity, which is the first, stays the first", seen);
}
