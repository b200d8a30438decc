//! `size`, `envelope`, `algorithm`, `signature`.

use super::super::MAX_DOCUMENT;
use super::super::fixture::{Item, alien_pki, join, parts, pki, sign};
use super::{assert_breaks, assert_kept, by, draft, with};
use crate::aws_nitro::FLAVOUR;

#[test]
fn size_is_looked_at_before_anything_else() {
    let document = by(pki());
    assert_kept(&document);
    let padded = [document, vec![0; MAX_DOCUMENT]].concat();
    assert_breaks(&padded, "size", "bytes; 16640 are allowed");
    // As much as fits is read, and refused for what it is.
    assert_breaks(&vec![0x9f; MAX_DOCUMENT], "envelope", "no array of four parts");
}

#[test]
fn envelope_has_four_parts_and_no_more() {
    let document = by(pki());
    let [protected, unprotected, payload, signature] = parts(&document);
    let three = [&[0x83], &document[1..]].concat();
    assert_breaks(&three, "envelope", "no array of four parts");
    let five = [&[0x85], &document[1..], &[0]].concat();
    assert_breaks(&five, "envelope", "no array of four parts");
    let marked = [&[0x9f], &document[1..], &[0xff]].concat();
    assert_breaks(&marked, "envelope", "no array of four parts");
    assert_breaks(&[document.as_slice(), &[0]].concat(), "envelope", "1 bytes follow its end");
    assert_breaks(&[document.as_slice(), &document].concat(), "envelope", "follow its end");
    let empty = join(&[protected, unprotected, Vec::new(), signature]);
    assert_breaks(&empty, "envelope", "payload has 0 bytes");
    // The longest payload that is allowed, and one byte more.
    for (length, rule, why) in [(16_384, "payload", ""), (16_385, "envelope", "16385 bytes")] {
        assert_breaks(&sign(&vec![0; length], pki()), rule, why);
    }
    assert!(!payload.is_empty());
}

#[test]
fn envelope_may_have_its_own_tag_once_and_no_other() {
    let document = by(pki());
    assert_kept(&[&[0xd2], document.as_slice()].concat());
    assert_breaks(&[&[0xd1], document.as_slice()].concat(), "envelope", "tag is another");
    assert_breaks(&[&[0xd2, 0xd2], document.as_slice()].concat(), "envelope", "no COSE_Sign1");
    assert_breaks(&[&[0xd8, 61, 0xd2], document.as_slice()].concat(), "envelope", "tag is another");
}

#[test]
fn envelope_has_an_empty_unprotected_header() {
    let [protected, _, payload, signature] = parts(&by(pki()));
    // {4: h'31'}, {1: -35}, an empty map with an end mark, and no map at all.
    for header in ["a1044131", "a1013822", "bfff", "40", "f6", "80"] {
        let header = hex::decode(header).unwrap();
        let document = join(&[protected.clone(), header, payload.clone(), signature.clone()]);
        assert_breaks(&document, "envelope", "");
    }
}

#[test]
fn algorithm_is_es384_in_the_protected_header_and_nothing_else() {
    let [_, unprotected, payload, signature] = parts(&by(pki()));
    // ES256, ES512, none of QEMU's (-1), none at all, ES384 written longer, twice, with a key id, as
    // text, with an end mark, and nothing.
    let headers = [
        "a10126",
        "a1013823",
        "a10120",
        "a0",
        "a101390022",
        "a2013822013822",
        "a20138220441aa",
        "a101654553333834",
        "bf013822ff",
        "",
    ];
    for header in headers {
        let header = hex::decode(header).unwrap();
        let parts = [header, unprotected.clone(), payload.clone(), signature.clone()];
        let broken = super::broken_at(&join(&parts), Some(crate::fixture::NOW), &FLAVOUR);
        let rules: Vec<_> = broken.iter().map(|(rule, _)| *rule).collect();
        // It is part of what is signed, too.
        assert_eq!(rules, ["aws_nitro.algorithm", "aws_nitro.signature"], "{parts:?}");
    }
}

#[test]
fn signature_has_96_bytes_and_is_by_the_last_certificate() {
    let [protected, unprotected, payload, signature] = parts(&by(pki()));
    let with = |signature: &[u8]| {
        join(&[protected.clone(), unprotected.clone(), payload.clone(), signature.to_vec()])
    };
    assert_kept(&with(&signature));
    for wrong in [&signature[..95], &[&signature[..], &[0]].concat(), &signature[1..], &[]] {
        assert_breaks(&with(wrong), "signature", "one of ES384 has 96");
    }
    assert_breaks(&with(&[0; 96]), "signature", "did not sign");
    // The same two numbers in ASN.1, as certificates have them, are no signature here.
    let asn1 = [&[0x30, 0x64, 0x02, 0x30][..], &signature[..48], &[0x02, 0x30], &signature[48..]];
    assert_breaks(&with(&asn1.concat()), "signature", "102 bytes");
    // Another key's, over the very payload, and the right key's over another payload.
    let [.., alien] = parts(&sign(&payload, alien_pki()));
    assert_breaks(&with(&alien), "signature", "did not sign");
    let mut draft = draft();
    draft.timestamp += 1;
    let [.., other] = parts(&draft.document(&FLAVOUR, pki()));
    assert_breaks(&with(&other), "signature", "did not sign");
}

#[test]
fn every_bit_of_a_synthetic_document_counts() {
    let document = by(pki());
    for (index, bit) in (0..document.len()).map(|index| (index, index % 8)) {
        let mut flipped = document.clone();
        flipped[index] ^= 1 << bit;
        let broken = super::broken_at(&flipped, Some(crate::fixture::NOW), &FLAVOUR);
        assert!(!broken.is_empty(), "bit {bit} of byte {index}");
    }
}

#[test]
fn nested_and_huge_items_are_refused_at_once() {
    let nested = vec![0x81; 10_000];
    let huge = [&[0x9b][..], &[0x7f; 8]].concat();
    let huge_bytes = [&[0x84, 0x5b][..], &[0xff; 8]].concat();
    for bytes in [nested.clone(), huge.clone(), huge_bytes, Vec::new(), vec![0xff]] {
        assert_breaks(&bytes, "envelope", "");
    }
    // And within a payload: in place of a field, and of a certificate in the bundle.
    let huge_map = [&[0xbb][..], &[0xff; 8]].concat();
    let text = [&[0x7b][..], &[0xff; 8]].concat();
    for raw in [nested, huge, huge_map, text] {
        assert_breaks(&with("user_data", &Item::Raw(raw.clone())), "payload", "");
        let bundle = Item::Array(vec![Item::Raw(raw)]);
        assert_breaks(&with("cabundle", &bundle), "payload", "");
    }
}
