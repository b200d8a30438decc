//! `freshness`, `nonce`, `binding`, `public_key`.

use super::super::fixture::{Draft, pki};
use super::{BINDING, NONCE, SPKI, assert_breaks, assert_kept, broken_at, by, draft};
use crate::aws_nitro::FLAVOUR;
use crate::checklist::{Checklist, Outcome};
use crate::fixture::NOW;
use crate::nitro::Debugging;
use crate::nitro::judge::{Terms, judge};

fn document(edit: impl FnOnce(&mut Draft)) -> Vec<u8> {
    let mut draft = draft();
    edit(&mut draft);
    draft.document(&FLAVOUR, pki())
}

#[test]
fn freshness_is_five_minutes_in_either_direction_while_certificates_are_valid() {
    let now = NOW.as_secs() * 1_000;
    for made in [now - 300_000, now + 300_000, now - 1, now + 1] {
        assert_kept(&document(|draft| draft.timestamp = made));
    }
    for made in [now - 300_001, now + 300_001, now - 6_016_000, 1, u64::MAX] {
        let stale = document(|draft| draft.timestamp = made);
        assert_breaks(&stale, "freshness", "s from now");
    }
}

#[test]
fn nonce_is_the_verifiers_and_no_prefix_of_it() {
    let longer = [NONCE, &[7]].concat();
    for other in [&NONCE[..31], &longer, &[], &[6; 32], BINDING] {
        let document = document(|draft| draft.nonce = Some(other.to_vec()));
        assert_breaks(&document, "nonce", "it carries other nonce");
    }
    assert_breaks(&document(|draft| draft.nonce = None), "nonce", "it carries no nonce");
}

#[test]
fn binding_is_the_user_data_and_no_part_of_it() {
    let longer = [BINDING, &[8]].concat();
    for other in [&BINDING[..47], &BINDING[..32], &longer, &[], &[9; 48], NONCE] {
        let document = document(|draft| draft.user_data = Some(other.to_vec()));
        assert_breaks(&document, "binding", "it carries other user data");
    }
    assert_breaks(&document(|draft| draft.user_data = None), "binding", "no user data");
    // Elsewhere in the document it binds nothing.
    let elsewhere = document(|draft| {
        draft.user_data = None;
        draft.public_key = Some(BINDING.to_vec());
    });
    let broken = broken_at(&elsewhere, Some(NOW), &FLAVOUR);
    let rules: Vec<_> = broken.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, ["aws_nitro.binding", "aws_nitro.public_key"]);
}

#[test]
fn public_key_is_the_one_to_be_certified_if_there_is_one() {
    assert_kept(&document(|draft| draft.public_key = Some(SPKI.to_vec())));
    assert_kept(&document(|draft| draft.public_key = Some(Vec::new())));
    let swapped = document(|draft| draft.public_key = Some(b"another key".to_vec()));
    assert_breaks(&swapped, "public_key", "it carries the key with the SHA-256");
}

/// What was not looked at is left open, and admits nobody.
#[test]
fn nothing_is_kept_that_is_not_known() {
    let document = document(|draft| draft.public_key = Some(SPKI.to_vec()));
    let terms = Terms {
        at: None,
        nonce: None,
        binding: None,
        key: None,
        roots: &[pki().root()],
        references: None,
        debugging: &Debugging::Refused,
    };
    let mut checks = Checklist::exhaustive();
    judge(&document, &FLAVOUR, &terms, &mut checks).unwrap();
    let open = checks.checks().filter(|(_, outcome)| matches!(outcome, Outcome::Open(_)));
    let open: Vec<_> = open.map(|(rule, _)| rule.id.trim_start_matches("aws_nitro.")).collect();
    assert_eq!(open, ["freshness", "nonce", "binding", "public_key", "software"]);
    let first = judge(&document, &FLAVOUR, &terms, &mut Checklist::strict()).unwrap_err();
    assert_eq!(first.rule, &FLAVOUR.rules.freshness);
    assert_kept(&by(pki()));
}

#[test]
fn without_a_document_every_rule_about_it_is_open() {
    let mut checks = Checklist::exhaustive();
    let terms = Terms {
        at: Some(NOW),
        nonce: Some(NONCE),
        binding: Some(BINDING),
        key: None,
        roots: &[pki().root()],
        references: None,
        debugging: &Debugging::Refused,
    };
    assert!(judge(&[0x84], &FLAVOUR, &terms, &mut checks).unwrap().is_none());
    let outcomes: Vec<_> = checks.checks().collect();
    assert_eq!(outcomes.len(), 2 + FLAVOUR.rules.about_the_payload().len());
    assert!(outcomes[2..].iter().all(|(_, outcome)| matches!(outcome, Outcome::Open(_))));
}
