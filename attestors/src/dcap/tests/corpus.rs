//! Real quotes, with what Intel said about their platforms then.

use super::*;
use crate::dcap::chain::Chain;
use crate::fixture::corpus::corpus;

/// A real quote of a real platform, and what Intel said about it.
struct Real {
    quote: Vec<u8>,
    collateral: Vec<u8>,
}

impl Real {
    fn read(name: &str) -> Option<Self> {
        let folder = corpus("tdx")?;
        let read = |name: String| std::fs::read(folder.join(name)).unwrap();
        let collateral = read(format!("sample__{name}_collateral.json"));
        Some(Self { quote: read(format!("sample__{name}")), collateral })
    }

    fn judge(&self, policy: &TcbPolicy, now: &str) -> Result<Standing, String> {
        let collateral = Collateral::parse(&self.collateral).unwrap();
        judge(&self.quote, &collateral, &Roots::intel().unwrap(), policy, at(now))
    }
}

const THEN: &str = "2025-07-08T00:00:00Z";

#[test]
fn a_real_machine_is_up_to_date_until_its_collateral_expires() {
    let Some(real) = Real::read("tdx_quote") else { return };
    let standing = real.judge(&TcbPolicy::default(), THEN).unwrap();
    assert_eq!((standing.status, standing.evaluation_number), (TcbStatus::UpToDate, 17));
    assert!(standing.advisories.is_empty());
    let quote = Quote::parse(&real.quote).unwrap();
    assert_eq!((quote.version, quote.tee()), (4, Tee::Tdx));
    for (now, rule) in [
        ("2025-07-19T10:00:34Z", None),
        ("2025-07-19T10:00:35Z", Some("dcap.revocation_lists")),
        ("2026-01-01T00:00:00Z", Some("dcap.")),
        ("2025-06-19T10:16:02Z", Some("dcap.")),
        ("2024-01-01T00:00:00Z", Some("dcap.pck_chain:")),
    ] {
        let why = real.judge(&TcbPolicy::default(), now).err();
        let expected = rule.unwrap_or_default();
        assert_eq!(why.is_some(), rule.is_some(), "{now}: {why:?}");
        assert!(why.unwrap_or_default().starts_with(expected), "{now}");
    }
}

