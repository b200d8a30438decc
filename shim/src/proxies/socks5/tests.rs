use tokio::io::{duplex, join};

use super::*;
use crate::proxies::read_request;

const HELLO: [u8; 3] = [5, 1, 0];

/// What became of `said`: the outcome, what was answered, and what was not read.
async fn outcome(said: &[u8]) -> (Result<String, RequestError>, Vec<u8>, usize) {
    let mut stream = join(said, Vec::new());
    let read = read_request(Protocol::Socks5, &mut stream).await;
    if let Ok(request) = &read {
        assert!(request.early.is_empty());
    }
    let (unread, answered) = stream.into_inner();
    (read.map(|request| request.to), answered, unread.len())
}

fn request(kind: u8, address: &[u8], port: u16) -> Vec<u8> {
    [&HELLO[..], &[5, 1, 0, kind], address, &port.to_be_bytes()].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    [&[u8::try_from(name.len()).unwrap()], name].concat()
}

#[tokio::test]
async fn a_place_is_a_name_or_an_address() {
    for (said, place) in [
        (request(NAME, &name(b"DB.internal"), 5_432), "db.internal:5432"),
        (request(IPV4, &[127, 0, 0, 1], 80), "127.0.0.1:80"),
        (request(IPV6, &Ipv6Addr::LOCALHOST.octets(), 443), "[::1]:443"),
    ] {
        let (to, answered, unread) = outcome(&[said.as_slice(), b"more"].concat()).await;
        assert_eq!((to.unwrap().as_str(), answered.as_slice()), (place, &[5, 0][..]));
        assert_eq!(unread, 4, "what follows is left alone");
    }
}

#[tokio::test]
async fn what_is_not_done_is_told_in_its_code() {
    let bind = [&HELLO[..], &[5, 2, 0, IPV4, 127, 0, 0, 1, 0, 80]].concat();
    for (said, code) in [
        (bind, COMMAND_NOT_SUPPORTED),
        (request(2, &[], 80), ADDRESS_NOT_SUPPORTED),
        (request(IPV4, &[127, 0, 0, 1], 0), FAILED),
        (request(NAME, &name(b""), 80), FAILED),
        (request(NAME, &name(b"a b"), 80), FAILED),
        (request(NAME, &name(b"user@host"), 80), FAILED),
        (request(NAME, &name(&[0xff]), 80), FAILED),
    ] {
        let (to, answered, _) = outcome(&said).await;
        to.unwrap_err();
        assert_eq!(answered, [&[5, 0][..], &reply(code)].concat(), "{said:?}");
    }
}

#[tokio::test]
async fn programs_that_insist_on_a_password_are_told_so() {
    for (methods, accepted) in
        [(&[5, 1, 2][..], false), (&[5, 0], false), (&[5, 2, 1, 2], false), (&[5, 2, 2, 0], true)]
    {
        let (_, answered, _) = outcome(methods).await;
        let method = if accepted { NO_AUTHENTICATION } else { NONE_ACCEPTABLE };
        assert_eq!(answered, [VERSION, method], "{methods:?}");
    }
}

#[tokio::test]
async fn other_protocols_are_not_answered() {
    for said in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 127, 0, 0, 1, 0], &[], &[5], &[0x16, 3, 1]]
    {
        let (to, answered, _) = outcome(said).await;
        to.unwrap_err();
        assert!(answered.is_empty(), "{said:?}");
    }
    for request in [[4, 1, 0, IPV4], [5, 1, 1, IPV4]] {
        let (to, answered, _) = outcome(&[&HELLO[..], &request].concat()).await;
        assert!(matches!(to.unwrap_err(), RequestError::Malformed(_)));
        assert_eq!(answered, [5, 0], "{request:?}");
    }
}

#[tokio::test]
async fn answers_have_their_codes() {
    let asked = request(IPV4, &[127, 0, 0, 1], 80);
    for (answer, code) in [(Answer::Open, 0), (Answer::NotPermitted, 2), (Answer::Unreachable, 4)] {
        let mut stream = join(asked.as_slice(), Vec::new());
        let request = read_request(Protocol::Socks5, &mut stream).await.unwrap();
        request.answer(&mut stream, answer).await.unwrap();
        assert_eq!(
            stream.into_inner().1,
            [&[5, 0][..], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_not_waited_for() {
    let (mut ours, mut theirs) = duplex(64);
    theirs.write_all(&HELLO).await.unwrap();
    let error = read_request(Protocol::Socks5, &mut ours).await.unwrap_err();
    assert!(matches!(error, RequestError::TooSlow), "{error}");
}
