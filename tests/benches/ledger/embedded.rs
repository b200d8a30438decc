//! Redemptions with the embedded store, beside what its engine does with as many clients: the same bytes, and
//! names alone, as a ledger would write that keeps no record of what it did.

use std::time::Duration;

use claviger_tests::bench::report;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::keys::{Server, redeem};
use crate::wishes::{self, Wish};
use crate::{BYTES, CLIENTS, Pace, best, report_ratio};

const COUNT: usize = 64_000;
const P99: Duration = Duration::from_millis(5);

pub(crate) async fn measure() -> bool {
    let round = async || [names(32).await, names(BYTES).await, redemptions().await];
    let [names, bytes, redeemed] = best(round).await;
    let figure = format!("{redeemed}, by {CLIENTS} clients");
    let mut met = report("durable redemptions, embedded", &figure, "p99 5 ms", redeemed.p99 <= P99);
    met &= report_ratio(redeemed, &format!("the engine alone takes, {BYTES} bytes each"), bytes);
    met &= report_ratio(redeemed, "the engine alone takes, 32 bytes each", names);
    met
}

async fn redemptions() -> Pace {
    let dir = TempDir::new().unwrap();
    let server = Server::embedded(dir.path()).await;
    let offered = server.mint(COUNT).await;
    let pace = redeem(&server, offered).await;
    server.stop().await;
    pace
}

/// Names with so many bytes each, by the engine with the buffers that our store gives it.
async fn names(bytes: usize) -> Pace {
    let dir = TempDir::new().unwrap();
    let (wish, wishes) = wishes::channel();
    let path = dir.path().join("store");
    let writer = tokio::task::spawn_blocking(move || {
        let database = Database::builder(path).cache_size(8 << 20).worker_threads(1);
        let database = database.max_journaling_size(256 << 20).open().unwrap();
        let options = || KeyspaceCreateOptions::default().max_memtable_size(16 << 20);
        let space = database.keyspace("names", options).unwrap();
        write(&database, &space, wishes, bytes);
    });
    let pace = wishes::make(COUNT, wish).await;
    writer.await.unwrap();
    pace
}

fn write(database: &Database, space: &Keyspace, mut wishes: mpsc::Receiver<Wish>, bytes: usize) {
    let (value, mut group) = (vec![7; bytes - 32], Vec::new());
    while wishes.blocking_recv_many(&mut group, CLIENTS) != 0 {
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        for (name, _) in &group {
            assert!(!space.contains_key(name).unwrap(), "a name is taken twice");
            batch.insert(space, name.as_slice(), &value);
        }
        batch.commit().unwrap();
        for (_, done) in group.drain(..) {
            done.send(()).unwrap();
        }
    }
}
