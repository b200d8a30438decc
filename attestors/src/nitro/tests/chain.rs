//! `root`, `chain`, `validity`.

use std::time::Duration;

use claviger_core::time::UnixTime;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyUsagePurpose};

use super::super::fixture::{BEGIN, END, Item, Pki, SIGNER, alien_pki, pki, sign, valid};
use super::{broken_at, by, draft, with};
use crate::aws_nitro::FLAVOUR;
use crate::fixture::NOW;

/// The rules that a document by `pki` breaks for who trusts its root, and why.
fn broken(pki: &Pki) -> Vec<(&'static str, String)> {
    let own = broken_at(&by(pki), Some(NOW), &FLAVOUR);
    own.into_iter().filter(|(rule, _)| *rule != "aws_nitro.root").collect()
}

#[track_caller]
fn assert_chain_breaks(pki: &Pki, why: &str) {
    let broken = broken(pki);
    let [("aws_nitro.chain", reason)] = broken.as_slice() else { panic!("{why}: {broken:?}") };
    assert!(reason.contains(why), "`{why}` is not in `{reason}`");
}

fn edited(number: usize, edit: impl Fn(&mut CertificateParams)) -> Pki {
    Pki::new(|at, params| {
        if at == number {
            edit(params);
        }
    })
}

#[test]
fn root_is_the_trusted_one_and_comes_first() {
    let alien = broken_at(&by(alien_pki()), Some(NOW), &FLAVOUR);
    let [("aws_nitro.root", _)] = alien.as_slice() else { panic!("{alien:?}") };
    // The right root last, as some verifiers have wanted it; and in the second place.
    let items = |order: &[usize]| {
        Item::Array(order.iter().map(|at| Item::Bytes(pki().bundle[*at].clone())).collect())
    };
    for order in [&[3, 2, 1, 0][..], &[1, 0, 2, 3]] {
        let broken = broken_at(&with("cabundle", &items(order)), Some(NOW), &FLAVOUR);
        assert_eq!(broken[0].0, "aws_nitro.root", "{broken:?}");
    }
    // Somebody's chain behind the right root.
    let mut bundle: Vec<_> = alien_pki().bundle.iter().cloned().map(Item::Bytes).collect();
    bundle[0] = Item::Bytes(pki().root());
    let mut members = draft().members(&FLAVOUR, alien_pki());
    members[5].1 = Item::Array(bundle);
    let document = sign(&Item::Map(members).encode(), alien_pki());
    super::assert_breaks(&document, "chain", "certificate 1 is not signed by the key of");
}

#[test]
fn chain_lacks_nothing_and_has_nothing_else_in_it() {
    assert_eq!(broken(pki()), []);
    let items = |order: &[usize]| {
        Item::Array(order.iter().map(|at| Item::Bytes(pki().bundle[*at].clone())).collect())
    };
    super::assert_breaks(&with("cabundle", &items(&[0, 1, 2])), "chain", "3 does not name");
    super::assert_breaks(&with("cabundle", &items(&[0, 1, 3])), "chain", "2 does not name");
    super::assert_breaks(&with("cabundle", &items(&[0])), "chain", "1 does not name");
    super::assert_breaks(&with("cabundle", &items(&[0, 2, 1, 3])), "chain", "authorities below");
    super::assert_breaks(&with("cabundle", &items(&[0, 1, 1, 2, 3])), "chain", "certificate 1 has");
    super::assert_breaks(&with("cabundle", &items(&[0, 1, 2, 3, 3])), "chain", "certificate 1 has");
}

#[test]
fn chain_consists_of_certificates_and_no_byte_more() {
    let mut bytes = pki().bundle[2].clone();
    bytes.push(0);
    for wrong in [bytes, vec![0; 64], b"-----BEGIN CERTIFICATE-----".to_vec()] {
        let mut bundle: Vec<_> = pki().bundle.iter().cloned().map(Item::Bytes).collect();
        bundle[2] = Item::Bytes(wrong);
        let document = with("cabundle", &Item::Array(bundle));
        super::assert_breaks(&document, "chain", "certificate 2 is no X.509 certificate");
    }
}

