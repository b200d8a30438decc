use std::sync::Arc;

use claviger_core::evidence::Bond;
use tempfile::TempDir;

use super::*;
use crate::dcap::Tee;
use crate::dcap::fixture::{Intel, Node, Parts, Sayings, domain, enclave, settings};
use crate::fixture::World;
use crate::fixture::corpus::corpus;
use crate::inspect::{Given, Verdict};

const BY_CONTENTS: &str =
    r#"{"mrenclave":"e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1"}"#;
const BY_SIGNER: &str =
    r#"{"mrsigner":"5151515151515151515151515151515151515151515151515151515151515151"}"#;

fn node(intel: &Arc<Intel>) -> Node {
    Node::new(intel, KIND, (3, Tee::Sgx), enclave)
}

fn server(intel: &Intel, registers: &str, more: &str) -> (Verifier, [TempDir; 2]) {
    let sayings = Sayings::of(Tee::Sgx);
    let (text, dirs) = settings(intel, KIND, registers, Some(&sayings), more);
    let config: Config = toml::from_str(&text).unwrap();
    assert_eq!(config.problems(), []);
    (Verifier::open(&config).unwrap(), dirs)
}

async fn refusal(intel: &Arc<Intel>, verifier: &Verifier, edit: fn(&mut Parts)) -> String {
    let mut node = node(intel);
    node.edit = edit;
    node.refusal(verifier).await
}

#[tokio::test]
async fn an_enclave_earns_a_name_by_its_platform_and_product() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, BY_CONTENTS, "");
    let attested = node(&intel).attest(&verifier).await.unwrap();
    let path: Vec<_> = attested.id().path().split('/').collect();
    assert_eq!((&path[..4], path.len()), (&["", "spire", "agent", "sgx"][..], 6));
    assert_eq!((attested.reattestable(), attested.appraisal().bond), (true, Bond::Key));
    for selector in [
        format!("sgx:mrenclave:{}", "e1".repeat(32)),
        format!("sgx:mrsigner:{}", "51".repeat(32)),
        "sgx:isvprodid:1".to_owned(),
        "sgx:isvsvn:3".to_owned(),
        "sgx:tcb_status:UpToDate".to_owned(),
        "sgx:image:signer".to_owned(),
    ] {
        assert!(attested.selectors().contains(&selector.parse().unwrap()), "{selector}");
    }
}

#[tokio::test]
async fn an_enclave_keeps_its_name_from_version_to_version() {
    let intel = Arc::new(Intel::new());
    let more = "signed = { isv-prod-id = 1, min-isv-svn = 3 }";
    let (verifier, _dirs) = server(&intel, BY_SIGNER, more);
    let named = |edit| {
        let (intel, verifier) = (Arc::clone(&intel), &verifier);
        async move {
            let mut node = node(&intel);
            node.edit = edit;
            node.attest(verifier).await.unwrap().id().clone()
        }
    };
    let before = named(|_| ()).await;
    let after = named(|parts| (parts.body[64], parts.body[258]) = (0, 4)).await;
    assert_eq!(before, after);
    assert_ne!(before, named(|parts| parts.body[192] = 1).await);
}

#[tokio::test]
async fn a_signer_alone_is_not_enough() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, BY_SIGNER, "");
    let why = refusal(&intel, &verifier, |_| ()).await;
    assert!(why.contains("sgx.signed_product"), "{why}");
    let more = "signed = { isv-prod-id = 1, min-isv-svn = 3 }";
    let (verifier, _dirs) = server(&intel, BY_SIGNER, more);
    node(&intel).is_admitted(&verifier).await;
    let edits: [fn(&mut Parts); 2] = [|parts| parts.body[256] = 2, |parts| parts.body[258] = 2];
    for edit in edits {
        let why = refusal(&intel, &verifier, edit).await;
        assert!(why.contains("sgx.signed_product"), "{why}");
    }
    let why = refusal(&intel, &verifier, |parts| parts.body[128] ^= 1).await;
    assert!(why.contains("reference_values"), "{why}");
    // An enclave that is known by its contents needs no more.
    let (verifier, _dirs) = server(&intel, BY_CONTENTS, more);
    let mut other = node(&intel);
    other.edit = |parts| parts.body[258] = 0;
    other.is_admitted(&verifier).await;
}

