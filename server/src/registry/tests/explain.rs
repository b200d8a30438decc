//! What a workload is told of the entries that it matches, and of those that it does not.

use claviger_core::reason::Reason;

use super::*;
use crate::registry::explain::Explanation;

fn facts(texts: &[&str]) -> Selectors {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn told(explanation: &Explanation) -> Vec<(&str, Option<Reason>)> {
    let entries = explanation.entries.iter();
    entries.map(|one| (one.entry.id.as_str(), one.reason)).collect()
}

#[tokio::test]
async fn each_entry_says_what_is_in_the_way() {
    let world = world().await;
    world.admit(A, &["x509pop:subject:a"]).await;
    world.admit(B, &[]).await;
    let soon = UnixTime::from_secs(NOW + 9);
    let ended = Entry { expires_at: Some(soon), ..entry("ended", A, "/e", "u:1") };
    world
        .create(vec![
            entry("ours", A, "/a", "u:1"),
            entry("theirs", B, "/b", "u:1"),
            entry("near", A, "/c", "u:2"),
            Entry { store_svid: true, ..entry("stored", A, "/d", "u:1") },
            entry("alias", "/spire/server", "/nodes/z", "x509pop:subject:z"),
            entry("behind-alias", "/nodes/z", "/f", "u:1"),
            ended,
        ])
        .await;
    world.clock.set(NOW + 9);
    let agent = id(A);
    let explanation = world.registry.explain(&facts(&["u:1"]), Some(&agent), 5).unwrap();
    assert_eq!(
        told(&explanation),
        [
            ("behind-alias", Some(Reason::NodeSelectorsMissing)),
            ("ended", Some(Reason::EntryExpired)),
            ("ours", None),
            ("stored", Some(Reason::ForSecretStore)),
            ("theirs", Some(Reason::OtherParent)),
        ],
        "aliases are for nodes"
    );
    assert_eq!(explanation.others, 1);
    let on_node = &explanation.entries[0].missing_on_node[0];
    assert_eq!(on_node.selector.to_string(), "x509pop:subject:z");
    assert_eq!(on_node.instead, ["x509pop:subject:a".parse().unwrap()]);

    let anywhere = world.registry.explain(&facts(&["u:1"]), None, 9).unwrap();
    let of = |name| told(&anywhere).into_iter().find(|(id, _)| *id == name).unwrap().1;
    assert_eq!((of("theirs"), of("near")), (None, Some(Reason::SelectorsMissing)));
    assert_eq!(anywhere.entries.last().unwrap().missing[0].selector.to_string(), "u:2");
}

#[tokio::test]
async fn an_agent_that_is_none_is_said_to_be() {
    let world = world().await;
    let explained = world.registry.explain(&facts(&[]), Some(&id(A)), 9);
    assert_eq!(explained.unwrap_err(), NotAnAgent::Unknown);
}
