//! A bundle from another trust domain never makes the reader panic, and what was read is written so
//! that it reads the same.
#![no_main]

use claviger_core::bundle::Bundle;
use claviger_core::bundle::json::{read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    let trust_domain: claviger_core::id::TrustDomain =
        "example.org".parse().expect("a trust domain");
    let Ok(bundle) = read(trust_domain.clone(), document) else { return };
    for count in
        [bundle.x509_authorities.len(), bundle.jwt_authorities.len(), bundle.wit_authorities.len()]
    {
        assert!(count <= Bundle::MAX_AUTHORITIES);
    }
    // A certificate may have a key that has no JWK.
    if let Ok(written) = write(&bundle) {
        assert_eq!(read(trust_domain, written.as_bytes()).expect("what we wrote"), bundle);
    }
});
