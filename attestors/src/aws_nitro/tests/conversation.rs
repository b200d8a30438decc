//! Both ends of the conversation, and who is in between.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::selector::Selectors;
use tempfile::TempDir;

use crate::aws_nitro::{Collector, Config, FLAVOUR, KIND, Verifier};
use crate::fixture::{NOW, World, reason};
use crate::nitro::fixture::{Draft, INSTANCE, Item, Played, join, parts, pki, reference};
use crate::{Challenged, NodeCollector as _, Presentation, VerifyError, nitro_tpm};

fn config(edit: impl FnOnce(&mut Config)) -> (Config, TempDir) {
    let (reference_values, dir) = reference(KIND, 0);
    let root = dir.path().join("root.der");
    fs::write(&root, pki().root()).unwrap();
    let mut config = Config {
        reference_values,
        allow_debug: false,
        debug_parents: [].into(),
        insecure_test_root: Some(root),
    };
    edit(&mut config);
    assert_eq!(config.problems(), []);
    (config, dir)
}

fn verifier() -> (Verifier, TempDir) {
    let (config, dir) = config(|_config| {});
    (Verifier::open(&config).unwrap(), dir)
}

fn played(edit: impl FnOnce(&mut Played)) -> Collector {
    let mut played = Played::honest(&FLAVOUR);
    edit(&mut played);
    Collector::new(Arc::new(played))
}

async fn attest(edit: impl FnOnce(&mut Played)) -> Result<AttestedNode, VerifyError> {
    World::default().attest(&verifier().0, &played(edit)).await
}

fn selectors(node: &AttestedNode) -> Vec<String> {
    let selectors: &Selectors = node.selectors();
    selectors.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_enclave_earns_an_identity_of_its_own() {
    let node = attest(|_played| {}).await.unwrap();
    let module = format!("{INSTANCE}-enc0123456789abcdef");
    assert_eq!(node.id().path(), format!("/spire/agent/aws_nitro/{module}"));
    assert!(node.reattestable());
    let register = |index: u8| format!("aws_nitro:pcr{index}:{}", hex::encode([0xa0 + index; 48]));
    let mut expected = vec![
        "aws_nitro:image:signer".to_owned(),
        format!("aws_nitro:instance:{INSTANCE}"),
        format!("aws_nitro:module_id:{module}"),
        "aws_nitro:version:1.4.2".to_owned(),
    ];
    expected.extend([0, 1, 2, 4, 7].map(register));
    expected.sort();
    let mut found = selectors(&node);
    found.sort();
    assert_eq!(found, expected);
    let appraisal = node.appraisal();
    assert_eq!(appraisal.bond, Bond::Key);
    assert_eq!(appraisal.trust.executables.value(), 3);
    // Whoever has the key of this root can be anybody, so nothing is affirmed of the hardware.
    assert!(appraisal.trust.hardware.is_none() && appraisal.source.contains("not AWS'"));
    assert_eq!(appraisal.measured["pcr0"], hex::encode([0xa0; 48]));
    assert_eq!(appraisal.measured["timestamp"], (NOW.as_secs() * 1_000).to_string());
}

#[tokio::test]
async fn software_that_is_not_known_gets_nothing() {
    let other = attest(|played| drop(played.draft.registers.insert(0, vec![1; 48]))).await;
    let error = reason(other);
    assert!(error.contains("reference_values: no image"), "{error}");
    let (verifier, _dir) = verifier();
    let late = World { now: NOW.after(Duration::from_secs(2_000)), ..World::default() };
    let error = reason(late.attest(&verifier, &played(|_played| {})).await);
    assert!(error.contains("aws_nitro.freshness"), "{error}");
}

#[tokio::test]
async fn debug_mode_taints_the_identity() {
    let in_debug = |played: &mut Played| {
        for index in 0..3 {
            played.draft.registers.insert(index, vec![0; 48]);
        }
        let parent = [&[0; 48], INSTANCE.as_bytes()].concat();
        let parent = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, &parent);
        played.draft.registers.insert(4, parent.as_ref().to_vec());
    };
    let error = reason(attest(in_debug).await);
    assert!(error.contains("aws_nitro.debug: "), "{error}");
    let (config, _dir) = config(|config| {
        config.allow_debug = true;
        config.debug_parents = [INSTANCE.to_owned()].into();
    });
    let verifier = Verifier::open(&config).unwrap();
    let node = World::default().attest(&verifier, &played(in_debug)).await.unwrap();
    let path = format!("/spire/agent/aws_nitro/debug/{INSTANCE}-enc0123456789abcdef");
    assert_eq!(node.id().path(), path);
    let selectors = selectors(&node);
    assert!(selectors.contains(&"aws_nitro:debug:true".to_owned()), "{selectors:?}");
    assert!(!selectors.iter().any(|selector| selector.contains(":image:")), "{selectors:?}");
    let trust = node.appraisal().trust;
    assert_eq!((trust.executables.value(), trust.runtime_opaque.value()), (33, 96));
}

