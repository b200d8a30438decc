//! Looking only at some of the policies gives the same answers as looking at all of them.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, PolicySet as CedarPolicies};
use claviger_core::decision::{Action, Context, Party, Question, Resource, Verdict};
use claviger_core::evidence::Tier;
use claviger_core::standing::Risk;
use proptest::prelude::*;
use proptest::sample::select;

use crate::rule::Does;
use crate::{LoadError, PolicySet, Source};

/// Sets of policies, and questions to each: a hundred thousand in a release build.
const SETS: u32 = if cfg!(debug_assertions) { 8 } else { 400 };
const QUESTIONS: usize = 250;

const IDENTITIES: &str = r#"
    [[group]]
    name = "g0"
    [[group]]
    name = "g1"
    in = ["g0"]
    [[group]]
    name = "g2"
    in = ["g1"]
    [[identity]]
    id = "spiffe://a.org/x"
    groups = ["g2"]
    purposes = ["p", "q"]
    owner = "o"
    [[identity]]
    id = "spiffe://a.org/y"
    groups = ["g1"]
    tenant = "t"
    data-scopes = ["d"]
    [[identity]]
    id = "spiffe://a.org/below/*"
    groups = ["g0"]
    purposes = ["p"]
    owner = "u"
"#;

const TOOLS: &str = r#"
    [[tool]]
    name = "one"
    groups = ["g1"]
    [[tool]]
    name = "two"
    [tool.parameters.n]
    type = "number"
    optional = true
"#;

const IDS: [&str; 5] = [
    "spiffe://a.org/x",
    "spiffe://a.org/y",
    "spiffe://a.org/below/z",
    "spiffe://b.org/x",
    "spiffe://a.org",
];

fn party() -> impl Strategy<Value = Party> {
    let selectors = select(vec!["unix:uid:7", "model:digest:ab", "k8s:ns:shop"]);
    let tiers = select(vec![Tier::None, Tier::Warning, Tier::Affirming]);
    (select(&IDS[..]), prop::collection::btree_set(selectors, 0..3), tiers, 0_u8..=100).prop_map(
        |(id, selectors, tier, risk)| Party {
            id: id.parse().unwrap(),
            selectors: selectors.into_iter().map(|it| it.parse().unwrap()).collect(),
            tier,
            risk: Risk::try_from(risk).unwrap(),
        },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let actions = vec!["connect", "issue_psk", "issue_wit", "ask", "call:one", "call:two"];
    (select(actions), party(), party(), select(vec!["p", "q", "r"])).prop_map(
        |(action, principal, other, purpose)| {
            let action: Action = action.parse().unwrap();
            let resource = if let Action::Call(tool) = &action {
                Resource::Tool(tool.clone())
            } else if action == Action::IssueWit {
                Resource::TrustDomain("a.org".parse().unwrap())
            } else {
                Resource::Identity(other)
            };
            let context = Context {
                purpose: Some(purpose.parse().unwrap()),
                requester: Some("agent".to_owned()),
                ttl_seconds: Some(60),
                ..Context::default()
            };
            Question { principal, action, resource, context }
        },
    )
}

fn entity() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&IDS[..]).prop_map(|id| format!("Identity::\"{id}\"")),
        (0..3).prop_map(|group| format!("Group::\"g{group}\"")),
        select(vec!["a.org", "b.org"]).prop_map(|name| format!("TrustDomain::\"{name}\"")),
    ]
}

/// Something that may stand before `&&`, for every action.
fn condition() -> impl Strategy<Value = String> {
    let identities = select(vec!["resource is Identity && resource", "principal"]);
    let attributes = select(vec![
        "path == \"/x\"",
        "trust_domain == \"a.org\"",
        "tier == \"warning\"",
        "selectors.contains(\"unix:uid:7\")",
        "models.contains(\"ab\")",
        "purposes.contains(\"p\")",
        "data_scopes.contains(\"d\")",
        "risk < 50",
        "path like \"/below/*\"",
        "registered",
    ]);
    prop_oneof![
        (identities, attributes).prop_map(|(end, attribute)| format!("{end}.{attribute}")),
        entity().prop_map(|entity| format!("principal in {entity}")),
        entity().prop_map(|entity| format!("resource in {entity}")),
        select(&IDS[..]).prop_map(|id| format!("principal == Identity::\"{id}\"")),
        Just("principal has owner && principal.owner == \"o\"".to_owned()),
        Just("principal has tenant".to_owned()),
        Just("principal.tier == \"warning\"".to_owned()),
        Just("Group::\"g2\" in Group::\"g0\"".to_owned()),
        Just("Identity::\"spiffe://a.org/x\".purposes.contains(\"q\")".to_owned()),
        Just("action in Action::\"reach\"".to_owned()),
        select(vec!["<", "<=", ">", ">="]).prop_map(|than| format!("context.risk {than} 50")),
        select(vec!["<", "<=", ">", ">="]).prop_map(|than| format!("principal.risk {than} 50")),
        Just("context.risk < principal.risk".to_owned()),
        Just("context has purpose && context.purpose != \"p\"".to_owned()),
        Just("context has purpose && principal.purposes.contains(context.purpose)".to_owned()),
        Just("!(principal.path == \"/x\")".to_owned()),
        Just("!(principal has owner)".to_owned()),
        Just("resource is Identity && principal.trust_domain != resource.trust_domain".to_owned()),
        Just(
            "resource is Identity && principal has owner && resource has owner && \
             principal.owner == resource.owner"
                .to_owned(),
        ),
        // Too much for a number, at some risks.
        Just("context.risk * 184467440737095516 > 7".to_owned()),
    ]
}

