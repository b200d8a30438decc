//! The verdict on a document that an enclave of somebody's once showed.

use std::path::Path;

use claviger_attestors::aws_nitro;
use claviger_attestors::checklist::Outcome;
use claviger_attestors::inspect::{Given, Inspection};

use crate::failure::Failure;
use crate::files;

/// The most bytes that are read: more than any document has.
const MAX: u64 = 64 << 10;

/// Judges the document in the file at `path` at the time that it names itself, by AWS' root, and says
/// what came of it.
pub(in crate::demo) fn judge(path: &Path) -> Result<String, Failure> {
    let document = files::read(path, MAX)?;
    // What the document was asked and for whom is not known any more, and neither is the image.
    let given = Given { ..Given::NOTHING };
    let inspection = aws_nitro::inspect(&document, &given).ok_or_else(|| {
        Failure::failed("it is no attestation document of a Nitro enclave").within(path.display())
    })?;
    Ok(line(&inspection))
}

fn line(inspection: &Inspection) -> String {
    let made = inspection.fields.iter().find(|(name, _)| name == "made");
    let made = made.map_or("no time", |(_, made)| made.as_str());
    let checks = inspection.checks.checks();
    let broken = checks.filter(|(_, outcome)| matches!(outcome, Outcome::Broken(_)));
    let broken: Vec<_> = broken.map(|(rule, _)| rule.id).collect();
    if broken.is_empty() {
        format!("a recorded document was genuine at its own time, {made}")
    } else {
        format!("a recorded document is refused at its own time, {made}: {}", broken.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_document_has_no_verdict() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("document");
        std::fs::write(&path, b"nothing of the kind").unwrap();
        let failure = judge(&path).unwrap_err().to_string();
        assert!(failure.contains("no attestation document"), "{failure}");
    }

    /// Cut short behind the name of its registers, it is still seen what it was to be.
    #[test]
    fn a_broken_document_is_refused_by_the_rule_that_it_breaks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("document");
        std::fs::write(&path, b"\x84\x44\xa1\x01\x38\x22\xa0\x45\x64pcrs").unwrap();
        let line = judge(&path).unwrap();
        assert!(line.contains("refused at its own time, no time: aws_nitro.envelope"), "{line}");
    }
}
