//! A document of a stranger's never makes whoever looks at it panic, whatever it is written in, and
//! none is genuine as long as nothing is given to hold it against; nor is an envelope that nobody
//! signed.
#![no_main]

use std::sync::LazyLock;

use claviger_attestors::dsse::{Envelope, Key};
use claviger_attestors::inspect::{Given, MAX_FILE, Verdict, inspect};
use claviger_attestors::references::{Manifest, PAYLOAD_TYPE};
use libfuzzer_sys::fuzz_target;

/// A key whose private half nobody has: the example of RFC 7515 §A.3.
static KEYS: LazyLock<[Key; 1]> = LazyLock::new(|| {
    let pem = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n\
        6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n\
        -----END PUBLIC KEY-----\n";
    [Key::from_pem(pem.as_bytes()).expect("a public key")]
});

fuzz_target!(|file: &[u8]| {
    if let Some((_encoding, kind, inspection)) = inspect(file, None, &Given::NOTHING) {
        assert!(file.len() <= MAX_FILE);
        assert_eq!(kind.name, inspection.kind);
        assert_ne!(inspection.verdict(), Verdict::Genuine);
    }
    if let Ok(envelope) = Envelope::parse(file) {
        assert!(envelope.open(PAYLOAD_TYPE, KEYS.as_slice()).is_err());
        if let Ok(payload) = envelope.unverified(PAYLOAD_TYPE) {
            drop(Manifest::read(&payload));
        }
    }
    drop(Manifest::read(file));
});
