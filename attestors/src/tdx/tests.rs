mod inspection;
mod settings;

use std::sync::Arc;

use claviger_core::evidence::{Bond, Tier};
use tempfile::TempDir;

use super::*;
use crate::dcap::Tee;
use crate::dcap::fixture::{Intel, Node, Parts, Sayings, domain, enclave, settings, sgx_extension};
use crate::fixture::World;
use crate::tsm::fixture::{Answer, FakeKernel};
use crate::{NodeCollector as _, VerifyError};

const REGISTERS: &str = concat!(
    r#"{"mrtd":""#,
    "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1",
    "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1",
    r#""}"#
);

fn node(intel: &Arc<Intel>) -> Node {
    Node::new(intel, KIND, (4, Tee::Tdx), |data| domain(data, false))
}

/// A server that trusts `intel`, with some more settings.
fn server(intel: &Intel, more: &str) -> (Verifier, [TempDir; 2]) {
    server_with(intel, REGISTERS, &Sayings::of(Tee::Tdx), more)
}

fn server_with(
    intel: &Intel,
    registers: &str,
    sayings: &Sayings,
    more: &str,
) -> (Verifier, [TempDir; 2]) {
    let (text, dirs) = settings(intel, KIND, registers, Some(sayings), more);
    let config: Config = toml::from_str(&text).unwrap();
    assert_eq!(config.problems(), []);
    (Verifier::open(&config).unwrap(), dirs)
}

#[tokio::test]
async fn a_machine_earns_a_name_by_its_platform_and_how_it_was_launched() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, "");
    let attested = node(&intel).attest(&verifier).await.unwrap();
    let path: Vec<_> = attested.id().path().split('/').collect();
    assert_eq!(path[..4], ["", "spire", "agent", "tdx"]);
    assert_eq!((path.len(), path[4].len(), path[5].len()), (6, 32, 32));
    assert!(attested.reattestable());
    let appraisal = attested.appraisal();
    assert_eq!((appraisal.kind.as_str(), appraisal.bond), (KIND, Bond::Key));
    assert_eq!(appraisal.measured["tcb_status"], "UpToDate");
    assert_eq!(appraisal.measured["rtmr2"], "a2".repeat(48));
    assert_eq!(appraisal.trust.hardware.tier(), Tier::Affirming);
    let selectors: Vec<_> = attested.selectors().iter().map(ToString::to_string).collect();
    for expected in [
        format!("tdx:mrtd:{}", "d1".repeat(48)),
        format!("tdx:rtmr0:{}", "a0".repeat(48)),
        format!("tdx:mrconfigid:{}", "c0".repeat(48)),
        "tdx:tcb_status:UpToDate".to_owned(),
        "tdx:fmspc:b0c06f000001".to_owned(),
        "tdx:image:signer".to_owned(),
        "tdx:version:1.4.2".to_owned(),
        format!("tdx:platform:{}", path[4]),
    ] {
        assert!(selectors.contains(&expected), "{expected}: {selectors:?}");
    }
    // What was never measured is no fact.
    assert!(!selectors.iter().any(|selector| selector.starts_with("tdx:mrowner:")));
    assert!(!selectors.contains(&"tdx:debug:true".to_owned()));

    // The same machine, whatever it has measured since; and another one beside it.
    let named = |edit| {
        let (intel, verifier) = (Arc::clone(&intel), &verifier);
        async move {
            let mut node = node(&intel);
            node.edit = edit;
            node.attest(verifier).await.unwrap().id().clone()
        }
    };
    assert_eq!(named(|parts| parts.body[328] ^= 1).await, *attested.id());
    assert_ne!(named(|parts| parts.body[184] ^= 1).await, *attested.id());
}

#[tokio::test]
async fn machines_of_tdx_1_5_are_judged_by_the_same_rules() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, "");
    let mut node = Node::new(&intel, KIND, (5, Tee::Tdx), |data| domain(data, true));
    node.is_admitted(&verifier).await;
    node.edit = |parts| parts.body[600] = 1;
    let attested = node.attest(&verifier).await.unwrap();
    let service = attested.selectors().iter().map(ToString::to_string);
    assert!(service.into_iter().any(|selector| selector.starts_with("tdx:mrservicetd:01")));
}

