use super::*;
use crate::source::Source;

const POLICY: &str = r#"
permit (principal, action == Action::"connect", resource)
when { principal.path == "/web" && context.purpose == "read" && context.risk < 50 };
permit (principal, action == Action::"issue_x509", resource) when { context.ttl_seconds <= 3600 };
"#;

fn outcomes(table: &str) -> Result<Vec<Outcome>, LoadError> {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let source = Source::new(vec![file("a.cedar", POLICY), file("a.test.toml", table)]);
    run(&PolicySet::compile(source).unwrap())
}

fn case(fields: &str) -> String {
    format!(
        "[[case]]\nname = \"c\"\nprincipal = \"spiffe://example.org/web\"\naction = \"connect\"\n\
         resource = \"spiffe://example.org/db\"\n{fields}\n"
    )
}

#[test]
fn a_case_passes_if_it_is_decided_as_expected() {
    for (fields, passes) in [
        ("purpose = \"read\"\nexpect = \"permit\"", true),
        ("purpose = \"read\"\nexpect = \"deny\"", false),
        ("purpose = \"write\"\nexpect = \"deny\"", true),
        ("purpose = \"read\"\nexpect = \"observe\"", false),
        ("purpose = \"read\"\ncontext = { risk = 50 }\nexpect = \"deny\"", true),
        ("purpose = \"read\"\ncontext = { resource = { risk = 50 } }\nexpect = \"deny\"", true),
        ("purpose = \"read\"\nexpect = \"permit\"\nbecause = \"a.cedar#other\"", false),
    ] {
        let outcomes = outcomes(&case(fields)).unwrap();
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes[0].passed(), passes, "{fields}: {:?}", outcomes[0].decision);
        assert_eq!((outcomes[0].line, outcomes[0].file.as_str()), (1, "a.test.toml"));
    }
}

#[test]
fn what_is_issued_is_issued_by_the_principals_trust_domain() {
    let issue = |rest: &str| {
        let case = "[[case]]\nname = \"c\"\nprincipal = \"spiffe://example.org/web\"\n\
                    action = \"issue_x509\"\nexpect = \"permit\"\n";
        outcomes(&format!("{case}{rest}")).unwrap().remove(0).passed()
    };
    assert!(issue(""));
    assert!(issue("resource = \"example.org\""));
    assert!(!issue("context = { ttl_seconds = 3601 }"));
}

#[test]
fn a_table_that_makes_no_sense_is_refused_with_its_line() {
    for (table, wanted) in [
        (case("expect = \"allow\""), "`a.test.toml`, line 6"),
        (case("expect = \"deny\"\nbecuase = \"x\""), "becuase"),
        (case("expect = \"deny\"\ncontext = { rsk = 1 }"), "rsk"),
        (
            case("expect = \"deny\"").replace("spiffe://example.org/db", "db"),
            "a SPIFFE ID, not `db`",
        ),
        (case("expect = \"deny\"").replace("connect", "conect"), "there is no such action"),
        ("[[cases]]\n".to_owned(), "cases"),
    ] {
        let error = outcomes(&table).unwrap_err().to_string();
        assert!(error.contains("a.test.toml") && error.contains(wanted), "{error}");
    }
}
