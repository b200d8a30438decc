use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::{AttestedNode, Binding, Bond, KeyDigest};
use claviger_core::time::UnixTime;

use super::*;
use crate::cms::fixture::{Document, NOW, Signer};
use crate::{NoConversation, NodeClaim, NodeVerifier as _, VerifyError};

/// An identity document, with the spacing of AWS.
fn document(account: &str, region: &str, instance: &str) -> String {
    format!(
        "{{\n  \"accountId\" : \"{account}\",\n  \"architecture\" : \"x86_64\",\n  \
         \"availabilityZone\" : \"{region}a\",\n  \"billingProducts\" : null,\n  \
         \"imageId\" : \"ami-0a1b2c3d4e5f60718\",\n  \"instanceId\" : \"{instance}\",\n  \
         \"pendingTime\" : \"2026-01-02T03:04:05Z\",\n  \"region\" : \"{region}\",\n  \
         \"version\" : \"2017-09-30\"\n}}"
    )
}

const ACCOUNT: &str = "123456789012";
const INSTANCE: &str = "i-0123456789abcdef0";

/// Two regions, whose signers are made up, and a verifier that knows both.
struct World {
    one: Signer,
    two: Signer,
    verifier: Verifier,
}

impl World {
    fn new() -> Self {
        Self::allowing("")
    }

    fn allowing(more: &str) -> Self {
        let (one, two) = (Signer::new(0, "one"), Signer::new(1, "two"));
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, signer: &Signer| {
            let path = dir.path().join(name);
            std::fs::write(&path, signer.pem()).unwrap();
            path.display().to_string()
        };
        let config: Config = toml::from_str(&format!(
            "account-allow-list = ['{ACCOUNT}']\n{more}\n[certificates]\n\
             test-one-1 = '{}'\ntest-two-1 = '{}'",
            write("one", &one),
            write("two", &two)
        ))
        .unwrap();
        assert_eq!(config.problems(), []);
        Self { verifier: Verifier::open(&config).unwrap(), one, two }
    }

    fn evidence(signer: &Signer, document: &str) -> serde_json::Value {
        let signed = Document::attributed(signer, document.as_bytes()).encode();
        serde_json::json!({ "document": document, "signature": "", "rsa2048": lines(&signed) })
    }

    async fn present(&self, evidence: &serde_json::Value) -> Result<AttestedNode, VerifyError> {
        verify(&self.verifier, evidence.to_string().as_bytes(), NOW).await
    }

    async fn refusal(&self, evidence: &serde_json::Value) -> String {
        self.present(evidence).await.unwrap_err().to_string()
    }
}

