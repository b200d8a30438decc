//! What is refused, and by which rule.

use claviger_core::evidence::Binding;
use claviger_core::time::UnixTime;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::super::fixture::{
    AK_ATTRIBUTES, AkKind, Authority, EK_ATTRIBUTES, EK_PURPOSE, EkKind, Machine,
};
use super::super::structure::{Public, attribute};
use super::super::wire::Answer;
use super::super::{KIND, Verifier};
use super::trusting;
use crate::NoConversation;
use crate::fixture::World;
use crate::possession::Base64;

/// A machine that would be admitted, and who would.
fn scene() -> (Authority, Verifier, Machine) {
    let authority = Authority::root("maker");
    let verifier = trusting(&authority, |_| {});
    let machine = Machine::new(&authority);
    (authority, verifier, machine)
}

/// What the rule `rule` says of a machine after `spoil`.
async fn refused_by(rule: &str, spoil: impl FnOnce(&Authority, &mut Machine)) -> String {
    let (authority, verifier, mut machine) = scene();
    spoil(&authority, &mut machine);
    let refusal = machine.refusal(&verifier).await;
    assert!(refusal.contains(&format!(": {rule}: ")), "{rule}: {refusal}");
    refusal
}

#[tokio::test]
async fn an_ak_signs_only_what_a_tpm_made() {
    for (without, name) in [
        (attribute::RESTRICTED, "restricted"),
        (attribute::SIGN, "sign"),
        (attribute::FIXED_TPM, "fixedTPM"),
        (attribute::FIXED_PARENT, "fixedParent"),
        (attribute::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    ] {
        let why =
            refused_by("tpm.ak_attributes", |_, it| it.take_ak(AK_ATTRIBUTES & !without)).await;
        assert!(why.contains(&format!("`{name}`")), "{why}");
    }
    let decrypts = |_: &Authority, it: &mut Machine| it.take_ak(AK_ATTRIBUTES | attribute::DECRYPT);
    refused_by("tpm.ak_attributes", decrypts).await;
}

#[tokio::test]
async fn a_quote_is_a_quote() {
    refused_by("tpm.quote", |_, it| it.shape.magic = 0xff54_4346).await;
    refused_by("tpm.quote", |_, it| it.shape.kind = 0x8017).await;
    refused_by("tpm.quote", |_, it| it.shape.after = vec![0]).await;
}

#[tokio::test]
async fn just_the_pcrs_that_were_asked_for_are_quoted() {
    for pcrs in [&[0, 4, 7][..], &[], &[0, 4, 7, 15], &[0, 4, 7, 16, 23]] {
        refused_by("tpm.pcr_selection", |_, it| it.shape.pcrs = Some(pcrs.to_vec())).await;
    }
    let edits: [fn(&mut Answer); 4] = [
        |answer| drop(answer.pcrs.insert(4, Base64(vec![5; 32]))),
        |answer| drop(answer.pcrs.remove(&7)),
        |answer| drop(answer.pcrs.insert(23, Base64(vec![0; 32]))),
        |answer| {
            // The same bytes, split elsewhere.
            answer.pcrs.insert(0, Base64(vec![0; 31]));
            answer.pcrs.insert(4, Base64([&[0][..], &[4; 32]].concat()));
        },
    ];
    for edit in edits {
        refused_by("tpm.pcr_digest", |_, it| it.edit = edit).await;
    }
}

#[tokio::test]
async fn the_quote_is_bound_to_the_key_that_it_earns() {
    let domain = World::default().trust_domain;
    let others = [
        Binding::new(KIND, b"another key", &domain),
        Binding::new("aws_nitro", crate::fixture::SPKI, &domain),
        Binding::new(KIND, crate::fixture::SPKI, &"example.com".parse().unwrap()),
        Binding::new(KIND, crate::fixture::SPKI, &domain)
            .requesting(Some("spiffe://example.org/other".parse().unwrap())),
    ];
    for other in others {
        refused_by("tpm.bound", |_, it| it.binding = Some(other)).await;
    }
    for extra in [vec![], vec![0; 32], vec![0; 48]] {
        refused_by("tpm.bound", |_, it| it.shape.extra = Some(extra)).await;
    }
}

#[tokio::test]
async fn only_the_aks_signature_counts() {
    refused_by("tpm.signature", |_, it| it.edit = |answer| answer.signature = Base64(vec![])).await;
    let truncated = |answer: &mut Answer| answer.signature.0.truncate(70);
    refused_by("tpm.signature", |_, it| it.edit = truncated).await;
    // By SHA-384, while the AK is for SHA-256.
    let other_hash = |answer: &mut Answer| answer.signature.0[3] = 0x0c;
    let why = refused_by("tpm.signature", |_, it| it.edit = other_hash).await;
    assert!(why.contains("another algorithm"), "{why}");
    let longer = |answer: &mut Answer| answer.signature.0.push(0);
    refused_by("tpm.signature", |_, it| it.edit = longer).await;
}

#[tokio::test]
async fn the_secret_is_for_one_ak_in_one_tpm() {
    refused_by("tpm.activated", |_, it| it.edit = |answer| answer.secret = Base64(vec![])).await;
    refused_by("tpm.activated", |_, it| it.edit = |answer| answer.secret.0[0] ^= 1).await;
    refused_by("tpm.activated", |_, it| it.edit = |answer| answer.secret.0.truncate(31)).await;
    // Another TPM's EK and certificate, so that it is asked for what this one can't read.
    refused_by("tpm.activated", |authority, it| {
        let other = Machine::new(authority);
        it.hello.ek = other.hello.ek.clone();
        it.hello.ek_certificates = other.hello.ek_certificates;
    })
    .await;
    // The TPM holds another AK than the one that is shown.
    let (_, _, machine) = scene();
    let ek = Public::parse(&machine.hello.ek.0).unwrap();
    let name = Public::parse(&machine.hello.ak.0).unwrap().name();
    let made = super::super::credential::Credential::make(&ek, &name, &[1; 32]).unwrap();
    assert_eq!(machine.activate(&made.blob, &made.seed).unwrap(), [1; 32]);
    let made =
        super::super::credential::Credential::make(&ek, &[&name[..33], &[0]].concat(), &[1; 32]);
    let made = made.unwrap();
    assert_eq!(machine.activate(&made.blob, &made.seed), None);
}

#[tokio::test]
async fn the_ek_is_the_certificates() {
    let why = refused_by("tpm.ek_key", |authority, it| {
        it.hello.ek = Machine::new(authority).hello.ek;
    })
    .await;
    assert!(why.contains("another key"), "{why}");
    refused_by("tpm.ek_key", |authority, it| {
        it.hello.ek = Machine::with(authority, EkKind::P384, AkKind::P256).hello.ek;
    })
    .await;
    let attributes = [
        EK_ATTRIBUTES & !attribute::RESTRICTED,
        EK_ATTRIBUTES & !attribute::DECRYPT,
        EK_ATTRIBUTES & !attribute::FIXED_TPM,
        EK_ATTRIBUTES | attribute::SIGN,
    ];
    for attributes in attributes {
        refused_by("tpm.ek_key", |_, it| {
            it.hello.ek.0[6..10].copy_from_slice(&attributes.to_be_bytes());
        })
        .await;
    }
}

#[tokio::test]
async fn the_certificate_is_an_eks() {
    let certified = |edit: fn(&mut rcgen::CertificateParams)| {
        move |authority: &Authority, it: &mut Machine| {
            it.hello.ek_certificates = vec![Base64(authority.certify(&it.spki(), edit))];
        }
    };
    refused_by("tpm.ek_purpose", certified(|it| it.extended_key_usages.clear())).await;
    let aik = |it: &mut rcgen::CertificateParams| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
    };
    refused_by("tpm.ek_purpose", certified(aik)).await;
    let signs = |it: &mut rcgen::CertificateParams| {
        it.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    };
    refused_by("tpm.ek_purpose", certified(signs)).await;
    let is_ca = |it: &mut rcgen::CertificateParams| {
        it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_PURPOSE.to_vec())];
    };
    refused_by("tpm.ek_purpose", certified(is_ca)).await;
    let unknown = |it: &mut rcgen::CertificateParams| {
        let mut odd = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        odd.set_criticality(true);
        it.custom_extensions.push(odd);
    };
    let why = refused_by("tpm.ek_chain", certified(unknown)).await;
    assert!(why.contains("1.2.3"), "{why}");
    // Policies and attributes of the subject may be critical.
    let (authority, verifier, mut machine) = scene();
    let known = |it: &mut rcgen::CertificateParams| {
        for last in [9, 32] {
            let mut odd =
                rcgen::CustomExtension::from_oid_content(&[2, 5, 29, last], vec![0x30, 0]);
            odd.set_criticality(true);
            it.custom_extensions.push(odd);
        }
    };
    let certificate = authority.certify(&machine.spki(), known);
    machine.hello.ek_certificates = vec![Base64(certificate)];
    let refusal = machine.attest(&verifier).await.map(drop);
    refusal.unwrap();
}