fn policy() -> impl Strategy<Value = String> {
    let effects = select(vec![
        "permit",
        "forbid",
        "@mode(\"observe\") permit",
        "@mode(\"observe\") forbid",
        "permit",
    ]);
    let actions = select(vec![
        "action",
        "action == Action::\"connect\"",
        "action in Action::\"reach\"",
        "action in [Action::\"issue\", Action::\"reach\", Action::\"connect\"]",
        "action in Action::\"call\"",
        "action == Action::\"call:two\"",
    ]);
    let principals = prop_oneof![
        Just("principal".to_owned()),
        Just("principal is Identity".to_owned()),
        select(&IDS[..]).prop_map(|id| format!("principal == Identity::\"{id}\"")),
        (0..3).prop_map(|group| format!("principal in Group::\"g{group}\"")),
        (0..3).prop_map(|group| format!("principal is Identity in Group::\"g{group}\"")),
        Just("principal in TrustDomain::\"a.org\"".to_owned()),
    ];
    let resources = prop_oneof![
        Just("resource".to_owned()),
        Just("resource is Identity".to_owned()),
        Just("resource is Tool".to_owned()),
        entity().prop_map(|entity| format!("resource in {entity}")),
        entity().prop_map(|entity| format!("resource == {entity}")),
        Just("resource == Tool::\"one\"".to_owned()),
    ];
    let conditions = prop::collection::vec(condition(), 0..4);
    (effects, principals, actions, resources, conditions, any::<bool>()).prop_map(
        |(effect, principal, action, resource, conditions, unless)| {
            let conditions = match conditions.as_slice() {
                [] => String::new(),
                some => {
                    let word = if unless { "unless" } else { "when" };
                    format!(" {word} {{ {} }}", some.join(" && "))
                }
            };
            format!("{effect} ({principal}, {action}, {resource}){conditions};")
        },
    )
}

/// Those of `policies`, each on a line, that fit the schema.
fn compile(mut policies: Vec<String>) -> PolicySet {
    loop {
        let files = [
            ("a.cedar", policies.join("\n")),
            ("identities.toml", IDENTITIES.to_owned()),
            ("tools.toml", TOOLS.to_owned()),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text)).to_vec();
        match PolicySet::compile(Source::new(files)) {
            Ok(set) => return set,
            Err(LoadError::Wrong { line: Some(line), .. }) => drop(policies.remove(line - 1)),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The names of the policies that match, and whether any failed, of those that `part` says: by Cedar,
/// over all policies.
fn all_of(
    set: &PolicySet,
    question: &Question,
    part: (bool, Option<Does>),
) -> (BTreeSet<String>, bool) {
    let (observes, does) = part;
    let rules = set.rules().filter(|it| it.observes == observes);
    let rules = rules.filter(|it| does.is_none_or(|does| it.does == does));
    let names: BTreeSet<_> = rules.map(|rule| rule.name.as_str()).collect();
    let policies = set.cedar().policies().filter(|it| names.contains(it.id().to_string().as_str()));
    let policies = CedarPolicies::from_policies(policies.cloned()).unwrap();
    let (request, entities) = set.asked(question).unwrap();
    let response = Authorizer::new().is_authorized(&request, &policies, &entities);
    let reasons = response.diagnostics().reason().map(ToString::to_string).collect();
    (reasons, response.diagnostics().errors().next().is_some())
}

fn check(set: &PolicySet, question: &Question) {
    let decision = set.decide(question);
    let decided: BTreeSet<_> = decision.policies.iter().cloned().collect();
    let (enforced, failed) = all_of(set, question, (false, None));
    if failed {
        assert_eq!((decision.verdict, decision.errors.is_empty()), (Verdict::Deny, false));
        return;
    }
    let (would_permit, _) = all_of(set, question, (true, Some(Does::Permit)));
    let (would_deny, _) = all_of(set, question, (true, Some(Does::Forbid)));
    if enforced.is_empty() {
        let observed = if would_permit.is_empty() { Verdict::Deny } else { Verdict::Observe };
        assert_eq!((decision.verdict, decided), (observed, would_permit));
    } else {
        assert_ne!(decision.verdict, Verdict::Observe);
        assert_eq!(decided, enforced);
        let forbids = set.rules().filter(|rule| rule.does == Does::Forbid);
        let forbidden = forbids.map(|rule| &rule.name).any(|name| enforced.contains(name));
        assert_eq!(decision.verdict == Verdict::Deny, forbidden);
    }
    let observed: BTreeSet<_> = decision.observed.into_iter().collect();
    let expected = if decision.verdict == Verdict::Deny { BTreeSet::new() } else { would_deny };
    assert_eq!(observed, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: SETS, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_out_does_not_matter(
        policies in prop::collection::vec(policy(), 1..12),
        questions in prop::collection::vec(question(), QUESTIONS..=QUESTIONS),
    ) {
        let set = compile(policies);
        questions.iter().for_each(|question| check(&set, question));
    }
}
