//! Bytes that are no structures of a TPM's, and settings that make no sense.

use super::super::fixture::{AkKind, Authority, EkKind, Machine, PCRS};
use super::super::rules::{Expected, Quoted, quoted};
use super::super::structure::{Attest, Hash, Pcrs, Public, Selection, Signature};
use super::super::wire::{Answer, Challenge, Hello};
use super::super::{CollectorConfig, Config};
use crate::checklist::Checklist;

fn selection() -> Selection {
    Selection { bank: Hash::Sha256, pcrs: PCRS.into() }
}

#[test]
fn every_bit_and_every_byte_of_a_quote_counts() {
    for kind in [AkKind::P256, AkKind::RsaSsa] {
        let machine = Machine::with(&Authority::root("maker"), EkKind::P256, kind);
        let (attest, signature) = machine.quote(&[9; 32], &selection());
        let ak = Public::parse(&machine.hello.ak.0).unwrap();
        let values = PCRS.map(|pcr| (pcr, vec![pcr; 32])).into();
        let pcrs = Pcrs { bank: Hash::Sha256, values };
        let judge = |attest: &[u8], signature: &[u8]| {
            let signature = Some(signature);
            let bytes = Quoted { attest, signature, ak: Some(&ak), pcrs: Some(&pcrs) };
            let expected = Expected { extra: Some(&[9; 32]), selection: Some(&selection()) };
            quoted(bytes, expected, &mut Checklist::strict()).map(drop)
        };
        judge(&attest, &signature).unwrap();
        for bit in 0..attest.len() * 8 {
            let mut flipped = attest.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            judge(&flipped, &signature).unwrap_err();
        }
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            judge(&attest, &flipped).unwrap_err();
        }
        for length in 0..attest.len() {
            judge(&attest[..length], &signature).unwrap_err();
            Attest::parse(&attest[..length]).unwrap_err();
        }
        for length in 0..signature.len() {
            judge(&attest, &signature[..length]).unwrap_err();
            Signature::parse(&signature[..length]).unwrap_err();
        }
        for length in 0..machine.hello.ak.0.len() {
            Public::parse(&machine.hello.ak.0[..length]).unwrap_err();
        }
    }
}

#[test]
fn lengths_are_not_believed() {
    let machine = Machine::new(&Authority::root("maker"));
    let (attest, _) = machine.quote(&[], &selection());
    let mut huge = attest;
    huge[6..8].copy_from_slice(&[0xff, 0xff]);
    Attest::parse(&huge).unwrap_err();
    let mut name = machine.hello.ek.0.clone();
    name[..2].copy_from_slice(&[0xff, 0xff]);
    Public::parse(&name).unwrap_err();
    Public::parse(&[machine.hello.ek.0.as_slice(), &[0]].concat()).unwrap_err();
}

#[test]
fn messages_say_what_they_have_to_and_nothing_more() {
    let machine = Machine::new(&Authority::root("maker"));
    let mut hello = serde_json::to_value(&machine.hello).unwrap();
    Hello::parse(hello.to_string().as_bytes()).unwrap();
    let certificate = hello["ek_certificates"][0].clone();
    hello["ek_certificates"] = vec![certificate; 10].into();
    Hello::parse(hello.to_string().as_bytes()).unwrap_err();
    hello["ek_certificates"] = serde_json::json!([]);
    Hello::parse(hello.to_string().as_bytes()).unwrap_err();
    for message in ["{}", "[]", "", "null", r#"{"secret":"","quote":"","signature":""}"#] {
        Hello::parse(message.as_bytes()).unwrap_err();
        Answer::parse(message.as_bytes()).unwrap_err();
        Challenge::parse(message.as_bytes()).unwrap_err();
    }
    let answer = r#"{"secret":"","quote":"","signature":"","pcrs":{"0":""}}"#;
    Answer::parse(answer.as_bytes()).unwrap();
    Answer::parse(answer.replace("\"0\":\"\"", "\"0\":\"\",\"0\":\"\"").as_bytes()).unwrap_err();
    Answer::parse(answer.replace("\"0\"", "\"256\"").as_bytes()).unwrap_err();
    Answer::parse(answer.replace("{\"secret", "{\"more\":1,\"secret").as_bytes()).unwrap_err();
    let shown = format!("{:?}", Answer::parse(answer.as_bytes()).unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

fn problems(text: &str) -> Vec<String> {
    let base = "[reference-values]\npath = \"/r\"\nkeys = [\"/k\"]\n";
    let config: Config = toml::from_str(&format!("{text}\n{base}")).unwrap();
    config.problems().into_iter().map(|problem| problem.key).collect()
}

#[test]
fn what_would_admit_anybody_or_nobody_is_refused_at_start() {
    assert_eq!(problems("ek-roots = [\"/r\"]\npcrs = [0, 4]"), [""; 0]);
    assert_eq!(problems("ek-roots = []\npcrs = [0]"), ["ek-roots"]);
    assert_eq!(problems("ek-roots = [\"/r\"]\npcrs = []"), ["pcrs"]);
    assert_eq!(problems("ek-roots = [\"/r\"]\npcrs = [24]"), ["pcrs"]);
    let list = |list: &str| problems(&format!("ek-roots=[\"/r\"]\npcrs=[0]\nek-allow-list={list}"));
    assert_eq!(list("[]"), ["ek-allow-list"]);
    assert_eq!(list("[\"AB\"]"), ["ek-allow-list"]);
    assert_eq!(list(&format!("[\"{}\"]", "ab".repeat(32))), [""; 0]);
    let without = toml::from_str::<Config>("ek-roots = [\"/r\"]\npcrs = [0]").unwrap_err();
    assert!(without.to_string().contains("reference-values"), "{without}");
    let typo = "ek-roots=[]\npcrs=[0]\nallow=1\n[reference-values]\npath=\"\"\nkeys=[]";
    toml::from_str::<Config>(typo).unwrap_err();
}

#[test]
fn a_device_has_an_address() {
    for good in ["/dev/tpmrm0", "unix:/run/swtpm.sock", "tcp:localhost:2321"] {
        let config = CollectorConfig { device: good.into(), ..CollectorConfig::default() };
        assert_eq!(config.problems(), []);
    }
    for bad in ["", "tpm0", "unix:relative", "tcp:host", "tcp::1", "tcp:host:0", "tcp:host:65536"] {
        let config = CollectorConfig { device: bad.into(), ..CollectorConfig::default() };
        assert_eq!(config.problems()[0].key, "device", "{bad}");
    }
}
