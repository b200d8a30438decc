use cedar_policy::Entities;
use claviger_core::decision::{Action, Context, Party, Question, Resource};

use crate::{PolicySet, Source};

const IDENTITIES: &str = r#"
    [[group]]
    name = "all"
    [[group]]
    name = "web"
    in = ["all"]
    [[identity]]
    id = "spiffe://example.org/web"
    groups = ["web"]
    purposes = ["read"]
    owner = "shop"
    tenant = "acme"
    stage = "build"
    ring = "canary"
    data-scopes = ["orders"]
"#;

const TOOLS: &str = r#"
    [[tool]]
    name = "mail/send"
    groups = ["all"]
    [tool.parameters.to]
    type = "text"
"#;

fn set(policies: &str) -> PolicySet {
    let files = [("a.cedar", policies), ("identities.toml", IDENTITIES), ("tools.toml", TOOLS)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    PolicySet::compile(Source::new(files)).unwrap()
}

fn party(name: &str) -> Party {
    let selectors = ["model:digest:c443".parse().unwrap(), "unix:uid:7".parse().unwrap()];
    let selectors = selectors.into_iter().collect();
    Party { selectors, ..Party::new(format!("spiffe://example.org/{name}").parse().unwrap()) }
}

#[test]
fn entities_fit_the_schema() {
    let policies = r#"
        permit (principal, action == Action::"connect", resource)
        when {
            Group::"web" in Group::"all" && Tool::"mail/send" in Group::"all" &&
            Identity::"spiffe://example.org/web".registered &&
            Action::"connect" in Action::"reach" && Action::"call:mail/send" in Action::"call" &&
            principal.models.contains("c443") && principal.selectors.contains("unix:uid:7")
        };
    "#;
    let set = set(policies);
    let context = Context { purpose: Some("read".parse().unwrap()), ..Context::default() };
    let question = Question {
        principal: party("web"),
        action: Action::Connect,
        resource: Resource::Identity(party("db")),
        context,
    };
    let (_, entities) = set.asked(&question).unwrap();
    let tool = Question {
        action: Action::Call("mail/send".parse().unwrap()),
        resource: Resource::Tool("mail/send".parse().unwrap()),
        context: Context {
            parameters: serde_json::from_str(r#"{"to":"a"}"#).unwrap(),
            ..Context::default()
        },
        ..question.clone()
    };
    let (_, with_a_tool) = set.asked(&tool).unwrap();
    for entities in [entities, with_a_tool] {
        // What is only named has no attested attributes, so that no policy relies on them.
        let complete = entities.iter().filter(|entity| {
            entity.uid().type_name().basename() != "Identity" || entity.attr("risk").is_some()
        });
        Entities::from_entities(complete.cloned(), Some(set.schema())).unwrap();
    }
    let decision = set.decide(&question);
    assert_eq!(decision.policies, ["a.cedar#policy0"], "{decision:?}");
}

#[test]
fn nothing_is_attested_of_an_identity_that_is_only_named() {
    let set = set(r#"
        permit (principal, action == Action::"connect", resource);
        forbid (principal, action == Action::"connect", resource)
        when { Identity::"spiffe://example.org/web".risk > 50 };
    "#);
    let context = Context { purpose: Some("read".parse().unwrap()), ..Context::default() };
    let ask = |from: &str| {
        set.decide(&Question {
            principal: party(from),
            action: Action::Connect,
            resource: Resource::Identity(party("db")),
            context: context.clone(),
        })
    };
    assert_eq!(ask("cache").errors.len(), 1);
    assert_eq!(ask("web").policies, ["a.cedar#policy0"], "of who asks it is known");
}
