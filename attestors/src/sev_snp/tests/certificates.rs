//! Who vouches for the key of a machine.

use crate::fixture::{NOW, World, reason};
use crate::sev_snp::Product;
use crate::sev_snp::fixture::pki::{
    BASIC_CONSTRAINTS, CERTIFICATES, Issue, KEY_USAGE, Revocations, SHA384, Signer, amd, pss,
};
use crate::sev_snp::fixture::{Machine, Settings, attest, guest, pki};
use crate::sev_snp::roots::{AMD, Roots, RootsError};

use super::reports::{judged, judged_from};
use crate::cms::fixture::{RSA_SHA256_ID, SHA256_ID, algorithm, der};

/// The rule that is broken when the certificate is what `edit` makes of it.
fn broken(machine: Machine, edit: impl FnOnce(&mut Issue)) -> String {
    judged(&machine.report(&[7; 64]), &machine.issue().edited(edit))
}

#[test]
fn amds_certificates_are_those_that_the_documentation_names() {
    let text = include_str!("../roots.rs");
    for der in AMD {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        assert!(text.contains(&hex::encode(digest)), "{digest:?}");
    }
    let roots = Roots::amd().unwrap();
    for product in Product::ALL {
        let ark = roots.ark(product).unwrap();
        assert_eq!(ark.subject, ark.issuer);
        for role in [crate::sev_snp::roots::Role::Ask, crate::sev_snp::roots::Role::Asvk] {
            assert_eq!(roots.signer(role, product).unwrap().issuer, ark.subject);
        }
    }
}

#[test]
fn nobody_is_trusted_whom_a_root_did_not_sign() {
    let of = |ders: &[Vec<u8>]| Roots::of(ders).map(drop);
    of(&CERTIFICATES).unwrap();
    let product = Product::Milan;
    let signature = Err(RootsError::Signature { product });
    let ark = || Issue::authority(Signer::Ark, product);
    let ask = || Issue::authority(Signer::Ask, product);
    assert_eq!(of(&[ask().sign()]), signature);
    assert_eq!(of(&[ark().edited(|ark| ark.signer = Signer::Stranger)]), signature);
    let stranger = ask().edited(|ask| ask.signer = Signer::Stranger);
    assert_eq!(of(&[ark().sign(), stranger]), signature);
    let other = Issue::authority(Signer::Ask, Product::Genoa).sign();
    assert_eq!(of(&[ark().sign(), other]), Err(RootsError::Signature { product: Product::Genoa }));
    let purpose = Err(RootsError::Purpose { product });
    for constraints in [&[][..], &[1, 1, 0xff], &[1, 1, 0xff, 2, 1, 1]] {
        let edit = |ask: &mut Issue| ask.extensions[0].2 = der(0x30, &[constraints]);
        assert_eq!(of(&[ark().sign(), ask().edited(edit)]), purpose, "{constraints:?}");
    }
    let not_critical = ask().edited(|ask| ask.extensions[0].1 = false);
    assert_eq!(of(&[ark().sign(), not_critical]), purpose);
    let no_usage = ask().edited(|ask| drop(ask.extensions.pop()));
    assert_eq!(of(&[ark().sign(), no_usage]), purpose);
    let unnamed = ask().edited(|ask| "SEV-Rome".clone_into(&mut ask.subject));
    assert_eq!(of(&[ark().sign(), unnamed]), Err(RootsError::Name));
    assert_eq!(of(&[vec![0x30, 0]]), Err(RootsError::Form));
}