/// What is bound is pinned where it is computed: here it matters that all of it is compared.
#[tokio::test]
async fn a_quote_for_another_key_or_another_nonce_is_refused() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, "");
    // All bytes of the report data count, the zeros too.
    let edits: [fn(&mut Parts); 5] = [
        |parts| parts.body[520] ^= 1,
        |parts| parts.body[567] ^= 1,
        |parts| parts.body[568] = 1,
        |parts| parts.body[583] = 1,
        |parts| parts.body[520..].fill(0),
    ];
    for edit in edits {
        let mut node = node(&intel);
        node.edit = edit;
        let why = node.refusal(&verifier).await;
        assert!(why.contains("tdx.report_data"), "{why}");
    }
    // A quote that was good once, with whatever signature.
    let mut node = node(&intel);
    node.is_admitted(&verifier).await;
    node.replays = Some(node.answered.clone());
    let why = node.refusal(&verifier).await;
    assert!(why.contains("tdx.report_data"), "{why}");
    // A quote for another kind of evidence.
    let mut other = Node::new(&intel, "sgx", (4, Tee::Tdx), |data| domain(data, false));
    let why = other.refusal(&verifier).await;
    assert!(why.contains("tdx.report_data"), "{why}");
}

#[tokio::test]
async fn a_machine_under_debug_is_refused_or_marked() {
    let intel = Arc::new(Intel::new());
    let (strict, _dirs) = server(&intel, "");
    let (lenient, _more) = server(&intel, "allow-debug = true");
    // Every bit by which the host can look in, of which DEBUG is the first.
    let edits: [fn(&mut Parts); 3] = [
        |parts| parts.body[120] = 1,
        |parts| parts.body[120] = 1 << 4,
        |parts| parts.body[120] = 1 << 7,
    ];
    for edit in edits {
        let mut node = node(&intel);
        node.edit = edit;
        let why = node.refusal(&strict).await;
        assert!(why.contains("tdx.debug"), "{why}");
        let attested = node.attest(&lenient).await.unwrap();
        assert!(attested.id().path().starts_with("/spire/agent/tdx/debug/"));
        assert!(attested.selectors().contains(&"tdx:debug:true".parse().unwrap()));
        assert_eq!(attested.appraisal().trust.runtime_opaque.tier(), Tier::Contraindicated);
    }
    // Where it is allowed, others are not marked.
    let attested = node(&intel).attest(&lenient).await.unwrap();
    assert!(!attested.id().path().contains("debug"));
}

#[tokio::test]
async fn unknown_attributes_and_machines_that_may_move_are_refused() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, "allow-debug = true");
    let edits: [fn(&mut Parts); 4] = [
        |parts| parts.body[121] = 1,
        |parts| parts.body[123] = 1 << 5,
        |parts| parts.body[124] = 1,
        |parts| parts.body[127] = 1 << 5,
    ];
    for edit in edits {
        let mut node = node(&intel);
        node.edit = edit;
        let why = node.refusal(&verifier).await;
        assert!(why.contains("tdx.attributes"), "{why}");
    }
    let mut harmless = node(&intel);
    harmless.edit = |parts| (parts.body[123], parts.body[127]) = (0xd8, 0xc0);
    harmless.is_admitted(&verifier).await;
}

#[tokio::test]
async fn only_software_that_is_known_is_admitted() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, "");
    let mut other = node(&intel);
    other.edit = |parts| parts.body[136] ^= 1;
    let why = other.refusal(&verifier).await;
    assert!(why.contains("reference_values"), "{why}");
    // What an image names beside its firmware counts, too.
    let registers = format!(r#"{{"mrtd":"{}","rtmr2":"{}"}}"#, "d1".repeat(48), "a2".repeat(48));
    let (verifier, _dirs) = server_with(&intel, &registers, &Sayings::of(Tee::Tdx), "");
    node(&intel).is_admitted(&verifier).await;
    let mut other = node(&intel);
    other.edit = |parts| parts.body[328 + 2 * 48] ^= 1;
    assert!(other.refusal(&verifier).await.contains("reference_values"));
}

/// Whoever chooses the firmware chooses all that it measures afterwards.
#[test]
fn an_image_without_its_firmware_is_no_reference() {
    for (name, identifies) in [("mrtd", true), ("rtmr1", false), ("mrconfigid", false)] {
        assert_eq!((super::REGISTERS.identifies)(name), identifies);
        assert_eq!((super::REGISTERS.length)(name), Some(48));
    }
    assert_eq!((super::REGISTERS.length)("pcr0"), None);
}

