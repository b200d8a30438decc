//! Agents in enclaves, whose parent carries every byte and sets the clock. Whatever it does, the worst
//! that comes of it is that there is no service.

use std::net::SocketAddr;

use claviger_core::time::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::clock::Trust;
use crate::config::Config;
use crate::world::{Mischief, Parent, StartedAgent};

/// Long enough for an agent to start several times.
const WHILE: Duration = Duration::from_millis(1_500);

/// The settings of an agent that reaches the server through `parent`, and believes no clock.
fn enclave(world: &World, parent: &Parent) -> Config {
    let server: ServerAddr = format!("unix:{}", parent.path().display()).parse().unwrap();
    let clock = Trust::Floor(SystemClock.now().before(Duration::from_secs(86_400)));
    Config { servers: server.into(), clock, ..world.config_of_machine() }
}

/// Nothing is earned as long as the parent is up to `mischief`, and everything afterwards.
async fn outlasts(mischief: Mischief) {
    let world = World::new().await;
    world.server.put(ours("a"));
    let parent = Parent::of(world.address(), mischief);
    let starting = world.try_start(enclave(&world, &parent));
    tokio::pin!(starting);
    let early = tokio::time::timeout(WHILE, &mut starting).await;
    assert!(early.is_err(), "it started, or gave up");
    assert_eq!(world.server.counts().attested, 0);
    parent.becomes(Mischief::None);
    let agent = within(starting).await.unwrap();
    within(agent.running.health.ready()).await;
    assert_eq!(workload(&world.socket()).await.ids().await.unwrap(), ["spiffe://example.org/a"]);
    assert_eq!(world.server.counts().attested, 1);
}

#[tokio::test]
async fn an_honest_parent_carries_and_learns_nothing() {
    let world = World::new().await;
    world.server.put(ours("a"));
    let parent = Parent::of(world.address(), Mischief::None);
    let mut config = enclave(&world, &parent);
    config.attestors = crate::config::Attestors::default();
    config.join_token = world.config().join_token;
    let _agent = world.start(config).await;
    assert_eq!(workload(&world.socket()).await.ids().await.unwrap(), ["spiffe://example.org/a"]);
    let seen: Vec<u8> =
        parent.sessions().into_iter().flat_map(|s| [s.up, s.down].concat()).collect();
    for secret in ["good-token", "spiffe://", "join_token"] {
        assert!(!seen.windows(secret.len()).any(|at| at == secret.as_bytes()), "{secret}");
    }
}

#[tokio::test]
async fn a_parent_that_keeps_everything() {
    outlasts(Mischief::Swallow).await;
}

#[tokio::test]
async fn a_parent_that_hangs_up_in_the_handshake() {
    outlasts(Mischief::Cut(700)).await;
}

#[tokio::test]
async fn a_parent_that_hangs_up_at_once() {
    outlasts(Mischief::Cut(0)).await;
}

/// The client's random, its key share, and its first encrypted record.
#[tokio::test]
async fn a_parent_that_changes_a_bit_to_the_server() {
    for at in [12, 400, 2_000] {
        outlasts(Mischief::FlipUp(at)).await;
    }
}

/// The server's random, its certificate, and what follows.
#[tokio::test]
async fn a_parent_that_changes_a_bit_from_the_server() {
    for at in [12, 1_500, 2_000] {
        outlasts(Mischief::FlipDown(at)).await;
    }
}

#[tokio::test]
async fn a_parent_that_leaves_out_a_byte() {
    outlasts(Mischief::OmitUp(1_000)).await;
}

#[tokio::test]
async fn a_parent_that_changes_the_order() {
    outlasts(Mischief::Reorder).await;
}

#[tokio::test]
async fn a_parent_that_says_everything_twice() {
    outlasts(Mischief::Repeat).await;
}

#[tokio::test]
async fn a_parent_that_is_slow_is_only_slow() {
    let world = World::new().await;
    let parent = Parent::of(world.address(), Mischief::Late(Duration::from_millis(50)));
    let agent = world.start(enclave(&world, &parent)).await;
    assert_eq!(agent.running.id.to_string(), "spiffe://example.org/spire/agent/again/1");
}

/// Another server of the same name, with authorities of the parent's own.
#[tokio::test]
async fn a_parent_that_leads_elsewhere_is_told_nothing() {
    let (world, theirs) = (World::new().await, World::new().await);
    let parent = Parent::of(theirs.address(), Mischief::None);
    let starting = world.try_start(enclave(&world, &parent));
    tokio::pin!(starting);
    tokio::time::timeout(WHILE, &mut starting).await.err().expect("it believed a stranger");
    assert_eq!(theirs.server.counts().attested, 0);
    assert!(!parent.sessions().is_empty());
    parent.leads_to(world.address());
    within(starting).await.unwrap();
    assert_eq!(world.server.counts().attested, 1);
}

