//! What must survive a restart, and what must not.
//!
//! | to find | look in |
//! |---|---|
//! | a server's life under load, in a process of its own | `load` |
//! | the power goes at any moment | `power` |
//! | a disk that forgets, and old backups | `damage` |
//! | a disk in another place | `moved` |

mod damage;
mod load;
mod moved;
mod power;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use claviger_attestors::join_token::{JoinToken, SpendError, SpendToken as _};
use claviger_core::audit::{Head, SignedCheckpoint};
use claviger_core::evidence::KeyDigest;
use claviger_core::grant::PskProof;
use claviger_core::psk::{PskBinding, SeriesEpoch};
use tokio::runtime::Runtime;

use super::fixture::{Life, NOW, TestClock, binding, issue, redemption, requester};
use super::*;
use crate::audit::check::check_all;
use crate::audit::{AuditRecord, Verdict, read};
use crate::ledger::LedgerError;
use crate::ledger::psk::{AttemptId, Minted, Redeemed, Refused};
use crate::ledger::token::NewToken;
use crate::policy::Met;
use crate::store::Write;
use crate::store::memory::{Fault, MemoryStore};

/// Runs one life of a server, which then stops in good order.
fn live<T>(path: &Path, clock: &Arc<TestClock>, task: impl AsyncFnOnce(&Storage) -> T) -> T {
    Runtime::new().unwrap().block_on(async {
        let life = Life::embedded(path, clock).await.unwrap();
        let done = task(&life.storage).await;
        life.stop().await;
        done
    })
}

/// Runs one life of a server, which is then killed.
fn killed<T>(path: &Path, clock: &Arc<TestClock>, task: impl AsyncFnOnce(&Storage) -> T) -> T {
    let runtime = Runtime::new().unwrap();
    let (life, done) = runtime.block_on(async {
        let life = Life::embedded(path, clock).await.unwrap();
        let done = task(&life.storage).await;
        (life, done)
    });
    // The tasks are gone before the journal can notice that its handles are.
    drop(runtime);
    drop(life);
    done
}

async fn mint(storage: &Storage) -> Minted {
    storage.ledger.mint(issue(binding(60)), Met::nothing()).await.unwrap()
}

async fn redeem(storage: &Storage, minted: &Minted, attempt: u8) -> Result<Redeemed, Refused> {
    let found = storage.ledger.find(minted.identity).await?;
    let grant = redemption(found.binding().clone(), PskProof::IdentityOnly);
    storage.ledger.redeem(found, grant, AttemptId::from_bytes([attempt; 16])).await
}

fn epoch(storage: &Storage) -> u64 {
    storage.epochs.current().number
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts a backup in the place of a directory, as `cp` would into an empty one.
fn restore(backup: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy_tree(backup, to);
}

#[test]
fn a_clean_stop_keeps_the_epoch_and_every_record() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let (spent, unspent) = live(dir.path(), &clock, async |storage| {
        let (spent, unspent) = (mint(storage).await, mint(storage).await);
        redeem(storage, &spent, 1).await.unwrap();
        (spent, unspent)
    });
    live(dir.path(), &clock, async |storage| {
        assert_eq!(epoch(storage), 1);
        redeem(storage, &spent, 1).await.unwrap();
        let refused = redeem(storage, &spent, 2).await.unwrap_err();
        assert!(matches!(refused, Refused::Replayed), "{refused}");
        redeem(storage, &unspent, 3).await.unwrap();
        check_all(&**storage.journal.store()).await.unwrap();
    });
}

#[test]
fn a_kill_keeps_the_epoch_and_every_record() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let minted = killed(dir.path(), &clock, async |storage| mint(storage).await);
    killed(dir.path(), &clock, async |storage| redeem(storage, &minted, 1).await.unwrap());
    killed(dir.path(), &clock, async |storage| {
        assert_eq!(epoch(storage), 1);
        redeem(storage, &minted, 1).await.unwrap();
        let refused = redeem(storage, &minted, 2).await.unwrap_err();
        assert!(matches!(refused, Refused::Replayed), "{refused}");
    });
}

#[test]
fn a_restored_backup_begins_a_new_epoch() {
    for stop_cleanly in [true, false] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
        let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
        let minted = if stop_cleanly {
            live(&data, &clock, async |storage| mint(storage).await)
        } else {
            killed(&data, &clock, async |storage| mint(storage).await)
        };
        copy_tree(&data, &backup);
        live(&data, &clock, async |storage| redeem(storage, &minted, 1).await.unwrap());
        restore(&backup, &data);
        live(&data, &clock, async |storage| {
            assert_eq!(epoch(storage), 2);
            let refused = redeem(storage, &minted, 2).await.unwrap_err();
            assert!(matches!(refused, Refused::Unknown), "{refused}");
        });
    }
}