#[tokio::test]
async fn a_root_vouches_for_the_ek() {
    let why = refused_by("tpm.ek_chain", |_, it| {
        *it = Machine::new(&Authority::root("somebody"));
    })
    .await;
    assert!(why.contains("nobody is configured"), "{why}");
    // One of the same name.
    let why =
        refused_by("tpm.ek_chain", |_, it| *it = Machine::new(&Authority::root("maker"))).await;
    assert!(why.contains("not signed by"), "{why}");
    let beside = |below: fn(&Authority) -> Authority| {
        move |authority: &Authority, it: &mut Machine| {
            let middle = below(authority);
            *it = Machine::new(&middle);
            it.hello.ek_certificates.push(Base64(middle.der));
        }
    };
    let no_ca = beside(|root| root.below("middle", |it| it.is_ca = IsCa::ExplicitNoCa));
    refused_by("tpm.ek_chain", no_ca).await;
    let no_sign = beside(|root| {
        root.below("middle", |it| it.key_usages = vec![KeyUsagePurpose::DigitalSignature])
    });
    refused_by("tpm.ek_chain", no_sign).await;
    let ended =
        beside(|root| root.below("middle", |it| it.not_after = rcgen::date_time_ymd(2025, 1, 1)));
    refused_by("tpm.ek_chain", ended).await;
    // A path no longer than it says.
    refused_by("tpm.ek_chain", |root, it| {
        let first = root.below("first", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let second = first.below("second", |_| {});
        *it = Machine::new(&second);
        it.hello.ek_certificates.extend([second.der, first.der].map(Base64));
    })
    .await;
}

#[tokio::test]
async fn certificates_are_valid_now() {
    let (authority, verifier, mut machine) = scene();
    let certificate = authority.certify(&machine.spki(), |it| {
        it.not_before = rcgen::date_time_ymd(2026, 3, 1);
        it.not_after = rcgen::date_time_ymd(2026, 4, 1);
    });
    machine.hello.ek_certificates = vec![Base64(certificate)];
    let (first, last) = (1_772_323_200, 1_775_001_600);
    for (now, is_valid) in [(first - 1, false), (first, true), (last, true), (last + 1, false)] {
        let world = World { now: UnixTime::from_secs(now), ..World::default() };
        let judged = machine.attest_in(&world, &verifier).await;
        assert_eq!(judged.is_ok(), is_valid, "{now}");
    }
}

#[tokio::test]
async fn no_bit_of_what_is_signed_can_be_another() {
    let (_, verifier, mut machine) = scene();
    let hello = machine.hello.clone();
    for bit in 0..hello.ak.0.len() * 8 {
        machine.hello.ak.0[bit / 8] ^= 1 << (bit % 8);
        let shown = machine.hello.clone();
        // The TPM holds what it made; only what is shown is another.
        machine.hello.ak = hello.ak.clone();
        let refused = refused_as_shown(&machine, &shown, &verifier).await;
        assert!(refused, "bit {bit} of the AK");
    }
    let certificate = &hello.ek_certificates[0].0;
    for bit in 0..certificate.len() * 8 {
        let mut flipped = certificate.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        machine.hello.ek_certificates = vec![Base64(flipped)];
        let hello = serde_json::to_vec(&machine.hello).unwrap();
        let judged = World::default().judge(&verifier, &hello, &mut NoConversation).await;
        let silent = matches!(judged, Err(crate::VerifyError::Silent));
        assert!(!silent, "bit {bit} of the EK's certificate");
    }
}

/// Whether a machine is refused that shows something else than it holds.
async fn refused_as_shown(
    machine: &Machine,
    shown: &super::super::Hello,
    verifier: &Verifier,
) -> bool {
    let hello = serde_json::to_vec(shown).unwrap();
    let world = World::default();
    let mut node = machine.conversation(world.binding(KIND));
    world.judge(verifier, &hello, &mut node).await.is_err()
}
