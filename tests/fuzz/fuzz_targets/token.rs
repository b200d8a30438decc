//! A token from a stranger never makes a validator panic, and only one that an authority signed is
//! believed: none of these is.
#![no_main]

use std::sync::LazyLock;

use claviger_core::bundle::TokenAuthority;
use claviger_core::bundle::json::read;
use claviger_core::jose::compact::{Compact, MAX_TOKEN};
use claviger_core::svid::jwt::JwtSvid;
use claviger_core::svid::wit::WitSvid;
use claviger_core::time::UnixTime;
use libfuzzer_sys::fuzz_target;

/// The example key of RFC 7515 §A.3. Nobody here has its private half.
static AUTHORITIES: LazyLock<Vec<TokenAuthority>> = LazyLock::new(|| {
    let document = br#"{"keys":[{"use":"jwt-svid","kid":"k","kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let trust_domain = "example.org".parse().expect("a trust domain");
    read(trust_domain, document).expect("a bundle").jwt_authorities
});

fuzz_target!(|token: &str| {
    let now = UnixTime::from_secs(1_000);
    assert!(JwtSvid::validate(token, "a", now, |_| Some(&AUTHORITIES)).is_err());
    assert!(WitSvid::validate(token, now, |_| Some(&AUTHORITIES)).is_err());
    if let Ok(compact) = Compact::parse(token) {
        assert!(token.len() <= MAX_TOKEN);
        assert!(token.starts_with(compact.signed));
        assert!(!compact.key_id.is_empty());
    }
});
