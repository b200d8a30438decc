//! Those who never finish anything: handshakes, requests, calls. All at once, as each takes as long as a
//! server is patient.

use std::time::Duration;

use super::calls::{self, CANCELLED, DEADLINE, PERMISSION_DENIED, RESOURCE_EXHAUSTED};
use super::world::World;
use super::{handshakes, requests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_never_finishes_is_sent_away_and_keeps_nobody_out() {
    let world = World::start().await;
    let attack = async {
        tokio::join!(
            handshakes::without_end(&world),
            requests::slowly(&world),
            calls::never_finished(&world),
        )
    };
    let what = "1600 handshakes, 350 requests and 6000 calls that are never finished";
    let (handshakes, requests, (calls, codes)) = Box::pin(world.bears(what, attack)).await;
    assert!(handshakes < Duration::from_secs(25), "{handshakes:?}");
    assert!(requests < Duration::from_secs(40), "{requests:?}");
    assert!(calls < DEADLINE * 2, "{calls:?}");
    // Without a bound, each call would have room that all share from its first bytes on.
    let of = |code: &str| codes.get(code).copied().unwrap_or(0);
    assert_eq!(of(PERMISSION_DENIED), 1_500, "strangers do not redeem: {codes:?}");
    assert!((1..=256).contains(&of(CANCELLED)), "those who found room lost it: {codes:?}");
    assert_eq!(of(RESOURCE_EXHAUSTED) + of(CANCELLED), 4_500, "the others found none: {codes:?}");
    println!(
        "survived: the last handshake was ended after {} s, the last request after {} s, the last call after {} s",
        handshakes.as_secs(),
        requests.as_secs(),
        calls.as_secs(),
    );
}
