use super::*;
use crate::source::Source;

const POLICY: &str = r#"
permit (principal == Identity::"spiffe://example.org/ci/build", action in Action::"reach",
        resource == Identity::"spiffe://example.org/registry")
when { context.purpose == "push" };
permit (principal == Identity::"spiffe://example.org/ci/promote", action in Action::"reach",
        resource == Identity::"spiffe://example.org/production")
when { context.purpose == "promote" && context.risk < 20 };
"#;

const IDENTITIES: &str = r#"
[[group]]
name = "ci"
[[identity]]
id = "spiffe://example.org/ci/build"
groups = ["ci"]
stage = "build"
[[identity]]
id = "spiffe://example.org/ci/promote"
groups = ["ci"]
stage = "promote"
"#;

/// What is broken, in the words of [`Broken::what`].
fn broken(more: &str, invariant: &str) -> Result<Vec<String>, LoadError> {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let invariants = format!("[[invariant]]\nname = \"i\"\n{invariant}\n");
    let set = PolicySet::compile(Source::new(vec![
        file("a.cedar", &format!("{POLICY}{more}")),
        file("identities.toml", IDENTITIES),
        file(FILE, &invariants),
    ]))
    .unwrap();
    let reach = Reach::of(&set, &[]).unwrap();
    let invariants = read(&set)?;
    let broken = check(&set, &invariants, &reach)?;
    for broken in &broken {
        assert!(broken.paths.iter().all(|path| path.is_shown()), "{broken:?}");
    }
    Ok(broken.into_iter().map(|broken| broken.what).collect())
}

const BUILD: &str = "spiffe://example.org/ci/build";

#[test]
fn what_holds_is_not_broken() {
    for invariant in [
        format!("never = {{ from = '{BUILD}', to = 'spiffe://example.org/production' }}"),
        "never = { from = 'stage = \"build\"', to = 'spiffe://example.org/production' }".to_owned(),
        "never-both = { targets = ['spiffe://example.org/registry', 'spiffe://example.org/production'] }".to_owned(),
        "only = { from = 'Group::\"ci\"', to = ['spiffe://example.org/registry', 'spiffe://example.org/production'] }".to_owned(),
        format!("always = {{ from = '{BUILD}', to = 'spiffe://example.org/registry', purpose = 'push' }}"),
        "at-most = { from = 'Group::\"ci\"', services = 1 }".to_owned(),
    ] {
        assert_eq!(broken("", &invariant).unwrap(), [""; 0], "{invariant}");
    }
}

#[test]
fn what_does_not_hold_is_shown_by_a_question_that_is_permitted() {
    let everyone = "permit (principal, action == Action::\"connect\", resource == \
                    Identity::\"spiffe://example.org/production\") when { context.risk > 97 };";
    for (more, invariant, wanted) in [
        (
            everyone,
            "only = { from = 'stage = \"promote\"', to = 'spiffe://example.org/production' }",
            "spiffe://example.org/* reaches spiffe://example.org/production, too",
        ),
        (
            everyone,
            "never-both = { targets = ['spiffe://example.org/registry', 'spiffe://example.org/production'] }",
            "spiffe://example.org/ci/build reaches both",
        ),
        (
            everyone,
            "never = { from = 'spiffe://example.org/ci/*', to = 'spiffe://example.org/production' }",
            "spiffe://example.org/ci/build reaches spiffe://example.org/production",
        ),
        (
            everyone,
            "at-most = { from = 'stage = \"build\"', services = 1 }",
            "2 services, more than 1",
        ),
        (
            "forbid (principal, action == Action::\"connect\", resource); \
             forbid (principal, action == Action::\"redeem_psk\", resource) when { context.risk >= 0 };",
            "always = { from = 'stage = \"build\"', to = 'spiffe://example.org/registry', purpose = 'push' }",
            "spiffe://example.org/ci/build does not reach spiffe://example.org/registry for `push`",
        ),
    ] {
        let broken = broken(more, invariant).unwrap();
        assert!(broken.iter().any(|what| what.contains(wanted)), "{invariant}: {broken:?}");
    }
}

#[test]
fn an_invariant_that_says_nothing_is_refused_with_its_line() {
    for (invariant, wanted) in [
        ("", "each invariant says one of"),
        ("never = { from = '*', to = 'spiffe://example.org/nobody' }", "nobody is meant"),
        ("never = { from = 'web', to = '*' }", "`web` means nobody"),
        ("never-both = { targets = ['*'] }", "two targets"),
        ("never = { from = '*', to = '*', because = 'x' }", "because"),
        ("at-least = { from = '*', services = 1 }", "at-least"),
    ] {
        let error = broken("", invariant).unwrap_err().to_string();
        assert!(error.contains("`invariants.toml`, line") && error.contains(wanted), "{error}");
    }
}
