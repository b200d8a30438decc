//! Whatever parses as a PSK identity has this one spelling; every block is some serial's.
#![no_main]

use claviger_core::psk::identity::{Serial, WireIdentity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(identity) = WireIdentity::parse(bytes) {
        assert_eq!(identity.to_string().as_bytes(), bytes);
    }
    if let Some(block) = bytes.first_chunk::<16>() {
        let identity = WireIdentity::from_bytes(*block);
        assert_eq!(WireIdentity::parse(identity.to_string().as_bytes()), Ok(identity));
        assert_eq!(Serial::from_key(*block).to_key(), *block);
    }
});
