use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_attestors::fetch::{Endpoint, Fetch, Plain};
use claviger_core::audit::checkpoint::TreeHead;
use claviger_core::audit::note::{Note, Signature};
use claviger_core::audit::proof::Wanted;
use claviger_core::audit::tile::{Growth, TileId};
use claviger_core::audit::{Head, TreeHash};
use claviger_core::time::UnixTime;

use super::*;
use crate::storage::fixture::{NOW, TestClock};

/// A log that is no server of ours.
struct Log {
    key: SigningKey,
    leaves: Vec<TreeHash>,
}

impl Log {
    fn new(origin: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
        let key = SigningKey::from_pkcs8(origin, Kind::Author, pkcs8.as_ref()).unwrap();
        Self { key, leaves: (0..100_u8).map(|n| TreeHash::of_leaf(&[n])).collect() }
    }

    fn head(&self, size: usize) -> Head {
        let mut growth = Growth::default();
        self.leaves[..size].iter().for_each(|leaf| growth.push(*leaf));
        growth.head()
    }

    fn note(&self, head: Head) -> Note {
        let (origin, extensions) = (self.key.public().name().to_owned(), Vec::new());
        let text = TreeHead { origin, head, extensions }.to_text();
        let signature = self.key.sign(&text, UnixTime::from_secs(NOW));
        Note::new(text, signature)
    }

    fn proof(&self, old: u64, new: u64) -> Vec<TreeHash> {
        let wanted = Wanted::consistency(old, new).unwrap();
        let tile = |id: TileId| (id.level == 0).then_some(self.leaves.as_slice());
        wanted.resolve(tile).unwrap()
    }

    /// What a log asks that continues `old` with `new` records.
    fn request(&self, old: u64, new: usize) -> String {
        let path = self.proof(old, u64::try_from(new).unwrap());
        ask(old, &path, &self.note(self.head(new)))
    }
}

fn ask(old: u64, path: &[TreeHash], note: &Note) -> String {
    let lines: String = path.iter().map(|hash| STANDARD.encode(hash.as_bytes()) + "\n").collect();
    format!("old {old}\n{lines}\n{note}")
}

struct World {
    running: Running,
    tasks: Tasks,
    fetch: Fetch,
}

impl World {
    async fn start(dir: &Path, logs: &[&Log]) -> Self {
        let tasks = Tasks::default();
        let settings = Settings {
            name: "witness.example/w1".to_owned(),
            folder: dir.join("witness"),
            listen: ([127, 0, 0, 1], 0).into(),
            logs: logs.iter().map(|log| log.key.public().clone()).collect(),
        };
        let running = start(settings, TestClock::at(NOW), &tasks).await.unwrap();
        Self { running, tasks, fetch: Fetch::plain().unwrap() }
    }

    async fn post(&self, body: String) -> (u16, String) {
        let url = format!("http://{}/add-checkpoint", self.running.address);
        let endpoint = Endpoint::parse(&url, Plain::Loopback).unwrap();
        let (status, body) = self.fetch.post_text(&endpoint, body).await.unwrap();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    async fn stop(self) {
        self.tasks.stop();
        self.tasks.drained(std::time::Duration::from_secs(30)).await;
    }
}

#[tokio::test]
async fn what_continues_is_signed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new("log.example/1");
    let world = World::start(dir.path(), &[&log]).await;

    let (status, answer) = world.post(log.request(0, 5)).await;
    assert_eq!(status, 200, "{answer}");
    let mut note = log.note(log.head(5));
    Signature::parse_lines(&answer).unwrap().into_iter().for_each(|line| note.add(line));
    let time = note.verify(&world.running.key).unwrap();
    assert_eq!(time, Some(UnixTime::from_secs(NOW)));

    assert_eq!(world.post(log.request(0, 9)).await, (409, "5\n".to_owned()));
    assert_eq!(world.post(log.request(3, 9)).await, (409, "5\n".to_owned()));
    assert_eq!(world.post(log.request(5, 5)).await.0, 200, "the same again");
    assert_eq!(world.post(log.request(5, 64)).await.0, 200);
    assert_eq!(world.post(log.request(5, 64)).await, (409, "64\n".to_owned()));
    assert_eq!(world.post(ask(64, &[], &log.note(log.head(63)))).await.0, 400, "backwards");

    // A fork: of the same size, and longer.
    let mut forked = Log { key: log.key, leaves: log.leaves };
    forked.leaves[7] = TreeHash::of_leaf(b"another");
    assert_eq!(world.post(forked.request(64, 64)).await.0, 409);
    assert_eq!(world.post(forked.request(64, 99)).await.0, 422);
    forked.leaves[7] = TreeHash::of_leaf(&[7]);
    let mut longer = forked.proof(64, 99);
    longer.push(TreeHash::EMPTY);
    assert_eq!(world.post(ask(64, &longer, &forked.note(forked.head(99)))).await.0, 422);
    assert_eq!(world.post(forked.request(64, 99)).await.0, 200);
    world.stop().await;
}

#[tokio::test]
async fn strangers_and_nonsense_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let (log, other) = (Log::new("log.example/1"), Log::new("log.example/2"));
    let impostor = Log::new("log.example/1");
    let world = World::start(dir.path(), &[&log]).await;
    assert_eq!(world.post(other.request(0, 5)).await.0, 404);
    assert_eq!(world.post(impostor.request(0, 5)).await.0, 403);
    let good = log.request(2, 5);
    for (from, to) in
        [("old 2", "old 02"), ("old 2", "old -2"), ("old ", ""), ("\n\n", "\n"), ("=\n", "\n")]
    {
        assert_eq!(world.post(good.replacen(from, to, 1)).await.0, 400, "{from}");
    }
    let many = vec![TreeHash::EMPTY; 64];
    assert_eq!(world.post(ask(2, &many, &log.note(log.head(5)))).await.0, 400);
    assert_eq!(world.post("x".repeat(MAX_REQUEST + 1)).await.0, 413);
    let url = format!("http://{}/add-checkpoint", world.running.address);
    let endpoint = Endpoint::parse(&url, Plain::Loopback).unwrap();
    let error = world.fetch.get(&endpoint, &[]).await.unwrap_err();
    assert!(error.is_final());
    world.stop().await;
}

#[tokio::test]
async fn it_remembers_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, other) = (Log::new("log.example/1"), Log::new("log.example/2"));
    let world = World::start(dir.path(), &[&log, &other]).await;
    assert_eq!(world.post(log.request(0, 50)).await.0, 200);
    let key = world.running.key.clone();
    world.stop().await;
    let world = World::start(dir.path(), &[&log, &other]).await;
    assert_eq!(world.running.key, key);
    assert_eq!(world.post(log.request(0, 60)).await, (409, "50\n".to_owned()));
    assert_eq!(world.post(other.request(0, 60)).await.0, 200);
    world.stop().await;
}

#[tokio::test]
async fn of_two_that_continue_the_same_one_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new("log.example/1");
    let world = World::start(dir.path(), &[&log]).await;
    let rivals = (1..=20).map(|size| world.post(log.request(0, size)));
    let answers = futures_util::future::join_all(rivals).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|(status, _)| *status == 409).count(), 19);
    world.stop().await;
}
