use tokio::io::{AsyncWriteExt as _, duplex, join};

use super::*;
use crate::proxies::read_request;

/// What became of `said`, and what was answered.
async fn outcome(said: &[u8]) -> (Result<Request, RequestError>, String) {
    let mut stream = join(said, Vec::new());
    let read = read_request(Protocol::Connect, &mut stream).await;
    (read, String::from_utf8(stream.into_inner().1).unwrap())
}

async fn refused(said: impl AsRef<[u8]>) -> String {
    let (read, answered) = outcome(said.as_ref()).await;
    read.unwrap_err();
    let (head, body) = answered.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
    head.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_place_is_an_authority() {
    for (said, place) in [
        ("CONNECT DB.internal:5432 HTTP/1.1\r\nHost: DB.internal:5432\r\n\r\n", "db.internal:5432"),
        ("CONNECT [::1]:443 HTTP/1.1\r\nhost: x\r\nUser-Agent: curl/8\r\n\r\n", "[::1]:443"),
        ("CONNECT 127.0.0.1:80 HTTP/1.0\r\n\r\n", "127.0.0.1:80"),
    ] {
        let (read, answered) = outcome(said.as_bytes()).await;
        let request = read.unwrap();
        assert_eq!((request.to.as_str(), answered.as_str()), (place, ""));
        assert!(request.early.is_empty());
    }
}

#[tokio::test]
async fn what_follows_the_head_is_kept_however_it_arrives() {
    let said = b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n\x16\x03\x01 and more\r\n\r\n";
    for chunk in [1, 7, 40, 41, 64] {
        let (mut ours, mut theirs) = duplex(chunk);
        let writing = async {
            theirs.write_all(said).await.unwrap();
            theirs.shutdown().await.unwrap();
        };
        let reading = async {
            let request = read_request(Protocol::Connect, &mut ours).await.unwrap();
            let mut rest = request.early;
            ours.read_to_end(&mut rest).await.unwrap();
            rest
        };
        let ((), rest) = tokio::join!(writing, reading);
        assert_eq!(rest, b"\x16\x03\x01 and more\r\n\r\n");
    }
}

#[tokio::test]
async fn other_requests_are_answered_as_the_standard_says() {
    for other in ["GET http://a/ HTTP/1.1", "POST / HTTP/1.1", "connect db:1 HTTP/1.1"] {
        let said = format!("{other}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(said).await, "HTTP/1.1 405 Method Not Allowed");
    }
    assert!(
        outcome(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.1.contains("\r\nAllow: CONNECT\r\n")
    );
    for bad in [
        "CONNECT db HTTP/1.1\r\nHost: db\r\n\r\n",
        "CONNECT http://db:1/ HTTP/1.1\r\nHost: db\r\n\r\n",
        "CONNECT db:0 HTTP/1.1\r\nHost: db\r\n\r\n",
        "CONNECT user@db:1 HTTP/1.1\r\nHost: db\r\n\r\n",
        "CONNECT db:1 HTTP/1.1\r\n\r\n",
        "CONNECT db:1 HTTP/1.1\r\nHost: db\r\nHost: db\r\n\r\n",
        "CONNECT db:1 HTTP/1.1\r\nHost: db\r\nContent-Length: 3\r\n\r\nabc",
        "CONNECT db:1 HTTP/1.1\r\nHost: db\r\nTransfer-Encoding: chunked\r\n\r\n",
        "CONNECT db:1 HTTP/2.0\r\nHost: db\r\n\r\n",
        "CONNECT db:1 HTTP/1.1\r\nHo st: db\r\n\r\n",
        "\u{16}\u{3}\u{1}",
        "CONNECT db:1 HTTP/1.1\r\nHost: db",
        "",
    ] {
        assert_eq!(refused(bad).await, "HTTP/1.1 400 Bad Request", "{bad:?}");
    }
}

#[tokio::test]
async fn a_head_is_bounded() {
    let fields = "X: y\r\n".repeat(MAX_FIELDS + 1);
    let many = format!("CONNECT db:1 HTTP/1.1\r\nHost: db\r\n{fields}\r\n");
    let long = format!("CONNECT db:1 HTTP/1.1\r\nHost: db\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    for said in [many, long] {
        assert_eq!(refused(said).await, "HTTP/1.1 431 Request Header Fields Too Large");
    }
}

#[tokio::test]
async fn answers_have_their_statuses() {
    let asked = b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n";
    for (answer, status) in [
        (Answer::Open, "HTTP/1.1 200 Connection Established\r\n\r\n"),
        (Answer::NotPermitted, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n"),
        (Answer::Unreachable, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n"),
    ] {
        let mut stream = join(asked.as_slice(), Vec::new());
        let request = read_request(Protocol::Connect, &mut stream).await.unwrap();
        request.answer(&mut stream, answer).await.unwrap();
        let answered = String::from_utf8(stream.into_inner().1).unwrap();
        assert!(answered.starts_with(status), "{answered}");
        assert_eq!(answer == Answer::Open, answered == status);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_told_so() {
    let (mut ours, mut theirs) = duplex(1_024);
    theirs.write_all(b"CONNECT db:1 HT").await.unwrap();
    let error = read_request(Protocol::Connect, &mut ours).await.unwrap_err();
    assert!(matches!(error, RequestError::TooSlow), "{error}");
    let mut told = String::new();
    drop(ours);
    theirs.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{told}");
}