#[tokio::test]
async fn debug_enclaves_are_refused_or_marked() {
    let intel = Arc::new(Intel::new());
    let (strict, _dirs) = server(&intel, BY_CONTENTS, "");
    let why = refusal(&intel, &strict, |parts| parts.body[48] = 7).await;
    assert!(why.contains("sgx.debug"), "{why}");
    let (lenient, _more) = server(&intel, BY_CONTENTS, "allow-debug = true");
    let mut debug = node(&intel);
    debug.edit = |parts| parts.body[48] = 7;
    let attested = debug.attest(&lenient).await.unwrap();
    assert!(attested.id().path().starts_with("/spire/agent/sgx/debug/"));
    assert!(attested.selectors().contains(&"sgx:debug:true".parse().unwrap()));
}

#[tokio::test]
async fn attributes_and_reserved_bytes_that_are_not_known_are_refused() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, BY_CONTENTS, "allow-debug = true");
    let edits: [fn(&mut Parts); 6] = [
        |parts| parts.body[48] = 4,
        |parts| parts.body[48] = 0x0d,
        |parts| parts.body[49] = 1,
        |parts| parts.body[55] = 0x80,
        |parts| parts.body[20] = 1,
        |parts| parts.body[303] = 1,
    ];
    for edit in edits {
        let why = refusal(&intel, &verifier, edit).await;
        assert!(why.contains("sgx.attributes"), "{why}");
    }
}

#[tokio::test]
async fn a_quote_for_another_key_another_nonce_or_of_a_machine_is_refused() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, BY_CONTENTS, "");
    let edits: [fn(&mut Parts); 2] = [|parts| parts.body[320] ^= 1, |parts| parts.body[383] = 1];
    for edit in edits {
        let why = refusal(&intel, &verifier, edit).await;
        assert!(why.contains("sgx.report_data"), "{why}");
    }
    let mut replayed = node(&intel);
    replayed.is_admitted(&verifier).await;
    replayed.replays = Some(replayed.answered.clone());
    assert!(replayed.refusal(&verifier).await.contains("sgx.report_data"));
    let mut machine = Node::new(&intel, KIND, (4, Tee::Tdx), |data| domain(data, false));
    assert!(machine.refusal(&verifier).await.contains("of a TDX virtual machine"));
}

/// The folder of a library OS whose quote is always the same.
#[tokio::test]
async fn a_collector_writes_what_it_wants_quoted_and_reads_the_quote() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("attestation-path = '{}'", dir.path().display());
    let config: CollectorConfig = toml::from_str(&text).unwrap();
    assert!(config.problems().is_empty());
    let error = Collector::open(&config).unwrap_err();
    assert!(error.to_string().contains("under Gramine"), "{error}");
    std::fs::write(dir.path().join("user_report_data"), [0; 64]).unwrap();
    std::fs::write(dir.path().join("quote"), b"a quote").unwrap();
    let collector = Collector::open(&config).unwrap();
    let binding = World::default().binding(KIND);
    let mut presentation = crate::NodeCollector::present(&collector, &binding).await.unwrap();
    assert_eq!(presentation.evidence(), b"{}");
    let answer = presentation.answer(&[3; 32]).await.unwrap();
    assert_eq!(answer.as_slice(), b"a quote");
    let written = std::fs::read(dir.path().join("user_report_data")).unwrap();
    assert_eq!(written[..48], *binding.digest(&[3; 32]).as_bytes());
    assert_eq!(written[48..], [0; 16]);
    presentation.answer(&[3; 31]).await.unwrap_err();
    std::fs::remove_file(dir.path().join("quote")).unwrap();
    presentation.answer(&[3; 32]).await.unwrap_err();
    let relative: CollectorConfig = toml::from_str("attestation-path = 'dev'").unwrap();
    assert_eq!(relative.problems()[0].key, "attestation-path");
}

#[test]
fn people_read_what_a_real_quote_says_and_which_rules_it_keeps() {
    let Some(folder) = corpus("tdx") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let given = Given {
        binding: Some(b"Hello, world!".to_vec()),
        collateral: Some(read("sample__sgx_quote_collateral.json")),
        ..Given::NOTHING
    };
    let inspection = inspect(&read("sample__sgx_quote"), &given).unwrap();
    // Its platform needs configuration and hardening, which nobody said will do.
    assert_eq!(inspection.verdict(), Verdict::Broken);
    let broken: Vec<_> = inspection
        .checks
        .checks()
        .filter(|(_, outcome)| matches!(outcome, crate::checklist::Outcome::Broken(_)))
        .map(|(rule, _)| rule.id)
        .collect();
    assert_eq!(broken, ["dcap.tcb_status"]);
    let enclave = inspection.fields.iter().find(|(name, _)| name == "mrenclave").unwrap();
    assert!(enclave.1.starts_with("33d8736db756ed49"));
    assert!(inspect(&read("sample__tdx_quote"), &given).is_none());
}
