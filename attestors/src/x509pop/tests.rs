use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_core::evidence::Bond;
use rcgen::string::Ia5String;
use rcgen::{
    ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SanType, SerialNumber,
};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
};

use super::certificate::fingerprint;
use super::fixture::{Authority, Issued, ecdsa, named, rsa, write_pem};
use super::roots::{OwnAuthorities, Roots};
use super::wire::Evidence;
use super::*;
use crate::fixture::{NOW, World, reason};
use crate::{NoConversation, NodeCollector, Presentation};

/// The trust domain's own authorities.
#[derive(Debug)]
struct Own(Vec<CertificateDer<'static>>);

impl OwnAuthorities for Own {
    fn current(&self) -> Vec<CertificateDer<'static>> {
        self.0.clone()
    }
}

fn no_own() -> Arc<Own> {
    Arc::new(Own(Vec::new()))
}

/// A verifier that trusts `root`, with the settings that `edit` makes.
fn verifier(root: &Authority, edit: impl FnOnce(&mut Config)) -> Verifier {
    let dir = tempfile::tempdir().unwrap();
    let path = write_pem(&dir, "roots.pem", std::slice::from_ref(&root.der));
    let mut config = Config { ca_bundle_path: Some(path), ..Config::default() };
    edit(&mut config);
    Verifier::open(&config, no_own()).unwrap()
}

/// Lets the node with this certificate attest to a verifier that trusts `root`.
async fn attest(
    root: &Authority,
    issued: &Issued,
    edit: impl FnOnce(&mut Config),
) -> Result<claviger_core::evidence::AttestedNode, crate::VerifyError> {
    let dir = tempfile::tempdir().unwrap();
    let collector = issued.collector(&dir).unwrap();
    World::default().attest(&verifier(root, edit), &collector).await
}

#[tokio::test]
async fn a_certificate_and_its_key_earn_an_identity() {
    let root = Authority::root("root");
    let middle = root.intermediate(|_| {});
    let mut issued = middle.issue(|params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0x1b, 0xff]));
        let uri = |uri: &str| SanType::URI(Ia5String::try_from(uri).unwrap());
        params.subject_alt_names = vec![
            uri("x509pop://example.org/zone/eu/west"),
            uri("x509pop://example.org/rack/7"),
            uri("x509pop://example.com/rack/8"),
            uri("x509pop://example.org/escaped/a%2fb"),
            uri("x509pop://example.org/keyless"),
        ];
    });
    issued.chain.push(middle.der.clone());
    let node = attest(&root, &issued, |_| {}).await.unwrap();
    let print = fingerprint(&issued.chain[0]);
    assert_eq!(node.id().path(), format!("/spire/agent/x509pop/{print}"));
    assert!(node.reattestable());
    assert_eq!(node.appraisal().bond, Bond::Key);
    let mut expected = [
        format!("x509pop:ca:fingerprint:{}", fingerprint(&middle.der)),
        format!("x509pop:ca:fingerprint:{}", fingerprint(&root.der)),
        "x509pop:subject:cn:node-1".to_owned(),
        "x509pop:serialnumber:0a1bff".to_owned(),
        "x509pop:san:zone:eu/west".to_owned(),
        "x509pop:san:rack:7".to_owned(),
    ];
    expected.sort();
    let found: Vec<String> = node.selectors().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_kind_of_key_works() {
    let root = Authority::root("root");
    let curves = [&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512];
    let keys = curves.map(|curve| KeyPair::generate_for(curve).unwrap());
    for key in keys.into_iter().chain([ecdsa(), rsa()]) {
        let node = attest(&root, &root.issue_for(key, |_| {}), |_| {}).await.unwrap();
        assert_eq!(node.appraisal().bond, Bond::Key);
    }
    let other = root.issue_for(KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| {});
    let error = other.collector(&tempfile::tempdir().unwrap()).unwrap_err();
    assert!(matches!(error, OpenCollectorError::Key { .. }), "{error}");
    let evidence = Evidence::write(&other.chain).unwrap();
    let verifier = verifier(&root, |_| {});
    let reason = reason(World::default().judge(&verifier, &evidence, &mut NoConversation).await);
    assert!(reason.contains("neither RSA nor ECDSA"), "{reason}");
}