/// An agent that is in, and then led elsewhere: what it has stays, and it comes back.
#[tokio::test]
async fn a_parent_that_leads_elsewhere_later_changes_nothing() {
    let (world, theirs) = (World::new().await, World::new().await);
    world.server.put(ours("a"));
    theirs.server.put(ours("stolen"));
    let parent = Parent::of(world.address(), Mischief::None);
    let agent = world.start(enclave(&world, &parent)).await;
    serves(&world, &agent, 1).await;
    parent.leads_to(theirs.address());
    tokio::time::sleep(WHILE).await;
    let client = workload(&world.socket()).await;
    assert_eq!(client.ids().await.unwrap(), ["spiffe://example.org/a"]);
    parent.leads_to(world.address());
    world.server.put(later("b"));
    serves(&world, &agent, 2).await;
    assert_eq!(theirs.server.counts().attested, 0);
}

async fn serves(world: &World, agent: &StartedAgent, entries: usize) {
    health_is(&agent.running.health, "server", |state| *state == State::Ready).await;
    within(async {
        let client = workload(&world.socket()).await;
        while !client.ids().await.is_ok_and(|ids| ids.len() == entries) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A whole session, to the server once more and to an enclave once more.
#[tokio::test]
async fn a_parent_that_replays_whole_sessions_earns_nothing() {
    let world = World::new().await;
    let parent = Parent::of(world.address(), Mischief::None);
    let agent = world.start(enclave(&world, &parent)).await;
    agent.stop().await;
    let counts = world.server.counts();
    let sessions = parent.sessions();
    for session in &sessions {
        replay(world.address(), &session.up).await;
    }
    assert_eq!(world.server.counts(), counts);

    let recorded = sessions.into_iter().next().unwrap().down;
    let parent = Parent::of(world.address(), Mischief::PlayServer(recorded));
    let another = World::new().await;
    let config = Config {
        trust_bundle_path: world.config().trust_bundle_path,
        ..enclave(&another, &parent)
    };
    let started = tokio::time::timeout(WHILE, another.try_start(config)).await;
    assert!(started.is_err(), "it believed a recording");
}

async fn replay(server: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    // It hangs up in the middle.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(within(stream.read_to_end(&mut answer)).await);
}

#[tokio::test]
async fn a_clock_at_the_beginning_of_time_keeps_nobody_from_starting_and_renewing() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(4), Duration::from_secs(3_600));
    world.server.put(ours("a"));
    world.clock.set_back(Duration::from_secs(u32::MAX.into()));
    let parent = Parent::of(world.address(), Mischief::None);
    let agent = world.start(enclave(&world, &parent)).await;
    within(async {
        while world.server.counts().attested < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    serves(&world, &agent, 1).await;
}

#[tokio::test]
async fn a_clock_that_is_believed_and_wrong_keeps_an_agent_out() {
    let world = World::new().await;
    world.clock.set_back(Duration::from_secs(86_400));
    let parent = Parent::of(world.address(), Mischief::None);
    let config = Config { clock: Trust::Clock, ..enclave(&world, &parent) };
    tokio::time::timeout(WHILE, world.try_start(config))
        .await
        .err()
        .expect("it believed the future");
}

/// The server's certificate has ended by the time that the image was built.
#[tokio::test]
async fn a_clock_that_is_set_back_does_not_revive_a_server() {
    let world = World::new().await;
    let parent = Parent::of(world.address(), Mischief::None);
    let floor = SystemClock.now().after(Duration::from_secs(2 * 3_600));
    let config = Config { clock: Trust::Floor(floor), ..enclave(&world, &parent) };
    let started = tokio::time::timeout(WHILE, world.try_start(config)).await;
    assert!(started.is_err(), "it believed a server whose certificate has ended");
    assert_eq!(world.server.counts().attested, 0);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_denies_service_until_it_is_set_right() {
    let world = World::new().await;
    world.clock.advance(Duration::from_secs(86_400));
    let parent = Parent::of(world.address(), Mischief::None);
    let starting = world.try_start(enclave(&world, &parent));
    tokio::pin!(starting);
    assert!(tokio::time::timeout(WHILE, &mut starting).await.is_err());
    world.clock.set_back(Duration::from_secs(86_400));
    within(starting).await.unwrap();
}

/// Half an hour ahead, everything is still valid, and everything is due.
#[tokio::test]
async fn a_clock_that_runs_ahead_does_not_make_an_agent_attest_without_a_pause() {
    let world = World::new().await;
    world.clock.advance(Duration::from_secs(45 * 60));
    let parent = Parent::of(world.address(), Mischief::None);
    let _agent = world.start(enclave(&world, &parent)).await;
    tokio::time::sleep(WHILE).await;
    assert!(world.server.counts().attested <= 2, "{:?}", world.server.counts());
}
