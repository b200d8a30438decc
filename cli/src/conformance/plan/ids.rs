//! SPIFFE IDs, asked for by somebody who is not entitled to them (SPIFFE-ID §2).

use super::{DENIED, Grounds, INVALID, INVALID_OR_DENIED, Level, Plan, Want};
use crate::conformance::client::Ask;

const MALFORMED: &str = "an ID that is none is refused with INVALID_ARGUMENT or PERMISSION_DENIED";
const SOMEBODY: &str = "a well-formed ID of somebody else is refused with PERMISSION_DENIED";

pub(super) fn plans(grounds: &Grounds<'_>) -> Vec<Plan> {
    let mut plans = audiences();
    if let (Some(id), Some(trust_domain)) = (grounds.id, grounds.trust_domain) {
        let malformed = malformed(id, trust_domain).into_iter();
        plans.extend(malformed.map(|(check, id)| fetch(grounds, check, id, INVALID_OR_DENIED)));
        let strange = strange(id, trust_domain).into_iter();
        plans.extend(strange.map(|(check, id)| fetch(grounds, check, id, DENIED)));
    }
    plans
}

/// The same for `FetchWITSVID`.
pub(super) fn wit_plans() -> Vec<Plan> {
    let plan = |expected, id: &str, want| Plan {
        check: 16,
        level: Level::Should,
        expected,
        what: format!("FetchWITSVID of `{id}`"),
        ask: Ask::FetchWit { spiffe_id: id.to_owned() },
        want,
    };
    vec![
        plan(MALFORMED, "nobody", INVALID_OR_DENIED),
        plan(SOMEBODY, "spiffe://nobody.test/at-all", DENIED),
    ]
}

fn fetch(grounds: &Grounds<'_>, check: u8, id: String, want: Want) -> Plan {
    let denied = want == DENIED;
    Plan {
        check,
        level: if denied { Level::Should } else { Level::Must },
        expected: if denied { SOMEBODY } else { MALFORMED },
        what: format!("FetchJWTSVID of `{id}`"),
        ask: Ask::FetchJwt { audience: vec![grounds.audience.to_owned()], spiffe_id: id },
        want,
    }
}

/// Mostly one's own ID, written in a way that a server might repair instead of refusing it.
pub(in crate::conformance) fn malformed(id: &str, trust_domain: &str) -> Vec<(u8, String)> {
    let path = id.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(trust_domain));
    let path = path.filter(|path| !path.is_empty()).unwrap_or("/x");
    let escaped: String =
        path.bytes().map(|b| if b == b'/' { "/".into() } else { format!("%{b:02x}") }).collect();
    let td = trust_domain;
    vec![
        (18, format!("https://{td}{path}")),
        (18, format!("{td}{path}")),
        (18, format!("spiffe:/{td}{path}")),
        (18, format!("spiffe://{path}")),
        (18, format!("{id}?x=y")),
        (18, format!("{id}#x")),
        (19, format!("spiffe://nobody@{td}{path}")),
        (19, format!("spiffe://{td}:443{path}")),
        (19, format!("spiffe://%61{td}{path}")),
        (19, format!("spiffe://{td}!{path}")),
        (19, format!("spiffe://[::1]{path}")),
        (20, format!("{id}/")),
        (20, format!("spiffe://{td}/{path}")),
        (20, format!("{id}/.")),
        (20, format!("{id}/x/..")),
        (20, format!("spiffe://{td}{escaped}")),
        (20, format!("{id}\u{fc}")),
        (20, format!("{id} ")),
        (21, format!("spiffe://{}/x", "a".repeat(256))),
    ]
}

/// Well-formed, and nobody's.
fn strange(id: &str, trust_domain: &str) -> Vec<(u8, String)> {
    let longest = |start: String| {
        let fill = 2048_usize.saturating_sub(start.len());
        start + &"x".repeat(fill)
    };
    let mut strange = vec![
        (13, format!("spiffe://{trust_domain}/claviger-conformance/nobody")),
        (19, "spiffe://192.0.2.1/nobody".to_owned()),
        (19, "spiffe://no_body.a-b.test/nobody".to_owned()),
        (20, format!("spiffe://{trust_domain}/No.Body_0-/...")),
        (21, longest(format!("spiffe://{trust_domain}/"))),
        (21, format!("spiffe://{}/nobody", "a".repeat(255))),
    ];
    let swap = |c: char| {
        if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    };
    let start = format!("spiffe://{trust_domain}");
    if let Some(path) = id.strip_prefix(&start) {
        let swapped: String = path.chars().map(swap).collect();
        if swapped != path {
            strange.push((22, start + &swapped));
        }
    }
    strange
}

/// Audiences that are none (SPIFFE Workload API §4.5, §6.2.1).
fn audiences() -> Vec<Plan> {
    [("no audience", vec![]), ("an empty audience", vec![""])]
        .map(|(what, audience)| Plan {
            check: 10,
            level: Level::Should,
            expected: "FetchJWTSVID without an audience is refused with INVALID_ARGUMENT, at once",
            what: format!("FetchJWTSVID with {what}"),
            ask: Ask::FetchJwt {
                audience: audience.into_iter().map(str::to_owned).collect(),
                spiffe_id: String::new(),
            },
            want: INVALID,
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::spiffe_id;

    #[test]
    fn what_is_asked_for_is_what_its_check_is_about() {
        let (id, trust_domain) = ("spiffe://example.org/web", "example.org");
        for (check, id) in malformed(id, trust_domain) {
            assert_eq!(spiffe_id::parse(&id).unwrap_err().check, check, "{id}");
        }
        let strange = strange(id, trust_domain);
        for (_, other) in &strange {
            spiffe_id::parse(other).unwrap();
            assert_ne!(other, id);
        }
        assert!(strange.contains(&(22, "spiffe://example.org/WEB".to_owned())));
        assert!(strange.iter().any(|(_, id)| id.len() == 2048));
    }
}
