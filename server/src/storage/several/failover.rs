//! Servers that stop and start and a primary that dies, under load, against a real
//! PostgreSQL.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use claviger_runtime::tasks::Drain;
use tokio::task::JoinSet;

use super::*;
use crate::store::postgres::PostgresStore;
use crate::store::postgres::fixture::Postgres;

/// What clients know.
#[derive(Default)]
struct Told {
    /// Which attempt was told that it has redeemed the key, by the number of the key.
    redeemed: Mutex<HashMap<usize, Vec<u8>>>,
    keys: Mutex<Vec<Arc<Minted>>>,
    unanswered: AtomicU64,
    replayed: AtomicU64,
}

/// Three servers, some of which are down at times.
struct Servers {
    url: String,
    clock: Arc<TestClock>,
    dirs: Vec<TempDir>,
    running: Vec<tokio::sync::RwLock<Option<Arc<Server>>>>,
}

impl Servers {
    async fn start(url: String) -> Arc<Self> {
        let dirs = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let running = (0..3).map(|_| tokio::sync::RwLock::default()).collect();
        let servers = Self { url, clock: TestClock::at(NOW), dirs, running };
        for number in 0..3 {
            servers.revive(number).await;
        }
        Arc::new(servers)
    }

    async fn revive(&self, number: usize) {
        let store = PostgresStore::open(&self.url, None).await.unwrap();
        let dir = self.dirs[number].path();
        let server = Server::start_in(dir, Arc::new(store), &self.clock).await;
        *self.running[number].write().await = Some(Arc::new(server));
    }

    /// It stops while clients talk to it, and is gone.
    async fn stop(&self, number: usize) {
        let server = self.running[number].write().await.take().unwrap();
        let tasks = server.life.tasks.clone();
        tasks.stop();
        while Arc::strong_count(&server) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(server);
        assert_eq!(tasks.drained(Duration::from_secs(20)).await, Drain::Clean);
    }

    async fn get(&self, number: usize) -> Option<Arc<Server>> {
        self.running[number % 3].read().await.clone()
    }
}

async fn mint(servers: Arc<Servers>, told: Arc<Told>, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Some(server) = servers.get(number).await else { continue };
        let minted = server.life.storage.ledger.mint(issue(binding(290)), Met::nothing()).await;
        match minted {
            Ok(minted) => told.keys.lock().unwrap().push(Arc::new(minted)),
            Err(_unavailable) => drop(told.unanswered.fetch_add(1, Ordering::SeqCst)),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Two clients race for each key, each at another server, and each repeats its attempt until it has an
/// answer.
async fn race(servers: Arc<Servers>, told: Arc<Told>, client: u8, stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !(stop.load(Ordering::SeqCst) && told.keys.lock().unwrap().len() <= number) {
        let Some(key) = told.keys.lock().unwrap().get(number).cloned() else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        for repeated in 0_usize.. {
            let at = number + usize::from(client) + repeated;
            let Some(server) = servers.get(at).await else { continue };
            match server.redeem(&key, client).await {
                Ok(redeemed) => {
                    assert!(redeemed.base.0.ct_eq(&key.base.0));
                    told.redeemed.lock().unwrap().entry(number).or_default().push(client);
                    break;
                }
                Err(Refused::Replayed) => {
                    told.replayed.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Err(refused) if refused.is_unavailable() => {
                    told.unanswered.fetch_add(1, Ordering::SeqCst);
                }
                Err(refused) => panic!("key {number}: {refused}"),
            }
        }
        number += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn no_key_works_twice_and_no_redemption_is_forgotten_when_the_primary_dies() {
    let mut primary = Postgres::start().await;
    let standby = primary.standby("one").await;
    primary.wait_for("one").await;
    let servers = Servers::start(primary.url_with(&standby)).await;
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let mut load = JoinSet::new();
    load.spawn(mint(Arc::clone(&servers), Arc::clone(&told), Arc::clone(&stop)));
    for client in [1, 2] {
        load.spawn(race(Arc::clone(&servers), Arc::clone(&told), client, Arc::clone(&stop)));
    }

    tokio::time::sleep(Duration::from_secs(2)).await;
    servers.stop(1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    servers.revive(1).await;
    let before = told.redeemed.lock().unwrap().len();
    primary.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    standby.promote();
    until(|| told.redeemed.lock().unwrap().len() > before + 50).await;
    servers.stop(0).await;
    servers.revive(0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }

    let keys = std::mem::take(&mut *told.keys.lock().unwrap());
    let redeemed = std::mem::take(&mut *told.redeemed.lock().unwrap());
    assert_eq!(redeemed.len(), keys.len(), "every key found its client");
    let server = servers.get(2).await.unwrap();
    for (number, key) in keys.iter().enumerate() {
        let [client] = redeemed[&number][..] else { panic!("{number}: {:?}", redeemed[&number]) };
        assert!(server.redeem(key, client).await.unwrap().base.0.ct_eq(&key.base.0));
        let refused = server.redeem(key, 9).await.unwrap_err();
        assert!(matches!(refused, Refused::Replayed), "{number}: {refused}");
    }
    assert_eq!(server.life.storage.epochs.current().number, 1, "nothing was in doubt");
    check_all(&**server.life.storage.journal.store()).await.unwrap();
    println!(
        "survived: 1 failover, 2 servers stopped, {} keys redeemed, {} attempts without an answer, {} \
         replays refused; 0 lost, 0 redeemed twice",
        keys.len(),
        told.unanswered.load(Ordering::SeqCst),
        told.replayed.load(Ordering::SeqCst),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn a_database_that_was_set_back_voids_every_key() {
    let mut primary = Postgres::start().await;
    // It is not waited for: what it lacks is lost when it takes over.
    let standby = primary.standby("late").await;
    let servers = Servers::start(primary.url_with(&standby)).await;
    let server = servers.get(0).await.unwrap();
    let key = server.mint().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    standby.sql("SELECT pg_wal_replay_pause()");
    primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
    standby.sql("SELECT pg_reload_conf()");
    server.redeem(&key, 1).await.unwrap();
    drop(server);
    primary.kill();
    standby.sql("SELECT pg_wal_replay_resume()");
    standby.promote();
    // Whoever has seen the redemption notices, and ends.
    let server = servers.get(0).await.unwrap();
    let refused = server.redeem(&key, 2).await.unwrap_err();
    assert!(refused.is_unavailable(), "{refused}");
    drop(server);
    servers.stop(0).await;
    servers.revive(0).await;
    let server = servers.get(0).await.unwrap();
    assert_eq!(server.life.storage.epochs.current().number, 2);
    server.redeem(&key, 2).await.unwrap_err();
}
