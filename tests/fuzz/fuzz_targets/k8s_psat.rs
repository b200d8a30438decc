//! Evidence from a stranger's pod never makes the verifier panic; what is read of it can stand in the
//! path of a request and of an identity.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_attestors::k8s_psat::{Claims, Evidence, Name, Uid};
use claviger_core::jose::compact::MAX_TOKEN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(evidence) = Evidence::parse(bytes) {
        assert!(is_segment(evidence.cluster));
        assert!(evidence.token.len() <= MAX_TOKEN);
        read(evidence.token);
    }
    // Mutations rarely get through JSON and base64 at once: here they are a token's claims.
    read(&format!("{HEADER}.{}.c2ln", URL_SAFE_NO_PAD.encode(bytes)));
});

/// `{"alg":"RS256","kid":"key"}`
const HEADER: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImtleSJ9";

fn read(token: &str) {
    let Ok(claims) = Claims::read(token) else { return };
    let account = &claims.account;
    for name in [&account.namespace, &account.name, &claims.pod.name] {
        assert!(is_segment(name.as_str()));
        assert_eq!(name.as_str().parse::<Name>().as_ref(), Ok(name));
    }
    for object in [Some(&claims.pod), claims.node.as_ref()].into_iter().flatten() {
        assert!(is_segment(object.uid.as_str()));
        assert_eq!(object.uid.as_str().parse::<Uid>().as_ref(), Ok(&object.uid));
    }
}

fn is_segment(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(is_inner)
}
