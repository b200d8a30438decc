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
