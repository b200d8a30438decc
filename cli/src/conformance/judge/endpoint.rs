//! The endpoint (SPIFFE Workload Endpoint).

use tonic::Code;

use super::super::answer::{Answer, name};
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;
use super::is_nobody;

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let answered =
        ensure(!observed.first.is_silence(), || "no answer in time to any RPC".to_owned());
    notes.must(1, "calls are answered in gRPC", answered);
    if observed.tcp {
        notes.unseen(1, "whether the source address strongly authenticates the caller");
    }
    if observed.first.is_silence() {
        return;
    }
    let first = &observed.first;
    let codes = [code(&first.x509.first), code(&first.x509_bundles.first), code(&first.jwt)];
    let wants_more = codes.contains(&Some(Code::Unauthenticated));
    let seen = ensure(!wants_more, || "UNAUTHENTICATED".to_owned());
    notes.must(3, "calls are answered without TLS and without credentials", seen);
    profiles(observed, notes);
    if is_nobody(observed) {
        nobody(observed, notes);
    }
}

fn profiles(observed: &Observed, notes: &mut Notes) {
    let first = &observed.first;
    for (rpc, missing) in [
        ("FetchX509SVID", first.x509.first.is_unimplemented()),
        ("FetchX509Bundles", first.x509_bundles.first.is_unimplemented()),
        ("FetchJWTSVID", first.jwt.is_unimplemented()),
        ("FetchJWTBundles", first.jwt_bundles.first.is_unimplemented()),
    ] {
        let seen = ensure(!missing, || {
            format!("{rpc}: UNIMPLEMENTED; no fault if an operator disabled the profile")
        });
        notes.must(7, "the X.509 and JWT profiles are served", seen);
    }
    // Asked only if there was a token to ask about.
    for (_, answer) in &observed.second.validated {
        let seen =
            ensure(!answer.is_unimplemented(), || "ValidateJWTSVID: UNIMPLEMENTED".to_owned());
        notes.must(7, "the X.509 and JWT profiles are served", seen);
    }
}

/// How a caller without an identity is refused.
fn nobody(observed: &Observed, notes: &mut Notes) {
    let first = &observed.first;
    for (rpc, code) in [
        ("FetchX509SVID", code(&first.x509.first)),
        ("FetchJWTSVID", code(&first.jwt)),
        ("FetchWITSVID", code(&first.wit.first)),
    ] {
        if code == Some(Code::Unimplemented) {
            continue;
        }
        let seen = ensure(code == Some(Code::PermissionDenied), || {
            format!("{rpc}: {}", code.map_or("no refusal in time", name))
        });
        notes.should(5, "who has no identity is refused with PERMISSION_DENIED", seen);
    }
}

fn code<T>(answer: &Answer<T>) -> Option<Code> {
    match answer {
        Answer::Given(_) => Some(Code::Ok),
        Answer::Refused(code, _) => Some(*code),
        Answer::Late | Answer::Unasked => None,
    }
}