#[test]
fn a_store_that_was_restored_alone_begins_a_new_epoch() {
    for stop_cleanly in [true, false] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
        let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
        let minted = live(&data, &clock, async |storage| mint(storage).await);
        copy_tree(&data.join("store"), &backup);
        let spend = async |storage: &Storage| redeem(storage, &minted, 1).await.unwrap();
        if stop_cleanly {
            live(&data, &clock, spend);
        } else {
            killed(&data, &clock, spend);
        }
        restore(&backup, &data.join("store"));
        live(&data, &clock, async |storage| {
            assert_eq!(epoch(storage), 2);
            let refused = redeem(storage, &minted, 2).await.unwrap_err();
            assert!(matches!(refused, Refused::Unknown), "{refused}");
            let reason = last_fence(storage).await;
            assert!(reason.contains("the witness has seen record"), "{reason}");
        });
    }
}

async fn last_fence(storage: &Storage) -> String {
    let records = read(&**storage.journal.store(), 1, usize::MAX).await.unwrap();
    let fences = records.iter().rev().find_map(|AuditRecord { body, .. }| {
        let body: claviger_core::audit::Body = serde_json::from_slice(body).unwrap();
        if let Event::EpochFenced { reason, .. } = body.event { Some(reason) } else { None }
    });
    fences.unwrap()
}

#[test]
fn a_journal_cut_short_never_brings_a_spent_psk_back() {
    for tenths in 0..10 {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
        let minted = killed(dir.path(), &clock, async |storage| {
            let minted = mint(storage).await;
            redeem(storage, &minted, 1).await.unwrap();
            minted
        });
        let journal = dir.path().join("store/0.jnl");
        let used = fs::read(&journal).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let kept = u64::try_from(used * tenths / 10).unwrap();
        fs::File::options().write(true).open(&journal).unwrap().set_len(kept).unwrap();
        live(dir.path(), &clock, async |storage| {
            assert_eq!(epoch(storage), 2);
            let refused = redeem(storage, &minted, 2).await.unwrap_err();
            assert!(matches!(refused, Refused::Unknown), "{refused}");
            let reason = last_fence(storage).await;
            assert!(reason.contains("the witness has seen record"), "{reason}");
        });
    }
}

#[test]
fn a_flipped_bit_in_the_journal_is_an_error_or_begins_a_new_epoch() {
    for part in 0..16 {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
        let minted = killed(dir.path(), &clock, async |storage| {
            let minted = mint(storage).await;
            redeem(storage, &minted, 1).await.unwrap();
            minted
        });
        let journal = dir.path().join("store/0.jnl");
        let mut bytes = fs::read(&journal).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[used * part / 16] ^= 4;
        fs::write(&journal, bytes).unwrap();
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let Ok(life) = Life::embedded(dir.path(), &clock).await else { return };
            assert_eq!(epoch(&life.storage), 2);
            let refused = redeem(&life.storage, &minted, 2).await.unwrap_err();
            assert!(matches!(refused, Refused::Unknown), "{refused}");
            life.stop().await;
        });
    }
}

#[test]
fn without_the_witness_or_the_root_a_new_epoch_begins() {
    for missing in ["witness", "keys/epoch-1.root"] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
        let minted = live(dir.path(), &clock, async |storage| mint(storage).await);
        fs::remove_file(dir.path().join(missing)).unwrap();
        live(dir.path(), &clock, async |storage| {
            assert_eq!(epoch(storage), 2);
            let refused = redeem(storage, &minted, 1).await.unwrap_err();
            assert!(matches!(refused, Refused::Unknown), "{refused}");
        });
        assert!(dir.path().join("keys/epoch-2.root").exists());
        assert!(!dir.path().join("keys/epoch-1.root").exists());
    }
}

#[test]
fn a_lost_store_never_gives_an_epoch_its_number_again() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    live(dir.path(), &clock, async |storage| assert_eq!(epoch(storage), 1));
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    live(dir.path(), &clock, async |storage| assert_eq!(epoch(storage), 2));
}

#[test]
fn expired_stays_expired_when_the_clock_is_set_back_over_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let minted = live(dir.path(), &clock, async |storage| {
        let minted = mint(storage).await;
        clock.set(NOW + 61);
        mint_later(storage).await;
        minted
    });
    clock.set(NOW + 30);
    live(dir.path(), &clock, async |storage| {
        assert_eq!((epoch(storage), storage.ledger.now().as_secs()), (1, NOW + 61));
        let refused = redeem(storage, &minted, 1).await.unwrap_err();
        assert!(matches!(refused, Refused::Expired), "{refused}");
    });
    clock.set(NOW);
    live(dir.path(), &clock, async |storage| {
        assert_eq!((epoch(storage), storage.ledger.now().as_secs()), (2, NOW));
    });
}

