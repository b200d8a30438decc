use claviger_core::svid::jwt::Audience;
use claviger_proto::workload::Jwtsvid;

use super::*;

fn ids(svids: &[Jwtsvid]) -> Vec<&str> {
    svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

fn aged(id: &str, secs: u64) -> Entry {
    let created_at = UnixTime::from_secs(secs);
    Entry { created_at, hint: "same".to_owned(), ..ours(id) }
}

#[tokio::test]
async fn a_jwt_svid_says_whose_it_is_and_for_whom() {
    let (_world, _agent, client) = World::with(vec![ours("a")]).await;
    let svids = client.jwts(&["one", "two"], "").await.unwrap();
    assert_eq!(ids(&svids), ["spiffe://example.org/a"]);
    for audience in ["one", "two"] {
        let valid = client.validate(audience, &svids[0].svid).await.unwrap();
        assert_eq!(valid.spiffe_id, "spiffe://example.org/a");
    }
    let other = client.validate("three", &svids[0].svid).await.err().unwrap();
    assert_eq!(other.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn all_identities_come_in_order_or_the_one_that_is_named() {
    let (_world, _agent, client) = World::with(vec![aged("young", 9), aged("old", 3)]).await;
    let svids = client.jwts(&["one"], "").await.unwrap();
    assert_eq!(ids(&svids), ["spiffe://example.org/old", "spiffe://example.org/young"]);
    // Of a hint that two have, the older keeps it. The other stays, without.
    assert_eq!((&*svids[0].hint, &*svids[1].hint), ("same", ""));

    let named = client.jwts(&["one"], "spiffe://example.org/young").await.unwrap();
    assert_eq!(ids(&named), ["spiffe://example.org/young"]);
    assert_eq!(named[0].hint, "same");
    assert!(named[0].svid == svids[1].svid, "it was made anew");
}

#[tokio::test]
async fn what_was_asked_for_somebody_who_hung_up_is_there_for_the_next() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let [begun, go] = &*world.server.slow;
    tokio::select! {
        _answer = client.jwts(&["slow"], "") => panic!("it is not to be answered yet"),
        () = begun.notified() => {}
    }
    // Time to hear that the caller has hung up.
    tokio::time::sleep(Duration::from_millis(100)).await;
    go.notify_one();
    assert_eq!(client.jwts(&["slow"], "").await.unwrap().len(), 1);
    assert_eq!(world.server.counts().jwts, 1);
}

#[tokio::test]
async fn what_is_not_the_callers_is_refused() {
    let stored = Entry { store_svid: true, ..ours("stored") };
    let (_world, _agent, client) = World::with(vec![ours("a"), theirs("b"), stored]).await;
    for id in ["b", "stored", "unknown", "spire/server"] {
        let refused = client.jwts(&["one"], &format!("spiffe://example.org/{id}")).await;
        assert_eq!(said(&refused.err().unwrap()), NOBODY);
    }
    let foreign = client.jwts(&["one"], "spiffe://other.org/a").await;
    assert_eq!(said(&foreign.err().unwrap()), NOBODY);
    assert_eq!(ids(&client.jwts(&["one"], "").await.unwrap()).len(), 1);
}

#[tokio::test]
async fn who_has_no_identity_gets_no_token() {
    let (world, _agent, client) = World::with(vec![theirs("other")]).await;
    assert_eq!(said(&client.jwts(&["one"], "").await.err().unwrap()), NOBODY);
    assert_eq!(world.server.counts().jwts, 0);
}

#[tokio::test]
async fn a_bad_request_is_refused_without_asking_the_server() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let long = "x".repeat(Audience::MAX_NAME + 1);
    let many: Vec<String> = (0..=Audience::MAX).map(|at| at.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let bad: [(&[&str], &str); 5] = [
        (&[], "audience must be specified"),
        (&[""], "audience must not contain an empty name"),
        (&["a", ""], "audience must not contain an empty name"),
        (&["a", "a"], "audience contains a name twice"),
        (&[&long], "audience contains a name of more than 1024 bytes"),
    ];
    for (audience, message) in bad {
        let status = client.jwts(audience, "").await.err().unwrap();
        assert_eq!(said(&status), (Code::InvalidArgument, message));
    }
    let status = client.jwts(&many, "").await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    for id in ["foo", "https://example.org/a", "spiffe://example.org/a/", "spiffe:///a"] {
        let status = client.jwts(&["one"], id).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("invalid requested SPIFFE ID: "), "{status}");
    }
    assert_eq!(world.server.counts().jwts, 0);
}
