//! `payload`: AWS' fields, each within its bounds.

use aws_nitro_enclaves_nsm_api::api::{AttestationDoc, Digest};

use super::super::fixture::{Item, pki, sign};
use super::{assert_breaks, assert_kept, draft, members, with};

fn payload(members: Vec<(Item, Item)>) -> Vec<u8> {
    sign(&Item::Map(members).encode(), pki())
}

fn is(key: &Item, name: &str) -> bool {
    matches!(key, Item::Text(key) if key == name)
}

fn without(name: &str) -> Vec<u8> {
    payload(members().into_iter().filter(|(key, _)| !is(key, name)).collect())
}

const MANDATORY: [&str; 6] =
    ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"];

/// The types of AWS' own client, and their encoder.
#[test]
fn payload_as_aws_own_types_write_it_is_read() {
    let draft = draft();
    let index = |index: &u64| usize::try_from(*index).unwrap();
    let registers = draft.registers.iter().map(|(at, value)| (index(at), value.clone().into()));
    let document = AttestationDoc {
        module_id: draft.module_id.clone(),
        digest: Digest::SHA384,
        timestamp: draft.timestamp,
        pcrs: registers.collect(),
        certificate: pki().leaf.clone().into(),
        cabundle: pki().bundle.iter().map(|der| der.clone().into()).collect(),
        public_key: None,
        user_data: draft.user_data.clone().map(Into::into),
        nonce: draft.nonce.clone().map(Into::into),
    };
    assert_kept(&sign(&document.to_binary(), pki()));
}

#[test]
fn payload_may_mark_its_end_and_come_in_any_order() {
    let mut members = members();
    members.reverse();
    assert_kept(&payload(members.clone()));
    for (key, value) in &mut members {
        if let Item::Map(entries) = value {
            *value = Item::MarkedMap(entries.clone());
        } else if let Item::Array(items) = value {
            *value = Item::MarkedArray(items.clone());
        }
        assert!(matches!(key, Item::Text(_)));
    }
    assert_kept(&sign(&Item::MarkedMap(members.clone()).encode(), pki()));
    // A mark that is missing, and one too many.
    let open = Item::MarkedMap(members).encode();
    assert_breaks(&sign(&open[..open.len() - 1], pki()), "payload", "end of input");
    assert_breaks(&sign(&[open, vec![0xff]].concat(), pki()), "payload", "follow its end");
}

#[test]
fn payload_has_every_mandatory_field_and_none_is_null() {
    for name in MANDATORY {
        assert_breaks(&without(name), "payload", "missing");
        assert_breaks(&with(name, &Item::Null), "payload", "not as AWS describes it");
    }
}

#[test]
fn payload_may_lack_optional_fields_or_have_them_null() {
    assert_kept(&without("public_key"));
    assert_kept(&with("public_key", &Item::Null));
    // A field of no bytes is not refused for it.
    assert_kept(&with("public_key", &Item::Bytes(Vec::new())));
    // CBOR has a value of its own for what is not defined; AWS does not use it.
    assert_breaks(&with("public_key", &Item::Raw(vec![0xf7])), "payload", "not as AWS");
}

#[test]
fn payload_has_no_field_twice() {
    for name in MANDATORY.into_iter().chain(["public_key", "user_data", "nonce"]) {
        let mut members = members();
        let twin = members.iter().find(|(key, _)| is(key, name)).unwrap().clone();
        members.push(twin);
        assert_breaks(&payload(members), "payload", &format!("`{name}` is there twice"));
    }
    // Not even if the first one says nothing.
    let mut members = members();
    members.insert(0, (Item::text("nonce"), Item::Null));
    assert_breaks(&payload(members), "payload", "`nonce` is there twice");
}

#[test]
fn payload_has_no_field_that_aws_does_not_describe() {
    for name in ["nitrotpm_pcrs", "debug", "PCRS", "", "pcrs\0", "\u{1b}[2J"] {
        let mut members = members();
        members.push((Item::text(name), Item::Number(1)));
        assert_breaks(&payload(members), "payload", "is no field of it");
    }
    let mut members = members();
    members.push((Item::Number(1), Item::Number(1)));
    assert_breaks(&payload(members), "payload", "not as AWS");
}

