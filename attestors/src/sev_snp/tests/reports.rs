//! What is in a report.

use claviger_core::evidence::{Bond, TrustClaim};

use crate::VerifyError;
use crate::fixture::{NOW, World, reason};
use crate::sev_snp::fixture::{Machine, Settings, answer, attest, guest, pki, sign};
use crate::sev_snp::roots::Roots;
use crate::sev_snp::wire::Hello;
use crate::sev_snp::{KIND, Report};
use crate::{Challenged, NodeVerifier as _};

use super::super::appraise::{Evidence, Standard, appraise};
use crate::checklist::Checklist;

/// The rule that is broken when a report is what `edit` makes of it, signed by the right key.
pub(super) fn broken(machine: Machine, edit: impl FnOnce(&mut [u8])) -> String {
    let data = [7; 64];
    judged(&machine.report_edited(&data, edit), &machine.endorsement())
}

/// The rule that a report breaks which should be that of a [`Machine`], and carry sevens.
pub(super) fn judged(report: &[u8], endorsement: &[u8]) -> String {
    judged_by(&Settings::with(""), report, endorsement)
}

/// The same, by other settings.
pub(super) fn judged_by(settings: &Settings, report: &[u8], endorsement: &[u8]) -> String {
    judged_from(&pki::roots(), settings, report, endorsement)
}

/// The same, by these authorities.
pub(super) fn judged_from(
    roots: &Roots,
    settings: &Settings,
    report: &[u8],
    endorsement: &[u8],
) -> String {
    let references = crate::references::References::open(
        &settings.config.reference_values,
        &crate::sev_snp::REGISTERS,
    );
    let policy = settings.config.policy();
    let standard = Standard {
        roots,
        now: Some(NOW),
        policy: &policy,
        binding: Some(&[7; 64]),
        crls: &[],
        references: Some(&references.unwrap()),
    };
    let evidence = Evidence { report, endorsement: Some(endorsement) };
    let mut checks = Checklist::strict();
    match appraise(evidence, &standard, &mut checks) {
        Ok(_) => checks.kept().map_or_else(|broken| broken.rule.id, |()| "none").to_owned(),
        Err(broken) => broken.rule.id.to_owned(),
    }
}

#[tokio::test]
async fn guests_of_every_product_are_admitted_by_what_they_run() {
    let settings = Settings::with("");
    for machine in [Machine::MILAN, Machine::GENOA, Machine::TURIN, Machine::CLOUD] {
        let node = attest(&settings, &guest(machine)).await.unwrap();
        let id = format!("spiffe://example.org/spire/agent/sev_snp/{}", "1d".repeat(32));
        assert_eq!(node.id().to_string(), id);
        assert!(node.reattestable());
        assert_eq!(node.appraisal().bond, Bond::Key);
        assert_eq!(node.appraisal().trust.runtime_opaque, TrustClaim::AFFIRMING);
        let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
        let has = |selector: &str| selectors.iter().any(|one| one == selector);
        for selector in [
            &format!("sev_snp:measurement:{}", "a5".repeat(48)),
            "sev_snp:image:signer",
            "sev_snp:version:1.4.2",
            &format!("sev_snp:product:{}", machine.product),
            &format!("sev_snp:host_data:{}", "0d".repeat(32)),
            "sev_snp:policy:debug:false",
            "sev_snp:policy:smt:true",
            "sev_snp:vmpl:0",
        ] {
            assert!(has(selector), "{selector}: {selectors:?}");
        }
        assert_eq!(has("sev_snp:csp_id:CN=cloud.example.com"), machine.vlek);
        assert!(!selectors.iter().any(|one| one.starts_with("sev_snp:id_key_digest")));
    }
    let milan = attest(&settings, &guest(Machine::MILAN)).await.unwrap();
    let selectors: Vec<_> = milan.selectors().iter().map(ToString::to_string).collect();
    for part in ["bootloader:4", "tee:0", "snp:24", "microcode:219"] {
        assert!(selectors.contains(&format!("sev_snp:tcb:{part}")), "{part}");
    }
    assert!(selectors.contains(&format!("sev_snp:chip_id:{}", "c1".repeat(64))));
}

