//! What connections cost on which nothing moves, and whether there can be ten thousand of them.

use std::sync::Arc;
use std::time::Duration;

use claviger_tests::bench::report;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::world::{Mode, World, connect};

const CONNECTIONS: usize = 10_000;
/// Opened at a time.
const AT_A_TIME: usize = 32;
/// Opened and closed before, so that what is allocated once does not count.
const FIRST: usize = 64;
/// Bytes, in each shim.
const TARGET: usize = 20 << 10;
/// Shims give memory back after a second of quiet.
const REST: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(world: &World, mode: Mode) -> bool {
    // To find out who holds a connection, every descriptor of the user is looked at, of which there are
    // tens of thousands here: that is measured elsewhere.
    let pair = world.pair(mode, world.echo, "prefetch = 64\ncallers = \"anybody\"").await;
    let pids = [&pair.near, &pair.far].map(|shim| shim.id().unwrap());
    drop(open(&pair.door.to_string(), FIRST).await);
    sleep(REST).await;
    let before = pids.map(resident);
    let possible = CONNECTIONS.min(room(pids));
    let mut connections = open(&pair.door.to_string(), possible).await;
    sleep(REST).await;
    let after = pids.map(resident);
    let mut answered = 0;
    for tcp in &mut connections {
        answered += usize::from(answers(tcp).await);
    }
    let mode = mode.name();
    let mut met = true;
    for (at, which) in ["dialling", "answering"].iter().enumerate() {
        let each = after[at].saturating_sub(before[at]) / possible;
        let figure = format!("{:.1} KB", each as f64 / 1024.0);
        let what = format!("memory of an idle connection ({mode}), {which} shim");
        met &= report(&what, &figure, &format!("{} KB", TARGET >> 10), each <= TARGET);
    }
    let figure = format!("{answered} of {possible} held open at a time were answered");
    let what = format!("concurrent connections ({mode})");
    if possible < CONNECTIONS {
        println!(
            "(the limit of file descriptors leaves room for no more than {possible} connections)"
        );
    }
    met &= report(&what, &figure, &CONNECTIONS.to_string(), answered == CONNECTIONS);
    drop(connections);
    pair.stop().await;
    met
}

/// Opens so many connections, each of which has been answered once.
async fn open(door: &str, count: usize) -> Vec<TcpStream> {
    let (door, turns) = (door.parse().unwrap(), Arc::new(Semaphore::new(AT_A_TIME)));
    let mut opening = JoinSet::new();
    for _number in 0..count {
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        opening.spawn(async move {
            let mut tcp = connect(door).await;
            let answered = answers(&mut tcp).await;
            drop(turn);
            assert!(answered, "a connection was not answered");
            tcp
        });
    }
    opening.join_all().await
}

async fn answers(tcp: &mut TcpStream) -> bool {
    let asked = async {
        tcp.write_all(b"!").await?;
        tcp.read_u8().await
    };
    timeout(PATIENCE, asked).await.is_ok_and(|answer| answer.is_ok_and(|byte| byte == b'!'))
}

/// For how many connections the shims, and this process, have file descriptors: each takes two of them
/// everywhere.
fn room(pids: [u32; 2]) -> usize {
    /// What else is open.
    const BESIDES: usize = 100;

    let allowed = pids.into_iter().chain([std::process::id()]).map(|pid| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().parse::<usize>().unwrap_or(usize::MAX)
    });
    (allowed.min().unwrap() - BESIDES) / 2
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