#[test]
fn payload_has_nothing_behind_it_and_is_a_map() {
    let trailing = [Item::Map(members()).encode(), vec![0xf6]].concat();
    assert_breaks(&sign(&trailing, pki()), "payload", "1 bytes follow its end");
    assert_breaks(&sign(&Item::Array(Vec::new()).encode(), pki()), "payload", "not as AWS");
    assert_breaks(&sign(&Item::Map(Vec::new()).encode(), pki()), "payload", "missing");
}

#[test]
fn payload_names_its_module_time_and_digest() {
    assert_breaks(&with("module_id", &Item::text("")), "payload", "`module_id` is empty");
    assert_breaks(&with("module_id", &Item::Bytes(b"i-0".to_vec())), "payload", "not as AWS");
    assert_breaks(&with("timestamp", &Item::Number(0)), "payload", "`timestamp` is empty");
    assert_breaks(&with("timestamp", &Item::Raw(vec![0x20])), "payload", "not as AWS");
    for digest in ["SHA256", "SHA512", "sha384", ""] {
        assert_breaks(&with("digest", &Item::text(digest)), "payload", "and not `SHA384`");
    }
}

#[test]
fn payload_has_up_to_32_registers_of_48_bytes() {
    let value = |length| Item::Bytes(vec![1; length]);
    let registers = |indices: &mut dyn Iterator<Item = u64>| {
        Item::Map(indices.map(|index| (Item::Number(index), value(48))).collect())
    };
    assert_kept(&with("pcrs", &registers(&mut (0..32))));
    assert_breaks(&with("pcrs", &registers(&mut (0..33))), "payload", "beyond 31");
    assert_breaks(&with("pcrs", &registers(&mut [0, 1, 2, 32].into_iter())), "payload", "beyond");
    assert_breaks(&with("pcrs", &registers(&mut [0, 1, 2, 256].into_iter())), "payload", "beyond");
    assert_breaks(&with("pcrs", &registers(&mut [0, 1, 2, 1].into_iter())), "payload", "twice");
    assert_breaks(&with("pcrs", &Item::Map(Vec::new())), "payload", "the registers` is empty");
    for length in [0, 32, 47, 49, 64] {
        let short = Item::Map(vec![(Item::Number(0), value(length))]);
        assert_breaks(&with("pcrs", &short), "payload", &format!("has {length} bytes"));
    }
    for key in [Item::text("0"), Item::Raw(vec![0x20]), Item::Raw(vec![0xf9, 0, 0])] {
        assert_breaks(&with("pcrs", &Item::Map(vec![(key, value(48))])), "payload", "not as AWS");
    }
}

#[test]
fn payload_has_one_to_eight_certificates_of_1024_bytes_at_most() {
    let bundle = |sizes: &[usize]| {
        Item::Array(sizes.iter().map(|size| Item::Bytes(vec![0x30; *size])).collect())
    };
    assert_breaks(&with("cabundle", &bundle(&[])), "payload", "`cabundle` is empty");
    assert_breaks(&with("cabundle", &bundle(&[1; 9])), "payload", "more than 8");
    for size in [0, 1_025] {
        assert_breaks(&with("cabundle", &bundle(&[1, size])), "payload", "1024 are allowed");
        let certificate = Item::Bytes(vec![0x30; size]);
        assert_breaks(&with("certificate", &certificate), "payload", "1024 are allowed");
    }
}

/// AWS' text says 512 for two of them, and its CDDL 1,024 for all.
#[test]
fn payload_has_free_fields_of_1024_bytes_at_most() {
    for name in ["public_key", "user_data", "nonce"] {
        let long = Item::Bytes(vec![1; 1_025]);
        assert_breaks(&with(name, &long), "payload", "has 1025 bytes; 1024 are allowed");
        assert_breaks(&with(name, &Item::text("text")), "payload", "not as AWS");
        // A byte string in pieces is none.
        let pieces = Item::Raw(hex::decode("5f41014102ff").unwrap());
        assert_breaks(&with(name, &pieces), "payload", "not as AWS");
    }
    let fits = with("public_key", &Item::Bytes(vec![1; 1_024]));
    assert_breaks(&fits, "public_key", "it carries the key with the SHA-256");
}