#[test]
fn only_versions_2_to_5_are_read() {
    for version in 2..=5 {
        let machine = Machine { version, ..Machine::MILAN };
        assert_eq!(broken(machine, |_| {}), "none", "{version}");
    }
    for version in [0, 1, 6, 7, 0x0200, u32::MAX] {
        let edit = |report: &mut [u8]| report[..4].copy_from_slice(&version.to_le_bytes());
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.version", "{version}");
    }
}

#[test]
fn what_is_reserved_is_zero() {
    // At the ends of what is reserved in every version, and of what later versions use.
    let everywhere = [0x04c, 0x04f, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x208, 0x29f];
    for at in everywhere {
        assert_eq!(broken(Machine::GENOA, |report| report[at] = 1), "sev_snp.reserved", "{at:#x}");
    }
    for at in [0x188, 0x18a, 0x1f8, 0x207] {
        let old = Machine { version: 2, ..Machine::MILAN };
        assert_eq!(broken(old, |report| report[at] = 1), "sev_snp.reserved", "{at:#x}");
    }
    for at in [0x1f8, 0x1ff, 0x200, 0x207] {
        assert_eq!(broken(Machine::MILAN, |report| report[at] = 1), "sev_snp.reserved", "{at:#x}");
        assert_eq!(broken(Machine::GENOA, |report| report[at] = 1), "none", "{at:#x}");
    }
    for bit in 5..32 {
        let edit = |report: &mut [u8]| report[0x48 + bit / 8] |= 1 << (bit % 8);
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.reserved", "key info {bit}");
    }
}

#[test]
fn a_signature_has_no_room_for_anything_else() {
    let report = Machine::MILAN.report(&[7; 64]);
    for at in [0x2d0, 0x2e7, 0x318, 0x32f, 0x330, 0x49f] {
        let mut spoiled = report.clone();
        spoiled[at] = 1;
        let rule = judged(&spoiled, &Machine::MILAN.endorsement());
        assert_eq!(rule, "sev_snp.reserved", "{at:#x}");
    }
    let mut unsigned = report;
    unsigned[0x2a0..].fill(0);
    assert_eq!(judged(&unsigned, &Machine::MILAN.endorsement()), "sev_snp.signature");
}

#[test]
fn only_one_algorithm_signs() {
    for algorithm in [0_u32, 2, 0x0100, u32::MAX] {
        let edit = |report: &mut [u8]| report[0x34..0x38].copy_from_slice(&algorithm.to_le_bytes());
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.algorithm", "{algorithm}");
    }
}

#[test]
fn only_a_vcek_or_a_vlek_signs() {
    for key in 2..8_u8 {
        let edit = |report: &mut [u8]| report[0x48] = key << 2;
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.signing_key", "{key}");
    }
    // A chip whose key is masked signs nothing; a key that was lent does.
    assert_eq!(broken(Machine::MILAN, |report| report[0x48] |= 2), "sev_snp.signing_key");
    assert_eq!(broken(Machine::CLOUD, |report| report[0x48] |= 2), "none");
}

#[test]
fn an_author_key_is_there_if_it_is_said_to_be() {
    let flag = |report: &mut [u8]| report[0x48] |= 1;
    assert_eq!(broken(Machine::MILAN, flag), "sev_snp.author_key");
    assert_eq!(broken(Machine::MILAN, |report| report[0x110] = 1), "sev_snp.author_key");
    let both = |report: &mut [u8]| {
        report[0x48] |= 1;
        report[0x110] = 1;
    };
    assert_eq!(broken(Machine::MILAN, both), "none");
}

#[test]
fn bytes_all_over_a_report_count() {
    let machine = Machine::GENOA;
    let (report, endorsement) = (machine.report(&[7; 64]), machine.endorsement());
    let (settings, roots) = (Settings::with(""), pki::roots());
    assert_eq!(judged_from(&roots, &settings, &report, &endorsement), "none");
    // Real reports are flipped bit by bit: see `corpus`.
    for at in (0..report.len()).step_by(3) {
        let mut flipped = report.clone();
        flipped[at] ^= 1 << (at % 8);
        let rule = judged_from(&roots, &settings, &flipped, &endorsement);
        assert_ne!(rule, "none", "byte {at:#x}");
    }
}

