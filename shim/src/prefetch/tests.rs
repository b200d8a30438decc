use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use async_trait::async_trait;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::time::UnixTime;
use claviger_proto::pushback;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::*;
use crate::fixture::{SERVER, forged};

const START: u64 = 1_000;

/// A clock that goes with the tests' own.
#[derive(Debug)]
struct Running(Instant);

impl Clock for Running {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(START + self.0.elapsed().as_secs())
    }
}

/// Issues keys one after the other, if it can be asked.
#[derive(Debug)]
struct Broker {
    clock: Arc<Running>,
    issued: AtomicU8,
    asked: AtomicU8,
    away: AtomicBool,
    /// How many milliseconds to wait whoever finds it away is told.
    pushback: AtomicU64,
    slow: AtomicBool,
}

#[async_trait]
impl Keys for Broker {
    async fn issue(
        &self,
        _peer: &SpiffeId,
        _purpose: &Purpose,
        ttl: PskTtl,
    ) -> Result<Issued, IssueError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            let mut away = Status::unavailable("away");
            match self.pushback.load(Ordering::Relaxed) {
                0 => {}
                millis => pushback::set(&mut away, Duration::from_millis(millis)),
            }
            return Err(away.into());
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        if self.slow.load(Ordering::Relaxed) {
            sleep(Duration::from_secs(1)).await;
        }
        Ok(Issued { not_after: self.clock.now().after(ttl.duration()), ..forged(number) })
    }
}

struct World {
    broker: Arc<Broker>,
    prefetch: Prefetch,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(Running(Instant::now()));
        let (issued, asked) = (AtomicU8::new(0), AtomicU8::new(0));
        let (away, slow) = (AtomicBool::new(false), AtomicBool::new(false));
        let pushback = AtomicU64::new(0);
        let broker = Broker { clock: Arc::clone(&clock), issued, asked, away, pushback, slow };
        let broker = Arc::new(broker);
        let tasks = Tasks::default();
        let keys: Arc<dyn Keys> = Arc::<Broker>::clone(&broker);
        Self { broker, prefetch: Prefetch::new(keys, clock, &tasks), tasks }
    }

    async fn take(&self, want: usize) -> Result<WireIdentity, IssueError> {
        let (peer, purpose) = (SERVER.parse().unwrap(), "test".parse().unwrap());
        Ok(self.prefetch.take(&peer, &purpose, want).await?.identity)
    }

    /// Which key a connection gets.
    async fn number(&self, want: usize) -> u8 {
        self.take(want).await.unwrap().as_bytes()[0]
    }

    fn issued(&self) -> u8 {
        self.broker.issued.load(Ordering::Relaxed)
    }

    fn shelves(&self) -> usize {
        self.prefetch.shelves().len()
    }
}

/// The background has done what it can.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn connections_find_keys_in_hand_and_each_its_own() {
    let world = World::new();
    assert_eq!(world.number(2).await, 1);
    settle().await;
    assert_eq!(world.issued(), 3);
    assert_eq!(world.number(2).await, 2);
    assert_eq!(world.number(2).await, 3);
    settle().await;
    assert_eq!(world.issued(), 5);
}

#[tokio::test(start_paused = true)]
async fn without_a_wish_none_is_kept() {
    let world = World::new();
    assert_eq!(world.number(0).await, 1);
    settle().await;
    assert_eq!((world.issued(), world.shelves()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_for_a_route_that_is_not_used() {
    let world = World::new();
    world.number(3).await;
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!((world.issued(), world.shelves()), (4, 0));
    // The next is the first again.
    assert_eq!(world.number(3).await, 5);
    settle().await;
    assert_eq!((world.issued(), world.shelves()), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn no_key_is_handed_out_that_is_about_to_expire() {
    let world = World::new();
    world.number(2).await;
    settle().await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.number(2).await, 2);
    sleep(Duration::from_secs(30)).await;
    // The third is a minute old; the fourth was made when the second was taken.
    assert_eq!(world.number(2).await, 4);
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_when_keys_were_thrown_away_is_thrown_away_too() {
    let world = World::new();
    world.number(1).await;
    world.broker.slow.store(true, Ordering::Relaxed);
    settle().await;
    assert_eq!(world.issued(), 2);
    world.prefetch.void(&SERVER.parse().unwrap());
    world.broker.slow.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.number(1).await, 3);
}

#[tokio::test(start_paused = true)]
async fn only_the_peers_own_keys_are_thrown_away() {
    let world = World::new();
    world.number(2).await;
    settle().await;
    world.prefetch.void(&"spiffe://example.org/other".parse().unwrap());
    assert_eq!(world.number(2).await, 2);
    world.prefetch.void(&SERVER.parse().unwrap());
    assert!(3 < world.number(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_said_at_once_and_asked_about_less_and_less() {
    let world = World::new();
    world.broker.away.store(true, Ordering::Relaxed);
    let before = Instant::now();
    world.take(4).await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(3_600)).await;
    // One connection, and its shelf's keeper; nobody came since.
    assert_eq!(world.broker.asked.load(Ordering::Relaxed), 2);
    assert_eq!(world.shelves(), 0);

    for _ in 0..60 {
        world.take(4).await.unwrap_err();
        sleep(Duration::from_secs(1)).await;
    }
    let asked = world.broker.asked.load(Ordering::Relaxed);
    assert!(asked < 62 + 15, "asked {asked} times for 60 connections");
    world.broker.away.store(false, Ordering::Relaxed);
    sleep(LAST_PAUSE).await;
    world.take(4).await.unwrap();
    settle().await;
    assert!(4 < world.issued());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_wait_does() {
    let world = World::new();
    world.broker.away.store(true, Ordering::Relaxed);
    world.broker.pushback.store(20_000, Ordering::Relaxed);
    for _ in 0..19 {
        world.take(4).await.unwrap_err();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.broker.asked.load(Ordering::Relaxed), 19 + 1, "the keeper asked once");
    // However long that is, it is not for ever.
    world.broker.pushback.store(u64::MAX, Ordering::Relaxed);
    sleep(2 * Duration::from_secs(1)).await;
    world.take(4).await.unwrap_err();
    world.broker.away.store(false, Ordering::Relaxed);
    sleep(LAST_PAUSE).await;
    settle().await;
    assert!(0 < world.issued());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_when_the_shim_stops() {
    let world = World::new();
    world.number(2).await;
    settle().await;
    world.tasks.stop();
    settle().await;
    assert_eq!(world.shelves(), 0);
    world.take(2).await.unwrap();
    settle().await;
    assert_eq!(world.shelves(), 0);
}
