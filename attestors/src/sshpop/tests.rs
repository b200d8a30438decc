use std::fs;
use std::path::PathBuf;

use claviger_core::evidence::{AttestedNode, Bond};
use tempfile::TempDir;

use super::fixture::{Contents, Key, evidence, string};
use super::key::{Purpose, Signature};
use super::wire::Evidence;
use super::*;
use crate::fixture::{NOW, World, reason};
use crate::possession::Nonce;
use crate::{NoConversation, VerifyError};

/// Made by `ssh-keygen`: an authority, and hosts with certificates of its.
const AUTHORITY: &str = include_str!("vectors/authority.pub");

/// Each host's private key and certificate, and what SPIRE's own agent plug-in made of them: its
/// evidence, and its response to [`ASKED`].
const HOSTS: [(&str, &str, &str); 3] = [
    (
        include_str!("vectors/ed25519"),
        include_str!("vectors/ed25519-cert.pub"),
        include_str!("vectors/ed25519.spire"),
    ),
    (
        include_str!("vectors/ecdsa"),
        include_str!("vectors/ecdsa-cert.pub"),
        include_str!("vectors/ecdsa.spire"),
    ),
    (
        include_str!("vectors/rsa"),
        include_str!("vectors/rsa-cert.pub"),
        include_str!("vectors/rsa.spire"),
    ),
];

const ASKED: &Nonce = b"a nonce of exactly 32 bytes, yes";

fn verifier(authority: &str, edit: impl FnOnce(&mut Config)) -> Verifier {
    let mut config = Config { cert_authorities: vec![authority.into()], ..Config::default() };
    edit(&mut config);
    Verifier::open(&config).unwrap()
}

/// A collector of this host's, with files in `dir`.
fn collector(dir: &TempDir, key: &str, cert: &str) -> Result<Collector, OpenCollectorError> {
    let (host_key_path, host_cert_path) = (dir.path().join("key"), dir.path().join("cert"));
    fs::write(&host_key_path, key).unwrap();
    fs::write(&host_cert_path, cert).unwrap();
    Collector::open(CollectorConfig { host_key_path, host_cert_path })
}

#[tokio::test]
async fn a_host_certificate_and_its_key_earn_an_identity() {
    let verifier = verifier(AUTHORITY, |config| config.require_binding = true);
    for (key, cert, _) in HOSTS {
        let dir = tempfile::tempdir().unwrap();
        let collector = collector(&dir, key, cert).unwrap();
        let node = World::default().attest(&verifier, &collector).await.unwrap();
        let name = node.id().path().strip_prefix("/spire/agent/sshpop/").unwrap();
        // 32 bytes in unpadded base64.
        assert_eq!(name.len(), 43);
        assert_eq!((node.appraisal().bond, node.reattestable()), (Bond::Key, true));
        assert!(node.selectors().is_empty());
    }
}

#[test]
fn what_spires_agent_says_is_understood() {
    for (_, cert, spire) in HOSTS {
        let (said, answered) = spire.split_once('\n').unwrap();
        let blob = Evidence::parse(said.as_bytes()).unwrap().certificate.0;
        let certificate = HostCertificate::parse(&blob).unwrap();
        assert!(
            cert.contains(&base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                &blob
            ))
        );
        assert_eq!((certificate.serial, certificate.key_id.as_str()), (7, "host-1"));
        assert_eq!(certificate.principals, ["host-1.example.org", "host-1"]);
        let response = Response::parse(answered.as_bytes()).unwrap();
        assert!(response.signed_nonce(ASKED, &certificate.key).is_some());
        assert_eq!(response.signed_nonce(&[0; 32], &certificate.key), None);
    }
}

