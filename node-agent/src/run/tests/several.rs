//! Several servers, any of which will do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_proto::claviger::psk::v1::{IssueRequest, RedeemRequest};
use claviger_runtime::place::ServerAddrs;
use claviger_runtime::tasks::{Drain, Tasks};
use tokio::task::JoinSet;
use tonic::Status;

use super::*;
use crate::world::{Client, Mischief, PATIENCE, Parent, with_header};

const US: &str = "spiffe://example.org/a";

/// The settings of an agent of the servers at `places`.
fn config(world: &World, places: &[String]) -> Config {
    let servers: ServerAddrs = serde_json::from_value(places.to_vec().into()).unwrap();
    Config { servers, ..world.config() }
}

/// Issues a key and redeems it.
async fn connect(client: &Client, attempt: u128) -> Result<(), Status> {
    let (peer, purpose) = (US.to_owned(), "test".to_owned());
    let request = IssueRequest { peer, purpose, ..IssueRequest::default() };
    let issued = client.psk.clone().issue(with_header(request)).await?.into_inner();
    let request = RedeemRequest {
        attempt_id: attempt.to_be_bytes().to_vec(),
        identity: issued.identity,
        transcript_hash: vec![2; 32],
        binder: vec![3; 32],
        spiffe_id: String::new(),
    };
    let redeemed = client.psk.clone().redeem(with_header(request)).await?.into_inner();
    assert!(redeemed.key == issued.key, "the keys differ");
    Ok(())
}

/// Connects again and again until `stop`, and says how often; each time has to succeed.
async fn connect_until(client: Client, stop: Arc<AtomicBool>) -> u128 {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        count += 1;
        connect(&client, count).await.unwrap_or_else(|status| panic!("{count}: {status}"));
    }
    count
}

#[tokio::test]
async fn servers_that_restart_one_after_the_other_fail_no_call() {
    let mut world = World::new().await;
    world.server.put(ours("a"));
    let (mut others, any) = (Tasks::default(), "127.0.0.1:0".parse().unwrap());
    let other = world.server.serve(any, &others).await;
    let places = [world.address().to_string(), other.to_string()];
    let agent = world.start(config(&world, &places)).await;
    let client = workload(&world.socket()).await;
    let mut stream = client.x509().await.unwrap();
    stream.next().await.unwrap();
    let (stop, mut busy) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _client in 0..4 {
        busy.spawn(connect_until(client.clone(), Arc::clone(&stop)));
    }

    for round in 0..3 {
        world.stop_server().await;
        // What changes while it is away comes from the other.
        world.server.put(later(&format!("b{round}")));
        assert_eq!(ids(&stream.next().await.unwrap()).len(), 2 + 2 * round);
        world.restart_server().await;
        others.stop();
        assert_eq!(others.drained(PATIENCE).await, Drain::Clean);
        world.server.put(later(&format!("c{round}")));
        assert_eq!(ids(&stream.next().await.unwrap()).len(), 3 + 2 * round);
        others = Tasks::default();
        world.server.serve(other, &others).await;
    }
    health_is(&agent.running.health, "server", |state| *state == State::Ready).await;
    stop.store(true, Ordering::SeqCst);
    let counts = within(busy.join_all()).await;
    assert!(counts.iter().all(|count| *count > 3), "{counts:?}");
    assert_eq!(world.server.counts().snapshots, 1, "the others go on where the first ended");
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_moment_and_no_call() {
    let world = World::new().await;
    world.server.put(ours("a"));
    let parents = [(); 2].map(|()| Parent::of(world.address(), Mischief::None));
    let places = parents.each_ref().map(|parent| format!("unix:{}", parent.path().display()));
    let agent = world.start(config(&world, &places)).await;
    let client = workload(&world.socket()).await;
    connect(&client, 1).await.unwrap();

    let used = usize::from(parents[0].sessions().is_empty());
    parents[used].becomes(Mischief::Swallow);
    for attempt in 2..6 {
        within(connect(&client, attempt)).await.unwrap();
    }
    assert!(!parents[1 - used].sessions().is_empty());
    health_is(&agent.running.health, "server", |state| *state == State::Ready).await;

    // It stays where it is while that works.
    parents[used].becomes(Mischief::None);
    let before = parents[used].sessions().len();
    connect(&client, 6).await.unwrap();
    assert_eq!(parents[used].sessions().len(), before);
}

#[tokio::test]
async fn an_agent_begins_with_whichever_server_there_is() {
    let world = World::new().await;
    world.server.put(ours("a"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for order in [[nobody, world.address()], [world.address(), nobody]] {
        let token = Some(TokenSource::Inline("good-token".parse().unwrap()));
        let places = order.map(|place| place.to_string());
        let config = Config { join_token: token, ..config(&world, &places) };
        let agent = world.start(config).await;
        let client = workload(&world.socket()).await;
        assert_eq!(client.ids().await.unwrap(), [US]);
        agent.stop().await;
        std::fs::remove_dir_all(world.data_dir()).unwrap();
    }
}