#[tokio::test]
async fn a_root_is_needed_that_is_trusted() {
    let (mut config, _dir) = config(|_config| {});
    config.insecure_test_root = None;
    let aws = Verifier::open(&config).unwrap();
    let error = reason(World::default().attest(&aws, &played(|_played| {})).await);
    assert!(error.contains("aws_nitro.root"), "{error}");
    config.insecure_test_root = Some("/nonexistent/root".into());
    let error = Verifier::open(&config).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/root"), "{error}");
    config.insecure_test_root = None;
    config.reference_values.path = "/nonexistent/references".into();
    assert!(Verifier::open(&config).unwrap_err().to_string().contains("reference-values"));
}

#[tokio::test]
async fn a_module_that_cannot_be_named_is_refused() {
    for module in ["..", "a/b", "i-0 enc", "i-0\n", &"x".repeat(4_000)] {
        let named = attest(|played| module.clone_into(&mut played.draft.module_id)).await;
        let error = reason(named);
        assert!(error.contains("module id"), "{module}: {error}");
    }
}

/// A node that answers with whatever it was given beforehand, and remembers what it was asked.
struct Replayed(Vec<u8>, Arc<Mutex<Vec<Vec<u8>>>>);

#[async_trait]
impl Challenged for Replayed {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        self.1.lock().unwrap().push(challenge);
        Ok(self.0.clone())
    }
}

/// The document of an honest conversation.
async fn used(world: &World, collector: &Collector) -> Vec<u8> {
    let mut presentation: Box<dyn Presentation> =
        collector.present(&world.binding(KIND)).await.unwrap();
    assert_eq!(presentation.evidence(), b"{}");
    presentation.answer(&[5; 32]).await.unwrap().to_vec()
}

async fn judge(document: Vec<u8>) -> String {
    let (verifier, _dir) = verifier();
    let mut node = Replayed(document, Arc::default());
    reason(World::default().judge(&verifier, b"{}", &mut node).await)
}

/// The bytes can be changed without harm to the signature. What was used once is no good however it is
/// written.
#[tokio::test]
async fn a_used_document_is_refused_however_it_is_written_anew() {
    let document = used(&World::default(), &played(|_played| {})).await;
    let [protected, unprotected, payload, signature] = parts(&document);
    let tagged = [&[0xd2], document.as_slice()].concat();
    // The same length, in eight bytes.
    let mut longer = [&[0x84, 0x44][..], &protected, &unprotected, &[0x5b]].concat();
    longer.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
    longer.extend([payload.as_slice(), &Item::Bytes(signature.clone()).encode()].concat());
    let other_s = [&signature[..48], &negated(&signature[48..])].concat();
    let negative = join(&[protected, unprotected, payload, other_s]);
    for (written, document) in
        [("as it was", document), ("tagged", tagged), ("longer", longer), ("n - s", negative)]
    {
        // All are signed: the nonce is what is wrong with them.
        let broken = crate::nitro::fixture::rules_broken_by(&document, &FLAVOUR);
        assert_eq!(broken, ["aws_nitro.nonce", "aws_nitro.binding"], "{written}");
        let error = judge(document).await;
        assert!(error.contains("aws_nitro.nonce: it carries other nonce"), "{written}: {error}");
    }
}

/// `n - s`, for the order `n` of P-384 (SEC 2 §2.5.1): as good a signature as the one with `s`.
fn negated(s: &[u8]) -> Vec<u8> {
    let order = "ffffffffffffffffffffffffffffffffffffffffffffffff\
                 c7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let order = hex::decode(order).unwrap();
    let mut borrow = false;
    let mut digits: Vec<u8> = order
        .iter()
        .zip(s)
        .rev()
        .map(|(n, s)| {
            let (digit, first) = n.overflowing_sub(*s);
            let (digit, second) = digit.overflowing_sub(u8::from(borrow));
            borrow = first || second;
            digit
        })
        .collect();
    digits.reverse();
    digits
}

