//! What an operator wants of a guest.

use claviger_core::evidence::TrustClaim;

use super::reports::{broken, judged_by};
use crate::fixture::reason;
use crate::sev_snp::Collector;
use crate::sev_snp::fixture::{
    Machine, Settings, VCEK, attest, collector, guest, references, table,
};
use crate::sev_snp::{CollectorConfig, OpenError, Verifier};
use crate::tsm::fixture::{Answer, FakeKernel};

/// The rule that is broken by a report that is what `edit` makes of it, with `more` settings.
fn broken_with(more: &str, machine: Machine, edit: impl FnOnce(&mut [u8])) -> String {
    let report = machine.report_edited(&[7; 64], edit);
    judged_by(&Settings::with(more), &report, &machine.endorsement())
}

#[test]
fn old_firmware_is_refused_wherever_the_report_names_it() {
    // The VCEK is that of the reported firmware, so a rollback of that needs another certificate.
    for (at, part) in [(0, 4), (6, 24), (7, 219)] {
        let mut tcb = Machine::MILAN.tcb;
        tcb[at] = part - 1;
        let machine = Machine { tcb, ..Machine::MILAN };
        assert_eq!(broken(machine, |_| {}), "sev_snp.tcb_minimum", "{at}");
    }
    for at in 0..4 {
        let mut tcb = Machine::TURIN.tcb;
        tcb[at] -= 1;
        let machine = Machine { tcb, ..Machine::TURIN };
        assert_eq!(broken(machine, |_| {}), "sev_snp.tcb_minimum", "{at}");
    }
    let launched = |report: &mut [u8]| report[0x1f6] -= 1;
    assert_eq!(broken(Machine::MILAN, launched), "sev_snp.tcb_minimum");
    let committed = |report: &mut [u8]| report[0x1e6] -= 1;
    assert_eq!(broken(Machine::MILAN, committed), "sev_snp.tcb_minimum");
    let newer = |report: &mut [u8]| report[0x3e] += 1;
    assert_eq!(broken(Machine::MILAN, newer), "none");
}

#[test]
fn firmware_that_is_reported_runs() {
    let current = |report: &mut [u8]| report[0x3e] -= 1;
    assert_eq!(broken(Machine::MILAN, current), "sev_snp.tcb_order");
    let committed = |report: &mut [u8]| report[0x1e6] += 1;
    assert_eq!(broken(Machine::MILAN, committed), "sev_snp.tcb_order");
    let version = |report: &mut [u8]| report[0x1ed] += 1;
    assert_eq!(broken(Machine::MILAN, version), "sev_snp.tcb_order");
}

#[test]
fn firmware_has_a_minimum_of_its_own() {
    let with = |more| broken_with(more, Machine::MILAN, |_| {});
    assert_eq!(with("minimum-firmware = '1.55'"), "none");
    assert_eq!(with("minimum-firmware = '1.55.22'"), "none");
    assert_eq!(with("minimum-firmware = '1.55.23'"), "sev_snp.tcb_minimum");
    assert_eq!(with("minimum-firmware = '2.0'"), "sev_snp.tcb_minimum");
}

#[test]
fn a_product_without_a_minimum_is_not_admitted() {
    let mut settings = Settings::with("");
    settings.config.minimum_tcb.remove(&crate::sev_snp::Product::Genoa);
    let machine = Machine::GENOA;
    let rule = judged_by(&settings, &machine.report(&[7; 64]), &machine.endorsement());
    assert_eq!(rule, "sev_snp.tcb_minimum");
}

#[test]
fn only_the_expected_level_asks_for_a_report() {
    for vmpl in [1_u32, 2, 3, 0x0100, u32::MAX] {
        let edit = |report: &mut [u8]| report[0x30..0x34].copy_from_slice(&vmpl.to_le_bytes());
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.vmpl", "{vmpl}");
    }
    assert_eq!(broken_with("vmpl = 2", Machine::MILAN, |report| report[0x30] = 2), "none");
    assert_eq!(broken_with("vmpl = 2", Machine::MILAN, |_| {}), "sev_snp.vmpl");
}

#[test]
fn what_the_host_may_do_to_a_guest_is_known() {
    let with = |bit: usize| move |report: &mut [u8]| report[8 + bit / 8] ^= 1 << (bit % 8);
    for (bit, rule) in [(17, "sev_snp.reserved"), (18, "sev_snp.migration"), (19, "sev_snp.debug")]
    {
        assert_eq!(broken(Machine::MILAN, with(bit)), rule, "{bit}");
    }
    for bit in 26..64 {
        assert_eq!(broken(Machine::MILAN, with(bit)), "sev_snp.reserved", "{bit}");
    }
    for bit in (0..17).chain(20..26) {
        assert_eq!(broken(Machine::MILAN, with(bit)), "none", "{bit}");
    }
    assert_eq!(broken_with("allow-migration = true", Machine::MILAN, with(18)), "none");
    assert_eq!(broken_with("allow-debug = true", Machine::MILAN, with(19)), "none");
    // What is not known of a platform says nothing.
    assert_eq!(broken(Machine::MILAN, |report| report[0x40..0x48].fill(0xff)), "none");
}

