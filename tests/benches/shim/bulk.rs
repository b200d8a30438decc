//! How fast bulk data goes through a pair of shims, beside plain TCP and beside pairs of other programs.

use std::net::SocketAddr;
use std::time::Duration;

use claviger_tests::bench::report;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::peers;
use crate::world::{Mode, World, connect};

/// Bytes of one transfer.
const PAYLOAD: usize = 512 << 20;
/// Rounds over all candidates; the best of each counts, because the machine has other things to do.
const ROUNDS: usize = 4;
/// Of the best peer's.
const TARGET: f64 = 0.9;

struct Candidate {
    name: String,
    door: SocketAddr,
    best: f64,
}

pub(crate) async fn measure(world: &World) -> bool {
    let by_key = world.pair(Mode::Psk, world.sink, "").await;
    let by_svid = world.pair(Mode::Mtls, world.sink, "").await;
    let peers = peers::start(world).await;
    let candidate = |name: &str, door| Candidate { name: name.to_owned(), door, best: 0.0 };
    let mut candidates = vec![
        candidate("plain TCP", world.sink),
        candidate("shims, psk", by_key.door),
        candidate("shims, mtls", by_svid.door),
    ];
    candidates.extend(peers.iter().map(|peer| candidate(peer.name, peer.door)));
    for _round in 0..ROUNDS {
        for candidate in &mut candidates {
            candidate.best = candidate.best.max(transfer(candidate.door).await);
        }
    }
    by_key.stop().await;
    by_svid.stop().await;

    let (ours, theirs) = candidates.split_at(3);
    let (plain, ours) = ours.split_at(1);
    let plain = &plain[0];
    let best = theirs.iter().max_by(|one, other| one.best.total_cmp(&other.best));
    for peer in theirs {
        println!("bulk data through a pair of {}: {:.0} MB/s", peer.name, peer.best);
    }
    println!("bulk data over plain TCP: {:.0} MB/s", plain.best);
    let mut met = true;
    for one in ours {
        let of_plain = one.best / plain.best;
        let figure = format!("{:.0} MB/s, {of_plain:.2}× plain TCP", one.best);
        let what = format!("bulk data through a pair of {}", one.name);
        let Some(best) = best else {
            println!("{what}: {figure}; no peer is installed to compare it with");
            continue;
        };
        let ratio = one.best / best.best;
        let figure = format!("{figure}, {ratio:.2}× {}", best.name);
        met &= report(&what, &figure, &format!("{TARGET:.2}× the best peer"), TARGET <= ratio);
    }
    met
}

/// Megabytes per second, from the first byte until the other end has said that it has the last.
async fn transfer(door: SocketAddr) -> f64 {
    let chunk = vec![0x5a; 256 << 10];
    let mut tcp = connect(door).await;
    // The connection is there, whatever that takes.
    tcp.write_all(&chunk[..1]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let mut left = PAYLOAD;
    while 0 < left {
        let now = left.min(chunk.len());
        tcp.write_all(&chunk[..now]).await.unwrap();
        left -= now;
    }
    tcp.shutdown().await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'!');
    PAYLOAD as f64 / began.elapsed().as_secs_f64() / 1e6
}
