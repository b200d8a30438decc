use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::{AttestedNode, Binding, Bond, KeyDigest};
use claviger_core::time::UnixTime;

use super::*;
use crate::cms::fixture::{Document, NOW, Signer};
use crate::{Challenged, NodeClaim, NodeVerifier as _, VerifyError};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const SUBSCRIPTION: &str = "d5b40d61-272e-48da-beb9-05f295c42bd6";
const MACHINE: &str = "0e3d4f2a-1b5c-4d6e-8f70-9a8b7c6d5e4f";

/// A document for `nonce`, made just before [`NOW`].
fn document(nonce: &str) -> String {
    format!(
        r#"{{"licenseType":"","nonce":"{nonce}","plan":{{"name":"","product":"","publisher":""}},"sku":"22_04-lts","subscriptionId":"{SUBSCRIPTION}","timeStamp":{{"createdOn":"03/08/26 19:59:00 -0000","expiresOn":"03/09/26 01:59:00 -0000"}},"vmId":"{MACHINE}"}}"#
    )
}

fn answer(signed: &Document) -> Vec<u8> {
    let signature = STANDARD.encode(signed.encode());
    let document = serde_json::json!({ "encoding": "pkcs7", "signature": signature });
    let metadata = serde_json::json!({ "agentDomain": "elsewhere.example", "vmssName": "x" });
    serde_json::json!({ "document": document, "metadata": metadata }).to_string().into_bytes()
}

/// A node that answers a nonce with what this makes of it.
struct Node<F>(F);

#[async_trait::async_trait]
impl<F: FnMut(&str) -> Vec<u8> + Send> Challenged for Node<F> {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let nonce = String::from_utf8(challenge).unwrap();
        assert_eq!(nonce.len(), 32);
        assert!(nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
        Ok((self.0)(&nonce))
    }
}

/// An authority, one below it, a metadata service, and a verifier that trusts the first.
struct World {
    middle: Signer,
    service: Signer,
    verifier: Verifier,
}

impl World {
    fn new() -> Self {
        Self::with(|_root, middle| middle.to_owned())
    }

    /// With the intermediates (PEM) that are made of the root and the authority below it.
    fn with(intermediates: impl Fn(&str, &str) -> String) -> Self {
        let root = Signer::authority(0, "root");
        let middle = root.issue_authority(1, "Microsoft Azure RSA TLS Issuing CA 03");
        let service = middle.issue(2, "metadata.azure.com", &["eastus.metadata.azure.com"]);
        let dir = tempfile::tempdir().unwrap();
        let (roots, between) = (dir.path().join("roots"), dir.path().join("between"));
        std::fs::write(&roots, root.pem()).unwrap();
        std::fs::write(&between, intermediates(&root.pem(), &middle.pem())).unwrap();
        let config: Config = toml::from_str(&format!(
            "trust-bundle-path = '{}'\nintermediates-path = '{}'\n\
             tenants = {{ '{TENANT}' = ['{SUBSCRIPTION}'] }}",
            roots.display(),
            between.display()
        ))
        .unwrap();
        assert_eq!(config.problems(), []);
        Self { verifier: Verifier::open(&config).unwrap(), middle, service }
    }

    async fn present(
        &self,
        make: impl FnMut(&str) -> Vec<u8> + Send,
    ) -> Result<AttestedNode, VerifyError> {
        verify(&self.verifier, make, NOW).await
    }

    /// What comes of a document that the metadata service signs.
    async fn say(
        &self,
        document: impl Fn(&str) -> String + Sync,
    ) -> Result<AttestedNode, VerifyError> {
        self.present(|nonce| answer(&Document::bare(&self.service, document(nonce).as_bytes())))
            .await
    }

    async fn refusal(&self, signed: impl Fn(&[u8]) -> Document + Sync) -> String {
        let node = self.present(|nonce| answer(&signed(document(nonce).as_bytes()))).await;
        node.unwrap_err().to_string()
    }
}

