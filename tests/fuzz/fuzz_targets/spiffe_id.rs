//! Whatever parses as an identity has this one spelling, and comes apart and together again.
#![no_main]

use claviger_core::id::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.to_string(), text);
    assert_eq!(id.trust_domain().join(id.path()).as_ref(), Ok(&id));
    assert_eq!(id.is_trust_domain(), id == id.trust_domain().id());
    assert!(text.len() <= SpiffeId::MAX_LEN);
    assert!(!id.path().contains("//") && !id.path().contains("/../"));
});
