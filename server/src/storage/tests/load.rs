//! A server's storage under load, in a process of its own: what is told to its clients is written down
//! where neither a cut nor damage reaches it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::str::FromStr;

use claviger_core::psk::identity::WireIdentity;
use futures_util::{StreamExt as _, stream};

use super::super::fixture::cuts::recording::{Recording, append};
use super::*;

const DIR: &str = "CLAVIGER_RECORD_ROOT";
const LOG: &str = "CLAVIGER_RECORD_LOG";
/// `COUNT clean` or `COUNT killed`.
const LIFE: &str = "CLAVIGER_FAULT_LIFE";

/// How many clients ask at a time.
const CLIENTS: usize = 64;

/// What a client was told.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    /// Whether the key was redeemed; or else it was minted.
    pub(super) spent: bool,
    /// Which key.
    pub(super) number: u32,
    pub(super) identity: WireIdentity,
    /// The epoch that was in force.
    pub(super) epoch: u64,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spent, number, identity, epoch } = self;
        write!(f, "{spent} {number} {identity} {epoch}")
    }
}

impl FromStr for Acknowledged {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<_> = text.split(' ').collect();
        let (spent, number) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        let (identity, epoch) = (words[2].parse().unwrap(), words[3].parse().unwrap());
        Ok(Self { spent, number, identity, epoch })
    }
}

fn acknowledged(log: &Path) -> Vec<Acknowledged> {
    Recording::read(log).promised().map(|what| what.parse().unwrap()).collect()
}

/// A data directory, and what was said about it.
pub(super) struct Site {
    _parent: tempfile::TempDir,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Clean,
    Killed,
}

impl Site {
    pub(super) fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let (data, log) = (parent.path().join("data"), parent.path().join("log"));
        fs::create_dir(&data).unwrap();
        fs::write(&log, []).unwrap();
        Self { _parent: parent, data: data.canonicalize().unwrap(), log }
    }

    /// A life of a server in a process of its own that mints so many keys and redeems some of those there
    /// are; recorded if there is a `recorder`.
    pub(super) fn live(&self, keys: u32, end: End, recorder: Option<&Path>) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "storage::tests::load::what_was_acknowledged_is_still_known"]);
        child.env(DIR, &self.data).env(LOG, &self.log);
        child.env(LIFE, format!("{keys} {}", if end == End::Clean { "clean" } else { "killed" }));
        child.envs(recorder.map(|recorder| ("LD_PRELOAD", recorder)));
        let output = child.output().unwrap();
        let ended = |status: ExitStatus| status.success() == (end == End::Clean);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(ended(output.status), "{}: {said}", output.status);
        assert!(!said.contains("recorder: "), "{said}");
    }

    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        acknowledged(&self.log)
    }
}

/// Each key has a client of its own, by which its record can be found.
pub(super) fn of(number: u32) -> PskBinding {
    let client = format!("spiffe://example.org/client/{number}").parse().unwrap();
    PskBinding { client, ..binding(300) }
}

pub(super) const fn attempt(number: u32) -> AttemptId {
    AttemptId::from_bytes((number as u128 + 1).to_be_bytes())
}

/// A client that redeems key `number`, in its first attempt or another.
pub(super) async fn redeem(
    storage: &Storage,
    (number, identity): (u32, WireIdentity),
    attempt: AttemptId,
) -> Result<Redeemed, Refused> {
    let found = storage.ledger.find(identity).await?;
    let grant = redemption(of(number), PskProof::IdentityOnly);
    storage.ledger.redeem(found, grant, attempt).await
}

/// Mints `keys`, redeems every other one at once, and some of those of earlier lives.
async fn work(storage: &Storage, keys: u32, log: &fs::File, before: &[Acknowledged]) {
    let epoch = storage.epochs.current().number;
    let say = |spent, number, identity| {
        append(log, &Acknowledged { spent, number, identity, epoch }.to_string());
    };
    let spent: std::collections::HashSet<_> =
        before.iter().filter(|one| one.spent).map(|one| one.number).collect();
    let unspent: Vec<_> = before
        .iter()
        .filter(|one| !one.spent && one.epoch == epoch && !spent.contains(&one.number))
        .collect();
    let first = before.iter().map(|one| one.number + 1).max().unwrap_or(0);
    let client = async |number: u32| {
        let minted = storage.ledger.mint(issue(of(number)), Met::nothing()).await.unwrap();
        say(false, number, minted.identity);
        if number.is_multiple_of(2) {
            let key = (number, minted.identity);
            redeem(storage, key, attempt(number)).await.unwrap();
            say(true, number, minted.identity);
        }
        let turn = usize::try_from(number - first).unwrap();
        if let Some(one) = unspent.get(turn).filter(|_| number % 4 != 3) {
            let key = (one.number, one.identity);
            redeem(storage, key, attempt(one.number)).await.unwrap();
            say(true, one.number, one.identity);
        }
    };
    stream::iter(first..first + keys).for_each_concurrent(CLIENTS, client).await;
}

/// One life of a server at `site`.
fn life(data: &Path, log: &Path, keys: u32, end: End) {
    let before = acknowledged(log);
    let log = fs::OpenOptions::new().append(true).open(log).unwrap();
    let clock = TestClock::at(NOW);
    Runtime::new().unwrap().block_on(async {
        let life = Life::embedded(data, &clock).await.unwrap();
        work(&life.storage, keys, &log, &before).await;
        if end == End::Killed {
            // Nothing is closed, dropped or flushed.
            std::process::abort();
        }
        life.stop().await;
    });
}

/// What `before` says holds of `storage`, which has gone on in the same epoch.
async fn is_known(storage: &Storage, before: &[Acknowledged]) {
    for one in before.iter().filter(|one| one.spent) {
        let key = (one.number, one.identity);
        redeem(storage, key, attempt(one.number)).await.unwrap();
        let other = redeem(storage, key, AttemptId::from_bytes([0xff; 16])).await.unwrap_err();
        assert!(matches!(other, Refused::Replayed), "{other}");
    }
}

/// It is also what other suites run as a process of its own, with a directory of theirs.
#[test]
fn what_was_acknowledged_is_still_known() {
    if let (Some(data), Some(log), Some(life_is)) =
        (std::env::var_os(DIR), std::env::var_os(LOG), std::env::var_os(LIFE))
    {
        let life_is = life_is.into_string().unwrap();
        let (keys, end) = life_is.split_once(' ').unwrap();
        let end = if end == "clean" { End::Clean } else { End::Killed };
        return life(Path::new(&data), Path::new(&log), keys.parse().unwrap(), end);
    }
    let site = Site::new();
    for end in [End::Clean, End::Killed, End::Clean] {
        site.live(40, end, None);
    }
    let acknowledged = site.acknowledged();
    assert_eq!(acknowledged.iter().filter(|one| !one.spent).count(), 120);
    let clock = TestClock::at(NOW);
    live(&site.data, &clock, async |storage| {
        assert_eq!(epoch(storage), 1);
        is_known(storage, &acknowledged).await;
    });
}