#[test]
fn authorities_keep_to_the_keys_that_they_are_for() {
    let cloud = |vlek: &mut Issue| vlek.signer = Signer::Ask;
    assert_eq!(broken(Machine::CLOUD, cloud), "sev_snp.chain", "an ASK signed a VLEK");
    let chip = |vcek: &mut Issue| vcek.signer = Signer::Asvk;
    assert_eq!(broken(Machine::MILAN, chip), "sev_snp.chain", "an ASVK signed a VCEK");
    for signer in [Signer::Ark, Signer::Stranger] {
        let edit = |vcek: &mut Issue| vcek.signer = signer;
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.chain");
    }
    let named = |issuer: &str, subject: &str| {
        broken(Machine::MILAN, |vcek| {
            issuer.clone_into(&mut vcek.issuer);
            subject.clone_into(&mut vcek.subject);
        })
    };
    assert_eq!(named("SEV-Milan", "SEV-VLEK"), "sev_snp.certificate");
    assert_eq!(named("SEV-VLEK-Milan", "SEV-VCEK"), "sev_snp.certificate");
    assert_eq!(named("ARK-Milan", "SEV-Milan"), "sev_snp.certificate");
    assert_eq!(named("SEV-Rome", "SEV-VCEK"), "sev_snp.certificate");
    assert_eq!(named("SEV-VLEK-Milan", "SEV-VLEK"), "sev_snp.certificate", "it names no cloud");
    assert_eq!(named("SEV-Genoa", "SEV-VCEK"), "sev_snp.product");
}

#[test]
fn a_certificate_is_of_the_key_that_signed() {
    let report = Machine::MILAN.report(&[7; 64]);
    assert_eq!(judged(&report, &Machine::CLOUD.endorsement()), "sev_snp.signature");
    let cloud = Machine::CLOUD.report(&[7; 64]);
    assert_eq!(judged(&cloud, &Machine::MILAN.endorsement()), "sev_snp.signature");
    let other = |vcek: &mut Issue| {
        let at = vcek.spki.len() - 40;
        vcek.spki[at] ^= 1;
    };
    assert_eq!(broken(Machine::MILAN, other), "sev_snp.signature");
    let rsa = |vcek: &mut Issue| vcek.spki = Issue::authority(Signer::Ask, Product::Milan).spki;
    assert_eq!(broken(Machine::MILAN, rsa), "sev_snp.certificate");
}

#[test]
fn certificates_are_signed_by_pss_with_sha384_only() {
    for other in [
        pss(SHA256_ID, SHA384, 48),
        pss(SHA384, SHA256_ID, 48),
        pss(SHA384, SHA384, 32),
        algorithm(RSA_SHA256_ID),
    ] {
        let edit = |vcek: &mut Issue| vcek.algorithm = other;
        assert_eq!(broken(Machine::MILAN, edit), "sev_snp.chain");
    }
}

#[test]
fn certificates_are_valid_from_their_first_second_to_their_last() {
    // It is midnight at the start of 2026.
    let between = |from: &'static str, to: &'static str| {
        broken(Machine::MILAN, |vcek| (vcek.not_before, vcek.not_after) = (from, to))
    };
    assert_eq!(between("260101000000Z", "260101000000Z"), "none");
    assert_eq!(between("260101000001Z", "270101000000Z"), "sev_snp.validity");
    assert_eq!(between("250101000000Z", "251231235959Z"), "sev_snp.validity");
}

#[test]
fn a_certificate_of_another_chip_or_firmware_is_refused() {
    let other = |vcek: &mut Issue| vcek.extension(&[4])[63] ^= 1;
    assert_eq!(broken(Machine::MILAN, other), "sev_snp.chip_id");
    let wrapped = |vcek: &mut Issue| *vcek.extension(&[4]) = der(4, &[&[0xc1; 64]]);
    assert_eq!(broken(Machine::MILAN, wrapped), "none");
    let short = |vcek: &mut Issue| vcek.extension(&[4]).truncate(8);
    assert_eq!(broken(Machine::MILAN, short), "sev_snp.chip_id", "only Turin's are so short");
    let turin = |vcek: &mut Issue| vcek.extension(&[4])[7] ^= 1;
    assert_eq!(broken(Machine::TURIN, turin), "sev_snp.chip_id");
    let masked = |report: &mut [u8]| report[0x1a0..0x1e0].fill(0);
    assert_eq!(super::reports::broken(Machine::MILAN, masked), "sev_snp.chip_id");
    let tail = |report: &mut [u8]| report[0x1df] = 1;
    assert_eq!(super::reports::broken(Machine::TURIN, tail), "sev_snp.chip_id");
    for arc in 1..=8 {
        let other = |vcek: &mut Issue| *vcek.extension(&[3, arc]) = der(2, &[&[7]]);
        assert_eq!(broken(Machine::MILAN, other), "sev_snp.tcb", "{arc}");
    }
    let fmc = |vcek: &mut Issue| *vcek.extension(&[3, 9]) = der(2, &[&[7]]);
    assert_eq!(broken(Machine::TURIN, fmc), "sev_snp.tcb");
}

