use std::sync::Arc;

use claviger_core::grant::PskProof;

use super::*;
use crate::audit::Verdict;
use crate::ledger::psk::AttemptId;
use crate::policy::Met;
use crate::storage::fixture::{Life, NOW, TestClock, binding, issue, redemption};
use crate::storage::{OpenError, Storage};
use crate::store::memory::MemoryStore;

fn attempt(number: u8) -> AttemptId {
    AttemptId::from_bytes([number; 16])
}

#[tokio::test]
async fn a_store_moves_with_nothing_lost_and_no_key_works_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("export"));
    let config = Config::new("example.org".parse().unwrap(), data.clone());
    let clock = TestClock::at(NOW);
    let before = Life::embedded(&data, &clock).await.unwrap();
    let ledger = before.storage.ledger.clone();
    let spent = ledger.mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let unspent = ledger.mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let found = ledger.find(spent.identity).await.unwrap();
    let grant = redemption(binding(60), PskProof::IdentityOnly);
    ledger.redeem(found, grant, attempt(1)).await.unwrap();
    drop(ledger);
    let checkpoint = before.storage.checkpoints.sign_now().note().to_string();
    assert!(export(&config, &file).await.unwrap_err().to_string().contains("another server"));
    before.stop().await;

    let exported = export(&config, &file).await.unwrap();
    assert_eq!(exported.pairs["psks"], 2);
    assert_eq!(exported.pairs["audit"], 5, "an epoch, the start, two issued, one redeemed");
    let Err(refused) = Life::embedded(&data, &clock).await else { panic!("it goes on") };
    assert!(matches!(refused, OpenError::Exported { .. }), "{refused}");

    let store = Arc::new(MemoryStore::default());
    let _other = store.join();
    let directory = DataDirectory::claim(&data).unwrap();
    let wrapping = WrappingKey::of_tests();
    let moved = read_into(&*store, &directory, &wrapping, &file).await.unwrap();
    assert_eq!(moved, exported);
    let again = read_into(&*store, &directory, &wrapping, &file).await.unwrap_err();
    assert!(again.to_string().contains("DROP SCHEMA"), "{again}");
    drop(directory);
    let after = Life::shared(store, &data, &clock).await.unwrap();
    let Storage { ledger, epochs, .. } = &after.storage;
    assert_eq!(epochs.current().number, 1, "nothing is in doubt");
    let verdict = after.storage.checkpoints.judge(&checkpoint).await.unwrap();
    assert_eq!(verdict, Verdict::Fine, "what agents remember is remembered of this log");
    let found = ledger.find(unspent.identity).await.unwrap();
    let grant = redemption(binding(60), PskProof::IdentityOnly);
    let redeemed = ledger.redeem(found, grant, attempt(2)).await.unwrap();
    assert!(redeemed.base.0.ct_eq(&unspent.base.0));
    let found = ledger.find(spent.identity).await.unwrap();
    let grant = redemption(binding(60), PskProof::IdentityOnly);
    ledger.redeem(found, grant, attempt(3)).await.unwrap_err();
}

#[tokio::test]
async fn a_file_that_was_changed_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("export"));
    let config = Config::new("example.org".parse().unwrap(), data.clone());
    let never = export(&config, &file).await.unwrap_err();
    assert!(matches!(never, TransferError::Doubt(Doubt::FirstStart)), "{never}");
    Life::embedded(&data, &TestClock::at(NOW)).await.unwrap().stop().await;
    export(&config, &file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let directory = DataDirectory::claim(&data).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&file, &changed).unwrap();
        let store = MemoryStore::default();
        let refused =
            read_into(&store, &directory, &WrappingKey::of_tests(), &file).await.unwrap_err();
        assert!(matches!(refused, TransferError::Damaged(_)), "byte {at}: {refused}");
        assert!(store.get(Space::Meta, meta::HEAD).await.unwrap().is_none());
        std::fs::write(&file, &whole[..at]).unwrap();
        let refused =
            read_into(&store, &directory, &WrappingKey::of_tests(), &file).await.unwrap_err();
        assert!(matches!(refused, TransferError::Damaged(_)), "{at} bytes: {refused}");
    }
}
