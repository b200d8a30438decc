//! Who is admitted, and as what.

use claviger_core::evidence::{Bond, KeyDigest};

use super::super::fixture::{AkKind, Authority, EkKind, Machine};
use super::trusting;

#[tokio::test]
async fn a_tpm_earns_an_identity() {
    let authority = Authority::root("maker");
    let machine = Machine::with(&authority, EkKind::Rsa, AkKind::P256);
    let node = machine.attest(&trusting(&authority, |_| {})).await.unwrap();
    let ek = KeyDigest::of_spki(&machine.spki());
    assert_eq!(node.id().path(), format!("/spire/agent/tpm/{ek}"));
    assert!(node.reattestable());
    let appraisal = node.appraisal();
    assert_eq!(appraisal.bond, Bond::Key);
    assert_eq!(appraisal.trust.executables.value(), 3);
    assert_eq!(appraisal.measured["pcr7"], "07".repeat(32));
    assert_eq!(appraisal.measured["reset-count"], "3");
    assert_eq!(appraisal.measured["firmware-version"], "0000000000000102");
    let mut expected = [
        format!("tpm:ek:{ek}"),
        "tpm:image:host".to_owned(),
        "tpm:manufacturer:54455354".to_owned(),
        "tpm:model:Soft".to_owned(),
        format!("tpm:pcr0:{}", "00".repeat(32)),
        format!("tpm:pcr16:{}", "10".repeat(32)),
        format!("tpm:pcr4:{}", "04".repeat(32)),
        format!("tpm:pcr7:{}", "07".repeat(32)),
        "tpm:tpm-version:00010002".to_owned(),
        "tpm:version:7".to_owned(),
    ];
    expected.sort();
    let found: Vec<String> = node.selectors().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_kind_of_key_works() {
    let authority = Authority::root("maker");
    for ek in [EkKind::Rsa, EkKind::P256, EkKind::P384] {
        for ak in [AkKind::P256, AkKind::P384, AkKind::RsaSsa, AkKind::RsaPss] {
            let machine = Machine::with(&authority, ek, ak);
            let node = machine.attest(&trusting(&authority, |_| {})).await;
            assert_eq!(node.unwrap().appraisal().bond, Bond::Key, "{ek:?} {ak:?}");
        }
    }
}

#[tokio::test]
async fn intermediates_come_with_the_certificate_or_from_a_file() {
    let root = Authority::root("root");
    let middle = root.below("middle", |_| {});
    let mut machine = Machine::new(&middle);
    let refusal = machine.refusal(&trusting(&root, |_| {})).await;
    assert!(refusal.contains("tpm.ek_chain: nobody is configured who is its issuer"), "{refusal}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), middle.pem()).unwrap();
    let verifier = trusting(&root, |config| config.ek_intermediates = vec![file.path().into()]);
    let by_file = machine.attest(&verifier).await.unwrap();
    machine.hello.ek_certificates.push(crate::possession::Base64(middle.der.clone()));
    let by_node = machine.attest(&trusting(&root, |_| {})).await.unwrap();
    assert_eq!(by_file.id(), by_node.id());
}

#[tokio::test]
async fn an_ek_can_be_singled_out() {
    let authority = Authority::root("maker");
    let (machine, other) = (Machine::new(&authority), Machine::new(&authority));
    let ek = KeyDigest::of_spki(&machine.spki()).to_string();
    let verifier = trusting(&authority, |config| config.ek_allow_list = Some([ek].into()));
    let _admitted = machine.attest(&verifier).await.unwrap();
    let refusal = other.refusal(&verifier).await;
    assert!(refusal.contains("tpm.ek_allowed: "), "{refusal}");
}

#[tokio::test]
async fn a_reboot_is_noticed_and_a_way_back_refused() {
    let authority = Authority::root("maker");
    let verifier = trusting(&authority, |_| {});
    let mut machine = Machine::new(&authority);
    let set = |machine: &mut Machine, resets, milliseconds| {
        (machine.shape.resets, machine.shape.milliseconds) = (resets, milliseconds);
    };
    for (resets, milliseconds) in [(3, 1_000), (3, 1_000), (3, 2_000), (4, 500)] {
        set(&mut machine, resets, milliseconds);
        let _admitted = machine.attest(&verifier).await.unwrap();
    }
    for (resets, milliseconds) in [(3, 9_000), (4, 499), (0, 0)] {
        set(&mut machine, resets, milliseconds);
        let refusal = machine.refusal(&verifier).await;
        assert!(refusal.contains("tpm.counters: "), "{refusal}");
    }
    // Outside of the endorsement hierarchy a TPM disguises what it counts.
    machine.shape.endorsed = false;
    let _admitted = machine.attest(&verifier).await.unwrap();
    // Somebody else's counters are their own.
    let _admitted = Machine::new(&authority).attest(&verifier).await.unwrap();
}

#[tokio::test]
async fn another_image_is_refused() {
    let authority = Authority::root("maker");
    let verifier = trusting(&authority, |_| {});
    let mut machine = Machine::new(&authority);
    machine.values.insert(4, vec![5; 32]);
    let refusal = machine.refusal(&verifier).await;
    assert!(refusal.contains("reference_values: "), "{refusal}");
}
