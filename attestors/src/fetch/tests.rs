use std::error::Error as _;
use std::fs;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::fixture::{Answer, Site};
use super::*;

fn fetch() -> Fetch {
    Fetch::open(None).unwrap().within(Duration::from_millis(500))
}

fn at(url: &str) -> Endpoint {
    Endpoint::parse(url, Plain::Loopback).unwrap()
}

/// Why what `site` answers is not believed.
async fn refused(site: &Site, answer: Answer) -> String {
    site.answer("/keys", answer);
    let error = fetch().get(&at(&site.url("/keys")), &[]).await.unwrap_err();
    assert!(error.to_string().contains(&site.url("/keys")), "{error}");
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn a_small_answer_is_read() {
    let site = Site::open().await;
    site.answer("/keys", Answer::Body("{}".to_owned()));
    let body = fetch().get(&at(&site.url("/keys?v=1")), &[("x-flavor", "plain")]).await.unwrap();
    assert_eq!(*body, b"{}");
    let request = site.requests().pop().unwrap();
    assert!(request.starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-flavor: plain\r\n"), "{request}");
}

#[tokio::test]
async fn nobody_sends_us_elsewhere() {
    let site = Site::open().await;
    site.answer("/other", Answer::Body("{}".to_owned()));
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let to = site.url("/other");
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let why = refused(&site, Answer::Raw(answer)).await;
        assert!(why.contains("redirects are not followed"), "{why}");
    }
    assert!(site.requests().iter().all(|request| request.starts_with("GET /keys ")));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_cut_off() {
    let site = Site::open().await;
    let why = refused(&site, Answer::Endless).await;
    assert!(why.contains("longer than 262144 bytes"), "{why}");
    let why = refused(&site, Answer::Body("x".repeat(MAX_BODY + 1))).await;
    assert!(why.contains("longer"), "{why}");
    site.answer("/keys", Answer::Body("x".repeat(MAX_BODY)));
    let body = fetch().get(&at(&site.url("/keys")), &[]).await.unwrap();
    assert_eq!(body.len(), MAX_BODY);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let site = Site::open().await;
    for answer in [Answer::Stall, Answer::Halfway] {
        let why = refused(&site, answer).await;
        assert!(why.contains("no complete answer within 500ms"), "{why}");
    }
}

#[tokio::test]
async fn only_a_200_is_an_answer() {
    let site = Site::open().await;
    for status in ["204 No Content", "206 Partial Content", "404 Not Found", "500 Oops"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let why = refused(&site, Answer::Raw(answer)).await;
        assert!(why.contains("only 200 is believed"), "{why}");
    }
    let why = refused(&site, Answer::Raw("SSH-2.0-OpenSSH\r\n\r\n".to_owned())).await;
    assert!(!why.contains("SSH"), "{why}");
}

/// An authority, and a server's configuration that it vouches for.
fn authority() -> (String, rustls::ServerConfig) {
    let mut ca = CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    (pem, tls)
}

#[tokio::test]
async fn a_server_is_believed_if_the_operators_authority_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, tls) = authority();
    let site = Site::open_tls(tls).await;
    site.answer("/keys", Answer::Body("{}".to_owned()));
    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, pem).unwrap();
    let ours = Fetch::open(Some(&ca_file)).unwrap();
    assert_eq!(*ours.get(&at(&site.url("/keys")), &[]).await.unwrap(), b"{}");

    fs::write(&ca_file, authority().0).unwrap();
    for other in [Fetch::open(Some(&ca_file)).unwrap(), fetch()] {
        let error = other.get(&at(&site.url("/keys")), &[]).await.unwrap_err();
        assert!(matches!(error.problem, Problem::Http(_)), "{error:?}");
    }
    assert_eq!(site.requests().len(), 1);
}

#[test]
fn a_file_without_authorities_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let refused = || Fetch::open(Some(&path)).unwrap_err();
    assert!(matches!(refused(), RootsError::Read { .. }));
    fs::write(&path, "").unwrap();
    assert!(matches!(refused(), RootsError::Empty { .. }));
    fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(refused(), RootsError::Certificate { .. }));
    fs::write(&path, "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(refused(), RootsError::Pem { .. }));
}