async fn mint_later(storage: &Storage) {
    storage.ledger.mint(issue(binding(120)), Met::nothing()).await.unwrap();
}

/// What was minted of an epoch of a series, and the binding of it.
async fn mint_of(storage: &Storage, epoch: u64) -> Result<Minted, LedgerError> {
    let series = SeriesEpoch::from_wire("train", epoch).unwrap();
    storage.ledger.mint(issue(PskBinding { series, ..binding(60) }), Met::nothing()).await
}

#[test]
fn an_epoch_of_a_series_that_is_over_stays_over() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let (old, new) = killed(dir.path(), &clock, async |storage| {
        (mint_of(storage, 1).await.unwrap(), mint_of(storage, 2).await.unwrap())
    });
    let is_over = async |storage: &Storage| {
        let refused = mint_of(storage, 1).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Superseded { .. }), "{refused}");
    };
    // After a crash.
    killed(dir.path(), &clock, async |storage| {
        let refused = redeem(storage, &old, 1).await.unwrap_err();
        assert!(matches!(refused, Refused::Superseded), "{refused}");
        is_over(storage).await;
        redeem(storage, &new, 1).await.unwrap();
    });
    // After a restart, and in a new epoch of the ledger.
    live(dir.path(), &clock, is_over);
    fs::remove_file(dir.path().join("witness")).unwrap();
    live(dir.path(), &clock, async |storage| {
        for key in [&old, &new] {
            let refused = redeem(storage, key, 1).await.unwrap_err();
            assert!(matches!(refused, Refused::Unknown), "{refused}");
        }
        is_over(storage).await;
        mint_of(storage, 2).await.unwrap();
    });
}

#[test]
fn a_second_server_is_refused() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    live(dir.path(), &clock, async |_storage| {
        let second = Life::embedded(dir.path(), &clock).await.err().unwrap();
        assert!(matches!(second, OpenError::Directory(ClaimError::InUse { .. })), "{second}");
    });
}

#[test]
fn a_token_survives_a_kill_and_not_a_new_epoch() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let token: JoinToken = "t".parse().unwrap();
    let holder = KeyDigest::of_spki(b"key");
    killed(dir.path(), &clock, async |storage| {
        let ttl = std::time::Duration::from_secs(600);
        let new = NewToken { token: &token, ttl, agent_id: None, requester: requester() };
        storage.ledger.create_token(new, Change::default()).await.unwrap();
    });
    killed(dir.path(), &clock, async |storage| {
        storage.ledger.spend(&token, &holder).await.unwrap();
    });
    fs::remove_file(dir.path().join("witness")).unwrap();
    live(dir.path(), &clock, async |storage| {
        let refused = storage.ledger.spend(&token, &holder).await.unwrap_err();
        assert!(matches!(refused, SpendError::Unknown), "{refused}");
    });
}

#[tokio::test]
async fn a_log_that_was_edited_is_an_error() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let store = Arc::new(MemoryStore::default());
    let open = || Life::over(Arc::<MemoryStore>::clone(&store), dir.path(), &clock);
    open().await.unwrap().stop().await;
    let key = 1_u64.to_be_bytes();
    let mut record = store.get(Space::Audit, &key).await.unwrap().unwrap();
    *record.last_mut().unwrap() ^= 1;
    store.write(vec![Write::put(Space::Audit, key, record)]).await.unwrap();
    let error = open().await.err().unwrap();
    assert!(matches!(error, OpenError::Log { .. }), "{error}");
}

#[tokio::test]
async fn a_log_whose_end_is_missing_is_an_error() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let store = Arc::new(MemoryStore::default());
    let open = || Life::over(Arc::<MemoryStore>::clone(&store), dir.path(), &clock);
    let life = open().await.unwrap();
    let last = life.storage.journal.head().borrow().size;
    life.stop().await;
    store.write(vec![Write::delete(Space::Audit, last.to_be_bytes())]).await.unwrap();
    let error = open().await.err().unwrap();
    assert!(matches!(error, OpenError::Log { .. }), "{error}");
}

