//! `debug`, `debug_parent`, and reference values.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::super::fixture::{Draft, pki, references};
use super::{BINDING, NONCE, draft};
use crate::aws_nitro::FLAVOUR;
use crate::checklist::Checklist;
use crate::fixture::NOW;
use crate::nitro::fixture::{INSTANCE, reference};
use crate::nitro::judge::{Terms, judge};
use crate::nitro::{Debugging, Parents};
use crate::references::{Config, References};

const ROLE: &str = "arn:aws:iam::123456789012:role/dev";

fn judged(
    edit: impl FnOnce(&mut Draft),
    debugging: &Debugging,
    images: &Config,
) -> Result<bool, String> {
    let mut draft = draft();
    edit(&mut draft);
    let references = References::open(images, FLAVOUR.references).unwrap();
    let terms = Terms {
        at: Some(NOW),
        nonce: Some(NONCE),
        binding: Some(BINDING),
        key: None,
        roots: &[pki().root()],
        references: Some(&references),
        debugging,
    };
    let document = draft.document(&FLAVOUR, pki());
    let mut checks = Checklist::strict();
    let judged = judge(&document, &FLAVOUR, &terms, &mut checks);
    let judged = judged.map_err(|broken| broken.to_string())?.unwrap();
    checks.kept().unwrap();
    // Software is known, or there is none that could be.
    assert_eq!(judged.image.is_some(), !judged.is_debug);
    Ok(judged.is_debug)
}

fn image() -> (Config, TempDir) {
    reference("aws_nitro", 0)
}

fn parents(names: &[&str]) -> Debugging {
    let names: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
    Debugging::Of(Parents::new(&names))
}

#[test]
fn a_parents_registers_are_computed_as_aws_documents_it() {
    // Computed with Python's `hashlib`.
    assert_eq!(
        hex::encode(extended(ROLE)),
        "5cf8c6635803008a3548658090cbc5ff8644a0afb4a54237\
         baaa1ac44ee10fabbf4947ba87ae11aa64ce6f91cf14a25e"
    );
}

/// As AWS extends a register that was zero.
fn extended(name: &str) -> Vec<u8> {
    let bytes = [&[0; 48], name.as_bytes()].concat();
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, &bytes).as_ref().to_vec()
}

fn in_debug_mode(draft: &mut Draft) {
    for index in 0..3 {
        draft.registers.insert(index, vec![0; 48]);
    }
    draft.registers.insert(4, extended(INSTANCE));
}

#[test]
fn debug_mode_is_refused_if_any_of_the_first_three_registers_is_zero_or_missing() {
    let (image, _dir) = image();
    assert!(!judged(|_draft| {}, &Debugging::Refused, &image).unwrap());
    for index in 0..3 {
        let zero = |draft: &mut Draft| drop(draft.registers.insert(index, vec![0; 48]));
        let missing = |draft: &mut Draft| drop(draft.registers.remove(&index));
        for error in [
            judged(zero, &Debugging::Refused, &image).unwrap_err(),
            judged(missing, &Debugging::Refused, &image).unwrap_err(),
        ] {
            assert!(error.starts_with("aws_nitro.debug: one of PCR0 to PCR2"), "{index}: {error}");
        }
    }
    // The other registers of an enclave in debug mode are not zero, so that is not what tells.
    judged(in_debug_mode, &Debugging::Refused, &image).unwrap_err();
}

