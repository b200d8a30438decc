//! Devices of the tests' own, and NVIDIA's.

mod company;
mod corpus;
mod revocation;

use claviger_core::evidence::{AttestedNode, Bond, KeyDigest};
use rcgen::PublicKeyData as _;
use tempfile::tempdir;

use super::fixture::{
    Device, Edit, FIRMWARE, MEASURED, Machine, Vendor, body, config, config_of, dice, opaque,
};
use super::nvml::{Driver, Said};
use super::*;
use crate::fixture::{World, reason};
use crate::{NodeCollector as _, VerifyError};

/// Lets `machine`'s node attest to a server that trusts `vendor`.
async fn attest(vendor: &Vendor, machine: impl Driver) -> Result<AttestedNode, VerifyError> {
    let dir = tempdir().unwrap();
    let verifier = Verifier::open(&config(&dir, Revocation::NotChecked)).unwrap();
    let verifier = verifier.trusting(vendor.root());
    World::default().attest(&verifier, &Collector::of(machine)).await
}

async fn refusal(vendor: &Vendor, machine: impl Driver) -> String {
    reason(attest(vendor, machine).await)
}

#[tokio::test]
async fn a_device_earns_an_identity_and_says_what_it_runs() {
    let vendor = Vendor::new();
    let device = vendor.device();
    let key = KeyDigest::of_spki(&device.chain[1].key.subject_public_key_info());
    let node = attest(&vendor, Machine(vec![device])).await.unwrap();
    assert!(node.id().path().starts_with("/spire/agent/nvidia_gpu/"), "{}", node.id());
    assert!(node.reattestable());
    assert_eq!(node.appraisal().bond, Bond::Key);
    assert_eq!(node.appraisal().measured["10.driver"], "570.86.10");
    assert!(node.appraisal().trust.instance_identity.is_none(), "revocation was not checked");
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    let expected = [
        "nvidia_gpu:arch:HOPPER".to_owned(),
        "nvidia_gpu:chip:GH100".to_owned(),
        format!("nvidia_gpu:device:{key}"),
        "nvidia_gpu:devices:1".to_owned(),
        "nvidia_gpu:driver:570.86.10".to_owned(),
        format!("nvidia_gpu:fwid:{}", hex::encode(FIRMWARE)),
        "nvidia_gpu:image:h100".to_owned(),
        format!("nvidia_gpu:measurement:2:{}", hex::encode(MEASURED)),
        "nvidia_gpu:serial:10".to_owned(),
        "nvidia_gpu:vbios:96.00.A5.00.01".to_owned(),
        "nvidia_gpu:version:1.2".to_owned(),
    ];
    assert_eq!(selectors, expected);
}

