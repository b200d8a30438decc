use super::*;
use crate::source::Source;

fn reach(policies: &str) -> Reach {
    let source = Source::new(vec![("a.cedar".to_owned(), policies.to_owned())]);
    Reach::of(&PolicySet::compile(source).unwrap(), &[]).unwrap()
}

/// `from > to: purpose way`, with `?` if nobody showed it.
fn shown(reach: &Reach) -> Vec<String> {
    let name = |number: usize| reach.classes[number].label().replace("spiffe://example.org/", "");
    let path = |path: &Path| {
        let to = match &path.to {
            Target::Class(number) => name(*number),
            Target::Tool(tool) => tool.to_string(),
        };
        let purpose = path.purpose.as_ref().map_or("*", Purpose::as_str);
        let open = if matches!(path.proof, Proof::Open) { "?" } else { "" };
        format!("{} > {to}: {purpose} {}{open}", name(path.from), path.way.name())
    };
    reach.paths.iter().map(path).collect()
}

const WEB_READS_DB: &str = r#"
permit (principal == Identity::"spiffe://example.org/web", action == Action::"connect",
        resource == Identity::"spiffe://example.org/db")
when { context.purpose == "read" };
"#;

#[test]
fn what_is_permitted_is_a_path_and_nothing_else_is() {
    assert_eq!(shown(&reach(WEB_READS_DB)), ["web > db: read connect"]);
    assert_eq!(shown(&reach("")), [""; 0]);
}

/// A prefix stands for many: what one of them may do to another is a path.
#[test]
fn those_below_a_prefix_reach_each_other() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let set = PolicySet::compile(Source::new(vec![
        file(
            "a.cedar",
            "permit (principal in Group::\"t\", action == Action::\"connect\", resource in Group::\"t\") when { context.purpose == \"x\" };",
        ),
        file(
            "identities.toml",
            "[[group]]\nname = \"t\"\n[[identity]]\nid = \"spiffe://example.org/t/*\"\ngroups = [\"t\"]\n",
        ),
    ]));
    let reach = Reach::of(&set.unwrap(), &[]).unwrap();
    assert_eq!(shown(&reach), ["t/* > t/*: x connect"]);
    assert_eq!(reach.services(reach.paths[0].from), 1);
}

/// What contradicts itself is impossible, and what depends on more than was tried is not ruled out.
#[test]
fn nothing_is_ruled_out_that_is_possible_and_nothing_is_shown_that_is_not() {
    let when = |condition: &str| {
        shown(&reach(&WEB_READS_DB.replace("context.purpose == \"read\"", condition)))
    };
    assert_eq!(
        when("context.purpose == \"read\" && !(context has evidence) && context.risk > 70"),
        ["web > db: read connect"]
    );
    assert_eq!(when("context.purpose == \"read\" && context.purpose == \"write\""), [""; 0]);
    assert_eq!(
        when("context.purpose == \"read\" && context.risk > 100"),
        ["web > db: read connect?"]
    );
    assert_eq!(
        when(
            "context.time > 1800000000 && context.time < 1800000100 && context.purpose == \"read\""
        ),
        ["web > db: read connect"]
    );
}