#[test]
fn debug_mode_where_it_is_allowed_is_for_named_parents_only() {
    let (image, _dir) = image();
    let with_role = |draft: &mut Draft| {
        in_debug_mode(draft);
        draft.registers.insert(3, extended(ROLE));
    };
    assert!(judged(in_debug_mode, &parents(&[INSTANCE]), &image).unwrap());
    assert!(judged(with_role, &parents(&[ROLE]), &image).unwrap());
    assert!(judged(with_role, &parents(&["i-0", ROLE]), &image).unwrap());
    for others in [&[][..], &["i-0123456789abcdef1"], &["arn:aws:iam::123456789012:role/prod"]] {
        let error = judged(with_role, &parents(others), &image).unwrap_err();
        assert!(error.starts_with("aws_nitro.debug_parent: neither"), "{others:?}: {error}");
    }
    // A role is not taken for an instance, nor the other way round.
    let crossed = |draft: &mut Draft| {
        in_debug_mode(draft);
        draft.registers.insert(3, extended(INSTANCE));
        draft.registers.insert(4, extended(ROLE));
    };
    judged(crossed, &parents(&[INSTANCE, ROLE]), &image).unwrap_err();
    // What is measured has to be known as ever.
    assert!(!judged(|_draft| {}, &parents(&[INSTANCE]), &image).unwrap());
    let changed = |draft: &mut Draft| drop(draft.registers.insert(0, vec![1; 48]));
    let error = judged(changed, &parents(&[INSTANCE]), &image).unwrap_err();
    assert!(error.starts_with("reference_values: no image"), "{error}");
}

/// Not even an image that is known by who signed it.
#[test]
fn debug_mode_is_no_known_image() {
    let value = "b1".repeat(48);
    let (image, _dir) = references("aws_nitro", &format!(r#"{{"pcr8":"{value}"}}"#));
    let signed = |draft: &mut Draft| drop(draft.registers.insert(8, vec![0xb1; 48]));
    assert!(!judged(signed, &Debugging::Refused, &image).unwrap());
    let in_debug = |draft: &mut Draft| {
        signed(draft);
        in_debug_mode(draft);
    };
    judged(in_debug, &Debugging::Refused, &image).unwrap_err();
    assert!(judged(in_debug, &parents(&[INSTANCE]), &image).unwrap());
}

#[test]
fn reference_values_have_to_be_there_in_every_register() {
    let registers: Vec<_> =
        (0..16).map(|index| format!(r#""pcr{index}":"{:02x}{}""#, 1, "00".repeat(47))).collect();
    let (all, _dir) = references("aws_nitro", &format!("{{{}}}", registers.join(",")));
    let mut value = vec![0; 48];
    value[0] = 1;
    let matching = |draft: &mut Draft| {
        for index in 0..16 {
            draft.registers.insert(index, value.clone());
        }
    };
    assert!(!judged(matching, &Debugging::Refused, &all).unwrap());
    for index in 0..16 {
        let mismatch = |draft: &mut Draft| {
            matching(draft);
            draft.registers.insert(index, vec![2; 48]);
        };
        let absent = |draft: &mut Draft| {
            matching(draft);
            draft.registers.remove(&index);
        };
        let error = judged(mismatch, &Debugging::Refused, &all).unwrap_err();
        assert!(error.starts_with("reference_values: "), "{index}: {error}");
        judged(absent, &Debugging::Refused, &all).unwrap_err();
    }
}

#[test]
fn reference_values_that_would_admit_anybody_are_refused_at_load() {
    let value = "ab".repeat(48);
    for (registers, why) in [
        ("{}".to_owned(), "names no register that says"),
        (format!(r#"{{"pcr0":"{}"}}"#, "00".repeat(48)), "all zero"),
        (format!(r#"{{"pcr0":"{value}","pcr8":"{}"}}"#, "00".repeat(48)), "all zero"),
        (format!(r#"{{"pcr0":"{}"}}"#, "ab".repeat(32)), "48 bytes"),
        (format!(r#"{{"pcr32":"{value}"}}"#), "no register of this kind"),
        (format!(r#"{{"pcr00":"{value}"}}"#), "no register of this kind"),
        // AWS' own kernel, an application without its kernel, and where it runs.
        (format!(r#"{{"pcr1":"{value}"}}"#), "names no register that says"),
        (format!(r#"{{"pcr2":"{value}"}}"#), "names no register that says"),
        (format!(r#"{{"pcr3":"{value}","pcr4":"{value}"}}"#), "names no register that says"),
    ] {
        let (config, _dir) = references("aws_nitro", &registers);
        let error = References::open(&config, FLAVOUR.references).unwrap_err().to_string();
        assert!(error.contains(why), "{registers}: {error}");
    }
    let (other, _dir) = reference("nitro_tpm", 4);
    let error = References::open(&other, FLAVOUR.references).unwrap_err().to_string();
    assert!(error.contains("about `nitro_tpm`"), "{error}");
}
