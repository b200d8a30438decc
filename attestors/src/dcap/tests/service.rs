//! Asking a service for collateral.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;
use crate::fetch::fixture::{Answer, Site};

const WANTED: Wanted = Wanted { tee: Tee::Tdx, fmspc: fixture::FMSPC, ca: Ca::Platform };
const TCB: &str = "/tdx/certification/v4/tcb";
const IDENTITY: &str = "/tdx/certification/v4/qe/identity";
const PCK_CRL: &str = "/sgx/certification/v4/pckcrl";
const ROOT_CRL: &str = "/sgx/certification/v4/rootcacrl";

/// A service that says what `collateral` does.
async fn site(collateral: &Collateral) -> (Site, Service) {
    let site = Site::open().await;
    let signed = |member: &str, text: &str, signature: &[u8], header: &str, chain: &str| {
        let body = format!(r#"{{"{member}":{text},"signature":"{}"}}"#, hex::encode(signature));
        let chain = utf8_percent_encode(chain, NON_ALPHANUMERIC);
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{header}: {chain}");
        Answer::Raw(format!("{head}\r\nConnection: close\r\n\r\n{body}"))
    };
    let Collateral { tcb_info, tcb_info_signature, tcb_info_issuer_chain, .. } = collateral;
    let chain = tcb_info_issuer_chain;
    let tcb = signed("tcbInfo", tcb_info, tcb_info_signature, "TCB-Info-Issuer-Chain", chain);
    site.answer(TCB, tcb);
    let Collateral { qe_identity, qe_identity_signature, .. } = collateral;
    let header = "SGX-Enclave-Identity-Issuer-Chain";
    let chain = &collateral.qe_identity_issuer_chain;
    let identity = signed("enclaveIdentity", qe_identity, qe_identity_signature, header, chain);
    site.answer(IDENTITY, identity);
    // One as a cache has it, one as Intel has it on request.
    let pem = pem::encode(&pem::Pem::new("X509 CRL", collateral.pck_crl.as_slice()));
    site.answer(PCK_CRL, Answer::Body(pem));
    site.answer(ROOT_CRL, Answer::Body(hex::encode(&collateral.root_ca_crl)));
    let service = Service::open(&site.url("/"), &CollateralConfig::default()).unwrap();
    (site, service)
}

#[tokio::test]
async fn what_the_service_says_is_what_it_signed() {
    let intel = Intel::new();
    let expected = Sayings::of(Tee::Tdx).sign(&intel);
    let (site, service) = site(&expected).await;
    let found = service.collateral(WANTED, NOW).await.unwrap().unwrap();
    assert_eq!(*found, expected);
    let [(_, parts), _] = quotes(&intel);
    appraised(&intel, &parts.sign(&intel), &found).unwrap();
    let asked = site.requests();
    assert!(asked[0].starts_with(&format!("GET {TCB}?fmspc=B0C06F000001 ")), "{}", asked[0]);
    let crl = format!("GET {PCK_CRL}?ca=platform&encoding=der ");
    assert!(asked.iter().any(|request| request.starts_with(&crl)));
    assert_eq!(asked.len(), 4);
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_then_asked_for_again() {
    let (site, service) = site(&Sayings::of(Tee::Tdx).sign(&Intel::new())).await;
    for _ in 0..3 {
        service.collateral(WANTED, NOW).await.unwrap().unwrap();
    }
    assert_eq!(site.requests().len(), 4);
    later(Duration::from_hours(25)).await;
    service.collateral(WANTED, NOW).await.unwrap().unwrap();
    assert_eq!(site.requests().len(), 8);
    // Another family of platforms is another matter.
    let other = Wanted { fmspc: [0; 6], ..WANTED };
    service.collateral(other, NOW).await.unwrap().unwrap();
    assert_eq!(site.requests().len(), 12);
}

#[tokio::test]
async fn many_that_ask_at_once_ask_once() {
    let (site, service) = site(&Sayings::of(Tee::Tdx).sign(&Intel::new())).await;
    let asked = (0..8).map(|_| service.collateral(WANTED, NOW));
    for found in futures_util::future::join_all(asked).await {
        assert!(found.unwrap().is_some());
    }
    assert_eq!(site.requests().len(), 4);
}

#[tokio::test]
async fn a_service_that_fails_is_left_alone_for_a_minute() {
    let (site, service) = site(&Sayings::of(Tee::Tdx).sign(&Intel::new())).await;
    site.answer(TCB, Answer::Raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()));
    for _ in 0..3 {
        let error = service.collateral(WANTED, NOW).await.unwrap_err();
        assert!(matches!(error, CollateralError::Service(_)), "{error}");
    }
    assert_eq!(site.requests().len(), 1);
    later(Duration::from_secs(61)).await;
    service.collateral(WANTED, NOW).await.unwrap_err();
    assert_eq!(site.requests().len(), 2);
}

#[tokio::test]
async fn what_was_known_is_used_while_the_service_is_gone() {
    let (site, service) = site(&Sayings::of(Tee::Tdx).sign(&Intel::new())).await;
    service.collateral(WANTED, NOW).await.unwrap().unwrap();
    site.answer(PCK_CRL, Answer::Body("nothing".to_owned()));
    later(Duration::from_hours(25)).await;
    assert!(service.collateral(WANTED, NOW).await.unwrap().is_some());
    let asked = site.requests().len();
    // Also when it has expired, which is for the verifier to say.
    let expired = at("2026-02-01T00:00:00Z");
    later(Duration::from_secs(61)).await;
    assert!(service.collateral(WANTED, expired).await.unwrap().is_some());
    assert!(asked < site.requests().len());
}

#[tokio::test]
async fn an_answer_that_is_something_else_is_no_collateral() {
    let good = Sayings::of(Tee::Tdx).sign(&Intel::new());
    for (path, body) in [
        (TCB, r#"{"tcbInfo":{},"signature":"00"}"#),
        (TCB, "[]"),
        (IDENTITY, r#"{"enclaveIdentity":{},"enclaveIdentity":{},"signature":"00"}"#),
        (PCK_CRL, "zz"),
        (ROOT_CRL, "00"),
        (ROOT_CRL, ""),
    ] {
        let (site, service) = site(&good).await;
        site.answer(path, Answer::Body(body.to_owned()));
        service.collateral(WANTED, NOW).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_folder_has_a_file_for_each_family_of_platforms() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().to_owned());
    assert!(folder.collateral(WANTED, NOW).await.unwrap().is_none());
    let expected = Sayings::of(Tee::Tdx).sign(&Intel::new());
    let path = dir.path().join("tdx-b0c06f000001.json");
    std::fs::write(&path, serde_json::to_vec(&expected).unwrap()).unwrap();
    assert_eq!(*folder.collateral(WANTED, NOW).await.unwrap().unwrap(), expected);
    let sgx = Wanted { tee: Tee::Sgx, ..WANTED };
    assert!(folder.collateral(sgx, NOW).await.unwrap().is_none());
    for bad in ["{}", "", &" ".repeat(Collateral::MAX + 1)] {
        std::fs::write(&path, bad).unwrap();
        folder.collateral(WANTED, NOW).await.unwrap_err();
    }
}

/// Lets time pass for whoever counts it by the clock of tasks.
async fn later(span: Duration) {
    tokio::time::pause();
    tokio::time::advance(span).await;
    tokio::time::resume();
}