#[test]
fn a_certificate_under_sha1_is_none() {
    let said = HOSTS[2].2.lines().next().unwrap();
    let blob = Evidence::parse(said.as_bytes()).unwrap().certificate.0;
    let key = HostCertificate::parse(&blob).unwrap().key;
    let response = Response::parse(HOSTS[2].2.lines().nth(1).unwrap().as_bytes()).unwrap();
    assert_eq!(response.signature.format, "ssh-rsa");
    let signature = Signature { format: "ssh-rsa", blob: &response.signature.blob.0 };
    let signed = wire::to_sign(ASKED, &response.nonce.nonce().unwrap());
    assert!(key.has_signed(&signed, signature, Purpose::Possession));
    assert!(!key.has_signed(&signed, signature, Purpose::Certificate));
}

/// What becomes of a host with a certificate of these contents.
async fn judge(
    edit: impl FnOnce(&mut Contents),
    configure: impl FnOnce(&mut Config),
) -> Result<AttestedNode, VerifyError> {
    let (authority, mut host) = (Key::generate(), Key::generate());
    let mut contents = Contents::default();
    edit(&mut contents);
    let evidence = evidence(&authority.certify(&host, &contents));
    World::default().judge(&verifier(&authority.line(), configure), &evidence, &mut host).await
}

#[tokio::test]
async fn a_stock_agent_is_a_bearer_and_can_be_refused() {
    let node = judge(|_| {}, |_| {}).await.unwrap();
    assert_eq!(node.appraisal().bond, Bond::Bearer);
    let reason = reason(judge(|_| {}, |config| config.require_binding = true).await);
    assert!(reason.contains("not bound"), "{reason}");
}

#[tokio::test]
async fn a_certificate_holds_for_a_host_and_a_time() {
    let now = NOW.as_secs();
    assert!(judge(|c| c.valid = (now, now + 1), |_| {}).await.unwrap().reattestable());
    for valid in [(0, now), (now + 1, u64::MAX), (now, now), (now + 1, now - 1)] {
        let reason = reason(judge(|c| c.valid = valid, |_| {}).await);
        assert!(reason.contains("is valid from"), "{reason}");
    }
    for kind in [0, 1, 3] {
        let reason = reason(judge(|c| c.kind = kind, |_| {}).await);
        assert!(reason.contains("not for a host"), "{reason}");
    }
    let options = b"\0\0\0\x0dforce-command\0\0\0\0";
    let reason_of_options = reason(judge(|c| c.critical_options = options, |_| {}).await);
    assert!(reason_of_options.contains("critical options"), "{reason_of_options}");
    let reason = reason(judge(|c| c.principals = vec![], |_| {}).await);
    assert_eq!(reason, "the evidence is malformed");
}

