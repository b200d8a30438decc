//! Whether a quote is genuine.

use super::*;
use crate::dcap::fixture::{pem_of, sgx_extension, sign};

fn refusal(intel: &Intel, quote: &[u8]) -> String {
    appraised(intel, quote, &Sayings::of(Tee::Tdx).sign(intel)).unwrap_err()
}

/// Why a quote of a virtual machine is refused of which `edit` made something else before it was signed.
fn edited(edit: impl FnOnce(&mut Parts, &Intel)) -> String {
    let intel = Intel::new();
    let [(_, mut parts), _] = quotes(&intel);
    edit(&mut parts, &intel);
    refusal(&intel, &parts.sign(&intel))
}

#[test]
fn every_version_with_every_body_that_it_has_is_read() {
    let intel = Intel::new();
    for (version, tee, body) in [
        (3, Tee::Sgx, enclave([1; 64])),
        (4, Tee::Sgx, enclave([1; 64])),
        (5, Tee::Sgx, enclave([1; 64])),
        (4, Tee::Tdx, domain([1; 64], false)),
        (5, Tee::Tdx, domain([1; 64], false)),
        (5, Tee::Tdx, domain([1; 64], true)),
    ] {
        let quote = Parts::new(&intel, version, tee, body).sign(&intel);
        let standing = appraised(&intel, &quote, &Sayings::of(tee).sign(&intel)).unwrap();
        assert_eq!(standing.status, TcbStatus::UpToDate, "version {version} of {tee}");
        assert!(Quote::looks_like(&quote, tee));
    }
}

#[test]
fn a_version_has_no_other_bodies() {
    let intel = Intel::new();
    let parse = |version, tee, body: Vec<u8>, body_type| {
        let mut parts = Parts::new(&intel, version, tee, body);
        parts.body_type = body_type;
        Quote::parse(&parts.sign(&intel)).map(|quote| quote.version)
    };
    assert_eq!(parse(3, Tee::Tdx, domain([1; 64], false), 2), Err(QuoteError::Tee(0x81)));
    for (tee, body, body_type) in [
        (Tee::Sgx, domain([1; 64], false), 2),
        (Tee::Tdx, enclave([1; 64]), 1),
        (Tee::Tdx, domain([1; 64], true), 2),
        (Tee::Tdx, domain([1; 64], false), 3),
        (Tee::Tdx, domain([1; 64], true), 4),
        (Tee::Sgx, vec![0; 385], 1),
    ] {
        assert_eq!(parse(5, tee, body, body_type), Err(QuoteError::Body), "{tee} {body_type}");
    }
    for version in [0, 1, 2, 6, 0x0400] {
        let error = parse(version, Tee::Sgx, enclave([1; 64]), 1);
        assert_eq!(error, Err(QuoteError::Version(version)));
    }
}

#[test]
fn only_intels_ecdsa_on_p256_is_understood() {
    assert!(edited(|parts, _| parts.key_type = 3).contains("attestation key is 3"));
    assert!(edited(|parts, _| parts.vendor[0] ^= 1).contains("not Intel's"));
    for kind in [1, 2, 3, 4, 6, 7] {
        let why = edited(|parts, _| parts.certification_type = kind);
        assert!(why.contains(&format!("type {kind} where only 5")), "{why}");
    }
}

/// What services hand out that reserve room for a quote, and what an attacker might put there.
#[test]
fn nothing_but_zeros_may_follow_a_quote() {
    let intel = Intel::new();
    let [(_, mut parts), _] = quotes(&intel);
    let collateral = Sayings::of(Tee::Tdx).sign(&intel);
    parts.padding = vec![0; 3_000];
    appraised(&intel, &parts.sign(&intel), &collateral).unwrap();
    parts.padding[2_999] = 1;
    assert_eq!(Quote::parse(&parts.sign(&intel)).unwrap_err(), QuoteError::Trailing);
    parts.padding = vec![0; Quote::MAX];
    assert_eq!(Quote::parse(&parts.sign(&intel)).unwrap_err(), QuoteError::Long);
}

