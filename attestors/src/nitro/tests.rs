//! Rules that are the same for both kinds, each broken in every way that was thought of. The kinds' own
//! tests are beside them.

mod bond;
mod chain;
mod document;
mod envelope;
mod software;

use claviger_core::evidence::KeyDigest;
use claviger_core::time::UnixTime;

use super::fixture::{Draft, Item, Pki, pki, sign};
use super::judge::{Terms, judge};
use super::{Debugging, Flavour, Questions};
use crate::aws_nitro::FLAVOUR;
use crate::checklist::{Checklist, Outcome};
use crate::fixture::NOW;

pub(super) const NONCE: &[u8] = &[7; 32];
pub(super) const BINDING: &[u8] = &[8; 48];
pub(super) const SPKI: &[u8] = b"the key that is to be certified";

/// A draft that answers [`NONCE`] and [`BINDING`].
pub(super) fn draft() -> Draft {
    Draft::new().answering(Questions { nonce: NONCE.to_vec(), user_data: BINDING.to_vec() })
}

/// The rules that `document` breaks at `at`, and why; no reference values are given.
pub(in crate::nitro) fn broken_at(
    document: &[u8],
    at: Option<UnixTime>,
    flavour: &Flavour,
) -> Vec<(&'static str, String)> {
    let key = KeyDigest::of_spki(SPKI);
    let terms = Terms {
        at,
        nonce: Some(NONCE),
        binding: Some(BINDING),
        key: Some(&key),
        roots: &[pki().root()],
        references: None,
        debugging: &Debugging::Refused,
    };
    let mut checks = Checklist::exhaustive();
    judge(document, flavour, &terms, &mut checks).unwrap();
    // What admits goes by the same rules, and ends at the first.
    let mut strict = Checklist::strict();
    let first = judge(document, flavour, &terms, &mut strict).unwrap_err();
    assert_eq!(checks.kept().unwrap_err(), first);
    let broken = |(rule, outcome): (&'static crate::checklist::Rule, &Outcome)| match outcome {
        Outcome::Broken(why) => Some((rule.id, why.to_string())),
        Outcome::Kept | Outcome::Open(_) => None,
    };
    checks.checks().filter_map(broken).collect()
}

/// That `document` breaks just this rule, for a reason with these words in it.
#[track_caller]
pub(super) fn assert_breaks(document: &[u8], rule: &str, why: &str) {
    let broken = broken_at(document, Some(NOW), &FLAVOUR);
    let [(id, reason)] = broken.as_slice() else { panic!("{rule}, {why}: {broken:?}") };
    assert_eq!(*id, format!("aws_nitro.{rule}"), "{reason}");
    assert!(reason.contains(why), "{rule}: `{why}` is not in `{reason}`");
}

/// That `document` breaks no rule, as far as they can be looked at without reference values.
#[track_caller]
pub(super) fn assert_kept(document: &[u8]) {
    assert_eq!(broken_at(document, Some(NOW), &FLAVOUR), []);
}

/// The members of a good payload.
pub(super) fn members() -> Vec<(Item, Item)> {
    draft().members(&FLAVOUR, pki())
}

/// A good document, but for the member `name`, which is replaced.
pub(super) fn with(name: &str, value: &Item) -> Vec<u8> {
    let mut members = members();
    let member = members.iter_mut().find(|(key, _)| matches!(key, Item::Text(key) if key == name));
    member.unwrap().1 = value.clone();
    sign(&Item::Map(members).encode(), pki())
}

/// The document of a chain that differs from the good one below its root.
pub(super) fn by(pki: &Pki) -> Vec<u8> {
    draft().document(&FLAVOUR, pki)
}