/// Whoever is in between can't have the document for a key, a server, a trust domain or a kind of their
/// own.
#[tokio::test]
async fn a_document_is_for_one_key_one_server_and_one_kind() {
    let (verifier, _dir) = verifier();
    let elsewhere = World { trust_domain: "example.com".parse().unwrap(), ..World::default() };
    let honest = played(|_played| {});
    let other_binding = [
        elsewhere.binding(KIND),
        World::default().binding(nitro_tpm::KIND),
        claviger_core::evidence::Binding::new(KIND, b"key", &"example.org".parse().unwrap()),
        World::default().binding(KIND).requesting("spiffe://example.org/a".parse().ok()),
    ];
    for binding in other_binding {
        let presentation = honest.present(&binding).await.unwrap();
        let mut relayed = Relayed(presentation);
        let error = reason(World::default().judge(&verifier, b"{}", &mut relayed).await);
        assert!(error.contains("aws_nitro.binding: it carries other user data"), "{error}");
    }
    let swapped = attest(|played| played.draft.public_key = Some(b"mine".to_vec())).await;
    assert!(reason(swapped).contains("aws_nitro.public_key"));
}

struct Relayed(Box<dyn Presentation>);

#[async_trait]
impl Challenged for Relayed {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let answer = self.0.answer(&challenge).await;
        answer.map(|answer| answer.to_vec()).map_err(|_silent| VerifyError::Silent)
    }
}

/// Two conversations at once have a nonce each: what answers one does not answer the other.
#[tokio::test]
async fn every_conversation_has_a_nonce_of_its_own() {
    let (verifier, _dir) = verifier();
    let asked = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let mut node = Replayed(b"nothing".to_vec(), Arc::clone(&asked));
        reason(World::default().judge(&verifier, b"{}", &mut node).await);
    }
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 2 && asked[0].len() == 32 && asked[0] != asked[1]);
}

#[tokio::test]
async fn the_parent_can_only_drop_bytes() {
    let (verifier, _dir) = verifier();
    let edits: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |_document| Vec::new(),
        |document| document[..document.len() - 1].to_vec(),
        |document| [document, vec![0]].concat(),
        |mut document| {
            document.reverse();
            document
        },
    ];
    for edit in edits {
        let world = World::default();
        reason(world.attest_edited(&verifier, &played(|_played| {}), edit).await);
    }
}

#[tokio::test]
async fn a_hello_says_nothing() {
    let (verifier, _dir) = verifier();
    for hello in ["", "[]", r#"{"nonce":"AA=="}"#, "{}{}", "null"] {
        let mut node = Replayed(Vec::new(), Arc::default());
        let judged = World::default().judge(&verifier, hello.as_bytes(), &mut node).await;
        assert!(matches!(judged, Err(VerifyError::Malformed)), "{hello}");
        assert!(node.1.lock().unwrap().is_empty(), "{hello}");
    }
}

#[tokio::test]
async fn the_collector_answers_nonces_only_and_sends_no_more_than_a_document() {
    let world = World::default();
    let mut presentation = played(|_played| {}).present(&world.binding(KIND)).await.unwrap();
    for challenge in [&[][..], &[1; 31], &[1; 33], b"{}"] {
        presentation.answer(challenge).await.unwrap_err();
    }
    let endless = played(|played| played.edit = |_draft: Draft, _flavour| vec![0; 20_000]);
    let mut presentation = endless.present(&world.binding(KIND)).await.unwrap();
    let error = presentation.answer(&[1; 32]).await.unwrap_err();
    assert!(error.to_string().contains("20000 bytes"), "{error}");
}

#[tokio::test]
async fn the_document_of_a_nitro_tpm_is_none_of_an_enclave() {
    let error = reason(
        attest(|played| played.edit = |draft, _flavour| draft.document(&nitro_tpm::FLAVOUR, pki()))
            .await,
    );
    assert!(error.contains("aws_nitro.payload: `nitrotpm_pcrs` is no field of it"), "{error}");
}
