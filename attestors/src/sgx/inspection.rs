//! A quote in a file, for people.

use super::KIND;
use super::rules::{self, Expected, REGISTERS};
use crate::checklist::{Broken, Checklist};
use crate::dcap::inspection::{self, At, Special};
use crate::dcap::{Body, Quote, Tee};
use crate::inspect::{Given, Inspection};

static SPECIAL: Special =
    Special { kind: KIND, tee: Tee::Sgx, registers: &REGISTERS, examine, fields };

/// What a quote says, and which rules it keeps; none if `document` is no quote of an enclave.
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
    let Body::Enclave(report) = &quote.body else { return Ok(()) };
    let At { report_data, references, now } = at;
    let (signed, allow_debug) = (None, given.allow_debug);
    let expected = Expected { report_data, references, signed, allow_debug, now };
    rules::examine(report, expected, checks).map(drop)
}

fn fields(quote: &Quote<'_>) -> Vec<(String, String)> {
    let Body::Enclave(report) = &quote.body else { return Vec::new() };
    let measured = rules::measured(report).into_iter();
    let mut fields: Vec<_> =
        measured.map(|(register, value)| (register, hex::encode(value))).collect();
    for (name, value) in [
        ("isvprodid", report.isv_prod_id.to_string()),
        ("isvsvn", report.isv_svn.to_string()),
        ("attributes", hex::encode(report.attributes)),
        ("miscselect", hex::encode(report.misc_select)),
        ("report data", hex::encode(report.report_data)),
    ] {
        fields.push((name.to_owned(), value));
    }
    fields
}