#[test]
fn the_attestation_key_is_the_quoting_enclaves() {
    let why = edited(|parts, _| parts.qe_report[320] ^= 1);
    assert!(why.starts_with("dcap.attestation_key"), "{why}");
    let why = edited(|parts, _| parts.authentication_data.push(0));
    assert!(why.starts_with("dcap.attestation_key"), "{why}");
    // The second half of the report data is zero.
    let why = edited(|parts, _| parts.qe_report[383] = 1);
    assert!(why.starts_with("dcap.attestation_key"), "{why}");
}

#[test]
fn a_key_of_somebody_elses_is_refused_wherever_it_is_put() {
    let (intel, stranger) = (Intel::new(), Intel::new());
    let [(_, parts), _] = quotes(&intel);
    // All of it is the stranger's, who has roots of their own.
    let [(_, theirs), _] = quotes(&stranger);
    let why = refusal(&intel, &theirs.sign(&stranger));
    assert!(why.starts_with("dcap.pck_chain:"), "{why}");
    // The stranger's platform signed the report of our quoting enclave.
    let mixed = Intel { pck: stranger.pck, ..Intel::new() };
    let why = refusal(&intel, &parts.sign(&mixed));
    assert!(why.starts_with("dcap.qe_report_signature"), "{why}");
    // The stranger signs the body with a key of their own, which no quoting enclave named.
    let mixed = Intel { attestation_key: stranger.attestation_key, ..Intel::new() };
    let mixed = Intel { pck: intel.pck, root: intel.root, platform_ca: intel.platform_ca, ..mixed };
    let why = refusal(&mixed, &parts.sign(&mixed));
    assert!(why.starts_with("dcap.attestation_key"), "{why}");
}

#[test]
fn who_signed_the_report_is_not_who_may_sign_anything() {
    let intel = Intel::new();
    let [(_, parts), _] = quotes(&intel);
    let mut quote = parts.sign(&intel);
    let signature = 48 + 584 + 4;
    let signed = sign(&intel.pck.key, &quote[..48 + 584]);
    quote[signature..signature + 64].copy_from_slice(&signed);
    let why = refusal(&intel, &quote);
    assert!(why.starts_with("dcap.signature"), "{why}");
}

#[test]
fn the_platforms_certificate_is_one_of_a_platforms() {
    let chained = |intel: &Intel, der: &[u8]| {
        pem_of(&[der, &intel.platform_ca.der, &intel.root.der]).into_bytes()
    };
    // The signer of collateral is vouched for, too, and no platform.
    let why = edited(|parts, intel| {
        parts.pck_chain = pem_of(&[&intel.tcb_signer.der, &intel.root.der]).into_bytes();
    });
    assert!(why.starts_with("dcap.pck_certificate"), "{why}");
    let why = edited(|parts, intel| {
        let other = intel.platform_ca.holder("Intel SGX PCK Certificate", 9, |_| ());
        parts.pck_chain = chained(intel, &other.der);
    });
    assert!(why.starts_with("dcap.pck_certificate"), "{why}");
    for extension in [vec![], vec![0x30, 0], sgx_extension(&[1; 16], 1)[..100].to_vec()] {
        let intel = Intel::with_pck(extension);
        let [(_, parts), _] = quotes(&intel);
        let why = refusal(&intel, &parts.sign(&intel));
        assert!(why.starts_with("dcap.pck_certificate"), "{why}");
    }
}