#[test]
fn what_spires_agent_says_is_understood() {
    // A certificate, and the response of SPIRE's own agent plug-in to this nonce.
    let (asked, spoken) = (
        b"a nonce of exactly 32 bytes, yes",
        [
            include_str!("vectors/rsa.spire"),
            include_str!("vectors/p256.spire"),
            include_str!("vectors/p384.spire"),
            include_str!("vectors/p521.spire"),
        ],
    );
    for text in spoken {
        let (said, answered) = text.split_once('\n').unwrap();
        let evidence = Evidence::parse(said.as_bytes(), 0).unwrap();
        let leaf = certificate::Leaf::parse(&evidence.leaf, 8_192).unwrap();
        assert_eq!(leaf.common_name.as_deref(), Some("node-1"));
        let response = Response::parse(answered.as_bytes()).unwrap();
        assert!(leaf.key.signed_nonce(asked, &response).is_some());
        assert_eq!(leaf.key.signed_nonce(&[0; 32], &response), None);
    }
}

#[tokio::test]
async fn the_key_must_be_the_certificates() {
    let root = Authority::root("root");
    let (issued, other) = (root.issue(|_| {}), root.issue(|_| {}));
    let swapped = Issued { chain: other.chain, key: issued.key };
    let error = swapped.collector(&tempfile::tempdir().unwrap()).unwrap_err();
    assert!(matches!(error, OpenCollectorError::Apart { .. }), "{error}");
}

/// Attests with a response of which one byte is changed.
async fn attest_with_changed(key: KeyPair, field: &'static str) -> String {
    let root = Authority::root("root");
    let dir = tempfile::tempdir().unwrap();
    let collector = root.issue_for(key, |_| {}).collector(&dir).unwrap();
    let edit: fn(Vec<u8>) -> Vec<u8> = match field {
        "nonce" => |answer| change(&answer, "nonce"),
        "signature" => |answer| change(&answer, "signature"),
        "r" => |answer| change(&answer, "r"),
        _ => |answer| change(&answer, "s"),
    };
    reason(World::default().attest_edited(&verifier(&root, |_| {}), &collector, edit).await)
}

/// Changes the first byte of the base64 in `field`.
fn change(answer: &[u8], field: &str) -> Vec<u8> {
    let text = str::from_utf8(answer).unwrap();
    let (before, value) = text.split_once(&format!("\"{field}\":\"")).unwrap();
    let other = if value.starts_with('A') { "B" } else { "A" };
    let rest: String = value.chars().skip(1).collect();
    format!("{before}\"{field}\":\"{other}{rest}").into_bytes()
}

#[tokio::test]
async fn nothing_signed_can_be_changed() {
    for (key, fields) in [(rsa(), &["nonce", "signature"][..]), (ecdsa(), &["nonce", "r", "s"])] {
        let pem = key.serialize_pem();
        for field in fields {
            let reason = attest_with_changed(KeyPair::from_pem(&pem).unwrap(), field).await;
            assert!(reason.contains("did not sign"), "{field}: {reason}");
        }
    }
}

#[tokio::test]
async fn an_answer_to_one_conversation_is_none_in_another() {
    struct Recorded(Vec<u8>);

    #[async_trait::async_trait]
    impl crate::Challenged for Recorded {
        async fn answer(&mut self, _: Vec<u8>) -> Result<Vec<u8>, crate::VerifyError> {
            Ok(self.0.clone())
        }
    }

    let (root, world) = (Authority::root("root"), World::default());
    let (dir, verifier) = (tempfile::tempdir().unwrap(), verifier(&root, |_| {}));
    let collector = root.issue(|_| {}).collector(&dir).unwrap();
    let mut presentation = collector.present(&world.binding(KIND)).await.unwrap();
    let question = serde_json::to_vec(&Challenge::ecdsa(&[7; 32])).unwrap();
    let mut recorded = Recorded(presentation.answer(&question).await.unwrap().to_vec());
    let reason = reason(world.judge(&verifier, presentation.evidence(), &mut recorded).await);
    assert!(reason.contains("did not sign"), "{reason}");
}