/// Base64 in lines, as the metadata service has it.
fn lines(bytes: &[u8]) -> String {
    let base64 = STANDARD.encode(bytes);
    base64
        .as_bytes()
        .chunks(76)
        .map(|line| str::from_utf8(line).unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

async fn verify(
    verifier: &Verifier,
    evidence: &[u8],
    now: UnixTime,
) -> Result<AttestedNode, VerifyError> {
    let trust_domain = &"example.org".parse().unwrap();
    let (key, binding) = (&KeyDigest::of_spki(b"key"), &Binding::new(KIND, b"key", trust_domain));
    let claim = NodeClaim { evidence, key, binding, trust_domain, caller: None, now };
    verifier.verify(claim, &mut NoConversation).await
}

#[tokio::test]
async fn an_instance_earns_the_name_that_its_document_gives_it() {
    let world = World::new();
    let evidence = World::evidence(&world.one, &document(ACCOUNT, "test-one-1", INSTANCE));
    let node = world.present(&evidence).await.unwrap();
    let id = "spiffe://example.org/spire/agent/aws_iid/123456789012/test-one-1/i-0123456789abcdef0";
    assert_eq!(node.id().to_string(), id);
    assert!(!node.reattestable());
    assert_eq!((node.kind(), node.appraisal().bond), (KIND, Bond::Bearer));
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    assert_eq!(
        selectors,
        [
            "aws_iid:account_id:123456789012",
            "aws_iid:az:test-one-1a",
            "aws_iid:image:id:ami-0a1b2c3d4e5f60718",
            "aws_iid:instance:id:i-0123456789abcdef0",
            "aws_iid:region:test-one-1",
        ]
    );
}

#[tokio::test]
async fn what_was_verified_is_what_is_believed() {
    let world = World::new();
    let mine = document(ACCOUNT, "test-one-1", INSTANCE);
    let mut evidence = World::evidence(&world.one, &mine);
    evidence["document"] = document(ACCOUNT, "test-one-1", "i-0bad").into();
    assert!(world.refusal(&evidence).await.contains("not what `rsa2048` signs"));
    // In clear it isn't needed, and elsewhere it does not count.
    evidence["document"] = "".into();
    evidence["Document"] = document(ACCOUNT, "test-one-1", "i-0bad").into();
    assert!(world.present(&evidence).await.unwrap().id().path().ends_with(INSTANCE));
}

#[tokio::test]
async fn a_region_signs_for_itself() {
    let world = World::new();
    let evidence = World::evidence(&world.two, &document(ACCOUNT, "test-one-1", INSTANCE));
    let refusal = world.refusal(&evidence).await;
    assert!(refusal.contains("is of `test-one-1` and its signer is that of `test-two-1`"));
    let public = World::evidence(&world.two, &document(ACCOUNT, "us-east-1", INSTANCE));
    assert!(world.refusal(&public).await.contains("is of `us-east-1`"));
}

#[tokio::test]
async fn a_stranger_signs_for_nobody() {
    let world = World::new();
    let stranger = Signer::new(2, "stranger");
    let document = document(ACCOUNT, "test-one-1", INSTANCE);
    let evidence = World::evidence(&stranger, &document);
    assert!(world.refusal(&evidence).await.contains("none whose certificate is pinned"));
    // Their own certificate in the document makes no difference.
    let with_certificate = Document {
        certificates: vec![stranger.certificate.clone()],
        ..Document::attributed(&stranger, document.as_bytes())
    };
    let mut evidence = evidence;
    evidence["rsa2048"] = lines(&with_certificate.encode()).into();
    assert!(world.refusal(&evidence).await.contains("none whose certificate is pinned"));
}

#[tokio::test]
async fn the_signature_of_1024_bits_is_not_believed() {
    let world = World::new();
    let document = document(ACCOUNT, "test-one-1", INSTANCE);
    let evidence = serde_json::json!({ "document": document, "signature": "c2ln" });
    assert!(world.refusal(&evidence).await.contains("no `rsa2048` signature"));
}

#[tokio::test]
async fn accounts_and_regions_are_listed() {
    let world = World::allowing("region-allow-list = ['test-two-1']");
    let two = World::evidence(&world.two, &document(ACCOUNT, "test-two-1", INSTANCE));
    assert_eq!(world.present(&two).await.unwrap().kind(), KIND);
    let one = World::evidence(&world.one, &document(ACCOUNT, "test-one-1", INSTANCE));
    assert!(world.refusal(&one).await.contains("not in `region-allow-list`"));
    let other = World::evidence(&world.two, &document("210987654321", "test-two-1", INSTANCE));
    assert!(world.refusal(&other).await.contains("`210987654321` is not in `account-allow-list`"));
}

#[tokio::test]
async fn a_certificate_ends() {
    let world = World::new();
    let evidence = World::evidence(&world.one, &document(ACCOUNT, "test-one-1", INSTANCE));
    let later = UnixTime::from_secs(1_900_000_000);
    let error = verify(&world.verifier, evidence.to_string().as_bytes(), later).await.unwrap_err();
    assert!(error.to_string().contains("not valid now"), "{error}");
}

#[tokio::test]
async fn a_document_has_the_form_that_aws_gives_it() {
    let world = World::new();
    let good = document(ACCOUNT, "test-one-1", INSTANCE);
    for (from, to) in [
        (INSTANCE, "i-../../x"),
        (INSTANCE, "i-"),
        (INSTANCE, "x-1"),
        (ACCOUNT, "12345678901"),
        (ACCOUNT, ".."),
        ("ami-0a1b2c3d4e5f60718", "x"),
        ("test-one-1a", "a:b"),
        ("\"version\"", "\"accountId\""),
        ("\"version\"", "\"architecture\""),
        ("}", "} {}"),
    ] {
        let evidence = World::evidence(&world.one, &good.replacen(from, to, 1));
        let error = world.present(&evidence).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{from} -> {to}: {error}");
    }
    let future = good.replacen("\"version\"", "\"x\" : [{\"y\": 1}], \"version\"", 1);
    let node = world.present(&World::evidence(&world.one, &future)).await.unwrap();
    assert_eq!(node.kind(), KIND);
}

#[tokio::test]
async fn what_is_no_evidence_is_malformed() {
    let world = World::new();
    let large = format!("{{\"rsa2048\":\"{}\"}}", "A".repeat(crate::MAX_EVIDENCE));
    for bytes in [
        "",
        "[]",
        "{\"rsa2048\":1}",
        "{\"rsa2048\":\"!\"}",
        "{\"rsa2048\":\"MIA=\"}",
        "{\"rsa2048\":\"MIA=\",\"rsa2048\":\"MIA=\"}",
        &large,
    ] {
        let error = verify(&world.verifier, bytes.as_bytes(), NOW).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{error}");
    }
}

#[test]
fn a_configuration_says_who_may_join() {
    let problems = |toml: &str| {
        let config: Config = toml::from_str(toml).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(problems("account-allow-list = ['123456789012']"), [""; 0]);
    assert_eq!(problems(""), ["account-allow-list"]);
    assert_eq!(problems("account-allow-list = ['1234', '123456789012']"), ["account-allow-list"]);
    let account = "account-allow-list = ['123456789012']\n";
    for regions in ["[]", "['us-east-1', 'us-iso-east-1']"] {
        let toml = format!("{account}region-allow-list = {regions}");
        assert_eq!(problems(&toml), ["region-allow-list"]);
    }
    let named = "region-allow-list = ['us-iso-east-1']\n[certificates]\nus-iso-east-1 = '/x'";
    assert_eq!(problems(&format!("{account}{named}")), [""; 0]);
    assert_eq!(problems(&format!("{account}[certificates]\n'../x' = '/x'")), ["certificates"]);
    toml::from_str::<Config>("accounts = []").unwrap_err();
}

#[test]
fn a_file_of_certificates_holds_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certificates");
    let open = || {
        let toml = format!("[certificates]\nx = '{}'", path.display());
        Verifier::open(&toml::from_str(&toml).unwrap()).map(drop)
    };
    assert!(matches!(open().unwrap_err(), OpenError::Read { .. }));
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for contents in ["", "text", key, empty] {
        std::fs::write(&path, contents).unwrap();
        assert!(matches!(open().unwrap_err(), OpenError::Certificates { .. }), "{contents}");
    }
    let two = [Signer::new(0, "one").pem(), Signer::new(1, "two").pem()].concat();
    std::fs::write(&path, two).unwrap();
    open().unwrap();
}

/// Documents that AWS made can't be had here: they name accounts. Where there are some, they are read.
#[tokio::test]
async fn real_documents_verify_against_the_published_certificates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence/aws_iid");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("SKIPPED: no real identity documents in {}", folder.display());
        return;
    };
    let verifier = Verifier::open(&toml::from_str("").unwrap()).unwrap();
    for file in files {
        let rsa2048 = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let evidence = serde_json::json!({ "rsa2048": rsa2048 }).to_string();
        // Genuine, but of nobody's who is allowed.
        let error = verify(&verifier, evidence.as_bytes(), NOW).await.unwrap_err().to_string();
        assert!(error.contains("is not in `account-allow-list`"), "{error}");
    }
}