#[test]
fn a_certificate_says_what_it_has_to_once() {
    for arcs in [&[2][..], &[4], &[3, 1], &[3, 2], &[3, 3], &[3, 8]] {
        let rule = broken(Machine::MILAN, |vcek| vcek.without(arcs));
        assert_eq!(rule, "sev_snp.certificate", "{arcs:?} is missing");
        let rule = broken(Machine::MILAN, |vcek| {
            let value = vcek.extension(arcs).clone();
            vcek.extensions.push((amd(arcs), false, value));
        });
        assert_eq!(rule, "sev_snp.certificate", "{arcs:?} comes twice");
        let rule = broken(Machine::MILAN, |vcek| *vcek.extension(arcs) = vec![0x30, 0]);
        assert_eq!(rule, "sev_snp.certificate", "{arcs:?} is of another form");
    }
    assert_eq!(broken(Machine::TURIN, |vcek| vcek.without(&[3, 9])), "sev_snp.certificate");
    assert_eq!(broken(Machine::CLOUD, |vlek| vlek.without(&[5])), "sev_snp.certificate");
    // What stands for a reserved byte need not be there.
    assert_eq!(broken(Machine::MILAN, |vcek| vcek.without(&[3, 4])), "none");
    for number in [&[1, 0][..], &[0xff], &[0, 0, 1]] {
        let rule = broken(Machine::MILAN, |vcek| *vcek.extension(&[3, 1]) = der(2, &[number]));
        assert_eq!(rule, "sev_snp.certificate", "{number:?}");
    }
}

#[test]
fn a_certificate_is_for_no_other_purpose() {
    let with = |id: &[u8], critical: bool, value: &[u8]| {
        broken(Machine::MILAN, |vcek| vcek.extensions.push((id.to_vec(), critical, value.to_vec())))
    };
    let authority = der(0x30, &[&[1, 1, 0xff]]);
    assert_eq!(with(&BASIC_CONSTRAINTS, true, &authority), "sev_snp.certificate");
    assert_eq!(with(&BASIC_CONSTRAINTS, true, &der(0x30, &[])), "none");
    assert_eq!(with(&KEY_USAGE, true, &der(3, &[&[1, 0b0000_0100]])), "sev_snp.certificate");
    assert_eq!(with(&KEY_USAGE, true, &der(3, &[&[7, 0b1000_0000]])), "none");
    assert_eq!(with(&[0x2a, 3, 4], false, b"\x05\0"), "none");
    assert_eq!(with(&[0x2a, 3, 4], true, b"\x05\0"), "sev_snp.certificate");
}

#[test]
fn a_certificate_is_of_the_product_that_the_report_is_of() {
    let named = |name: &str| {
        broken(Machine::MILAN, |vcek| *vcek.extension(&[2]) = der(0x16, &[name.as_bytes()]))
    };
    assert_eq!(named("Milan"), "none");
    assert_eq!(named("Genoa-B1"), "sev_snp.product");
    assert_eq!(named("MilanX"), "sev_snp.product");
    for cpu in [[0x19, 0x11, 1], [0x1a, 1, 1], [0x17, 1, 1], [0, 0, 0]] {
        let machine = Machine { cpu, ..Machine::MILAN };
        assert_eq!(broken(machine, |_| {}), "sev_snp.product", "{cpu:?}");
    }
    let old = Machine { version: 2, ..Machine::MILAN };
    assert_eq!(broken(old, |_| {}), "none", "it does not say what it is of");
}

#[test]
fn bytes_all_over_a_certificate_count() {
    let machine = Machine::MILAN;
    let (report, whole) = (machine.report(&[7; 64]), machine.endorsement());
    let (settings, roots) = (Settings::with(""), pki::roots());
    for at in (0..whole.len()).step_by(3) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert_ne!(judged_from(&roots, &settings, &report, &flipped), "none", "byte {at}");
    }
    for length in (0..whole.len()).step_by(11) {
        assert_eq!(judged(&report, &whole[..length]), "sev_snp.certificate");
    }
    assert_eq!(judged(&report, &[whole.as_slice(), &[0]].concat()), "sev_snp.certificate");
}

