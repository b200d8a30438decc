//! What policies say of themselves, and what becomes of it.

use claviger_core::decision::{
    Action, AuditLevel, Context, Decision, Party, Question, Rate, Resource, Verdict,
};

use crate::{LoadError, PolicySet, Source};

fn compile(policies: &str) -> Result<PolicySet, LoadError> {
    PolicySet::compile(Source::new(vec![("a.cedar".to_owned(), policies.to_owned())]))
}

fn decide(policies: &str) -> Decision {
    let party = |id: &str| Party::new(id.parse().unwrap());
    let purpose = Some("read".parse().unwrap());
    compile(policies).unwrap().decide(&Question {
        principal: party("spiffe://example.org/a"),
        action: Action::Connect,
        resource: Resource::Identity(party("spiffe://example.org/b")),
        context: Context { purpose, ..Context::default() },
    })
}

const ALL: &str = "(principal, action == Action::\"connect\", resource)";

#[test]
fn a_permit_that_observes_lets_through_what_would_be_denied() {
    let decision = decide(&format!(
        "@id(\"soon\") @mode(\"observe\") @reason(\"we look first\") @rate(\"1/1s\") \
         @approval(\"human\") @audit(\"full\") permit {ALL};"
    ));
    assert_eq!(decision.verdict, Verdict::Observe);
    assert_eq!(decision.policies, ["a.cedar#soon"]);
    assert_eq!(decision.reasons, ["we look first"]);
    let obligations = decision.obligations;
    assert_eq!((obligations.rate, obligations.approval), (None, false));
    assert_eq!(obligations.audit, AuditLevel::Full);
}

#[test]
fn a_forbid_that_observes_only_says_so() {
    let observing = format!("@id(\"later\") @mode(\"observe\") forbid {ALL};");
    let permitted = decide(&format!("{observing} @id(\"yes\") permit {ALL};"));
    assert_eq!(permitted.verdict, Verdict::Permit);
    assert_eq!(
        (permitted.policies, permitted.observed),
        (vec!["a.cedar#yes".to_owned()], vec!["a.cedar#later".to_owned()],)
    );
    let observed = decide(&format!("{observing} @mode(\"observe\") permit {ALL};"));
    assert_eq!((observed.verdict, observed.observed.len()), (Verdict::Observe, 1));
    let denied = decide(&observing);
    assert_eq!((denied.verdict, denied.observed.len()), (Verdict::Deny, 0));
}

#[test]
fn a_forbid_that_enforces_always_denies() {
    let forbid = format!("@reason(\"no\") forbid {ALL};");
    for permit in ["permit", "@mode(\"observe\") permit"] {
        let decision = decide(&format!("{forbid} {permit} {ALL};"));
        assert_eq!((decision.verdict, decision.reasons), (Verdict::Deny, vec!["no".to_owned()]));
    }
}

#[test]
fn a_policy_that_fails_denies_unless_it_only_observes() {
    let failing = |mode: &str| {
        decide(&format!(
            "permit {ALL}; {mode} forbid {ALL} when {{ \
             (context.risk + 9223372036854775807) + (context.risk + 1) > 0 }};"
        ))
    };
    let enforced = failing("");
    assert_eq!((enforced.verdict, enforced.errors.len()), (Verdict::Deny, 1));
    let observed = failing("@mode(\"observe\")");
    assert_eq!((observed.verdict, observed.errors.len()), (Verdict::Permit, 1));
}

#[test]
fn of_several_that_permit_the_strictest_obligation_counts() {
    let decision = decide(&format!(
        "@rate(\"5/1m\") permit {ALL}; @rate(\"100/1h\") @audit(\"detailed\") permit {ALL}; \
         @approval(\"human\") permit {ALL};"
    ));
    let obligations = decision.obligations;
    assert_eq!(obligations.rate, Some(Rate { times: 100, seconds: 3_600 }));
    assert!(obligations.approval);
    assert_eq!(obligations.audit, AuditLevel::Detailed);
}

#[test]
fn annotations_are_known_or_refused_with_their_line() {
    for (annotation, wanted) in [
        ("@raet(\"5/1m\")", "@raet: there is no such annotation"),
        ("@mode(\"watch\")", "@mode: it is \"observe\" or \"enforce\""),
        ("@rate(\"5 per minute\")", "@rate"),
        ("@rate(\"0/1m\")", "@rate"),
        ("@rate(\"5/0m\")", "@rate"),
        ("@rate(\"+5/1m\")", "@rate"),
        ("@rate(\"5/31d\")", "30 days"),
        ("@approval(\"robot\")", "@approval: it is \"human\""),
        ("@audit(\"none\")", "@audit"),
        ("@id(\"two words\")", "@id"),
        ("@reason", "@reason"),
    ] {
        let error = compile(&format!("permit {ALL};\n\n{annotation}\npermit {ALL};"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`a.cedar`, line 3") && error.contains(wanted), "{error}");
    }
    let error = compile(&format!("@rate(\"5/1m\") forbid {ALL};")).unwrap_err().to_string();
    assert!(error.contains("for policies that permit"), "{error}");
    for names in [["x", "x"], ["policy1", ""]] {
        let named = names.map(|name| match name {
            "" => format!("permit {ALL};"),
            name => format!("@id(\"{name}\") permit {ALL};"),
        });
        let error = compile(&named.join("\n")).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("two policies"), "{error}");
    }
}

#[test]
fn a_policy_says_where_it_stands() {
    let set = compile(&format!(
        "\npermit {ALL};\n@id(\"b\")\n@suggested(\"seen 7 times\")\nforbid {ALL};"
    ));
    let set = set.unwrap();
    let rules: Vec<_> = set.rules().map(|rule| (rule.name.as_str(), rule.line)).collect();
    assert_eq!(rules, [("a.cedar#policy0", Some(2)), ("a.cedar#b", Some(3))]);
    let suggested = set.rules().filter_map(|rule| rule.suggested.as_deref());
    assert_eq!(suggested.collect::<Vec<_>>(), ["seen 7 times"]);
}

#[test]
fn groups_that_a_policy_names_are_declared() {
    let error = compile("\n\nforbid (principal in Group::\"lost\", action, resource);");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("there is no group `lost`"), "{error}");
}
