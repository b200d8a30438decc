//! A document in a file, for people.

use claviger_core::time::UnixTime;
use jiff::Timestamp;

use super::chain::Chain;
use super::document::Document;
use super::judge::{Judged, Terms, judge};
use super::verdict::extended;
use super::{Debugging, Flavour, MAX_DOCUMENT, roots};
use crate::checklist::Checklist;
use crate::inspect::{Given, Inspection};
use crate::references::References;

/// What the document that is all of `bytes` says, and which rules it keeps; none if this is no document
/// of this `flavour`.
pub(crate) fn inspect(
    bytes: &[u8],
    given: &Given,
    flavour: &'static Flavour,
) -> Option<Inspection> {
    if !is_of(bytes, flavour) {
        return None;
    }
    let trusted = if given.roots.is_empty() { &[roots::AWS.to_vec()] } else { &*given.roots };
    let debugging = if given.allow_debug { Debugging::Unsaid } else { Debugging::Refused };
    let mut checks = Checklist::exhaustive();
    let open = |config| References::open(config, flavour.references);
    let references = match given.references.as_ref().map(open).transpose() {
        Ok(references) => references,
        Err(error) => checks.take(&flavour.rules.software, Err(error)).ok()?,
    };
    let terms = Terms {
        at: given.at,
        nonce: given.nonce.as_deref(),
        binding: given.binding.as_deref(),
        key: None,
        roots: trusted,
        references: references.as_ref(),
        debugging: &debugging,
    };
    // Checks that are not for admission never end early.
    let judged = judge(bytes, flavour, &terms, &mut checks).ok().flatten();
    let fields = judged.map(|judged| fields(&judged)).unwrap_or_default();
    Some(Inspection { kind: flavour.kind, fields, checks })
}

/// Whether `bytes` hold the name of this flavour's registers, as CBOR writes it. What is broken has to be
/// recognised, too.
fn is_of(bytes: &[u8], flavour: &Flavour) -> bool {
    let name = flavour.registers.as_bytes();
    let Ok(length) = u8::try_from(name.len()) else { return false };
    let head = TEXT | length;
    let start = bytes.get(..bytes.len().min(MAX_DOCUMENT)).unwrap_or_default();
    start.windows(name.len().saturating_add(1)).any(|window| {
        window.split_first().is_some_and(|(first, rest)| *first == head && rest == name)
    })
}

/// What begins a text of fewer than 24 bytes (RFC 8949 §3.1).
const TEXT: u8 = 3 << 5;

fn fields(judged: &Judged<'_>) -> Vec<(String, String)> {
    let document = &judged.document;
    let mut fields = vec![
        ("module id".to_owned(), document.module_id.escape_debug().to_string()),
        ("made".to_owned(), at(document.made())),
    ];
    fields.extend(extended(document));
    let unused = document.registers.len().saturating_sub(extended(document).count());
    fields.push(("registers never extended".to_owned(), unused.to_string()));
    let carried = [
        ("nonce", document.nonce),
        ("user data", document.user_data),
        ("public key", document.public_key),
    ];
    for (name, value) in carried {
        let value = value.map_or_else(|| "none".to_owned(), hex::encode);
        fields.push((name.to_owned(), value));
    }
    fields.extend(certificates(document));
    if let Some(image) = &judged.image {
        let version = image.version.as_deref().unwrap_or_default();
        fields
            .push(("image".to_owned(), format!("{} {version}", image.name).trim_end().to_owned()));
    }
    fields
}

fn certificates(document: &Document<'_>) -> Vec<(String, String)> {
    let Ok(chain) = Chain::parse(document) else { return Vec::new() };
    let field = |(number, certificate): (usize, &x509_parser::certificate::X509Certificate<'_>)| {
        let (subject, validity) = (certificate.subject(), certificate.validity());
        let text =
            format!("{subject}, valid from {} to {}", validity.not_before, validity.not_after);
        (format!("certificate {number}"), text.escape_debug().to_string())
    };
    chain.certificates().enumerate().map(field).collect()
}

fn at(time: UnixTime) -> String {
    let timestamp = i64::try_from(time.as_secs()).ok();
    let timestamp = timestamp.and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| format!("{time} s after 1970"), |timestamp| timestamp.to_string())
}