#[tokio::test]
async fn only_the_authorities_of_the_operator_count() {
    let (authority, stranger, mut host) = (Key::generate(), Key::generate(), Key::generate());
    let verifier = verifier(&authority.line(), |_| {});
    let world = World::default();
    let foreign = stranger.certify(&host, &Contents::default());
    let reason_of_foreign = reason(world.judge(&verifier, &evidence(&foreign), &mut host).await);
    assert!(reason_of_foreign.contains("none of `cert-authorities`"), "{reason_of_foreign}");
    // Each byte of the certificate, changed.
    let genuine = authority.certify(&host, &Contents::default());
    for at in 0..genuine.len() {
        let mut changed = genuine.clone();
        changed[at] ^= 1;
        let outcome = world.judge(&verifier, &evidence(&changed), &mut host).await;
        assert!(outcome.is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn a_stolen_certificate_is_of_no_use_without_its_key() {
    let (authority, host, mut thief) = (Key::generate(), Key::generate(), Key::generate());
    let verifier = verifier(&authority.line(), |_| {});
    let stolen = evidence(&authority.certify(&host, &Contents::default()));
    let reason = reason(World::default().judge(&verifier, &stolen, &mut thief).await);
    assert!(reason.contains("did not sign the nonces"), "{reason}");
}

#[tokio::test]
async fn a_host_is_named_within_its_domain() {
    let template = |config: &mut Config| {
        config.canonical_domain = Some("example.org".into());
        config.agent_path_template = Some("/ssh/{{ .Hostname }}/{{ .Serial }}".into());
    };
    let node = judge(|_| {}, template).await.unwrap();
    assert_eq!(node.id().path(), "/spire/agent/ssh/host-1/7");
    for name in ["host-1.example.com", "example.org", ".example.org", "host-1example.org"] {
        let reason = reason(judge(|c| c.principals = vec![name], template).await);
        assert!(reason.contains("is not in `example.org`"), "{name}: {reason}");
    }
    for name in ["../x.example.org", "a/b.example.org", "...example.org", "*.example.org"] {
        let reason = reason(judge(|c| c.principals = vec![name], template).await);
        assert!(reason.contains("the agent's name"), "{name}: {reason}");
    }
    let first = |config: &mut Config| {
        config.agent_path_template = Some("/ssh/{{ index .ValidPrincipals 0 }}".into());
    };
    let node = judge(|c| c.principals = vec!["a.b", "c"], first).await.unwrap();
    assert_eq!(node.id().path(), "/spire/agent/ssh/a.b");
}

#[tokio::test]
async fn what_is_not_evidence_is_malformed() {
    let verifier = verifier(AUTHORITY, |_| {});
    let genuine = Key::generate().certify(&Key::generate(), &Contents::default());
    let trailing = [genuine.as_slice(), &[0]].concat();
    let huge = [genuine.as_slice(), &[0; 40_000]].concat();
    // Half a gigabyte of principals is announced, and none follow.
    let announced = [string(b"ssh-ed25519-cert-v01@openssh.com"), vec![0x20, 0, 0, 0]].concat();
    let mut all = vec![b"".to_vec(), b"{}".to_vec(), b"{\"Certificate\":null}".to_vec()];
    all.extend([&b""[..], &genuine[1..], &trailing, &huge, &announced].map(evidence));
    for sent in all {
        let outcome = World::default().judge(&verifier, &sent, &mut NoConversation).await;
        assert_eq!(reason(outcome), "the evidence is malformed");
    }
}

#[test]
fn a_dear_or_weak_rsa_key_is_none() {
    let rsa = |modulus: usize, exponent: &[u8]| {
        let modulus = [&[0], vec![0xff; modulus].as_slice()].concat();
        [string(b"ssh-rsa"), string(exponent), string(&modulus)].concat()
    };
    assert!(key::Key::parse(&rsa(256, &[1, 0, 1])).is_some());
    assert!(key::Key::parse(&rsa(1_024, &[1, 0, 1])).is_some());
    for (modulus, exponent) in
        [(128, &[1, 0, 1][..]), (1_025, &[1, 0, 1]), (16_000, &[3]), (256, &[1]), (256, &[1; 256])]
    {
        assert_eq!(key::Key::parse(&rsa(modulus, exponent)), None);
    }
}

#[test]
fn files_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let [(ed25519, _, _), (_, ecdsa_cert, _), _] = HOSTS;
    let error = collector(&dir, ed25519, ecdsa_cert).unwrap_err();
    assert!(matches!(error, OpenCollectorError::Apart { .. }), "{error}");
    let error = collector(&dir, "no key", ecdsa_cert).unwrap_err();
    assert!(matches!(error, OpenCollectorError::Key { .. }), "{error}");
    let error = collector(&dir, ed25519, AUTHORITY).unwrap_err();
    assert!(error.to_string().contains("ssh-keygen -s"), "{error}");

    let open = |text: &str| {
        let path: PathBuf = dir.path().join("authorities");
        fs::write(&path, text).unwrap();
        let config = Config { cert_authorities_path: Some(path), ..Config::default() };
        Verifier::open(&config)
    };
    open(&format!("# ours\n\n{AUTHORITY}\n")).unwrap();
    let error = open(&format!("{AUTHORITY}\nnonsense\n")).unwrap_err();
    assert!(error.to_string().contains("line "), "{error}");
    let error = open("# none\n").unwrap_err();
    assert!(matches!(error, OpenError::Empty { .. }), "{error}");
}