/// A chain, and what is said of it.
type Case = (fn(&Intel) -> String, &'static str);

#[test]
fn a_chain_leads_to_the_root_by_way_of_an_authority() {
    let cases: [Case; 7] = [
        (|intel: &Intel| pem_of(&[&intel.pck.der]), "dcap.pck_chain: no path"),
        (|intel: &Intel| pem_of(&[&intel.pck.der, &intel.root.der]), "dcap.pck_chain: no path"),
        (|intel: &Intel| pem_of(&[&intel.platform_ca.der, &intel.root.der]), "dcap.pck_chain: no"),
        (
            |intel: &Intel| pem_of(&[&intel.pck.der, &intel.processor_ca.der, &intel.root.der]),
            "dcap.pck_chain: no path",
        ),
        (|_: &Intel| String::new(), "dcap.pck_chain_form"),
        (|intel: &Intel| pem_of(&[intel.pck.der.as_slice(); 4]), "dcap.pck_chain_form"),
        (|_: &Intel| pem_of(&[b"certificate", b"authority", b"root"]), "dcap.pck_chain"),
    ];
    for (chain, rule) in cases {
        let why = edited(|parts, intel| parts.pck_chain = chain(intel).into_bytes());
        assert!(why.starts_with(rule), "{rule}: {why}");
    }
    // The root need not come along, but another one must not.
    let intel = Intel::new();
    let [(_, mut parts), _] = quotes(&intel);
    parts.pck_chain = pem_of(&[&intel.pck.der, &intel.platform_ca.der]).into_bytes();
    let collateral = Sayings::of(Tee::Tdx).sign(&intel);
    appraised(&intel, &parts.sign(&intel), &collateral).unwrap();
    let other = Intel::new().root.der;
    parts.pck_chain = pem_of(&[&intel.pck.der, &intel.platform_ca.der, &other]).into_bytes();
    let why = refusal(&intel, &parts.sign(&intel));
    assert!(why.contains("root that is not trusted"), "{why}");
    let other = &intel.processor_ca.der;
    parts.pck_chain = pem_of(&[&intel.pck.der, &intel.platform_ca.der, other]).into_bytes();
    let why = refusal(&intel, &parts.sign(&intel));
    assert!(why.contains("does not vouch for the one before"), "{why}");
}

#[test]
fn certificates_are_valid_at_the_time() {
    let intel = Intel::new();
    let [(_, parts), _] = quotes(&intel);
    let (quote, collateral) = (parts.sign(&intel), Sayings::of(Tee::Tdx).sign(&intel));
    let judge = |now| judge(&quote, &collateral, &intel.roots(), &lenient(), at(now));
    // The platform's from 2025 to 2032, the root's from 2020 to 2040.
    for now in ["2024-12-31T23:59:59Z", "2032-01-01T00:00:01Z", "2041-01-01T00:00:00Z"] {
        let why = judge(now).unwrap_err();
        assert!(why.starts_with("dcap.pck_chain:"), "{now}: {why}");
    }
    judge("2026-01-01T00:00:00Z").unwrap();
}

#[test]
fn a_quote_that_is_cut_off_anywhere_is_refused() {
    let intel = Intel::new();
    for (_, parts) in quotes(&intel) {
        let quote = parts.sign(&intel);
        for end in 0..quote.len() {
            assert_eq!(Quote::parse(&quote[..end]).unwrap_err(), QuoteError::Short, "{end}");
        }
    }
}

#[test]
fn lengths_are_exact() {
    let intel = Intel::new();
    for (tee, parts) in quotes(&intel) {
        let quote = parts.sign(&intel);
        let body = if tee == Tee::Tdx { 584 } else { 384 };
        let certified = 48 + body + 4 + 128 + if tee == Tee::Tdx { 6 } else { 0 };
        let chain = certified + 448 + 2 + 32 + 2;
        let mut lengths = vec![48 + body, certified + 448, chain];
        if tee == Tee::Tdx {
            lengths.push(certified - 4);
        }
        for at in lengths {
            for change in [1_u8, 0xff] {
                let mut quote = quote.clone();
                quote[at] = quote[at].wrapping_add(change);
                Quote::parse(&quote).unwrap_err();
            }
        }
        let mut quote = quote;
        quote[chain..chain + 4].fill(0xff);
        assert_eq!(Quote::parse(&quote).unwrap_err(), QuoteError::Short);
    }
}
