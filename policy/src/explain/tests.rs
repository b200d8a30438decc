use claviger_core::standing::Risk;
use proptest::prelude::*;

use super::*;
use crate::situation::Situation;
use crate::source::Source;

const POLICY: &str = r#"
@id("pipeline")
permit (principal in Group::"ranker", action in Action::"reach", resource in Group::"store")
when { context.purpose == "rank" && context.risk < 40 };
@id("evaluation-only-reads")
@reason("an evaluation agent does not write to the feature store")
forbid (principal, action in Action::"reach", resource)
when { principal has stage && principal.stage == "evaluation" && context.purpose == "write" };
@id("fresh")
permit (principal == Identity::"spiffe://example.org/job", action == Action::"connect", resource)
when { context has evidence && context.evidence.age_seconds <= 300 && context has transport &&
       context.transport.post_quantum };
"#;

const IDENTITIES: &str = r#"
[[group]]
name = "ranker"
[[group]]
name = "store"
[[identity]]
id = "spiffe://example.org/rank/*"
groups = ["ranker"]
stage = "serving"
[[identity]]
id = "spiffe://example.org/store"
groups = ["store"]
stage = "serving"
[[identity]]
id = "spiffe://example.org/eval"
groups = ["ranker"]
stage = "evaluation"
"#;

fn set() -> PolicySet {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let source = Source::new(vec![file("a.cedar", POLICY), file("identities.toml", IDENTITIES)]);
    PolicySet::compile(source).unwrap()
}

fn question(from: &str, to: &str, purpose: &str, risk: u8) -> Question {
    let id = |name: &str| format!("spiffe://example.org/{name}");
    let situation = Situation { risk: Risk::try_from(risk).unwrap(), ..Situation::default() };
    let purpose = Some(purpose.parse().unwrap());
    situation.asked(id(from).parse().unwrap(), Action::Connect, Some(&id(to)), purpose).unwrap()
}

#[track_caller]
fn remedy(from: &str, to: &str, purpose: &str, risk: u8) -> Vec<String> {
    explain(&set(), &question(from, to, purpose, risk)).remedy.unwrap().changes
}

#[test]
fn the_smallest_change_is_named() {
    assert_eq!(remedy("rank/1", "store", "rank", 60), ["bring the risk of the principal to 39 %"]);
    assert_eq!(remedy("rank/1", "store", "read", 0), ["ask for the purpose `rank`"]);
    assert_eq!(
        remedy("web", "store", "rank", 0),
        ["put spiffe://example.org/web into the group `ranker` (identities.toml)"]
    );
    assert_eq!(
        remedy("rank/1", "store", "read", 60),
        ["ask for the purpose `rank`", "bring the risk of the principal to 39 %"]
    );
}

#[test]
fn fresh_evidence_and_a_transport_come_together() {
    let changes = remedy("job", "web", "any", 0);
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(
        changes[0].starts_with("present evidence") && changes[1].contains("post-quantum"),
        "{changes:?}"
    );
}

#[test]
fn a_denial_carries_its_reason_and_its_policies() {
    let explanation = explain(&set(), &question("eval", "store", "write", 0));
    assert_eq!(explanation.decision.policies, ["a.cedar#evaluation-only-reads"]);
    let reason = "an evaluation agent does not write to the feature store";
    assert_eq!(explanation.decision.reasons, [reason]);
    assert!(explanation.policies[0].text.contains("principal.stage"), "{explanation:?}");
    assert_eq!(explanation.remedy.unwrap().changes, ["ask for the purpose `rank`"]);
}

#[test]
fn if_nothing_else_helps_a_policy_is_written() {
    let changes = remedy("web", "other", "mail", 0);
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(
        change.contains("permit (") && change.contains("context.purpose == \"mail\""),
        "{change}"
    );
}

#[test]
fn what_is_permitted_needs_no_remedy() {
    assert_eq!(explain(&set(), &question("rank/1", "store", "rank", 0)).remedy, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Whatever is denied, what is suggested permits it, and was proved to by asking.
    #[test]
    fn what_is_suggested_is_permitted(
        from in prop::sample::select(vec!["rank/1", "eval", "web", "job", "store"]),
        to in prop::sample::select(vec!["store", "web", "rank/1"]),
        purpose in prop::sample::select(vec!["rank", "write", "mail"]),
        risk in 0_u8..=100,
    ) {
        let set = set();
        let explanation = explain(&set, &question(from, to, purpose, risk));
        if explanation.decision.verdict == Verdict::Deny {
            let remedy = explanation.remedy.expect("something always helps");
            prop_assert_eq!(remedy.decision.verdict, Verdict::Permit);
            prop_assert!((1..=2).contains(&remedy.changes.len()));
            if remedy.decision.policy == set.digest() {
                prop_assert_eq!(set.decide(&remedy.question), remedy.decision);
            } else {
                prop_assert_ne!(set.decide(&remedy.question).verdict, Verdict::Permit);
            }
        }
    }
}
