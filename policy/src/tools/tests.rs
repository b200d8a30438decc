use claviger_core::decision::{Action, Context, Party, Question, Resource, Verdict};

use crate::{LoadError, PolicySet, Source};

const TOOLS: &str = r#"
    [[tool]]
    name = "execute_trade"
    description = "buys"
    [tool.parameters]
    symbol = { type = "text", one-of = ["AAPL", "MSFT"] }
    amount = { type = "number", min = 1, max = 1000 }
    note = { type = "text", optional = true, max-length = 3 }
    dry-run = { type = "flag", optional = true }
    tags = { type = "texts", optional = true, max-items = 2 }
"#;

const POLICIES: &str = r#"
    permit (principal, action == Action::"call:execute_trade", resource)
    when { context.parameters.amount < 500 };
"#;

fn compile(policies: &str, tools: &str) -> Result<PolicySet, LoadError> {
    let files = [("a.cedar", policies), (super::FILE, tools)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    PolicySet::compile(Source::new(files))
}

fn call(tool: &str, parameters: &str) -> Question {
    Question {
        principal: Party::new("spiffe://example.org/bot".parse().unwrap()),
        action: Action::Call(tool.parse().unwrap()),
        resource: Resource::Tool(tool.parse().unwrap()),
        context: Context {
            parameters: serde_json::from_str(parameters).unwrap(),
            ..Context::default()
        },
    }
}

#[test]
fn a_call_is_permitted_if_its_parameters_are_as_declared() {
    let set = compile(POLICIES, TOOLS).unwrap();
    let verdict = |parameters| set.decide(&call("execute_trade", parameters)).verdict;
    assert_eq!(verdict(r#"{"symbol":"AAPL","amount":1}"#), Verdict::Permit);
    let all = r#"{"symbol":"AAPL","amount":1,"note":"äöü","dry-run":true,"tags":["a","b"]}"#;
    assert_eq!(verdict(all), Verdict::Permit);
    assert_eq!(verdict(r#"{"symbol":"AAPL","amount":700}"#), Verdict::Deny);
}

#[test]
fn a_parameter_that_is_not_as_declared_denies_and_its_value_is_not_told() {
    let set = compile(POLICIES, TOOLS).unwrap();
    for (parameters, reason) in [
        (r#"{"symbol":"AAPL"}"#, "the parameter `amount` is missing"),
        (r#"{"Amount":1,"symbol":"AAPL"}"#, "`execute_trade` has no parameter \"Amount\""),
        (r#"{"symbol":"AAPL","amount":"1"}"#, "the parameter `amount` is not of type `number`"),
        (r#"{"symbol":"AAPL","amount":0}"#, "the parameter `amount` is less than 1"),
        (r#"{"symbol":"AAPL","amount":1001}"#, "the parameter `amount` is greater than 1000"),
        (
            r#"{"symbol":"secret","amount":1}"#,
            "the parameter `symbol` is none of the values that are allowed",
        ),
        (
            r#"{"symbol":"AAPL","amount":1,"note":"abcd"}"#,
            "the parameter `note` is longer than 3 characters",
        ),
        (
            r#"{"symbol":"AAPL","amount":1,"tags":["a","b","c"]}"#,
            "the parameter `tags` has more than 2 texts",
        ),
        (
            r#"{"symbol":"AAPL","amount":1,"dry-run":0}"#,
            "the parameter `dry-run` is not of type `flag`",
        ),
    ] {
        let decision = set.decide(&call("execute_trade", parameters));
        assert_eq!((decision.verdict, decision.reasons), (Verdict::Deny, vec![reason.to_owned()]));
    }
}

#[test]
fn a_tool_that_is_not_declared_is_denied() {
    let set = compile("permit (principal, action, resource);", TOOLS).unwrap();
    let decision = set.decide(&call("transfer", "{}"));
    assert_eq!((decision.verdict, decision.reasons.len()), (Verdict::Deny, 1));
    let other = Resource::Tool("other".parse().unwrap());
    let fitting = call("execute_trade", r#"{"symbol":"AAPL","amount":1}"#);
    assert_eq!(set.decide(&fitting).verdict, Verdict::Permit);
    assert_eq!(set.decide(&Question { resource: other, ..fitting }).verdict, Verdict::Deny);
}

#[test]
fn a_tool_that_a_policy_names_cannot_be_removed() {
    for policies in [
        POLICIES,
        "\npermit (principal, action in Action::\"call\", resource == Tool::\"execute_trade\");",
    ] {
        compile(policies, TOOLS).unwrap();
        let error = compile(policies, "").unwrap_err().to_string();
        assert!(error.contains("`a.cedar`, line 2") && error.contains("execute_trade"), "{error}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    let refuses = |text: &str, wanted: &[&str]| {
        let error = compile("", text).unwrap_err().to_string();
        for part in [super::FILE].iter().chain(wanted) {
            assert!(error.contains(part), "{error}");
        }
    };
    let parameter = |rest: &str| format!("[[tool]]\nname = \"a\"\n[tool.parameters.b]\n{rest}");
    refuses("[[tool]]\nname = \"two words\"", &["line 2"]);
    refuses(&"[[tool]]\nname = \"a\"\n".repeat(2), &["line 4", "twice"]);
    refuses("[[tool]]\nname = \"a\"\ngroups = [\"b\"]", &["line 3", "no group `b`"]);
    refuses(&parameter("type = \"date\""), &["line 4"]);
    refuses(&parameter("type = \"text\"\nmin = 1"), &["line 5", "`min`", "`text`"]);
    refuses(&parameter("type = \"number\"\nmin = 2\nmax = 1"), &["line 4", "between 2 and 1"]);
    refuses(&parameter("type = \"text\"\none-of = []"), &["line 5"]);
    refuses(&parameter("optional = true"), &["line 3", "type"]);
    refuses("[[tool]]\nname = \"a\"\n[tool.parameters.\"b c\"]\ntype = \"text\"", &["line 3"]);
    let many: String = (0..1_001).map(|n| format!("[[tool]]\nname = \"{n}\"\n")).collect();
    refuses(&many, &["1001 tools", "at most 1000"]);
}
