use proptest::prelude::*;

use super::super::fixture::{bundle, domain};
use super::draft::{BundleRefused, MAX_BUNDLES};
use super::*;

fn draft() -> BundleDraft {
    BundleDraft::new(&Federated::default(), domain(), Requester::Server)
}

fn mask(change: impl FnOnce(&mut types::BundleMask)) -> Option<types::BundleMask> {
    let mut mask = types::BundleMask::default();
    change(&mut mask);
    Some(mask)
}

#[test]
fn a_bundle_is_created_once_and_updated_by_mask() {
    let mut draft = draft();
    let first = bundle("a.org", 1);
    assert_eq!(*draft.create(first.clone()).unwrap(), first);
    let exists = BundleRefused::Exists("a.org".parse().unwrap());
    assert_eq!(draft.create(bundle("a.org", 2)), Err(exists));
    let unknown = BundleRefused::Unknown("b.org".parse().unwrap());
    assert_eq!(draft.update(bundle("b.org", 2), None), Err(unknown));

    let second = bundle("a.org", 2);
    let updated = draft.update(second.clone(), mask(|mask| mask.sequence_number = true)).unwrap();
    assert_eq!(*updated, types::Bundle { sequence_number: 2, ..first });
    assert_eq!(*draft.update(second.clone(), None).unwrap(), second);
    assert_eq!(draft.finish().1.events.len(), 3);
}

#[test]
fn what_is_there_already_is_no_change() {
    let mut draft = draft();
    let same = bundle("a.org", 1);
    draft.set(same.clone()).unwrap();
    draft.set(same.clone()).unwrap();
    draft.update(bundle("a.org", 9), mask(|_| {})).unwrap();
    let (federated, commit) = draft.finish();
    assert_eq!((commit.writes.len(), commit.events.len()), (1, 1));
    let mut again = BundleDraft::new(&federated, domain(), Requester::Server);
    again.set(same).unwrap();
    assert!(again.finish().1.writes.is_empty());
}

/// As large as certificates may be.
fn large_certificates(count: usize) -> Vec<types::X509Certificate> {
    let filler = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![0; 60_000]);
    let mut params = rcgen::CertificateParams::default();
    params.custom_extensions = vec![filler];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |_| types::X509Certificate {
        asn1: params.self_signed(&key).unwrap().der().to_vec().into(),
        tainted: false,
    };
    (0..count).map(certificate).collect()
}

#[test]
fn what_is_no_foreign_bundle_is_refused() {
    #[track_caller]
    fn refused(wire: types::Bundle, why: &str) {
        let mut draft = draft();
        let told = draft.set(wire).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
        assert!(draft.finish().1.writes.is_empty());
    }
    refused(bundle("example.org", 1), "`example.org` is the server's own trust domain");
    refused(bundle("spiffe://example.org", 1), "the server's own trust domain");
    refused(bundle("Not Sound", 1), "trust_domain: ");
    let mut twice = bundle("a.org", 1);
    twice.x509_authorities.push(twice.x509_authorities[0].clone());
    refused(twice, "x509_authorities[1].asn1: is listed twice");
    let mut framed = bundle("a.org", 1);
    framed.x509_authorities[0].asn1 = vec![0x30, 1, 0xaa].into();
    refused(framed, "x509_authorities[0].asn1: is not an X.509 certificate");
    let large = types::Bundle { x509_authorities: large_certificates(10), ..bundle("a.org", 1) };
    refused(large, "at most 524288 are allowed");
}

#[test]
fn there_is_a_bound_to_trust_domains() {
    let (mut draft, one) = (draft(), bundle("x", 1));
    let named = |n: usize| types::Bundle { trust_domain: format!("t{n}.org"), ..one.clone() };
    for n in 0..MAX_BUNDLES {
        draft.create(named(n)).unwrap();
    }
    assert_eq!(draft.create(named(MAX_BUNDLES)), Err(BundleRefused::Full));
    draft.set(types::Bundle { sequence_number: 2, ..named(0) }).unwrap();
}

proptest! {
    /// Whatever happened to the bundles in between, the difference leads from one moment to the
    /// other, and says nothing about bundles that are as they were.
    #[test]
    fn the_difference_leads_from_one_moment_to_the_other(
        before in prop::collection::btree_map(0_u8..5, 0_u64..3, 0..5),
        edits in prop::collection::vec((0_u8..5, prop::option::of(0_u64..3)), 0..8),
    ) {
        let name = |n: u8| -> TrustDomain { format!("t{n}.org").parse().unwrap() };
        let wire = |n: u8, sequence| types::Bundle {
            trust_domain: format!("t{n}.org"),
            sequence_number: sequence,
            ..types::Bundle::default()
        };
        let mut earlier = Federated::default();
        for (n, sequence) in &before {
            earlier.put(name(*n), wire(*n, *sequence));
        }
        let mut later = earlier.clone();
        for (n, sequence) in &edits {
            match sequence {
                Some(sequence) => drop(later.put(name(*n), wire(*n, *sequence))),
                None => later.remove(&name(*n)),
            }
        }
        let size = later.following(None).map(|bundle| bundle.encoded_len()).sum::<usize>();
        prop_assert_eq!(later.bytes, size);

        let Difference { upserts, deletes } = later.since(&earlier);
        let touched = |n: &TrustDomain| edits.iter().any(|(edited, _)| name(*edited) == *n);
        prop_assert!(deletes.iter().all(touched));
        let mut reached = earlier.bundles.clone();
        deletes.iter().for_each(|gone| drop(reached.remove(gone)));
        for bundle in upserts {
            let of: TrustDomain = bundle.trust_domain.parse().unwrap();
            prop_assert!(touched(&of));
            reached.insert(of, bundle);
        }
        prop_assert_eq!(reached, later.bundles);
    }
}
