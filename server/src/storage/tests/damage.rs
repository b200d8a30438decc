//! A disk that forgets, and an operator who puts an old backup in place. `CLAVIGER_FAULT_TRIALS` says how
//! often each kind of damage is done, `CLAVIGER_FAULT_SEED` where.
//!
//! The damage is done to what a server left that was stopped or killed on a machine that runs on, whose
//! witness is believed: nothing is fenced unless the damage is noticed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::fixture::dice::{Dice, knob};
use super::load::{Acknowledged, End, Site, attempt, redeem};
use super::moved::{Boot, settle};
use super::*;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Harm {
    FlipOne,
    FlipEight,
    ZeroBlock,
    Truncate,
    Delete,
}

const HARMS: [Harm; 5] =
    [Harm::FlipOne, Harm::FlipEight, Harm::ZeroBlock, Harm::Truncate, Harm::Delete];

/// How damage was met.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    /// The store was not opened.
    Error,
    /// A new epoch began.
    Fenced,
    /// Nothing that anybody asked for was missing.
    Harmless,
    /// Some key cannot be redeemed, or looked up, though it is not void: nobody gets more than they
    /// should.
    Refused,
    /// So many keys were redeemed again. That must not be.
    Twice(usize),
}

/// A store with tables, journals, spent keys and unspent ones, as a life that ended like this left it.
fn ruin(end: End) -> (Site, Vec<Acknowledged>) {
    let site = Site::new();
    for end in [End::Clean, End::Killed, end] {
        site.live(300, end, None);
    }
    let acknowledged = site.acknowledged();
    (site, acknowledged)
}

/// The files below `directory`, and how much of each is in use.
fn files(directory: &Path) -> Vec<(PathBuf, usize)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            all.push((path, used));
        }
    }
    all.sort();
    all
}

