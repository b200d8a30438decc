//! Policies that a stranger sends are never compiled, and only what the server would have written is
//! read as policies.
#![no_main]

use std::sync::LazyLock;

use claviger_core::bundle::TokenAuthority;
use claviger_core::bundle::json::read;
use claviger_core::policies::Announcement;
use claviger_policy::Source;
use claviger_policy::local::{Signed, SignedError};
use libfuzzer_sys::fuzz_target;

/// The example key of RFC 7515 §A.3. Nobody here has its private half.
static AUTHORITIES: LazyLock<Vec<TokenAuthority>> = LazyLock::new(|| {
    let document = br#"{"keys":[{"use":"jwt-svid","kid":"k","kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let trust_domain = "example.org".parse().expect("a trust domain");
    read(trust_domain, document).expect("a bundle").jwt_authorities
});

fuzz_target!(|sent: (&str, &[u8])| {
    let (token, bytes) = sent;
    let trust_domain = "example.org".parse().expect("a trust domain");
    assert!(Announcement::verify(token, &trust_domain, &AUTHORITIES).is_err());
    let opened = Signed::open(token, bytes, &trust_domain, &AUTHORITIES);
    assert!(matches!(opened, Err(SignedError::Announcement(_))));
    if let Ok(source) = Source::from_bytes(bytes) {
        assert_eq!(source.to_bytes(), bytes);
        assert_eq!(source.deciding(), source);
    }
});
