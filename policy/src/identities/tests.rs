use crate::{PolicySet, Source};

fn compile(text: &str) -> Result<PolicySet, crate::LoadError> {
    let file = (super::FILE.to_owned(), text.to_owned());
    PolicySet::compile(Source::new(vec![file]))
}

#[track_caller]
fn refuses(text: &str, wanted: &[&str]) {
    let error = compile(text).unwrap_err().to_string();
    for part in [super::FILE].iter().chain(wanted) {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn exactly_one_record_applies_the_most_specific() {
    let set = compile(
        r#"
        [[identity]]
        id = "spiffe://example.org/*"
        stage = "any"
        [[identity]]
        id = "spiffe://example.org/a/*"
        stage = "below a"
        [[identity]]
        id = "spiffe://example.org/a/b"
        owner = "b"
        "#,
    )
    .unwrap();
    let stage = |id: &str| {
        let of = set.identities().of(&id.parse().unwrap());
        of.map(|it| it.stage.clone())
    };
    assert_eq!(stage("spiffe://example.org/a/b"), Some(None), "nothing is taken from the prefix");
    assert_eq!(stage("spiffe://example.org/a/c/d"), Some(Some("below a".to_owned())));
    assert_eq!(stage("spiffe://example.org/a"), Some(Some("any".to_owned())));
    assert_eq!(stage("spiffe://example.org/ab"), Some(Some("any".to_owned())));
    assert_eq!(stage("spiffe://example.org"), None);
    assert_eq!(stage("spiffe://other.org/a/b"), None);
    assert_eq!(set.identities().len(), 3);
}

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    refuses("[[identity]]\nid = \"spiffe://x/a\"\nowner = 7", &["line 3"]);
    refuses("[[identity]]\nid = \"spiffe://x/a\"\nonwer = \"b\"", &["line 3", "onwer"]);
    refuses("[[identity]]\nid = \"http://x/a\"", &["line 2"]);
    refuses("[[identity]]\nid = \"spiffe://x/a*\"", &["line 2"]);
    refuses("[[identity]]\nid = \"spiffe://x/a\"\npurposes = [\"two words\"]", &["line 3"]);
    refuses("[[identity]]\nid = \"spiffe://x/a\"\nowner = \"\"", &["line 3"]);
    let twice = "[[identity]]\nid = \"spiffe://x/a\"\n";
    refuses(&twice.repeat(2), &["line 4", "spiffe://x/a", "twice"]);
    refuses("[[identity]]\nid = \"spiffe://x/a\"\ngroups = [\"b\"]", &["line 3", "no group `b`"]);
}

#[test]
fn groups_are_declared_once_and_never_in_themselves() {
    let group = |name: &str, above: &str| format!("[[group]]\nname = \"{name}\"\nin = [{above}]\n");
    refuses(&group("a", r#""b""#), &["line 3", "no group `b`"]);
    refuses(&group("a", "").repeat(2), &["line 5", "twice"]);
    refuses(&group("a", r#""a""#), &["line 2", "in itself"]);
    let circle = [group("a", r#""b""#), group("b", r#""c""#), group("c", r#""a""#)].concat();
    refuses(&circle, &["line 2", "`a` is in itself, by way of `c`"]);
    let deep: String = (0..300).map(|n| group(&n.to_string(), &format!("\"{}\"", n + 1))).collect();
    refuses(&(deep + &group("300", "")), &["more than 256"]);
    let wide: Vec<_> = (0..65).map(|n| format!("\"{n}\"")).collect();
    refuses(&group("a", &wide.join(",")), &["65 groups", "at most 64"]);
    let set = compile(&[group("a", r#""b""#), group("b", r#""c""#), group("c", "")].concat());
    let set = set.unwrap();
    assert_eq!(set.groups().above("a").collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn there_is_a_bound_to_everything() {
    let groups: String = (0..10_001).map(|n| format!("[[group]]\nname = \"{n}\"\n")).collect();
    refuses(&groups, &["more than 10000 groups"]);
    let scopes: Vec<_> = (0..65).map(|n| format!("\"{n}\"")).collect();
    let scopes = scopes.join(",");
    refuses(
        &format!("[[identity]]\nid = \"spiffe://x/a\"\ndata-scopes = [{scopes}]"),
        &["line 3", "65 data scopes"],
    );
}