#[test]
fn a_report_has_one_length() {
    let report = Machine::MILAN.report(&[7; 64]);
    let endorsement = Machine::MILAN.endorsement();
    for length in (0..report.len()).step_by(7) {
        assert_eq!(judged(&report[..length], &endorsement), "sev_snp.length", "{length}");
    }
    let longer = [report.as_slice(), &[0]].concat();
    assert_eq!(judged(&longer, &endorsement), "sev_snp.length");
    assert_eq!(Report::parse(&longer).unwrap_err().length, 1_185);
}

#[test]
fn a_report_is_for_one_key_nonce_and_server() {
    for at in [0x50, 0x7f, 0x80, 0x8f] {
        assert_eq!(broken(Machine::MILAN, |report| report[at] ^= 1), "sev_snp.binding", "{at:#x}");
    }
    let short = |report: &mut [u8]| report[0x80..0x90].fill(0);
    assert_eq!(broken(Machine::MILAN, short), "sev_snp.binding");
}

/// A node that sends the same answer to every nonce.
struct Recorded(Vec<u8>);

#[async_trait::async_trait]
impl Challenged for Recorded {
    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn what_was_recorded_or_made_for_another_is_refused() {
    let (world, settings) = (World::default(), Settings::with(""));
    let verifier = settings.open();
    let nonce = [3; 32];
    let binding = world.binding(KIND).digest(&nonce);
    let made = Machine::MILAN.answer(&crate::sev_snp::fixture::padded(&binding));
    let replayed = world.judge(&verifier, Hello::JSON, &mut Recorded(made)).await;
    assert!(reason(replayed).contains("sev_snp.binding"));
    // A relay has the node attest to it, for its own key.
    let other = World { trust_domain: "example.com".parse().unwrap(), ..World::default() };
    let presented = other.binding(KIND);
    let collector = guest(Machine::MILAN);
    let presentation = crate::NodeCollector::present(&collector, &presented).await.unwrap();
    let mut relay = Relay(presentation);
    let relayed = world.judge(&verifier, Hello::JSON, &mut relay).await;
    assert!(reason(relayed).contains("sev_snp.binding"));
}

struct Relay(Box<dyn crate::Presentation>);

#[async_trait::async_trait]
impl Challenged for Relay {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let answer = self.0.answer(&challenge).await;
        answer.map(|answer| answer.to_vec()).map_err(|_silent| VerifyError::Silent)
    }
}

#[tokio::test]
async fn messages_of_another_form_are_refused() {
    let (world, settings) = (World::default(), Settings::with(""));
    let verifier = settings.open();
    let report = Machine::MILAN.report(&[7; 64]);
    for hello in [&b""[..], b"[]", b"{\"a\":1}", b"null", b"{}{}", &[b' '; 70_000]] {
        let error = world.judge(&verifier, hello, &mut Recorded(Vec::new())).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{error}");
    }
    let whole = answer(&report, &Machine::MILAN.endorsement());
    let text = String::from_utf8(whole.clone()).unwrap();
    let more = text.replacen('{', r#"{"more":1,"#, 1);
    let twice = text.replacen('{', r#"{"report":"","#, 1);
    let without = format!(r#"{{"report":"{}"}}"#, "A".repeat(8));
    let long = [whole.as_slice(), &[b' '; 65_536]].concat();
    for answer in [Vec::new(), more.into(), twice.into(), without.into(), long, report] {
        let node = &mut Recorded(answer);
        let error = world.judge(&verifier, Hello::JSON, node).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{error}");
    }
    let error = world.judge(&verifier, Hello::JSON, &mut crate::NoConversation).await.unwrap_err();
    assert!(matches!(error, VerifyError::Silent), "{error}");
    assert_eq!(verifier.kind(), KIND);
}

#[test]
fn a_changed_report_can_be_signed_again_by_nobody_else() {
    let mut report = Machine::MILAN.report(&[7; 64]);
    report[0x90] ^= 1;
    assert_eq!(judged(&report, &Machine::MILAN.endorsement()), "sev_snp.signature");
    sign(&mut report);
    assert_eq!(judged(&report, &Machine::MILAN.endorsement()), "reference_values");
}