#[test]
fn a_real_enclave_needs_configuration_and_hardening() {
    let Some(real) = Real::read("sgx_quote") else { return };
    let standing = real.judge(&lenient(), THEN).unwrap();
    assert_eq!(standing.status, TcbStatus::ConfigurationAndSWHardeningNeeded);
    let advisories: Vec<_> = standing.advisories.iter().map(String::as_str).collect();
    assert_eq!(advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    let why = real.judge(&TcbPolicy::default(), THEN).unwrap_err();
    assert!(why.starts_with("dcap.tcb_status"), "{why}");
    assert!(why.contains("INTEL-SA-00615"), "{why}");
}

#[test]
fn a_real_machine_that_is_older_than_every_level_is_refused() {
    let Some(real) = Real::read("tdx_quote_outdated") else { return };
    let why = real.judge(&lenient(), "2026-03-01T00:00:00Z").unwrap_err();
    assert!(why.starts_with("dcap.tcb_level"), "{why}");
    let quote = Quote::parse(&real.quote).unwrap();
    let Body::Domain(report) = &quote.body else { panic!("it is of a machine") };
    assert_eq!(quote.version, 5);
    assert_eq!(report.more.unwrap().tee_tcb_svn_2[..3], [13, 1, 3]);
}

#[test]
fn real_quotes_without_collateral_are_genuine() {
    let Some(folder) = corpus("tdx") else { return };
    for name in ["sample__tdx-quote.hex", "sample__quote-from-tappd.hex"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let quote = hex::decode(text.trim().trim_start_matches("0x")).unwrap();
        let quote = Quote::parse(&quote).unwrap();
        let mut checks = Checklist::strict();
        let roots = Roots::intel().unwrap();
        let platform = authenticate(&quote, &roots, at(THEN), &mut checks).unwrap().unwrap();
        assert_eq!((quote.version, quote.tee()), (4, Tee::Tdx));
        assert_eq!(platform.pck.ca, Ca::Platform);
        authenticate(&quote, &Intel::new().roots(), at(THEN), &mut checks).unwrap_err();
    }
}

#[test]
fn collateral_of_another_platform_is_refused() {
    let (Some(one), Some(other)) = (Real::read("tdx_quote"), Real::read("tdx_quote_outdated"))
    else {
        return;
    };
    let mixed = Real { quote: other.quote, collateral: one.collateral };
    let why = mixed.judge(&lenient(), "2026-03-01T00:00:00Z").unwrap_err();
    assert!(why.starts_with("dcap.revocation_lists"), "{why}");
}

/// Every bit of a quote counts, but for how what is between its certificates' lines is written.
fn assert_every_bit_counts(name: &str) {
    let Some(real) = Real::read(name) else { return };
    let collateral = Collateral::parse(&real.collateral).unwrap();
    let (roots, now) = (Roots::intel().unwrap(), at(THEN));
    let original = Quote::parse(&real.quote).unwrap();
    let chain = Chain::from_pem(original.pck_chain).unwrap();
    judge(&real.quote, &collateral, &roots, &lenient(), now).unwrap();
    let mut harmless = 0;
    for bit in 0..real.quote.len() * 8 {
        let mut quote = real.quote.clone();
        quote[bit / 8] ^= 1 << (bit % 8);
        if judge(&quote, &collateral, &roots, &lenient(), now).is_ok() {
            let quote = Quote::parse(&quote).unwrap();
            assert_eq!(Chain::from_pem(quote.pck_chain).unwrap(), chain, "bit {bit}");
            assert_eq!(quote.signed, original.signed, "bit {bit}");
            harmless += 1;
        }
    }
    // The zero behind the certificates may as well be a space.
    assert_eq!(harmless, 1);
}

#[test]
fn every_flipped_bit_of_a_real_machines_quote_is_noticed() {
    assert_every_bit_counts("tdx_quote");
}

#[test]
fn every_flipped_bit_of_a_real_enclaves_quote_is_noticed() {
    assert_every_bit_counts("sgx_quote");
}

/// The same of collateral, of every byte of which one bit is flipped. What it does not need may change.
#[test]
fn a_flipped_bit_anywhere_in_real_collateral_is_noticed() {
    let Some(real) = Real::read("tdx_quote") else { return };
    let original = Collateral::parse(&real.collateral).unwrap();
    let (roots, now, policy) = (&Roots::intel().unwrap(), at(THEN), &lenient());
    let quote = Quote::parse(&real.quote).unwrap();
    let platform = authenticate(&quote, roots, now, &mut Checklist::strict()).unwrap();
    let terms = Terms { roots, policy, grace: Duration::ZERO, now };
    let mut refused = 0;
    for byte in 0..real.collateral.len() {
        let mut json = real.collateral.clone();
        json[byte] ^= 1 << (byte % 8);
        let Ok(collateral) = Collateral::parse(&json) else { continue };
        let mut checks = Checklist::strict();
        if appraise(&quote, platform.as_ref(), Some(&collateral), terms, &mut checks).is_ok() {
            assert_eq!(meaning(&collateral), meaning(&original), "byte {byte}");
        } else {
            refused += 1;
        }
    }
    assert!(5_000 < refused, "{refused}");
}

/// What collateral says, however it is written.
fn meaning(collateral: &Collateral) -> (Collateral, [Chain; 2]) {
    let chains = [&collateral.tcb_info_issuer_chain, &collateral.qe_identity_issuer_chain];
    let chains = chains.map(|pem| Chain::from_pem(pem.as_bytes()).unwrap());
    let without = Collateral {
        tcb_info_issuer_chain: String::new(),
        qe_identity_issuer_chain: String::new(),
        ..collateral.clone()
    };
    (without, chains)
}

#[test]
fn a_real_quote_that_is_cut_off_is_refused() {
    for (name, padding) in [("tdx_quote", 70), ("sgx_quote", 0)] {
        let Some(real) = Real::read(name) else { return };
        for end in 0..real.quote.len() - padding {
            assert_eq!(Quote::parse(&real.quote[..end]).unwrap_err(), QuoteError::Short);
        }
        Quote::parse(&real.quote[..real.quote.len() - padding]).unwrap();
        let more = [&real.quote[..], &[1]].concat();
        assert_eq!(Quote::parse(&more).unwrap_err(), QuoteError::Trailing);
    }
}
