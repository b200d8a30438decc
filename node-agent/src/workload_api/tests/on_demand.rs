use super::*;

fn on_demand(id: &str) -> Entry {
    Entry { x509_on_demand: true, ..ours(id) }
}

#[tokio::test]
async fn an_x509_svid_on_demand_is_signed_when_somebody_wants_it() {
    let (world, _agent, client) = World::with(vec![on_demand("a"), theirs("b")]).await;
    // The other one has come: this one could have, too.
    world.server.applied(2).await;
    assert_eq!(world.server.counts().svids, 1);
    let first = client.x509().await.unwrap().next().await.unwrap();
    assert_eq!(ids(&first), ["spiffe://example.org/a"]);
    let again = client.x509().await.unwrap().next().await.unwrap();
    assert!(first == again);
    assert_eq!(world.server.counts().svids, 2);
}

#[tokio::test]
async fn a_change_with_nothing_to_sign_is_applied_at_once() {
    let (world, _agent, _client) = World::with(vec![]).await;
    world.server.applied(world.server.put(on_demand("a"))).await;
    assert_eq!(world.server.counts().svids, 0);
}

#[tokio::test]
async fn what_is_there_is_told_and_the_rest_when_it_comes() {
    let later = Entry { created_at: UnixTime::from_secs(9), ..on_demand("later") };
    let (_world, _agent, client) = World::with(vec![ours("a"), later]).await;
    let mut stream = client.x509().await.unwrap();
    assert_eq!(ids(&stream.next().await.unwrap()), ["spiffe://example.org/a"]);
    let both = ["spiffe://example.org/a", "spiffe://example.org/later"];
    assert_eq!(ids(&stream.next().await.unwrap()), both);
}

#[tokio::test]
async fn an_svid_that_does_not_come_is_not_waited_for_long() {
    let (mut world, _agent, client) = World::with(vec![on_demand("a")]).await;
    world.stop_server().await;
    let start = tokio::time::Instant::now();
    let status = client.x509().await.err().unwrap();
    assert_eq!(said(&status), (Code::Unavailable, "the SVID has not come from the server yet"));
    assert!(start.elapsed() < Duration::from_secs(6));
    world.restart_server().await;
    let again = async { while client.x509().await.is_err() {} };
    crate::world::within(again).await;
}
