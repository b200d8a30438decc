use super::*;

fn of(condition: &str) -> Vocabulary {
    let text = format!("permit (principal, action, resource) when {{ {condition} }};");
    Vocabulary::of(&text.parse().unwrap())
}

fn texts(words: &Vocabulary, attribute: &str) -> Vec<String> {
    words.texts(attribute).collect()
}

#[test]
fn literals_belong_to_what_they_are_compared_with() {
    let words = of(r#"context.purpose == "read" && ["a", "b"].contains(principal.stage)"#);
    assert_eq!(texts(&words, "purpose"), ["read"]);
    assert_eq!(texts(&words, "stage"), ["a", "b"]);
    assert!(words.mentions("purpose") && !words.mentions("tier"));
    assert!(!words.is_open("stage"));
    let words = of(r#"context has evidence && context.evidence.tier == "affirming""#);
    assert_eq!(texts(&words, "tier"), ["affirming"]);
    assert!(words.mentions("evidence"));
}

#[test]
fn numbers_come_with_their_neighbours() {
    let words = of("context.risk < 50 && !(context.risk == -1)");
    assert_eq!(words.numbers("risk"), [-2, -1, 0, 49, 50, 51].into());
}

#[test]
fn patterns_are_known_by_the_parts_between_their_stars() {
    let words = of(r#"principal.path like "/ml/*/train" && resource.path == "/x""#);
    assert_eq!(words.patterns("path").collect::<Vec<_>>(), [&["/ml/", "/train"]]);
    assert_eq!(texts(&words, "path"), ["/x", "/ml/any/train"]);
    assert!(!words.is_open("path"));
}

#[test]
fn attributes_that_are_compared_with_each_other_are_open() {
    assert!(of("principal.path == resource.path").is_open("path"));
    assert!(of("[principal.path].contains(\"/a\")").is_open("path"));
    assert!(
        of("if principal.path == \"/a\" then true else resource.path == principal.owner")
            .is_open("path")
    );
}

#[test]
fn entities_are_known_by_name() {
    let words = of(r#"principal in Group::"trainers" && resource == Identity::"spiffe://a.org/x""#);
    assert!(words.names("Group", "trainers"));
    assert_eq!(words.entities("Identity").collect::<Vec<_>>(), ["spiffe://a.org/x"]);
}