#[test]
fn chain_ends_with_the_signers_certificate_and_no_authoritys() {
    let instance = with("certificate", &Item::Bytes(pki().bundle[3].clone()));
    let broken = broken_at(&instance, Some(NOW), &FLAVOUR);
    assert!(broken[0].1.contains("certificate 4 is an authority's"), "{broken:?}");
    for limit in [BasicConstraints::Unconstrained, BasicConstraints::Constrained(0)] {
        let pki = edited(SIGNER, |params| params.is_ca = IsCa::Ca(limit));
        assert_chain_breaks(&pki, "certificate 4 is an authority's");
    }
    let pki = edited(SIGNER, |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_chain_breaks(&pki, "certificate 4 is not for digitalSignature");
    let pki = edited(SIGNER, |params| params.key_usages.clear());
    assert_chain_breaks(&pki, "certificate 4 is not for digitalSignature");
    // Basic constraints may be left out there (RFC 5280 §4.2.1.9).
    assert_eq!(self::broken(&edited(SIGNER, |params| params.is_ca = IsCa::NoCa)), []);
}

#[test]
fn chain_consists_of_authorities_that_may_issue() {
    for number in 1..SIGNER {
        for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
            let pki = edited(number, |params| params.is_ca = is_ca);
            assert_chain_breaks(&pki, &format!("certificate {number} is no authority's"));
        }
        let pki = edited(number, |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
        assert_chain_breaks(&pki, &format!("certificate {number} is not for keyCertSign"));
        let pki = edited(number, |params| params.key_usages.clear());
        assert_chain_breaks(&pki, &format!("certificate {number} is not for keyCertSign"));
    }
    // An authority's constraints are critical (AWS, and RFC 5280 §4.2.1.9).
    let pki = edited(2, |params| {
        params.is_ca = IsCa::NoCa;
        let authority =
            CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 255]);
        params.custom_extensions.push(authority);
    });
    assert_chain_breaks(&pki, "certificate 2 is no authority's (critical");
}

#[test]
fn chain_is_no_longer_than_each_authority_allows() {
    for (number, allowed) in [(0, 2), (1, 1), (2, 0)] {
        let limit = BasicConstraints::Constrained(allowed);
        let pki = edited(number, |params| params.is_ca = IsCa::Ca(limit));
        assert_chain_breaks(&pki, &format!("certificate {number} has"));
        let enough = BasicConstraints::Constrained(allowed + 1);
        assert_eq!(broken(&edited(number, |params| params.is_ca = IsCa::Ca(enough))), []);
    }
}

#[test]
fn chain_has_keys_on_p384_only() {
    for number in 0..=SIGNER {
        let broken = broken(&Pki::with_p256_at(number));
        let reasons: Vec<_> = broken.iter().map(|(_, why)| why.as_str()).collect();
        let expected = if number == SIGNER {
            "certificate 4 has no key on P-384".to_owned()
        } else {
            format!("certificate {} is not signed with ECDSA and SHA-384", number + 1)
        };
        assert!(reasons[0].contains(&expected), "{number}: {reasons:?}");
    }
}

#[test]
fn chain_has_no_critical_extension_that_is_not_known() {
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    for number in 0..=SIGNER {
        unknown.set_criticality(false);
        let add = |params: &mut CertificateParams| params.custom_extensions.push(unknown.clone());
        assert_eq!(broken(&edited(number, add)), []);
        unknown.set_criticality(true);
        let add = |params: &mut CertificateParams| params.custom_extensions.push(unknown.clone());
        assert_chain_breaks(
            &edited(number, add),
            &format!("certificate {number} has an extension"),
        );
    }
    let twice = edited(1, |params| {
        let extension =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        params.custom_extensions = vec![extension.clone(), extension];
    });
    assert_chain_breaks(&twice, "certificate 1 has an extension twice");
}

fn at(seconds: i64, from: UnixTime) -> UnixTime {
    UnixTime::from_secs(from.as_secs().checked_add_signed(seconds).unwrap())
}

/// Whether a document that was made at `now` is refused then, by `validity` and nothing else.
fn is_expired(pki: &Pki, now: UnixTime) -> bool {
    let mut draft = draft();
    draft.timestamp = now.as_secs() * 1_000;
    let broken = broken_at(&draft.document(&FLAVOUR, pki), Some(now), &FLAVOUR);
    let broken: Vec<_> = broken.iter().map(|(rule, _)| *rule).collect();
    assert!(broken.iter().all(|rule| ["aws_nitro.root", "aws_nitro.validity"].contains(rule)));
    broken.contains(&"aws_nitro.validity")
}

#[test]
fn validity_ends_with_the_second_and_begins_a_minute_early() {
    for (now, refused) in
        [(at(-61, BEGIN), true), (at(-60, BEGIN), false), (END, false), (at(1, END), true)]
    {
        assert_eq!(is_expired(pki(), now), refused, "{now}");
    }
    // Each certificate is looked at, not the last one only.
    for number in 0..=SIGNER {
        let early = edited(number, |params| valid(params, NOW.after(Duration::from_secs(61)), END));
        let late = edited(number, |params| valid(params, BEGIN, at(-1, NOW)));
        assert!(is_expired(&early, NOW) && is_expired(&late, NOW), "{number}");
    }
}

/// For an audit, the time is the document's own, and there is no other clock that could be off.
#[test]
fn validity_at_the_documents_own_time_is_exact() {
    for (made, refused) in [(at(-1, BEGIN), true), (BEGIN, false), (END, false), (at(1, END), true)]
    {
        let mut draft = draft();
        draft.timestamp = made.as_secs() * 1_000;
        let broken = broken_at(&draft.document(&FLAVOUR, pki()), None, &FLAVOUR);
        assert_eq!(!broken.is_empty(), refused, "{made}: {broken:?}");
    }
}