/// What becomes of `machine` when `revocations` are what AMD says.
async fn judged_with(machine: Machine, revocations: &Revocations) -> Result<String, String> {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), revocations.sign()).unwrap();
    let settings = Settings::with(&format!("crl.milan = [{:?}]", list.path()));
    let node = attest(&settings, &guest(machine)).await;
    if node.is_ok() { Ok("admitted".to_owned()) } else { Err(reason(node)) }
}

#[tokio::test]
async fn what_amd_revoked_is_refused() {
    let (ask, asvk) = (0x01_0001, 0x01_0101);
    let judged = |machine, entries: &[_]| {
        let revocations = Revocations::new(entries);
        async move { judged_with(machine, &revocations).await }
    };
    judged(Machine::MILAN, &[]).await.unwrap();
    judged(Machine::MILAN, &[(7, None), (asvk, None), (0, None)]).await.unwrap();
    judged(Machine::CLOUD, &[(ask, None)]).await.unwrap();
    let refused = judged(Machine::MILAN, &[(7, None), (ask, None)]).await.unwrap_err();
    assert!(refused.contains("sev_snp.revocation: the certificate of the ASK"), "{refused}");
    let refused = judged(Machine::CLOUD, &[(asvk, None)]).await.unwrap_err();
    assert!(refused.contains("of the ASVK is revoked"), "{refused}");
    let refused = judged(Machine::CLOUD, &[(0, Some(Signer::Asvk))]).await.unwrap_err();
    assert!(refused.contains("of the VLEK is revoked"), "{refused}");
    // An indirect list's entries are of the issuer that was named last.
    let sticky = [(9, Some(Signer::Asvk)), (0, None)];
    let refused = judged(Machine::CLOUD, &sticky).await.unwrap_err();
    assert!(refused.contains("of the VLEK is revoked"), "{refused}");
    judged(Machine::CLOUD, &[(0, Some(Signer::Ask)), (asvk, None)]).await.unwrap();
    let refused = judged(Machine::MILAN, &[(0x01_0000, None)]).await.unwrap_err();
    assert!(refused.contains("of the ARK is revoked"), "{refused}");
}

#[tokio::test]
async fn a_revocation_list_counts_while_it_is_current_and_the_roots_own() {
    let of = |edit: fn(&mut Revocations)| async move {
        let mut revocations = Revocations::new(&[]);
        edit(&mut revocations);
        judged_with(Machine::MILAN, &revocations).await
    };
    of(|list| list.next_update = Some("260101000000Z")).await.unwrap();
    let cases: [(fn(&mut Revocations), _); 5] = [
        (|list| list.next_update = Some("251231235959Z"), "fetch it again"),
        (|list| list.this_update = "260101000001Z", "fetch it again"),
        (|list| list.next_update = None, "when the next one comes"),
        (|list| list.signer = Signer::Stranger, "not signed by AMD's root"),
        (|list| list.product = Product::Genoa, "not signed by AMD's root"),
    ];
    for (edit, why) in cases {
        let refused = of(edit).await.unwrap_err();
        assert!(refused.contains("sev_snp.revocation") && refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_revocation_list_is_read_again_and_none_is_no_leave_to_go_on() {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), Revocations::new(&[]).sign()).unwrap();
    let settings = Settings::with(&format!("crl.milan = [{:?}]", list.path()));
    let (world, verifier) = (World::default(), settings.open());
    assert_eq!(world.now, NOW);
    let milan = guest(Machine::MILAN);
    assert_eq!(world.attest(&verifier, &milan).await.unwrap().kind(), "sev_snp");
    std::fs::write(list.path(), Revocations::new(&[(0x01_0001, None)]).sign()).unwrap();
    assert!(reason(world.attest(&verifier, &milan).await).contains("is revoked"));
    std::fs::write(list.path(), b"\0").unwrap();
    assert!(reason(world.attest(&verifier, &milan).await).contains("no revocation list"));
    drop(list);
    let error = world.attest(&verifier, &milan).await.unwrap_err();
    assert!(matches!(error, crate::VerifyError::Unavailable(_)), "{error}");
}