async fn verify(
    verifier: &Verifier,
    make: impl FnMut(&str) -> Vec<u8> + Send,
    now: UnixTime,
) -> Result<AttestedNode, VerifyError> {
    let trust_domain = &"example.org".parse().unwrap();
    let (key, binding) = (&KeyDigest::of_spki(b"key"), &Binding::new(KIND, b"key", trust_domain));
    let evidence = KIND.as_bytes();
    let claim = NodeClaim { evidence, key, binding, trust_domain, caller: None, now };
    verifier.verify(claim, &mut Node(make)).await
}

#[tokio::test]
async fn a_machine_earns_the_name_that_its_document_and_the_operator_give_it() {
    let node = World::new().say(document).await.unwrap();
    let id =
        format!("spiffe://example.org/spire/agent/azure_imds/{TENANT}/{SUBSCRIPTION}/{MACHINE}");
    assert_eq!(node.id().to_string(), id);
    assert!(!node.reattestable());
    assert_eq!((node.kind(), node.appraisal().bond), (KIND, Bond::Bearer));
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    let wanted = [
        format!("azure_imds:subscription-id:{SUBSCRIPTION}"),
        format!("azure_imds:vm-id:{MACHINE}"),
    ];
    assert_eq!(selectors, wanted);
}

#[tokio::test]
async fn one_machine_has_one_name_however_it_is_written() {
    let world = World::new();
    let node = world.say(|nonce| document(nonce).replace(MACHINE, &MACHINE.to_uppercase())).await;
    assert!(node.unwrap().id().path().ends_with(MACHINE));
}

