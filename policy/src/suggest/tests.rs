use claviger_core::decision::{Context, Party};
use claviger_core::time::UnixTime;
use proptest::prelude::*;

use super::*;

const DATE: &str = "2026-11-21";

fn id(path: &str) -> SpiffeId {
    format!("spiffe://example.org{path}").parse().unwrap()
}

fn ids(paths: &[&str]) -> BTreeSet<SpiffeId> {
    paths.iter().map(|path| id(path)).collect()
}

fn source(cedar: &str) -> Source {
    Source::new(vec![("a.cedar".to_owned(), cedar.to_owned())])
}

fn wish(from: &str, action: Action, to: &str, purpose: &str) -> Wish {
    let context = Context {
        time: UnixTime::from_secs(7),
        purpose: Some(purpose.parse().unwrap()),
        ttl_seconds: Some(60),
        ..Context::default()
    };
    let (principal, party) = (Party::new(id(from)), Party::new(id(to)));
    let resource = Resource::Identity(party);
    Wish { question: Question { principal, action, resource, context }, times: 2 }
}

fn connect(from: &str, to: &str, purpose: &str) -> Wish {
    wish(from, Action::Connect, to, purpose)
}

#[track_caller]
fn suggested(cedar: &str, wishes: &[Wish], known: &[&str], shunned: &[&str]) -> Suggestion {
    let (known, shunned) = (ids(known), ids(shunned));
    let people = People { known: &known, shunned: &shunned };
    suggest(&source(cedar), wishes, people, DATE).unwrap()
}

#[test]
fn what_one_identity_wants_of_another_is_one_policy() {
    let wishes = [
        connect("/web", "/db", "read"),
        connect("/web", "/db", "write"),
        wish("/web", Action::IssuePsk, "/cache", "read"),
    ];
    let found = suggested("", &wishes, &["/web", "/db", "/cache"], &[]);
    let wanted = r#"@id("suggested-1")
@suggested("2026-11-21; seen 2 times")
permit (
    principal == Identity::"spiffe://example.org/web",
    action in [Action::"issue_psk", Action::"redeem_psk"],
    resource == Identity::"spiffe://example.org/cache"
)
when { context.purpose == "read" };

@id("suggested-2")
@suggested("2026-11-21; seen 4 times")
permit (
    principal == Identity::"spiffe://example.org/web",
    action == Action::"connect",
    resource == Identity::"spiffe://example.org/db"
)
when { ["read", "write"].contains(context.purpose) };
"#;
    assert_eq!(found.cedar, wanted);
    assert_eq!((found.policies, found.wishes, found.denied), (2, 3, 0));
    assert_eq!(found.left_out, BTreeMap::new());
}

