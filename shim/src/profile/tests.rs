use tokio::io::{AsyncReadExt as _, duplex};

use super::*;
use crate::backend::S2n;
use crate::fixture::{FakeBroker, forged};
use crate::{Ends, PskAcceptor, PskConnector};

/// The suites and the groups that a connector of one-time keys offers, by their numbers.
async fn offered(profile: Profile) -> (Vec<u16>, Vec<u16>) {
    let connector = PskConnector::with_backend(S2n::with_profile(profile).unwrap());
    let (near, mut far) = duplex(64 << 10);
    let mut hello = vec![0; 16 << 10];
    let length = tokio::select! {
        _ = connector.connect(near, forged(1)) => panic!("nobody answered"),
        length = far.read(&mut hello) => length.unwrap(),
    };
    let numbers = |bytes: &[u8]| {
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
    };
    // The headers of the record and of the message, the version, the random bytes, the session's name.
    let rest = &hello[5 + 4 + 2 + 32..length];
    let rest = &rest[1 + usize::from(rest[0])..];
    let (suites, rest) = rest[2..].split_at(usize::from(numbers(&rest[..2])[0]));
    let mut extensions = &rest[2 + 2..];
    while numbers(&extensions[..2]) != [10] {
        extensions = &extensions[4 + usize::from(numbers(&extensions[2..4])[0])..];
    }
    let length = usize::from(numbers(&extensions[4..6])[0]);
    (numbers(suites), numbers(&extensions[6..6 + length]))
}

/// What both ends of a profile agree on.
async fn agreed(profile: Profile) -> Ends {
    let broker = FakeBroker::default();
    let connector = PskConnector::with_backend(S2n::with_profile(profile).unwrap());
    let acceptor = PskAcceptor::with_backend(broker.clone(), S2n::with_profile(profile).unwrap());
    let (near, far) = duplex(64 << 10);
    let ends = tokio::join!(acceptor.accept(far), connector.connect(near, broker.issue(1)));
    assert_eq!(ends.0.unwrap().ends(), ends.1.as_ref().unwrap().ends());
    ends.1.unwrap().ends().clone()
}

const AES_128: u16 = 0x1301;
const AES_256: u16 = 0x1302;
const CHACHA: u16 = 0x1303;
const P256: u16 = 23;
const P384: u16 = 24;
const P521: u16 = 25;
const X25519: u16 = 29;
const SECP256R1MLKEM768: u16 = 0x11eb;
const X25519MLKEM768: u16 = 0x11ec;
const SECP384R1MLKEM1024: u16 = 0x11ed;

#[tokio::test]
async fn modern_keys_are_exchanged_with_the_best_there_is() {
    let (suites, groups) = offered(Profile::Modern).await;
    assert_eq!(suites, [AES_128, AES_256, CHACHA]);
    let hybrids = [X25519MLKEM768, SECP256R1MLKEM768, SECP384R1MLKEM1024];
    assert_eq!(groups, [&hybrids[..], &[P256, X25519, P384]].concat());
    let ends = agreed(Profile::Modern).await;
    assert_eq!((&*ends.group, &*ends.suite), ("X25519MLKEM768", "TLS_AES_128_GCM_SHA256"));
}

#[tokio::test]
async fn keys_within_nist_800_52r2_know_no_chacha_and_no_x25519_by_itself() {
    let (suites, groups) = offered(Profile::Nist80052r2).await;
    assert_eq!(suites, [AES_128, AES_256]);
    let hybrids = [X25519MLKEM768, SECP256R1MLKEM768, SECP384R1MLKEM1024];
    assert_eq!(groups, [&hybrids[..], &[P256, P384, P521]].concat());
    let ends = agreed(Profile::Nist80052r2).await;
    assert_eq!((&*ends.group, &*ends.suite), ("X25519MLKEM768", "TLS_AES_128_GCM_SHA256"));
}

#[test]
fn cnsa2_has_no_one_time_keys_and_says_what_to_do() {
    let error = S2n::with_profile(Profile::Cnsa2).unwrap_err();
    assert!(error.to_string().contains("use the mode `mtls`, or another profile"), "{error}");
}
