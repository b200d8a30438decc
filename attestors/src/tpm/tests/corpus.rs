//! A quote, keys and certificates of a real software TPM.

use std::path::Path;

use claviger_core::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::certificate::EkCertificate;
use super::super::chain::{ChainError, Roots};
use super::super::structure::{Attest, Hash, Public, Signature};
use super::super::wire::Values;
use crate::fixture::corpus::corpus;
use crate::inspect::Verdict;
use crate::possession::Base64;
use crate::tpm::inspect;

/// When the TPM of the corpus was made, and a while later.
const NOW: UnixTime = UnixTime::from_secs(1_795_300_000);

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn pem(folder: &Path, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(&read(folder, name)).unwrap().to_vec()
}

#[test]
fn names_and_keys_are_what_the_tpm_and_its_maker_say() {
    let Some(folder) = corpus("tpm") else { return };
    let ak = Public::parse(&read(&folder, "ak.tpm2b")).unwrap();
    assert_eq!(ak.name(), read(&folder, "ak.name"));
    let certificate = EkCertificate::parse(&read(&folder, "ek.crt")).unwrap();
    certificate.check_purpose().unwrap();
    let ek = Public::parse(&read(&folder, "ek.tpm2b")).unwrap();
    assert!(certificate.is_for(&ek.key) && !certificate.is_for(&ak.key));
    assert_eq!(
        (certificate.model.as_str(), certificate.manufacturer.as_str()),
        ("swtpm", "00001014")
    );
}

#[test]
fn the_certificate_leads_to_its_root() {
    let Some(folder) = corpus("tpm") else { return };
    let leaf = read(&folder, "ek.crt");
    let (middle, root) =
        (pem(&folder, "issuercert.pem"), pem(&folder, "swtpm-localca-rootca-cert.pem"));
    let vouch = |roots: &[&Vec<u8>], sent: &[&Vec<u8>], now| {
        let own = |list: &[&Vec<u8>]| list.iter().map(|der| (*der).clone()).collect::<Vec<_>>();
        Roots::of(&own(roots), &[]).vouch(&leaf, &own(sent), now)
    };
    vouch(&[&root], &[&middle], NOW).unwrap();
    vouch(&[&middle], &[], NOW).unwrap();
    assert!(matches!(vouch(&[&root], &[], NOW), Err(ChainError::Unknown(_))));
    assert_eq!(
        vouch(&[&root], &[&middle], UnixTime::from_secs(1_700_000_000)),
        Err(ChainError::Date)
    );
    for bit in 0..leaf.len() * 8 {
        let mut flipped = leaf.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        Roots::of(std::slice::from_ref(&middle), &[]).vouch(&flipped, &[], NOW).unwrap_err();
    }
}

#[test]
fn the_quote_is_the_aks_and_no_bit_of_it_can_be_another() {
    let Some(folder) = corpus("tpm") else { return };
    let ak = Public::parse(&read(&folder, "ak.tpm2b")).unwrap();
    let (quote, signature) = (read(&folder, "quote.msg"), read(&folder, "quote.sig"));
    let signature = Signature::parse(&signature).unwrap();
    assert!(signature.is_by(&ak.key, &quote));
    for bit in 0..quote.len() * 8 {
        let mut flipped = quote.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!signature.is_by(&ak.key, &flipped));
    }
    let attest = Attest::parse(&quote).unwrap();
    let nonce = String::from_utf8(read(&folder, "nonce.hex")).unwrap();
    assert_eq!(hex::encode(attest.extra), nonce.trim());
    let asked = attest.quote.unwrap().selection;
    assert_eq!((asked.bank, asked.pcrs), (Hash::Sha256, (0..10).chain([14]).collect()));
}

/// The PCRs of a TPM on which only PCR 7 was extended, with the value in the tool's own file.
fn values(folder: &Path) -> Values {
    let file = read(folder, "quote.pcrs");
    let zero = |pcr: u8| (pcr, Base64(vec![0; 32]));
    let at = file.windows(4).position(|four| four == [0xdf, 0x9d, 0xab, 0x21]).unwrap();
    let extended = Base64(file[at..at + 32].to_vec());
    (0..10).chain([14]).map(zero).chain([(7, extended)]).collect()
}

#[test]
fn the_quote_can_be_inspected() {
    let Some(folder) = corpus("tpm") else { return };
    let (quote, ak) = (read(&folder, "quote.msg"), read(&folder, "ak.tpm2b"));
    let mut given = crate::inspect::Given {
        nonce: hex::decode(String::from_utf8(read(&folder, "nonce.hex")).unwrap().trim()).ok(),
        collateral: Some([ak.as_slice(), &read(&folder, "quote.sig")].concat()),
        at: Some(NOW),
        ..crate::inspect::Given::NOTHING
    };
    let inspection = inspect(&quote, &given).unwrap();
    assert_eq!(inspection.verdict(), Verdict::Open);
    assert!(
        inspection
            .fields
            .contains(&("pcr-selection".into(), "sha256:0,1,2,3,4,5,6,7,8,9,14".into()))
    );
    // With the values, only what somebody else has to say is open.
    let record = serde_json::json!({
        "quote": Base64(quote.clone()),
        "pcrs": values(&folder),
    });
    let inspection = inspect(record.to_string().as_bytes(), &given).unwrap();
    let open: Vec<_> = inspection
        .checks
        .checks()
        .filter(|(_, outcome)| **outcome != crate::checklist::Outcome::Kept)
        .map(|(rule, _)| rule.id)
        .collect();
    assert_eq!(open, ["tpm.pcr_selection", "reference_values"]);
    given.nonce = Some(vec![0; 32]);
    assert_eq!(inspect(&quote, &given).unwrap().verdict(), Verdict::Broken);
    // The EK's certificate beside it is judged by the roots that are given.
    given.certificates = vec![pem(&folder, "issuercert.pem"), read(&folder, "ek.crt")];
    given.roots = vec![pem(&folder, "swtpm-localca-rootca-cert.pem")];
    let inspection = inspect(&quote, &given).unwrap();
    let chain = inspection.checks.checks().find(|(rule, _)| rule.id == "tpm.ek_chain");
    assert_eq!(chain.unwrap().1, &crate::checklist::Outcome::Kept);
}