#[test]
fn everybody_below_a_path_is_one_policy_and_somebody_is_not() {
    let wishes = ["/web/1", "/web/2"].map(|from| connect(from, "/db", "read"));
    let all = suggested("", &wishes, &["/web/1", "/web/2", "/db"], &[]);
    assert_eq!((all.policies, all.denied), (1, 0));
    assert!(
        all.cedar.contains(r#"when { principal.path like "/web/*" && context.purpose"#),
        "{}",
        all.cedar
    );
    let some = suggested("", &wishes, &["/web/1", "/web/2", "/web/2/debug", "/db"], &[]);
    assert_eq!((some.policies, some.denied), (2, 0));
    // Everybody of a trust domain is never everybody below a path.
    let top = [connect("/a", "/c", "read"), connect("/b", "/c", "read")];
    assert_eq!(suggested("", &top, &["/a", "/b"], &[]).policies, 2);
}

#[test]
fn targets_below_a_path_are_put_together_too() {
    let wishes: Vec<_> = ["/t/1", "/t/2"]
        .into_iter()
        .flat_map(|from| ["/ps/1", "/ps/2"].map(|to| connect(from, to, "gradients")))
        .collect();
    let found = suggested("", &wishes, &["/t/1", "/t/2", "/ps/1", "/ps/2"], &[]);
    assert_eq!((found.policies, found.wishes, found.denied), (1, 4, 0));
}

#[test]
fn what_should_not_be_permitted_is_left_out() {
    let forbid = r#"
        forbid (principal, action, resource) when { resource.path == "/vault" };
        permit (principal, action == Action::"connect", resource)
        when { resource.path == "/open" };
    "#;
    let forbid = &forbid.replace(
        "forbid (principal, action, resource)",
        r#"forbid (principal, action in Action::"reach", resource)"#,
    );
    let tool = Wish {
        question: Question {
            action: Action::Call("mail".parse().unwrap()),
            resource: Resource::Tool("mail".parse().unwrap()),
            ..connect("/web", "/db", "read").question
        },
        times: 1,
    };
    let wishes = [
        connect("/web", "/vault", "read"),
        connect("/web", "/open", "read"),
        connect("/lost", "/db", "read"),
        connect("/web", "/lost", "read"),
        wish("/web", Action::RedeemPskByIdentity, "/db", "read"),
        tool,
    ];
    let found = suggested(forbid, &wishes, &["/web"], &["/lost"]);
    assert_eq!((found.policies, found.wishes), (0, 0));
    assert_eq!(found.cedar, "");
    let left_out = [
        (LeftOut::Permitted, 1),
        (LeftOut::Forbidden, 1),
        (LeftOut::Quarantined, 2),
        (LeftOut::Delicate, 2),
    ];
    assert_eq!(found.left_out, left_out.into());
}

#[test]
fn an_svid_is_suggested_for_whom_it_was_asked() {
    let mut svid = connect("/web", "/db", "read");
    svid.question.action = Action::IssueX509;
    svid.question.resource = Resource::TrustDomain("example.org".parse().unwrap());
    svid.question.context.requester = Some("agent".to_owned());
    svid.question.context.purpose = None;
    let found = suggested("", &[svid], &["/web"], &[]);
    assert_eq!((found.policies, found.denied), (1, 0));
    assert!(found.cedar.contains(r#"resource == TrustDomain::"example.org""#), "{}", found.cedar);
}

fn path() -> impl Strategy<Value = String> {
    (0_u8..3, 0_u8..3).prop_map(|(a, b)| format!("/{a}/{b}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever was asked for: all that is proposed is permitted then, what is forbidden stays so, and
    /// nobody who asked for nothing gets anything.
    #[test]
    fn a_suggestion_permits_what_was_asked_for_and_nothing_else(
        asked in prop::collection::vec((path(), path(), 0_u8..2), 1..20),
        forbidden in path(),
        shunned in path(),
    ) {
        let cedar = format!(
            r#"forbid (principal, action in Action::"reach", resource)
               when {{ resource.path == "{forbidden}" }};"#
        );
        let every: Vec<_> = (0..9).map(|n| format!("/{}/{}", n / 3, n % 3)).collect();
        let (known, shunned) = (every.iter().map(|path| id(path)).collect(), ids(&[&shunned]));
        let people = People { known: &known, shunned: &shunned };
        let wishes: Vec<_> =
            asked.iter().map(|(from, to, p)| connect(from, to, &format!("p{p}"))).collect();
        let found = suggest(&source(&cedar), &wishes, people, DATE).unwrap();
        prop_assert_eq!(found.denied, 0);
        let then = with(&source(&cedar), &found.cedar).unwrap();
        for from in &every {
            for to in &every {
                for purpose in 0..2 {
                    let wish = connect(from, to, &format!("p{purpose}"));
                    let wanted = asked.contains(&(from.clone(), to.clone(), purpose))
                        && *to != forbidden
                        && !shunned.contains(&id(from))
                        && !shunned.contains(&id(to));
                    let permitted = then.decide(&wish.question).verdict == Verdict::Permit;
                    prop_assert_eq!(permitted, wanted, "{} -> {} in {}", from, to, found.cedar);
                }
            }
        }
    }
}