#[tokio::test]
async fn a_node_is_all_of_its_devices_in_whatever_order() {
    let vendor = Vendor::new();
    let again = |device: &Device| Device {
        chain: device.chain.iter().map(fixture::Holder::copy).collect(),
        arch: device.arch,
    };
    let (first, second) = (vendor.device(), vendor.device());
    let ids = [
        vec![again(&first), again(&second)],
        vec![again(&second), again(&first)],
        vec![again(&first)],
    ];
    let mut seen = Vec::new();
    for devices in ids {
        let node = attest(&vendor, Machine(devices)).await.unwrap();
        seen.push(node.id().clone());
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    let twice = refusal(&vendor, Machine(vec![again(&first), again(&first)])).await;
    assert!(twice.contains("nvidia_gpu.distinct"), "{twice}");
}

#[tokio::test]
async fn one_device_that_is_wrong_spoils_all() {
    let vendor = Vendor::new();
    let stranger = Vendor::new().device();
    let why = refusal(&vendor, Machine(vec![vendor.device(), stranger])).await;
    assert!(why.contains("nvidia_gpu.root"), "{why}");
}

/// A chain in which something is not as it has to be.
async fn of_chain(edit: Edit) -> String {
    let vendor = Vendor::new();
    let device = vendor.device_with(edit);
    refusal(&vendor, Machine(vec![device])).await
}

#[tokio::test]
async fn certificates_count_from_their_first_second_to_their_last() {
    for place in 0..4 {
        let ended: [Edit; 2] = [
            |_, params| params.not_after = rcgen::date_time_ymd(2025, 12, 31),
            |_, params| params.not_before = rcgen::date_time_ymd(2026, 1, 2),
        ];
        for edit in ended {
            let vendor = Vendor::new();
            let device = vendor.device_with(edit);
            // Only the one at `place` is another.
            let mut good = vendor.device();
            good.chain[place] = device.chain.into_iter().nth(place).unwrap();
            let why = refusal(&vendor, Machine(vec![good])).await;
            assert!(why.contains("nvidia_gpu.validity"), "{place}: {why}");
        }
    }
}

#[tokio::test]
async fn every_certificate_is_used_for_what_it_is_made_for() {
    use rcgen::{BasicConstraints, CustomExtension, IsCa, KeyUsagePurpose};

    let edits: [Edit; 7] = [
        // The device's own may issue; or it may not sign.
        |place, params| {
            if place == 0 {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
        },
        |place, params| {
            if place == 0 {
                params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
            }
        },
        // One above may not issue, or not certificates, or not as many below it.
        |place, params| {
            if place == 1 {
                params.is_ca = IsCa::ExplicitNoCa;
            }
        },
        |place, params| {
            if place == 2 {
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            }
        },
        |place, params| {
            if place == 3 {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
            }
        },
        |place, params| {
            if place == 1 {
                params.is_ca = IsCa::NoCa;
            }
        },
        |place, params| {
            if place == 2 {
                let mut strange = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
                strange.set_criticality(true);
                params.custom_extensions.push(strange);
            }
        },
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let why = of_chain(edit).await;
        assert!(why.contains("nvidia_gpu.constraints"), "{index}: {why}");
    }
}

#[tokio::test]
async fn the_certificates_lead_to_the_root_in_their_order() {
    let vendor = Vendor::new();
    let other = Vendor::new();
    // A chain that is sound in itself, and leads elsewhere.
    let why = refusal(&vendor, Machine(vec![other.device()])).await;
    assert!(why.contains("nvidia_gpu.root"), "{why}");
    // The right root under certificates that it did not sign.
    let mut forged = other.device();
    forged.chain[4] = vendor.device().chain.pop().unwrap();
    let why = refusal(&vendor, Machine(vec![forged])).await;
    assert!(why.contains("nvidia_gpu.chain"), "{why}");
    // One is missing, two are exchanged, the root is first.
    let changes: [fn(&mut Device); 3] = [
        |device| drop(device.chain.remove(2)),
        |device| device.chain.swap(1, 2),
        |device| device.chain.rotate_right(1),
    ];
    for change in changes {
        let mut device = vendor.device();
        change(&mut device);
        let why = refusal(&vendor, Machine(vec![device])).await;
        assert!(why.contains("nvidia_gpu.names") || why.contains("nvidia_gpu.root"), "{why}");
    }
    let mut device = vendor.device();
    device.chain.truncate(1);
    let why = refusal(&vendor, Machine(vec![device])).await;
    assert!(why.contains("malformed"), "{why}");
}

/// A device that answers with something else than it should.
#[derive(Debug)]
struct Answers(Device, fn(&Device, [u8; 32]) -> Vec<u8>);

impl Driver for Answers {
    fn count(&self) -> Result<usize, nvml_wrapper::error::NvmlError> {
        Ok(1)
    }

    fn ask(&self, _: usize, nonce: [u8; 32]) -> Result<Said, nvml_wrapper::error::NvmlError> {
        Ok(Said { report: self.1(&self.0, nonce), ..self.0.said(nonce) })
    }
}

async fn of_answer(answer: fn(&Device, [u8; 32]) -> Vec<u8>) -> String {
    let vendor = Vendor::new();
    let device = vendor.device();
    refusal(&vendor, Answers(device, answer)).await
}

#[tokio::test]
async fn a_report_is_for_this_conversation_and_this_key() {
    for answer in [
        |device: &Device, _| device.report([0; 32]),
        // All of it but the last byte.
        |device: &Device, mut nonce: [u8; 32]| {
            nonce[31] ^= 1;
            device.report(nonce)
        },
    ] {
        let why = of_answer(answer).await;
        assert!(why.contains("nvidia_gpu.nonce"), "{why}");
    }
    // The bare nonce of the verifier's, which names no key.
    let vendor = Vendor::new();
    let dir = tempdir().unwrap();
    let verifier = Verifier::open(&config(&dir, Revocation::NotChecked)).unwrap();
    let verifier = verifier.trusting(vendor.root());
    let outcome = World::default().judge(&verifier, br#"{"devices":1}"#, &mut Relay(vendor)).await;
    let why = reason(outcome);
    assert!(why.contains("nvidia_gpu.nonce"), "{why}");
}

/// Somebody who lets a device answer the verifier's nonce as it came.
struct Relay(Vendor);

#[async_trait::async_trait]
impl crate::Challenged for Relay {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let challenge: wire::Challenge = serde_json::from_slice(&challenge).unwrap();
        let nonce = challenge.nonce.nonce().unwrap();
        let entry = collector::entry(&self.0.device().said(nonce), &nonce);
        Ok(serde_json::to_vec(&[entry]).unwrap())
    }
}

#[tokio::test]
async fn what_is_not_signed_by_the_device_is_refused() {
    for answer in [
        |device: &Device, nonce: [u8; 32]| {
            let mut report = device.report(nonce);
            *report.last_mut().unwrap() ^= 1;
            report
        },
        // A measurement is another one.
        |device: &Device, nonce| {
            let mut report = device.report(nonce);
            report[100] ^= 1;
            report
        },
        // Somebody else's signature.
        |_: &Device, nonce| Vendor::new().device().report(nonce),
    ] {
        let why = of_answer(answer).await;
        assert!(why.contains("nvidia_gpu.signature"), "{why}");
    }
}

#[tokio::test]
async fn other_firmware_and_other_architectures_are_refused() {
    let why = of_answer(|device, nonce| device.signed(&body(nonce, &opaque(&[1; 48])))).await;
    assert!(why.contains("nvidia_gpu.firmware"), "{why}");
    let why = of_chain(|place, params| {
        if place == 0 {
            params.custom_extensions = vec![dice(&[1; 48])];
        }
    });
    assert!(why.await.contains("nvidia_gpu.firmware"));
    let vendor = Vendor::new();
    let device = Device { arch: "BLACKWELL", ..vendor.device() };
    let why = refusal(&vendor, Machine(vec![device])).await;
    assert!(why.contains("nvidia_gpu.architecture"), "{why}");
}

#[tokio::test]
async fn what_no_reference_value_names_is_refused() {
    let vendor = Vendor::new();
    let dir = tempdir().unwrap();
    for (register, value) in [
        ("measurement_2", "33".repeat(48)),
        // Not measured at all.
        ("measurement_9", "22".repeat(48)),
        ("fwid", "22".repeat(48)),
    ] {
        let registers = serde_json::json!({ register: value });
        let settings = config_of(&dir, Revocation::NotChecked, &registers);
        let verifier = Verifier::open(&settings).unwrap().trusting(vendor.root());
        let collector = Collector::of(Machine(vec![vendor.device()]));
        let why = reason(World::default().attest(&verifier, &collector).await);
        assert!(why.contains("reference_values"), "{register}: {why}");
    }
}

#[tokio::test]
async fn a_node_has_as_many_devices_as_it_says() {
    let vendor = Vendor::new();
    let dir = tempdir().unwrap();
    let verifier = Verifier::open(&config(&dir, Revocation::NotChecked)).unwrap();
    let verifier = verifier.trusting(vendor.root());
    for hello in ["", "{}", r#"{"devices":0}"#, r#"{"devices":33}"#, r#"{"devices":1,"x":1}"#] {
        let world = World::default();
        let node = &mut Relay(Vendor::new());
        let outcome = world.judge(&verifier, hello.as_bytes(), node).await;
        assert!(matches!(outcome, Err(VerifyError::Malformed)), "{hello}: {outcome:?}");
    }
    // Two answers where one was announced.
    let collector = Collector::of(Machine(vec![vendor.device()]));
    let outcome = World::default()
        .attest_edited(&verifier, &collector, |answer| {
            let one = answer.strip_prefix(b"[").unwrap().strip_suffix(b"]").unwrap();
            [b"[", one, b",", one, b"]"].concat()
        })
        .await;
    assert!(matches!(outcome, Err(VerifyError::Malformed)), "{outcome:?}");
}

#[tokio::test]
async fn a_machine_without_devices_has_no_evidence() {
    let world = World::default();
    let collectors = [
        Collector::of(Machine(Vec::new())),
        Collector::open(CollectorConfig { library: "/nonexistent/libnvidia-ml.so".into() }),
    ];
    for collector in collectors {
        let error = collector.present(&world.binding(KIND)).await.unwrap_err();
        assert!(matches!(error, crate::CollectError::Unavailable { .. }), "{error}");
    }
}

#[test]
fn no_report_is_cut_and_none_has_a_byte_too_many() {
    let report = Vendor::new().device().report([9; 32]);
    Report::parse(&report).unwrap();
    for length in 0..report.len() {
        Report::parse(&report[..length]).unwrap_err();
    }
    Report::parse(&[&report[..], &[0]].concat()).unwrap_err();
}

#[test]
fn only_spdm_1_1_for_all_measurements_is_read() {
    let report = Vendor::new().device().report([9; 32]);
    // Where, and what must not be there: versions, codes, attributes, slots, counts, lengths.
    for (at, byte) in [
        (0, 0x10),
        (0, 0x12),
        (1, 0xe1),
        (2, 0),
        (3, 1),
        (36, 1),
        (37, 0x12),
        (38, 0xe0),
        (40, 1),
        (41, 1),
        (41, 3),
        (42, 0),
        (43, 1),
        // The first block's index, the second's, a specification, and two sizes.
        (45, 0),
        (45, 2),
        (45, 0xff),
        (46, 2),
        (47, 52),
        (50, 49),
    ] {
        let mut report = report.clone();
        report[at] = byte;
        Report::parse(&report).unwrap_err();
    }
    Report::parse(&vec![0x11; report::MAX + 1]).unwrap_err();
}