/// Does `harm` somewhere in `data`; says where.
fn harm(data: &Path, harm: Harm, dice: &mut Dice) -> String {
    let mut files = files(data);
    // What is empty, as the lock, has nothing to lose.
    files.retain(|(_, used)| *used > 0);
    // Large files are hit more often, as on a disk; small ones often enough.
    let total: usize = files.iter().map(|(_, used)| *used).sum();
    let (path, used) = if dice.is(50) {
        let mut at = dice.below(total);
        let hit = files.iter().find(|(_, used)| match at.checked_sub(*used) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        hit.unwrap()
    } else {
        dice.one(&files)
    };
    let mut bytes = fs::read(path).unwrap();
    let mut flip = |bytes: &mut Vec<u8>| bytes[dice.below(*used)] ^= 1 << dice.below(8);
    match harm {
        Harm::FlipOne => flip(&mut bytes),
        Harm::FlipEight => (0..8).for_each(|_| flip(&mut bytes)),
        Harm::ZeroBlock => {
            let first = dice.below(*used) / 4_096 * 4_096;
            let last = (first + 4_096).min(bytes.len());
            bytes[first..last].fill(0);
        }
        Harm::Truncate => bytes.truncate(dice.below(*used)),
        Harm::Delete => {
            fs::remove_file(path).unwrap();
            return path.strip_prefix(data).unwrap().display().to_string();
        }
    }
    let is_witness = path.ends_with("witness");
    fs::write(path, &bytes).unwrap();
    if is_witness {
        settle(data, Boot::Same);
    }
    path.strip_prefix(data).unwrap().display().to_string()
}

/// Opens what is in `data`, and tries all keys that were spent.
async fn meet(data: &Path, acknowledged: &[Acknowledged]) -> Outcome {
    let clock = TestClock::at(NOW);
    let Ok(life) = Life::embedded(data, &clock).await else { return Outcome::Error };
    let storage = &life.storage;
    let newest = acknowledged.iter().map(|one| one.epoch).max().unwrap();
    let mut met = if epoch(storage) > newest { Outcome::Fenced } else { Outcome::Harmless };
    let mut twice = 0;
    for one in acknowledged.iter().filter(|one| one.spent) {
        let key = (one.number, one.identity);
        let again = redeem(storage, key, AttemptId::from_bytes([0xff; 16])).await;
        twice += usize::from(again.is_ok());
        let same = redeem(storage, key, attempt(one.number)).await;
        if met == Outcome::Harmless && same.is_err() {
            met = Outcome::Refused;
        }
    }
    // A damaged table may keep the journal from ending in good order; that is nobody's promise.
    let Life { storage, tasks } = life;
    drop(storage);
    tasks.stop();
    tasks.drained(std::time::Duration::from_secs(30)).await;
    if twice == 0 { met } else { Outcome::Twice(twice) }
}

#[test]
fn no_damage_brings_a_spent_key_back() {
    let (trials, seed) = (knob("CLAVIGER_FAULT_TRIALS", 8), knob("CLAVIGER_FAULT_SEED", 1));
    let mut dice = Dice::new(seed);
    let mut broken = Vec::new();
    let mut counts = BTreeMap::<_, BTreeMap<_, usize>>::new();
    for end in [End::Clean, End::Killed] {
        let (site, acknowledged) = ruin(end);
        for kind in HARMS {
            for trial in 0..trials {
                let dir = tempfile::tempdir().unwrap();
                let data = dir.path().join("data");
                copy_tree(&site.data, &data);
                settle(&data, Boot::Same);
                let place = harm(&data, kind, &mut dice);
                let what = format!("{kind:?} of {place}, trial {trial} after {end:?}");
                let runtime = Runtime::new().unwrap();
                let met = runtime.block_on(meet(&data, &acknowledged));
                if let Outcome::Twice(keys) = met {
                    broken.push(format!("{keys} keys: {what}"));
                }
                *counts.entry(kind).or_default().entry(met).or_default() += 1;
            }
        }
    }
    for (kind, met) in &counts {
        println!("survived: {kind:?}: {met:?}");
    }
    assert!(broken.is_empty(), "keys were redeemed twice after\n{}", broken.join("\n"));
}

/// What was put back.
#[derive(Clone, Copy, Debug)]
enum Backup {
    /// The whole directory, by a program that copies files.
    Directory,
    Store,
    Witness,
    /// The whole disk, below the file system. Only agents can tell: one shows what it has seen.
    Disk,
}

#[test]
fn no_backup_put_in_place_brings_a_spent_key_back() {
    for before in [End::Clean, End::Killed] {
        for after in [End::Clean, End::Killed] {
            let (site, saved) = (Site::new(), tempfile::tempdir().unwrap());
            site.live(60, before, None);
            let backup = saved.path().join("backup");
            copy_tree(&site.data, &backup);
            site.live(60, after, None);
            for kind in [Backup::Directory, Backup::Store, Backup::Witness, Backup::Disk] {
                let what = format!("{kind:?} of a server that was {before:?}, then {after:?}");
                put_back(kind, &site, &backup, &what);
            }
        }
    }
    println!("survived: 16 backups put in place, 0 replays accepted");
}

fn put_back(kind: Backup, site: &Site, backup: &Path, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (data, clock) = (dir.path().join("data"), TestClock::at(NOW));
    copy_tree(&site.data, &data);
    settle(&data, Boot::Same);
    // What an agent remembers.
    let seen =
        live(&data, &clock, async |storage| storage.checkpoints.sign_now().note().to_string());
    match kind {
        Backup::Directory => restore(backup, &data),
        Backup::Store => restore(&backup.join("store"), &data.join("store")),
        Backup::Witness => {
            fs::remove_file(data.join("witness")).unwrap();
            fs::copy(backup.join("witness"), data.join("witness")).unwrap();
        }
        Backup::Disk => {
            restore(backup, &data);
            settle(&data, Boot::Same);
        }
    }
    if matches!(kind, Backup::Disk) {
        live(&data, &clock, async |storage| {
            let verdict = storage.checkpoints.judge(&seen).await.unwrap();
            let Verdict::Behind { epoch, doubt } = verdict else { panic!("{what}: {verdict:?}") };
            storage.epochs.fence(epoch, &doubt).await.unwrap();
        });
    }
    let acknowledged = site.acknowledged();
    let met = Runtime::new().unwrap().block_on(meet(&data, &acknowledged));
    assert_eq!(met, Outcome::Fenced, "{what}");
}
