//! A quote in a file, for people.

use super::KIND;
use super::rules::{self, Expected, REGISTERS};
use crate::checklist::{Broken, Checklist};
use crate::dcap::inspection::{self, At, Special};
use crate::dcap::{Body, DomainReport, Quote, Tee};
use crate::inspect::{Given, Inspection};

static SPECIAL: Special =
    Special { kind: KIND, tee: Tee::Tdx, registers: &REGISTERS, examine, fields };

/// What a quote says, and which rules it keeps; none if `document` is no quote of a virtual machine.
#[must_use]
pub fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    inspection::inspect(document, given, &SPECIAL)
}

fn examine(
    quote: &Quote<'_>,
    at: At<'_>,
    given: &Given,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let Body::Domain(report) = &quote.body else { return Ok(()) };
    let At { report_data, references, now } = at;
    let expected = Expected { report_data, references, allow_debug: given.allow_debug, now };
    rules::examine(report, expected, checks).map(drop)
}

fn fields(quote: &Quote<'_>) -> Vec<(String, String)> {
    let Body::Domain(report) = &quote.body else { return Vec::new() };
    let DomainReport { td_attributes, xfam, tee_tcb_svn, report_data, .. } = report;
    let measured = rules::measured(report).into_iter();
    let mut fields: Vec<_> =
        measured.map(|(register, value)| (register, hex::encode(value))).collect();
    for (name, value) in [
        ("attributes", format!("{td_attributes:#018x}")),
        ("xfam", format!("{xfam:#018x}")),
        ("tee tcb svn", hex::encode(tee_tcb_svn)),
        ("report data", hex::encode(report_data)),
    ] {
        fields.push((name.to_owned(), value));
    }
    fields
}
