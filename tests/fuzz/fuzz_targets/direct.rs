//! Whatever a stranger posts is a request or a problem that names a field.
//!
//! The server's source is compiled in, so that the rest of it need not be built to fuzz it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;

#[path = "../../../server/src/direct/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod wire;

fn check<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    match wire::parse::<T>(body) {
        Ok(asked) => Some(asked),
        Err(wire::Malformed { field, why }) => {
            assert!(!field.is_empty() && !why.is_empty());
            None
        }
    }
}

fuzz_target!(|body: &[u8]| {
    if let Some(asked) = check::<wire::Psk>(body) {
        assert!((1..=128).contains(&asked.purpose.as_str().len()));
        assert!(asked.ttl_seconds.is_none_or(|ttl| (1..=300).contains(&ttl.duration().as_secs())));
    }
    check::<wire::Challenge>(body);
    let x509 = check::<wire::X509>(body);
    let jwt = check::<wire::Jwt>(body);
    // Each has a field that the others don't know.
    assert!(x509.is_none() || jwt.is_none());
});
