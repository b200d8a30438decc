//! The security header, and RPCs that do not exist (SPIFFE Workload Endpoint §3, §6).

use tonic::Code;

use super::{Grounds, INVALID, Level, Plan, Want};
use crate::conformance::client::{Ask, Rpc};

/// All wrong. What HTTP/2 does not carry unharmed, such as a blank at the end, is not among them.
const WRONG: [(&str, &[&str]); 8] = [
    ("no header", &[]),
    ("the value `True`", &["True"]),
    ("the value `TRUE`", &["TRUE"]),
    ("the value `1`", &["1"]),
    ("the value `false`", &["false"]),
    ("the empty value", &[""]),
    ("the value `true` twice", &["true", "true"]),
    ("the values `true` and `false`", &["true", "false"]),
];

/// An RPC that is not served may be refused for that reason already.
const INVALID_OR_MISSING: Want = Want::Refused(&[Code::InvalidArgument, Code::Unimplemented]);

pub(super) fn plans(grounds: &Grounds<'_>) -> Vec<Plan> {
    let mut plans: Vec<_> = Rpc::ALL
        .into_iter()
        .flat_map(|rpc| WRONG.map(|(what, header)| wrong(grounds, rpc, what, header)))
        .collect();
    plans.push(unknown(
        "with the security header",
        &["true"],
        Want::Refused(&[Code::Unimplemented]),
    ));
    plans.push(unknown("without the security header", &[], INVALID_OR_MISSING));
    plans
}

fn wrong(grounds: &Grounds<'_>, rpc: Rpc, what: &str, header: &'static [&'static str]) -> Plan {
    Plan {
        check: 2,
        level: Level::Must,
        expected: "a request without exactly `workload.spiffe.io: true` is refused with \
                   INVALID_ARGUMENT",
        what: format!("{} with {what}", rpc.name()),
        ask: Ask::Header(rpc, header),
        want: if is_unimplemented(grounds, rpc) { INVALID_OR_MISSING } else { INVALID },
    }
}

fn is_unimplemented(grounds: &Grounds<'_>, rpc: Rpc) -> bool {
    let first = grounds.first;
    match rpc {
        Rpc::FetchX509Svid => first.x509.first.is_unimplemented(),
        Rpc::FetchX509Bundles => first.x509_bundles.first.is_unimplemented(),
        // Nothing was validated yet; it belongs to the same profile.
        Rpc::FetchJwtSvid | Rpc::ValidateJwtSvid => first.jwt.is_unimplemented(),
        Rpc::FetchJwtBundles => first.jwt_bundles.first.is_unimplemented(),
        Rpc::FetchWitSvid => first.wit.first.is_unimplemented(),
        Rpc::FetchWitBundles => first.wit_bundles.first.is_unimplemented(),
        Rpc::Other => false,
    }
}

fn unknown(what: &str, header: &'static [&'static str], want: Want) -> Plan {
    Plan {
        check: 5,
        level: Level::Must,
        expected: "an RPC that does not exist is refused with UNIMPLEMENTED",
        what: format!("FetchNothing {what}"),
        ask: Ask::Unknown(header),
        want,
    }
}