#[tokio::test]
async fn a_platform_is_accepted_by_its_status() {
    let intel = Arc::new(Intel::with_pck(sgx_extension(
        &[2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        5,
    )));
    let (verifier, _dirs) = server(&intel, "");
    let why = node(&intel).refusal(&verifier).await;
    assert!(why.contains("dcap.tcb_status: it is `OutOfDate`"), "{why}");
    let (verifier, _dirs) = server(&intel, "tcb.accept = ['UpToDate', 'OutOfDate']");
    let attested = node(&intel).attest(&verifier).await.unwrap();
    for selector in ["tdx:tcb_status:OutOfDate", "tdx:advisory:INTEL-SA-00001"] {
        assert!(attested.selectors().contains(&selector.parse().unwrap()), "{selector}");
    }
    let appraisal = attested.appraisal();
    assert_eq!(appraisal.trust.hardware.tier(), Tier::Contraindicated);
    assert_eq!(appraisal.measured["advisories"], "INTEL-SA-00001");
    let (verifier, _dirs) = server(&intel, "tcb.min-evaluation-number = 19");
    assert!(node(&intel).refusal(&verifier).await.contains("dcap.tcb_evaluation_number"));
}

#[tokio::test]
async fn what_a_node_brings_along_is_believed_if_that_is_set() {
    let intel = Arc::new(Intel::new());
    let servers = |more: &str| {
        let (text, dirs) = settings(&intel, KIND, REGISTERS, None, more);
        (Verifier::open(&toml::from_str::<Config>(&text).unwrap()).unwrap(), dirs)
    };
    let (alone, _dirs) = servers("");
    let mut node = node(&intel);
    let error = node.attest(&alone).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error}");
    node.brings = Some(Sayings::of(Tee::Tdx));
    let error = node.attest(&alone).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error}");
    let (trusting, _dirs) = servers("collateral.from-evidence = true");
    node.is_admitted(&trusting).await;
    // It is judged as any other.
    let mut sayings = Sayings::of(Tee::Tdx);
    sayings.tcb_info["nextUpdate"] = "2025-12-31T00:00:00Z".into();
    node.brings = Some(sayings);
    assert!(node.refusal(&trusting).await.contains("dcap.tcb_info_dates"));
    // The server's own comes first.
    let mut sayings = Sayings::of(Tee::Tdx);
    sayings.tcb_info["tcbLevels"][0]["tcbStatus"] = "OutOfDate".into();
    let (own, _dirs) = server_with(&intel, REGISTERS, &sayings, "collateral.from-evidence = true");
    node.brings = Some(Sayings::of(Tee::Tdx));
    assert!(node.refusal(&own).await.contains("dcap.tcb_status"));
}

#[tokio::test]
async fn what_is_no_quote_of_a_machine_is_refused() {
    let intel = Arc::new(Intel::new());
    let (verifier, _dirs) = server(&intel, "");
    let mut enclave = Node::new(&intel, KIND, (4, Tee::Sgx), enclave);
    let why = enclave.refusal(&verifier).await;
    assert!(why.contains("of an SGX enclave"), "{why}");
    let mut node = node(&intel);
    for answer in [
        Vec::new(),
        b"quote".to_vec(),
        br#"{"quote":"AA==","more":1}"#.to_vec(),
        br#"{"quote":"AA==","quote":"AA=="}"#.to_vec(),
        b"{}".to_vec(),
        vec![4; crate::MAX_EVIDENCE + 1],
    ] {
        node.replays = Some(answer);
        node.attest(&verifier).await.unwrap_err();
    }
    node.replays = None;
    for hello in [&b""[..], b"[]", b"{\"x\":1}", b"null", &[b' '; crate::MAX_EVIDENCE + 1]] {
        let error = World::default().judge(&verifier, hello, &mut node).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{error}");
    }
}

/// From the collector's side, with a kernel that answers from the test's own platform.
#[tokio::test]
async fn a_collector_has_its_kernel_make_the_quote() {
    let intel = Arc::new(Intel::new());
    let (verifier, dirs) = server(&intel, "");
    let maker = Arc::clone(&intel);
    let (tsm, kernel) = FakeKernel::tsm(move |data| {
        let parts = Parts::new(&maker, 4, Tee::Tdx, domain(data, false));
        let outblob = parts.sign(&maker);
        Answer { provider: "tdx_guest\n".to_owned(), outblob, auxblob: None }
    });
    let collector = Collector::of(tsm.clone(), None);
    let world = World::default();
    drop(world.attest(&verifier, &collector).await.unwrap());
    let edited = world.attest_edited(&verifier, &collector, |mut quote| {
        quote[48 + 140] ^= 1;
        quote
    });
    assert!(crate::fixture::reason(edited.await).contains("dcap.signature"));
    // The same, with collateral beside it.
    let file = dirs[1].path().join("tdx-b0c06f000001.json");
    let collector = Collector::of(tsm, Some(file.clone()));
    drop(world.attest(&verifier, &collector).await.unwrap());
    let mut presentation = collector.present(&world.binding(KIND)).await.unwrap();
    let answer = presentation.answer(&[1; 32]).await.unwrap();
    assert!(crate::dcap::Presented::parse(&answer).unwrap().collateral.is_some());
    for challenge in [&b""[..], &[1; 31], &[1; 33]] {
        presentation.answer(challenge).await.unwrap_err();
    }
    std::fs::write(&file, "{}").unwrap();
    presentation.answer(&[1; 32]).await.unwrap_err();
    assert_eq!(kernel.left_behind(), 0);
}
