//! An exported audit log, however it was damaged, is read without a panic; a log made of the same
//! bodies is whole; and one that was changed afterwards is not.
#![no_main]

use claviger_core::audit::{Body, Head, Link, Verifier};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line of an export.
#[derive(Deserialize)]
struct Line<'a> {
    seq: u64,
    hash: Link,
    #[serde(borrow)]
    body: &'a RawValue,
}

fuzz_target!(|bytes: &[u8]| {
    let mut exported = Verifier::default();
    let mut ours = Verifier::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Line { seq, hash, body }) = serde_json::from_slice(line) else { continue };
        let before = exported.head();
        match exported.push(seq, body.get().as_bytes(), hash) {
            Ok(()) => assert_eq!(exported.head().sequence, before.sequence + 1),
            Err(_broken) => assert_eq!(exported.head(), before),
        }

        let Head { sequence, link } = ours.head().append(body.get().as_bytes());
        let edited = format!("{} ", body.get());
        assert!(ours.push(sequence, edited.as_bytes(), link).is_err());
        assert_eq!(ours.push(sequence, body.get().as_bytes(), link), Ok(()));

        // What we understand, we write down again so that we understand the same.
        if let Ok(body) = serde_json::from_str::<Body>(body.get()) {
            let json = serde_json::to_string(&body).expect("an event is JSON");
            assert_eq!(serde_json::from_str::<Body>(&json).ok(), Some(body));
        }
    }
});
