//! An exported audit log, however it was damaged, is read without a panic; a log made of the same
//! bodies is whole; one that was changed afterwards is not; and notes are written as they are read.
#![no_main]

use claviger_core::audit::note::Note;
use claviger_core::audit::receipt::Receipt;
use claviger_core::audit::{Body, Checkpoint, TreeHash, Verifier};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line of an export.
#[derive(Deserialize)]
struct Line<'a> {
    seq: u64,
    hash: TreeHash,
    #[serde(borrow)]
    body: &'a RawValue,
}

fuzz_target!(|bytes: &[u8]| {
    let mut exported = Verifier::default();
    let mut ours = Verifier::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Line { seq, hash, body }) = serde_json::from_slice(line) else { continue };
        let before = exported.head();
        match exported.push_hashed(seq, body.get().as_bytes(), hash) {
            Ok(()) => assert_eq!(exported.head().size, before.size + 1),
            Err(_broken) => assert_eq!(exported.head(), before),
        }

        let sequence = ours.head().size + 1;
        let edited = format!("{} ", body.get());
        let leaf = TreeHash::of_leaf(body.get().as_bytes());
        assert!(ours.push_hashed(sequence, edited.as_bytes(), leaf).is_err());
        assert_eq!(ours.push_hashed(sequence, body.get().as_bytes(), leaf), Ok(()));

        // What we understand, we write down again so that we understand the same.
        if let Ok(body) = serde_json::from_str::<Body>(body.get()) {
            let json = serde_json::to_string(&body).expect("an event is JSON");
            assert_eq!(serde_json::from_str::<Body>(&json).ok(), Some(body));
        }
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(note) = text.parse::<Note>() {
        assert_eq!(note.to_string().parse().ok(), Some(note));
    }
    if let Ok(receipt) = text.parse::<Receipt>() {
        assert_eq!(receipt.to_string().parse().ok(), Some(receipt));
    }
    if let Ok(checkpoint) = text.parse::<Checkpoint>() {
        assert_eq!(checkpoint.to_text(), text);
    }
});