#[test]
fn requirements_are_required() {
    for (requirement, at, bit) in [
        ("single-socket", 0x0a, 4),
        ("aes-256-xts", 0x0a, 6),
        ("rapl-disabled", 0x0a, 7),
        ("ciphertext-hiding", 0x0b, 0),
        ("page-swap-disabled", 0x0b, 1),
        ("ecc", 0x40, 2),
        ("alias-check", 0x40, 5),
    ] {
        let more = format!("require = ['{requirement}']");
        let rule = broken_with(&more, Machine::MILAN, |_| {});
        assert_eq!(rule, "sev_snp.requirements", "{requirement}");
        let rule = broken_with(&more, Machine::MILAN, |report| report[at] |= 1 << bit);
        assert_eq!(rule, "none", "{requirement}");
    }
    let no_smt = "require = ['no-smt']";
    assert_eq!(broken_with(no_smt, Machine::MILAN, |_| {}), "sev_snp.requirements");
    assert_eq!(broken_with(no_smt, Machine::MILAN, |report| report[0x0a] &= !1), "none");
    let no_cxl = "require = ['no-cxl']";
    assert_eq!(broken_with(no_cxl, Machine::MILAN, |_| {}), "none");
    let cxl = |report: &mut [u8]| report[0x0a] |= 1 << 5;
    assert_eq!(broken_with(no_cxl, Machine::MILAN, cxl), "sev_snp.requirements");
}

#[test]
fn chips_and_clouds_can_be_listed() {
    let chip = |digits: &str| format!("chip-ids = ['{}']", digits.repeat(64));
    assert_eq!(broken_with(&chip("c1"), Machine::MILAN, |_| {}), "none");
    assert_eq!(broken_with(&chip("c2"), Machine::MILAN, |_| {}), "sev_snp.admitted");
    let masked = broken_with(&chip("c1"), Machine::CLOUD, |_| {});
    assert_eq!(masked, "sev_snp.admitted", "a chip that is masked is none that is listed");
    let cloud = |name: &str| format!("csp-ids = ['CN={name}']");
    let (here, there) = (cloud("cloud.example.com"), cloud("other.example.com"));
    assert_eq!(broken_with(&here, Machine::CLOUD, |_| {}), "none");
    assert_eq!(broken_with(&there, Machine::CLOUD, |_| {}), "sev_snp.admitted");
    assert_eq!(broken_with(&there, Machine::MILAN, |_| {}), "none", "it is in no cloud");
}

#[test]
fn software_is_known_by_what_was_measured_or_by_its_owners_key() {
    let changed = |report: &mut [u8]| report[0x90] ^= 1;
    assert_eq!(broken(Machine::MILAN, changed), "reference_values");
    let owner =
        format!(r#"{{"id_key_digest":"{}","image_id":"{}"}}"#, "1e".repeat(48), "1f".repeat(16));
    let settings = Settings::recognising(&owner, "");
    let judged = |edit: fn(&mut [u8])| {
        let report = Machine::MILAN.report_edited(&[7; 64], |report| {
            report[0xe0..0x110].fill(0x1e);
            report[0x20..0x30].fill(0x1f);
            edit(report);
        });
        judged_by(&settings, &report, &Machine::MILAN.endorsement())
    };
    assert_eq!(judged(|_| {}), "none");
    assert_eq!(judged(|report| report[0x90] ^= 1), "none");
    assert_eq!(judged(|report| report[0xe0] ^= 1), "reference_values");
    assert_eq!(judged(|report| report[0x20] ^= 1), "reference_values");
}

#[test]
fn reference_values_that_identify_nothing_are_refused_at_start() {
    for registers in [
        "{}".to_owned(),
        format!(r#"{{"host_data":"{}"}}"#, "01".repeat(32)),
        format!(r#"{{"measurement":"{}"}}"#, "00".repeat(48)),
        format!(r#"{{"measurement":"{}"}}"#, "01".repeat(32)),
        format!(r#"{{"chip_id":"{}"}}"#, "01".repeat(64)),
    ] {
        let mut settings = Settings::with("");
        let (references, _dir) = references(&registers);
        settings.config.reference_values = references;
        let error = Verifier::open(&settings.config).unwrap_err();
        assert!(matches!(error, OpenError::References(_)), "{error}");
    }
}

#[test]
fn a_verifier_that_cant_read_its_files_does_not_start() {
    let settings = Settings::with("crl.milan = ['/nonexistent']");
    let error = Verifier::open(&settings.config).unwrap_err();
    assert!(error.to_string().contains("`/nonexistent`"), "{error}");
    std::fs::remove_file(settings.dir.path().join("references.json")).unwrap();
    Verifier::open(&settings.config).unwrap_err();
}

#[tokio::test]
async fn a_guest_that_can_be_debugged_is_tainted() {
    let machine = Machine::MILAN;
    let (tsm, _kernel) = FakeKernel::tsm(move |data| Answer {
        provider: "sev_guest\n".to_owned(),
        outblob: machine.report_edited(&data, |report| report[0x0a] |= 1 << 3),
        auxblob: Some(table(&[(VCEK, &machine.endorsement())])),
    });
    let debugged = Collector::asking(tsm, &CollectorConfig::default()).unwrap();
    let refused = reason(attest(&Settings::with(""), &debugged).await);
    assert!(refused.contains("sev_snp.debug"), "{refused}");

    let settings = Settings::with("allow-debug = true");
    let node = attest(&settings, &debugged).await.unwrap();
    let id = node.id().to_string();
    assert!(id.starts_with("spiffe://example.org/spire/agent/sev_snp/debug/1d1d"), "{id}");
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    assert!(selectors.contains(&"sev_snp:debug:true".to_owned()), "{selectors:?}");
    assert_eq!(node.appraisal().trust.runtime_opaque, TrustClaim::new(96));
    let other = attest(&settings, &guest(machine)).await.unwrap();
    assert!(!other.id().to_string().contains("debug"));
    let none = attest(&settings, &collector(machine, None, &CollectorConfig::default())).await;
    none.unwrap_err();
}