#[tokio::test]
async fn doubts_that_were_not_settled_are_there_at_the_next_start() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let store = Arc::new(MemoryStore::default());
    let over =
        |store: &Arc<MemoryStore>| Life::over(Arc::<MemoryStore>::clone(store), dir.path(), &clock);
    let life = over(&store).await.unwrap();
    let backup = Arc::new(store.copy());
    mint(&life.storage).await;
    life.stop().await;
    backup.fail(Fault::Full);
    let failed = over(&backup).await.err().unwrap();
    assert!(matches!(failed, OpenError::Epoch(FenceError::Commit { .. })), "{failed}");
    tokio::task::yield_now().await;
    backup.fail(Fault::None);
    // The failed start let go of the directory once its journal had ended.
    let life = loop {
        match over(&backup).await {
            Ok(life) => break life,
            Err(OpenError::Directory(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(epoch(&life.storage) > 1);
    life.stop().await;
}

#[tokio::test]
async fn a_checkpoint_tells_a_server_that_it_is_behind() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let store = Arc::new(MemoryStore::default());
    let life = Life::over(Arc::<MemoryStore>::clone(&store), dir.path(), &clock).await.unwrap();
    let Storage { checkpoints, epochs, journal, .. } = &life.storage;
    let judge = async |signed: &SignedCheckpoint| {
        checkpoints.judge(&signed.note().to_string()).await.unwrap()
    };
    let now = checkpoints.sign_now();
    let head = now.checkpoint().head;
    assert_eq!(head, *journal.head().borrow());
    assert_eq!(judge(&now).await, Verdict::Fine);
    mint(&life.storage).await;
    assert_eq!(judge(&now).await, Verdict::Fine);

    // What a later server, of which this one is a backup, would have signed.
    let later = Head { size: 99, ..head };
    let forked = Head { size: 2, ..Head::default() };
    for (head, epoch) in [(later, 1), (forked, 1), (head, 7)] {
        let signed = checkpoints.sign(head, epoch, now.checkpoint().time);
        let verdict = judge(&signed).await;
        assert!(matches!(verdict, Verdict::Behind { epoch: e, .. } if e == epoch), "{verdict:?}");
    }
    let ahead = checkpoints.sign(later, 7, now.checkpoint().time);
    let Verdict::Behind { epoch, doubt } = judge(&ahead).await else { panic!("not behind") };
    assert_eq!(epochs.fence(epoch, &doubt).await.unwrap().number, 8);
    assert_eq!(judge(&ahead).await, Verdict::Fine);
}

#[tokio::test]
async fn a_checkpoint_that_somebody_else_signed_or_changed_tells_nothing() {
    let clock = TestClock::at(NOW);
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let life = Life::over(Arc::new(MemoryStore::default()), dir.path(), &clock).await.unwrap();
    let stranger = Life::over(Arc::new(MemoryStore::default()), other.path(), &clock);
    let stranger = stranger.await.unwrap();
    let theirs = stranger.storage.checkpoints.sign_now().note().to_string();
    let checkpoints = &life.storage.checkpoints;
    let ours = checkpoints.sign_now().note().to_string();
    for told in [theirs, ours.replace("epoch 1", "epoch 9"), String::new()] {
        assert_eq!(checkpoints.judge(&told).await.unwrap(), Verdict::NotOurs);
    }
}

#[test]
fn the_audit_key_stays_the_same() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let sign = async |storage: &Storage| storage.checkpoints.sign_now().note().to_string();
    let before = live(dir.path(), &clock, sign);
    live(dir.path(), &clock, async |storage| {
        let verdict = storage.checkpoints.judge(&before).await.unwrap();
        assert_eq!(verdict, Verdict::Fine);
    });
}

#[tokio::test]
async fn a_log_of_the_first_versions_is_taken_up_in_a_new_epoch() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let store = Arc::new(MemoryStore::default());
    let body = br#"{"time":1800000000,"event":"server_started","epoch":1}"#;
    let link = "c56d6a3790f6a9ae41771415afc1d524dae469166786358b04ff85546145fa06";
    let end = format!(r#"{{"sequence":1,"link":"{link}"}}"#);
    let record = [&hex::decode(link).unwrap()[..], body].concat();
    let old = vec![
        Write::put(Space::Audit, 1_u64.to_be_bytes(), record),
        Write::put(Space::Meta, meta::CHAIN, end),
        Write::put(Space::Meta, meta::EPOCH, "1"),
    ];
    store.write(old).await.unwrap();
    let shared = Arc::<MemoryStore>::clone(&store);
    let life = Life::over(shared, dir.path(), &clock).await.unwrap();
    assert_eq!(epoch(&life.storage), 2);
    let records = read(&*store, 1, 10).await.unwrap();
    assert_eq!(records[0].body, body);
    let reason = last_fence(&life.storage).await;
    assert!(reason.contains("present form"), "{reason}");
    check_all(&*store).await.unwrap();
    life.stop().await;
}