#[tokio::test]
async fn a_document_is_made_for_one_nonce() {
    let world = World::new();
    let mut first = None;
    world
        .present(|nonce| {
            let made = answer(&Document::bare(&world.service, document(nonce).as_bytes()));
            first.insert(made).clone()
        })
        .await
        .map(drop)
        .unwrap();
    let first = first.unwrap();
    let error = world.present(|_nonce| first.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another nonce"), "{error}");
    let error = world.say(|_nonce| document("")).await.unwrap_err();
    assert!(error.to_string().contains("another nonce"), "{error}");
}

#[tokio::test]
async fn a_document_is_good_for_some_hours() {
    let world = World::new();
    let make = |nonce: &str| answer(&Document::bare(&world.service, document(nonce).as_bytes()));
    for (seconds, wanted) in [(8 * 3_600, "has expired"), (-600, "in the future")] {
        let now = UnixTime::from_secs(NOW.as_secs().checked_add_signed(seconds).unwrap());
        let error = verify(&world.verifier, make, now).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn only_metadata_services_sign() {
    let world = World::new();
    let issue = |names: &[&str]| world.middle.issue(2, "metadata.azure.com", names);
    for name in ["metadata.azure.us", "a.b.metadata.azure.cn", "EASTUS.Metadata.Azure.COM"] {
        let service = issue(&["www.example.org", name]);
        let node =
            world.present(|nonce| answer(&Document::bare(&service, document(nonce).as_bytes())));
        assert_eq!(node.await.unwrap().kind(), KIND, "{name}");
    }
    for names in [
        &[][..],
        &["metadata.azure.com.example.org"],
        &["xmetadata.azure.com"],
        &["azure.com"],
        &["eastus.metadata.azure.de"],
    ] {
        let refusal = world.refusal(|content| Document::bare(&issue(names), content)).await;
        assert!(
            refusal.contains("no name below `allowed-metadata-domains`"),
            "{names:?}: {refusal}"
        );
    }
}

#[tokio::test]
async fn an_authority_vouches_for_the_signer() {
    let world = World::new();
    // Somebody with an authority of their own, of the same names.
    let root = Signer::authority(1, "root");
    let middle = root.issue_authority(2, "Microsoft Azure RSA TLS Issuing CA 03");
    let impostor = middle.issue(0, "metadata.azure.com", &["eastus.metadata.azure.com"]);
    let refusal = world
        .refusal(|content| Document {
            certificates: vec![
                impostor.certificate.clone(),
                middle.certificate.clone(),
                root.certificate.clone(),
            ],
            ..Document::bare(&impostor, content)
        })
        .await;
    assert!(refusal.contains("certificate is not good: InvalidSignature"), "{refusal}");

    // The first of the bag is genuine, and did not sign (SPIRE's bug before 1.15.1).
    let refusal = world
        .refusal(|content| Document {
            certificates: vec![world.service.certificate.clone(), impostor.certificate.clone()],
            ..Document::bare(&impostor, content)
        })
        .await;
    assert!(refusal.contains("certificate is not good: InvalidSignature"), "{refusal}");

    // A server that is no authority vouches for nobody.
    let below = world.service.issue(0, "x", &["x.metadata.azure.com"]);
    let refusal = world
        .refusal(|content| Document {
            certificates: vec![below.certificate.clone(), world.service.certificate.clone()],
            ..Document::bare(&below, content)
        })
        .await;
    assert!(refusal.contains("certificate is not good"), "{refusal}");
}

#[tokio::test]
async fn intermediates_come_with_the_document_or_from_the_operator() {
    let without = World::with(|root, _middle| root.to_owned());
    let refusal = without.refusal(|content| Document::bare(&without.service, content)).await;
    let advice = "`CN=Microsoft Azure RSA TLS Issuing CA 03` issued";
    assert!(refusal.contains(advice) && refusal.contains("`intermediates-path`"), "{refusal}");
    let node = without.present(|nonce| {
        let signed = Document::bare(&without.service, document(nonce).as_bytes());
        let certificates =
            vec![without.middle.certificate.clone(), without.service.certificate.clone()];
        answer(&Document { certificates, ..signed })
    });
    assert_eq!(node.await.unwrap().kind(), KIND);
}

#[tokio::test]
async fn certificates_end() {
    let world = World::new();
    let later = UnixTime::from_secs(1_900_000_000);
    let make = |nonce: &str| answer(&Document::bare(&world.service, document(nonce).as_bytes()));
    let error = verify(&world.verifier, make, later).await.unwrap_err();
    assert!(error.to_string().contains("certificate is not good"), "{error}");
}

#[tokio::test]
async fn subscriptions_are_listed() {
    let other = "00000000-272e-48da-beb9-05f295c42bd6";
    let node = World::new().say(|nonce| document(nonce).replace(SUBSCRIPTION, other)).await;
    let refusal = node.unwrap_err().to_string();
    assert!(
        refusal.contains(&format!("the subscription `{other}` is of no tenant's")),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_document_has_the_form_that_azure_gives_it() {
    let world = World::new();
    for (from, to) in [
        (MACHINE, "../../x"),
        (MACHINE, "0e3d4f2a1b5c4d6e8f709a8b7c6d5e4f"),
        (MACHINE, "{0e3d4f2a-1b5c-4d6e-8f70-9a8b7c6d5e4f}"),
        (SUBSCRIPTION, ""),
        ("03/09/26 01:59:00 -0000", "2026-03-09T01:59:00Z"),
        ("03/09/26 01:59:00 -0000", "13/09/26 01:59:00 -0000"),
        ("03/09/26 01:59:00 -0000", "03/09/26 01:59:00 -0000 "),
        ("\"vmId\"", "\"vmid\""),
        ("\"sku\"", "\"vmId\""),
        ("\"publisher\"", "\"name\""),
    ] {
        let error = world.say(|nonce| document(nonce).replace(from, to)).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{from} -> {to}: {error}");
    }
    let node = world.say(|nonce| document(nonce).replace("\"sku\"", "\"new\":[{}],\"sku\"")).await;
    assert_eq!(node.unwrap().kind(), KIND);
}

#[tokio::test]
async fn what_is_no_answer_is_malformed() {
    let world = World::new();
    let with = |encoding: &str, signature: &str| {
        format!(r#"{{"document":{{"encoding":"{encoding}","signature":"{signature}"}}}}"#)
    };
    let twice = r#"{"document":{"encoding":"pkcs7","signature":"","signature":""}}"#;
    for bytes in [
        String::new(),
        "{}".to_owned(),
        with("pkcs8", "MIIM"),
        with("pkcs7", "MIIM"),
        with("pkcs7", "!"),
        twice.to_owned(),
        with("pkcs7", &"A".repeat(crate::MAX_EVIDENCE)),
    ] {
        let node = world.present(|_nonce| bytes.clone().into_bytes()).await;
        assert!(matches!(node.unwrap_err(), VerifyError::Malformed), "{bytes}");
    }
}

#[test]
fn a_configuration_says_who_may_join() {
    let problems = |toml: &str| {
        let config: Config = toml::from_str(toml).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    let good = format!("'{TENANT}' = ['{SUBSCRIPTION}']");
    assert_eq!(problems(&format!("tenants = {{ {good} }}")), [""; 0]);
    assert_eq!(problems(""), ["tenants"]);
    for bad in [
        format!("'{TENANT}' = []"),
        format!("'{TENANT}' = ['x']"),
        format!("'example.onmicrosoft.com' = ['{SUBSCRIPTION}']"),
        format!("{good}, '{MACHINE}' = ['{}']", SUBSCRIPTION.to_uppercase()),
    ] {
        assert_eq!(problems(&format!("tenants = {{ {bad} }}")), ["tenants"], "{bad}");
    }
    for bad in ["[]", "['']", "['com']", "['.azure.com']", "['*.azure.com']", "['Azure.com']"] {
        let toml = format!("allowed-metadata-domains = {bad}\ntenants = {{ {good} }}");
        assert_eq!(problems(&toml), ["allowed-metadata-domains"], "{bad}");
    }
    toml::from_str::<Config>("subscriptions = []").unwrap_err();
}

#[test]
fn a_file_of_certificates_holds_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certificates");
    let open = |key: &str| {
        let toml = format!("{key} = '{}'", path.display());
        Verifier::open(&toml::from_str(&toml).unwrap()).map(drop)
    };
    for key in ["trust-bundle-path", "intermediates-path"] {
        std::fs::write(&path, Signer::authority(0, "root").pem()).unwrap();
        open(key).unwrap();
        for contents in
            ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&path, contents).unwrap();
            assert!(matches!(open(key).unwrap_err(), OpenError::Certificates { .. }), "{contents}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(key).unwrap_err(), OpenError::Read { .. }));
    }
}

/// Documents that Azure made can't be had here: they name subscriptions. Where there are some, they are
/// read: a folder for each, with the `document` (base64), the `intermediates` (PEM), and the `time` at
/// which it was good.
#[test]
fn real_documents_verify_against_the_published_roots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence/azure_imds");
    let Ok(folders) = std::fs::read_dir(&folder) else {
        println!("SKIPPED: no real attested documents in {}", folder.display());
        return;
    };
    for folder in folders {
        let folder = folder.unwrap().path();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let intermediates = folder.join("intermediates").display().to_string();
        let toml = format!("intermediates-path = '{intermediates}'");
        let signers = signer::Signers::open(&toml::from_str(&toml).unwrap()).unwrap();
        let now = UnixTime::from_secs(read("time").trim().parse().unwrap());
        let signed = STANDARD.decode(read("document").trim()).unwrap();
        let signed = crate::cms::SignedData::parse(&signed).unwrap();
        let certificate = signed.signing_certificate().unwrap();
        signers.check(certificate, signed.certificates(), now).unwrap();
        let attested = Attested::parse(&signed.verify(certificate, now).unwrap()).unwrap();
        let refusal = attested.check_fresh("our nonce", now).unwrap_err().to_string();
        assert!(refusal.contains("another nonce"), "{refusal}");
    }
}
