//! How long an unchanged program waits until its first byte is answered, through two shims: both TCP
//! connections, the attestation of the program, the key, its redemption, the handshake, the byte and its
//! echo. Server and agent are the real ones, with the embedded store.

use std::time::Duration;

use claviger_tests::bench::{millis, percentile, report};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::world::{Mode, World, connect};

/// One after the other, so that each has the machine for itself.
const CONNECTIONS: usize = 1_000;
const WARM_UP: usize = 100;
const TARGET: Duration = Duration::from_millis(3);

pub(crate) async fn measure(world: &World, mode: Mode) -> bool {
    // What it takes to find out who is at a port shows in the difference.
    let known = measure_for(world, mode, "known callers", "prefetch = 16").await;
    let anybody = "prefetch = 16\ncallers = \"anybody\"";
    known & measure_for(world, mode, "any callers", anybody).await
}

async fn measure_for(world: &World, mode: Mode, whose: &str, more: &str) -> bool {
    let pair = world.pair(mode, world.echo, more).await;
    let before = [&pair.near, &pair.far].map(|shim| cpu(shim.id().unwrap()));
    let mut took = Vec::with_capacity(CONNECTIONS);
    for number in 0..WARM_UP + CONNECTIONS {
        let began = Instant::now();
        let mut tcp = connect(pair.door).await;
        tcp.write_all(b"!").await.unwrap();
        tcp.read_u8().await.unwrap();
        if WARM_UP <= number {
            took.push(began.elapsed());
        }
    }
    let after = [&pair.near, &pair.far].map(|shim| cpu(shim.id().unwrap()));
    let all = (WARM_UP + CONNECTIONS) as f64;
    let each = [0, 1].map(|at| (after[at] - before[at]) * 1e6 / all);
    pair.stop().await;

    took.sort_unstable();
    let (p50, p99) = (percentile(&took, 50), percentile(&took, 99));
    let figure = format!(
        "p50 {:.2} ms, p99 {:.2} ms (CPU of the dialling shim {:.0} µs, of the answering {:.0} µs each)",
        millis(p50),
        millis(p99),
        each[0],
        each[1],
    );
    let what =
        format!("connecting through two shims ({}, {whose}), first byte echoed", mode.name());
    report(&what, &figure, &format!("p99 {:.0} ms", millis(TARGET)), p99 <= TARGET)
}

/// Seconds of CPU that a process has used.
fn cpu(pid: u32) -> f64 {
    // Of all its threads, in nanoseconds.
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let used = tasks.map(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    used.sum::<u64>() as f64 / 1e9
}
