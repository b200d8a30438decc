//! What an EC2 instance sends never makes the reader panic, be it signed or not.
#![no_main]

use claviger_attestors::aws_iid::{Evidence, Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = Evidence::parse(bytes).and_then(|evidence| evidence.signed()) {
        assert!(signed.len() < bytes.len());
    }
    let Ok(identity) = Identity::parse(bytes) else { return };
    assert_eq!(identity.account().len(), 12);
    // Each is to be one segment of a path.
    for part in [identity.account(), identity.region()] {
        assert!(part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{part}");
    }
});
