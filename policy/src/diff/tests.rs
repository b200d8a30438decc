use super::*;
use crate::source::Source;

fn set(policies: &str) -> PolicySet {
    let source = Source::new(vec![("a.cedar".to_owned(), policies.to_owned())]);
    PolicySet::compile(source).unwrap()
}

fn lines(old: &str, new: &str) -> Vec<String> {
    let name = |names: &[String]| names.join(",").replace("spiffe://example.org/", "");
    let line = |difference: Difference| {
        let sign = if difference.gained { "+" } else { "-" };
        let purpose = difference.purpose.as_ref().map_or("*", Purpose::as_str);
        let way = difference.way.name();
        format!("{sign} {} > {}: {purpose} {way}", name(&difference.from), name(&difference.to))
    };
    diff(&set(old), &set(new), &[]).unwrap().into_iter().map(line).collect()
}

fn connect(from: &str, to: &str, purpose: &str) -> String {
    format!(
        "permit (principal == Identity::\"spiffe://example.org/{from}\", \
         action == Action::\"connect\", resource == Identity::\"spiffe://example.org/{to}\") \
         when {{ context.purpose == \"{purpose}\" }};\n"
    )
}

#[test]
fn paths_that_come_and_go_are_named() {
    let (read, write) = (connect("web", "db", "read"), connect("web", "db", "write"));
    assert_eq!(lines(&read, &read), [""; 0]);
    assert_eq!(lines(&read, &format!("{read}{write}")), ["+ web > db: write connect"]);
    assert_eq!(lines(&format!("{read}{write}"), &write), ["- web > db: read connect"]);
    let other = connect("job", "db", "read");
    assert_eq!(lines(&read, &other), ["+ job > db: read connect", "- web > db: read connect"]);
}

#[test]
fn policies_that_say_the_same_in_other_words_do_not_differ() {
    let read = connect("web", "db", "read");
    let same = read.replace("context.purpose == \"read\"", "[\"read\"].contains(context.purpose)");
    assert_eq!(lines(&read, &same), [""; 0]);
}

#[test]
fn a_purpose_that_only_one_side_speaks_of_is_one_of_any() {
    let any = "permit (principal == Identity::\"spiffe://example.org/web\", \
               action == Action::\"connect\", resource == Identity::\"spiffe://example.org/db\");";
    assert_eq!(lines(&connect("web", "db", "read"), any), ["+ web > db: * connect"]);
}
