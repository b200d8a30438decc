//! The node's side.

use std::time::Duration;

use crate::fetch::fixture::{Answer as Fetched, Site};
use crate::fixture::World;
use crate::sev_snp::fixture::{Machine, Settings, VCEK, VLEK, attest, collector, guest, table};
use crate::sev_snp::{Collector, CollectorConfig, KIND};
use crate::tsm::fixture::{Answer, FakeKernel};
use crate::{CollectError, NodeCollector as _};

fn config(text: &str) -> CollectorConfig {
    let config: CollectorConfig = toml::from_str(text).unwrap();
    assert_eq!(config.problems(), []);
    config
}

/// What comes of asking for evidence with a nonce.
async fn asked(collector: &Collector) -> Result<Vec<u8>, CollectError> {
    let mut presentation = collector.present(&World::default().binding(KIND)).await.unwrap();
    assert_eq!(presentation.evidence(), b"{}");
    presentation.answer(&[3; 32]).await.map(|answer| answer.to_vec())
}

async fn attests(collector: &Collector) {
    let node = attest(&Settings::with(""), collector).await.unwrap();
    assert_eq!(node.kind(), KIND);
}

#[tokio::test]
async fn the_certificate_is_of_the_kind_that_signed() {
    let (vcek, vlek) = (Machine::MILAN.endorsement(), Machine::CLOUD.endorsement());
    let both = table(&[(VLEK, &vlek), (VCEK, &vcek)]);
    for machine in [Machine::MILAN, Machine::CLOUD] {
        attests(&collector(machine, Some(both.clone()), &config(""))).await;
    }
    let other = collector(Machine::MILAN, Some(table(&[(VLEK, &vlek)])), &config(""));
    let error = asked(&other).await.unwrap_err().to_string();
    assert!(error.contains("(vcek)") && error.contains("certificate-path"), "{error}");
    let broken = collector(Machine::MILAN, Some(vec![1; 24]), &config(""));
    let error = asked(&broken).await.unwrap_err().to_string();
    assert!(error.contains("make no sense"), "{error}");
}

#[tokio::test]
async fn a_file_has_the_certificate_that_the_host_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vcek");
    let der = Machine::MILAN.endorsement();
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", der.clone())).into_bytes();
    let config = config(&format!("certificate-path = {path:?}"));
    for bytes in [der, pem] {
        std::fs::write(&path, bytes).unwrap();
        attests(&collector(Machine::MILAN, None, &config)).await;
        attests(&collector(Machine::MILAN, Some(vec![0; 4_096]), &config)).await;
    }
    let open = collector(Machine::MILAN, None, &config);
    std::fs::remove_file(&path).unwrap();
    let error = asked(&open).await.unwrap_err().to_string();
    assert!(error.contains("cannot read the certificate"), "{error}");
    let (tsm, _kernel) = FakeKernel::tsm(|_| unreachable_answer());
    Collector::asking(tsm, &config).unwrap_err();
}

fn unreachable_answer() -> Answer {
    Answer { provider: String::new(), outblob: Vec::new(), auxblob: None }
}

#[tokio::test]
async fn amd_is_asked_once_for_each_firmware() {
    let site = Site::open().await;
    let chip = "c1".repeat(64);
    let path = format!("/vcek/v1/Milan/{chip}");
    // The fixture answers with text; the certificate's content is not the collector's business.
    site.answer(&path, Fetched::Body("certificate".to_owned()));
    let collector = collector(Machine::MILAN, None, &config(&format!("kds = '{}'", site.url(""))));
    for _ in 0..3 {
        let answer = String::from_utf8(asked(&collector).await.unwrap()).unwrap();
        assert!(answer.contains(r#""endorsement":"Y2VydGlmaWNhdGU=""#), "{answer}");
    }
    let requests = site.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let query = format!("GET {path}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219 HTTP/1.1\r\n");
    assert!(requests[0].starts_with(&query), "{requests:?}");
}

#[tokio::test]
async fn turins_chips_have_shorter_names() {
    let site = Site::open().await;
    site.answer("/vcek/v1/Turin/550000000000004d", Fetched::Body("certificate".to_owned()));
    let collector = collector(Machine::TURIN, None, &config(&format!("kds = '{}/'", site.url(""))));
    asked(&collector).await.unwrap();
    let query = "?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=80 ";
    assert!(site.requests()[0].contains(query), "{:?}", site.requests());
}

#[tokio::test]
async fn amd_is_left_alone_after_it_did_not_answer() {
    let site = Site::open().await;
    let settings = config(&format!("kds = '{}'", site.url("")));
    let milan = collector(Machine::MILAN, None, &settings);
    let error = asked(&milan).await.unwrap_err().to_string();
    assert!(error.contains("asked too often"), "{error}");
    let error = asked(&milan).await.unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
    assert_eq!(site.requests().len(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    asked(&milan).await.unwrap_err();
    assert_eq!(site.requests().len(), 2);
    // A report of version 2 does not say where to look, and AMD does not have what it lent to clouds.
    let old = collector(Machine { version: 2, ..Machine::MILAN }, None, &settings);
    let error = asked(&old).await.unwrap_err().to_string();
    assert!(error.contains("does not say what processor"), "{error}");
    let error = asked(&collector(Machine::CLOUD, None, &settings)).await.unwrap_err().to_string();
    assert!(error.contains("(vlek)"), "{error}");
    assert_eq!(site.requests().len(), 2);
}

#[tokio::test]
async fn what_is_no_nonce_is_not_answered() {
    let collector = guest(Machine::MILAN);
    let mut presentation = collector.present(&World::default().binding(KIND)).await.unwrap();
    for challenge in [&[][..], &[0; 31], &[0; 33]] {
        let error = presentation.answer(challenge).await.unwrap_err();
        assert!(matches!(error, CollectError::Unexpected), "{error}");
    }
}

#[tokio::test]
async fn another_kind_of_machine_is_told_apart() {
    for (provider, outblob, why) in [
        ("tdx_guest", vec![0; 1_184], "made no SEV-SNP report"),
        ("sev_guest", vec![0; 1_183], "has another form"),
    ] {
        let (tsm, kernel) = FakeKernel::tsm(move |_| Answer {
            provider: provider.to_owned(),
            outblob: outblob.clone(),
            auxblob: None,
        });
        let collector = Collector::asking(tsm, &config("")).unwrap();
        let error = asked(&collector).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(kernel.left_behind(), 0);
    }
    let error = Collector::open(&config("tsm-path = '/nonexistent'")).unwrap_err();
    assert!(error.to_string().contains("cannot ask the kernel"), "{error}");
}

#[test]
fn settings_make_sense() {
    let keys = |text: &str| {
        let config: CollectorConfig = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(config(""), CollectorConfig::default());
    assert_eq!(keys("tsm-path = ''"), ["tsm-path"]);
    assert_eq!(keys("certificate-path = ''"), ["certificate-path"]);
    assert_eq!(keys("vmpl = 4"), ["vmpl"]);
    assert_eq!(keys("kds = 'http://kdsintf.amd.com'"), ["kds"]);
    assert!(keys("kds = 'https://kdsintf.amd.com'").is_empty());
    toml::from_str::<CollectorConfig>("kdc = 'a'").unwrap_err();
}