#[tokio::test]
async fn a_certificate_must_be_vouched_for() {
    let (root, stranger) = (Authority::root("root"), Authority::root("stranger"));
    // Of the same name as the root that is trusted.
    let double = Authority::root("root");
    for issuer in [&stranger, &double, &stranger.intermediate(|_| {})] {
        let reason = reason(attest(&root, &issuer.issue(|_| {}), |_| {}).await);
        assert!(reason.contains("no authority vouches"), "{reason}");
    }
    let expired = root.issue(|params| params.not_after = rcgen::date_time_ymd(2025, 12, 31));
    let early = root.issue(|params| params.not_before = rcgen::date_time_ymd(2026, 1, 2));
    let server = root.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for issued in [expired, early, server] {
        let reason = reason(attest(&root, &issued, |_| {}).await);
        assert!(reason.contains("no authority vouches"), "{reason}");
    }
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let client = root.issue(|params| params.extended_key_usages = vec![client]);
    let any = ExtendedKeyUsagePurpose::Any;
    let any = root.issue(|params| params.extended_key_usages = vec![any]);
    for issued in [client, any] {
        assert!(attest(&root, &issued, |_| {}).await.unwrap().reattestable());
    }
}

#[tokio::test]
async fn an_expired_root_vouches_for_nobody() {
    let root = Authority::root("root");
    let dir = tempfile::tempdir().unwrap();
    let collector = root.issue(|_| {}).collector(&dir).unwrap();
    let now = claviger_core::time::UnixTime::MAX;
    let world = World { now, ..World::default() };
    let reason = reason(world.attest(&verifier(&root, |_| {}), &collector).await);
    assert!(reason.contains("no authority vouches"), "{reason}");
}

#[tokio::test]
async fn a_certificate_must_be_for_signing() {
    let root = Authority::root("root");
    for usages in [vec![], vec![KeyUsagePurpose::KeyEncipherment]] {
        let issued = root.issue(|params| params.key_usages = usages);
        let error = issued.collector(&tempfile::tempdir().unwrap()).unwrap_err();
        assert!(matches!(error, OpenCollectorError::Unfit { .. }), "{error}");
        let evidence = Evidence::write(&issued.chain).unwrap();
        let verifier = verifier(&root, |_| {});
        let outcome = World::default().judge(&verifier, &evidence, &mut NoConversation).await;
        let reason = reason(outcome);
        assert!(reason.contains("not for digital signatures"), "{reason}");
    }
    let middle = root.intermediate(|params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let mut issued = middle.issue(|_| {});
    issued.chain.push(middle.der);
    let reason = reason(attest(&root, &issued, |_| {}).await);
    assert!(reason.contains("not for signing certificates"), "{reason}");
}

#[tokio::test]
async fn a_node_calls_from_an_address_that_its_certificate_names() {
    let root = Authority::root("root");
    let issued = root.issue(|params| {
        params.subject_alt_names = vec![
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ];
    });
    let dir = tempfile::tempdir().unwrap();
    let collector = issued.collector(&dir).unwrap();
    let verifier = verifier(&root, |config| config.verify_client_ip = true);
    let from = |caller: &str| World { caller: Some(caller.parse().unwrap()), ..World::default() };
    for caller in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7"] {
        assert!(from(caller).attest(&verifier, &collector).await.unwrap().reattestable());
    }
    for caller in ["192.0.2.8", "::ffff:192.0.2.8", "::1"] {
        let reason = reason(from(caller).attest(&verifier, &collector).await);
        assert!(reason.contains(&format!("address {caller}")), "{reason}");
    }
    let reason = reason(World::default().attest(&verifier, &collector).await);
    assert!(reason.contains("has no address"), "{reason}");
}

#[tokio::test]
async fn a_proof_without_a_bond_can_be_refused() {
    /// Signs a nonce of its own, as SPIRE's agent does.
    struct Stock(Box<dyn Presentation>);

    #[async_trait::async_trait]
    impl crate::Challenged for Stock {
        async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, crate::VerifyError> {
            Ok(self.0.answer(&challenge).await.unwrap().to_vec())
        }
    }

    let (root, world) = (Authority::root("root"), World::default());
    let dir = tempfile::tempdir().unwrap();
    let collector = root.issue(|_| {}).collector(&dir).unwrap();
    // Bound to another key: to this server, a nonce like any other.
    let other = claviger_core::evidence::Binding::new(KIND, b"another", &world.trust_domain);
    for (required, bond) in [(false, Some(Bond::Bearer)), (true, None)] {
        let verifier = verifier(&root, |config| config.require_binding = required);
        let presentation = collector.present(&other).await.unwrap();
        let evidence = presentation.evidence().to_vec();
        let outcome = world.judge(&verifier, &evidence, &mut Stock(presentation)).await;
        assert_eq!(outcome.ok().map(|node| node.appraisal().bond), bond);
    }
}

