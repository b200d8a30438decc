//! Keys from somebody's web server never make the reader panic, and keys that were read check what
//! strangers sign without being fooled.
#![no_main]

use claviger_attestors::jwks::set::{MAX_DOCUMENT, MAX_KEYS};
use claviger_attestors::jwks::{KeySet, Token};
use claviger_core::jose::Algorithm;
use claviger_core::jose::compact::MAX_TOKEN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keys) = KeySet::parse(bytes) {
        assert!(bytes.len() <= MAX_DOCUMENT);
        assert!((1..=MAX_KEYS).contains(&keys.len()));
        assert!(!keys.names(""));
        assert!(!Algorithm::ALL.into_iter().any(|one| keys.verifies("k", one, b"message", b"")));
    }
    if let Ok(token) = Token::parse(bytes) {
        assert!(bytes.len() <= MAX_TOKEN);
        assert!(!token.key_id().is_empty());
        // Whatever it says about itself, each reading of it says so again.
        let again = Token::parse(bytes).expect("what was read before");
        assert_eq!(token.unverified(), again.unverified());
    }
});