#[tokio::test]
async fn an_svid_is_exchanged_for_an_agents() {
    let own = Authority::root("own");
    let dir = tempfile::tempdir().unwrap();
    let config = Config { mode: Mode::Spiffe, ..Config::default() };
    let verifier = Verifier::open(&config, Arc::new(Own(vec![own.der.clone()]))).unwrap();
    let uri = |id: &str| SanType::URI(Ia5String::try_from(id).unwrap());
    let svid = |ids: &[&str]| {
        let names = ids.iter().map(|id| uri(id)).collect();
        own.issue(|params| params.subject_alt_names = names).collector(&dir).unwrap()
    };
    let collector = svid(&["spiffe://example.org/spire-exchange/rack/7"]);
    let node = World::default().attest(&verifier, &collector).await.unwrap();
    assert_eq!(node.id().path(), "/spire/agent/x509pop/rack/7");
    for ids in [
        &[][..],
        &["spiffe://example.org/other/7"],
        &["spiffe://example.org/spire-exchange"],
        &["spiffe://example.org/spire-exchanged/7"],
        &["spiffe://example.com/spire-exchange/7"],
        &["spiffe://example.org/spire-exchange/../other"],
        &["spiffe://example.org/spire-exchange/%2e%2e/other"],
        &["spiffe://example.org/spire-exchange/a", "spiffe://example.org/spire-exchange/b"],
    ] {
        let reason = reason(World::default().attest(&verifier, &svid(ids)).await);
        assert!(reason.contains("no SVID of") || reason.contains("is not below"), "{reason}");
    }
    let nobody = Verifier::open(&config, no_own()).unwrap();
    let reason = reason(World::default().attest(&nobody, &collector).await);
    assert!(reason.contains("no authority vouches"), "{reason}");
}

#[tokio::test]
async fn a_common_name_is_no_way_to_another_nodes_name() {
    let root = Authority::root("root");
    let template = "/x509pop/cn/{{ .Subject.CommonName }}";
    for (name, fits) in [("web-1", true), ("../join_token/t", false), ("a/b", false), ("..", false)]
    {
        let issued = root.issue(|params| params.distinguished_name = named(name));
        let outcome =
            attest(&root, &issued, |c| c.agent_path_template = Some(template.into())).await;
        let path = outcome.ok().map(|node| node.id().path().to_owned());
        assert_eq!(path, fits.then(|| format!("/spire/agent/x509pop/cn/{name}")));
    }
}

#[tokio::test]
async fn a_name_that_is_twice_in_the_certificate_is_none() {
    let root = Authority::root("root");
    let template = "/x509pop/{{ .URISanSelectors.rack }}";
    for (racks, path) in [(&["7/a"][..], Some("/spire/agent/x509pop/7/a")), (&["7", "8"], None)] {
        let uris = racks.iter().map(|rack| format!("x509pop://example.org/rack/{rack}"));
        let names = uris.map(|uri| SanType::URI(Ia5String::try_from(uri).unwrap())).collect();
        let issued = root.issue(|params| params.subject_alt_names = names);
        let outcome =
            attest(&root, &issued, |c| c.agent_path_template = Some(template.into())).await;
        assert_eq!(outcome.ok().map(|node| node.id().path().to_owned()).as_deref(), path);
    }
}

#[tokio::test]
async fn a_chain_is_counted_before_it_is_decoded() {
    let root = Authority::root("root");
    let verifier = verifier(&root, |_| {});
    let world = World::default();
    // None of them is even base64.
    let bad = |count: usize| {
        let many = vec!["\"?\""; count].join(",");
        format!("{{\"certificates\":[{many}]}}").into_bytes()
    };
    for count in [6, 100, 15_000] {
        let reason = reason(world.judge(&verifier, &bad(count), &mut NoConversation).await);
        assert!(reason.contains(&format!("has {} intermediate", count - 1)), "{reason}");
    }
    let outcome = world.judge(&verifier, &bad(5), &mut NoConversation).await;
    assert_eq!(reason(outcome), "the evidence is malformed");
    let outcome = world.judge(&verifier, &bad(30_000), &mut NoConversation).await;
    assert_eq!(reason(outcome), "the evidence is malformed");
}

#[tokio::test]
async fn a_dear_key_is_refused_wherever_it_is() {
    let root = Authority::rsa_root();
    let small = |config: &mut Config| config.max_rsa_key_size = 2_048;
    let large = || KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_3072);
    let issued = root.issue_for(large().unwrap(), |_| {});
    let reason_of_leaf = reason(attest(&root, &issued, small).await);
    let middle = root.intermediate_of(large().unwrap(), |_| {});
    let mut issued = middle.issue(|_| {});
    issued.chain.push(middle.der);
    let reason_of_middle = reason(attest(&root, &issued, small).await);
    for reason in [reason_of_leaf, reason_of_middle] {
        assert!(reason.contains("has 3072 bits; 2048 to 2048 are allowed"), "{reason}");
    }
}

/// Counts how often a signature is verified.
#[derive(Debug)]
struct Counted<'a>(&'a dyn SignatureVerificationAlgorithm, &'a AtomicUsize);

impl SignatureVerificationAlgorithm for Counted<'_> {
    fn verify_signature(&self, key: &[u8], m: &[u8], s: &[u8]) -> Result<(), InvalidSignature> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.verify_signature(key, m, s)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }
}

/// Six authorities of one name and one key, each of which could have issued each, and no root: as
/// many paths as there are orders.
#[test]
fn a_maze_of_certificates_costs_a_bounded_number_of_signatures() {
    let (root, stranger) = (Authority::root("root"), Authority::root("stranger"));
    let key = ecdsa();
    let again = || KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let first = stranger.intermediate_of(again(), |_| {});
    let maze: Vec<_> = (0..6).map(|_| first.intermediate_of(again(), |_| {}).der).collect();
    let leaf = first.issue(|_| {}).chain.remove(0);
    let evidence = Evidence { leaf, intermediates: maze };
    let count = AtomicUsize::new(0);
    let counted: Vec<Counted<'_>> =
        webpki::ALL_VERIFICATION_ALGS.iter().map(|it| Counted(*it, &count)).collect();
    let mut algorithms: Vec<&dyn SignatureVerificationAlgorithm> = Vec::new();
    for algorithm in &counted {
        algorithms.push(algorithm);
    }
    let roots = Roots::of(&[root.der]).unwrap();
    roots.vouch(&evidence, NOW, &algorithms).unwrap_err();
    let count = count.load(Ordering::Relaxed);
    assert!(count <= 100, "{count} signatures were verified");
}

#[tokio::test]
async fn what_is_not_evidence_is_malformed() {
    let root = Authority::root("root");
    let verifier = verifier(&root, |_| {});
    for evidence in [
        &b""[..],
        b"null",
        b"{}",
        b"{\"certificates\":null}",
        b"{\"certificates\":[]}",
        b"{\"certificates\":[\"AAAA\"]}",
        b"{\"certificates\":[null]}",
        b"{\"certificates\":\"AAAA\"}",
        b"\xff",
    ] {
        let outcome = World::default().judge(&verifier, evidence, &mut NoConversation).await;
        assert_eq!(reason(outcome), "the evidence is malformed");
    }
    let mut trailing = root.issue(|_| {}).chain.remove(0).to_vec();
    trailing.push(0);
    let evidence = Evidence::write(&[trailing.into()]).unwrap();
    let outcome = World::default().judge(&verifier, &evidence, &mut NoConversation).await;
    assert_eq!(reason(outcome), "the evidence is malformed");
}

#[test]
fn files_that_hold_something_else_are_named() {
    let (dir, root) = (tempfile::tempdir().unwrap(), Authority::root("root"));
    let open = |path: &str| {
        let config = Config { ca_bundle_path: Some(path.into()), ..Config::default() };
        Verifier::open(&config, no_own()).unwrap_err().to_string()
    };
    assert!(open("/nonexistent/roots.pem").contains("/nonexistent/roots.pem"));
    let path = dir.path().join("empty.pem");
    fs::write(&path, "no certificate").unwrap();
    assert!(open(path.to_str().unwrap()).contains("holds no certificate"));
    let error = Verifier::open(&Config::default(), no_own()).unwrap_err();
    assert!(error.to_string().contains("ca-bundle-path"), "{error}");
    let issued = root.issue(|_| {});
    issued.collector(&dir).unwrap();
    fs::write(dir.path().join("key.pem"), "no key").unwrap();
    let (private_key_path, certificate_path) =
        (dir.path().join("key.pem"), dir.path().join("chain.pem"));
    let config = CollectorConfig { private_key_path, certificate_path, intermediates_path: None };
    let error = Collector::open(config).unwrap_err();
    assert!(matches!(error, OpenCollectorError::Pem { .. }), "{error}");
}
