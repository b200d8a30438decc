//! A quote in a file, for people: what both kinds have in common.

use std::time::Duration;

use claviger_core::time::UnixTime;

use super::Tee;
use super::appraise::{Terms, appraise};
use super::authentic::{Authentic, authenticate};
use super::chain::Roots;
use super::collateral::Collateral;
use super::config::TcbPolicy;
use super::quote::Quote;
use super::wire::Presented;
use crate::checklist::{Broken, Checklist, Rule};
use crate::inspect::{Given, Inspection};
use crate::references::{Image, Measured, RECOGNISED, References, Registers};

static FORM: Rule = Rule::new("dcap.form", "it is a quote of a version that is known, and no more");
static COLLATERAL: Rule = Rule::new("dcap.collateral", "there is collateral beside the quote");
static TIME: Rule = Rule::new("dcap.time", "it is known for which time the quote is judged");

/// What a report is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) report_data: Option<[u8; 64]>,
    pub(crate) references: Option<&'a References>,
    pub(crate) now: UnixTime,
}

/// A kind of quote: what is special about it.
pub(crate) struct Special {
    pub(crate) kind: &'static str,
    pub(crate) tee: Tee,
    pub(crate) registers: &'static Registers,
    /// Goes through the rules for the report.
    pub(crate) examine: fn(&Quote<'_>, At<'_>, &Given, &mut Checklist) -> Result<(), Broken>,
    /// What the report says.
    pub(crate) fields: fn(&Quote<'_>) -> Vec<(String, String)>,
}

/// What a quote says, and which rules it keeps; none if `document` is no quote of this kind.
pub(crate) fn inspect(document: &[u8], given: &Given, special: &Special) -> Option<Inspection> {
    let presented = Presented::parse(document).ok()?;
    if !Quote::looks_like(&presented.quote, special.tee) {
        return None;
    }
    let mut checks = Checklist::exhaustive();
    // Checks that are not for admission never end early.
    let quote = checks.take(&FORM, Quote::parse(&presented.quote)).ok()?;
    let mut fields = Vec::new();
    if let Some(quote) = &quote {
        fields.push(("version".to_owned(), quote.version.to_string()));
        fields.extend((special.fields)(quote));
        fields.extend(judge(quote, presented.collateral, given, special, &mut checks).ok()?);
    }
    Some(Inspection { kind: special.kind, fields, checks })
}

fn judge(
    quote: &Quote<'_>,
    brought: Option<Collateral>,
    given: &Given,
    special: &Special,
    checks: &mut Checklist,
) -> Result<Vec<(String, String)>, Broken> {
    let collateral = given.collateral.as_deref().map(Collateral::parse).transpose();
    let collateral = collateral.map_err(|_malformed| "what was given is no collateral");
    let collateral = checks.take(&COLLATERAL, collateral)?.flatten().or(brought);
    // A quote has no date of its own; its collateral has.
    let dates = collateral.as_ref().and_then(Collateral::dates);
    let Some(now) = given.at.or(dates.map(|(issued, _)| issued)) else {
        checks.leave_open(&TIME, "say for which, or give the collateral of that time")?;
        return Ok(Vec::new());
    };
    let roots =
        if given.roots.is_empty() { Roots::intel() } else { Roots::of(given.roots.clone()) };
    let Ok(roots) = roots else { return Ok(Vec::new()) };
    let platform = authenticate(quote, &roots, now, checks)?;
    let references = given.references.as_ref();
    let references = references.map(|config| References::open(config, special.registers));
    let references = match references.transpose() {
        Ok(references) => references,
        Err(error) => checks.take(&RECOGNISED, Err(error))?,
    };
    let report_data = given.binding.as_deref().and_then(padded);
    let at = At { report_data, references: references.as_ref(), now };
    (special.examine)(quote, at, given, checks)?;
    let (policy, grace) = (&TcbPolicy::default(), Duration::ZERO);
    let terms = Terms { roots: &roots, policy, grace, now };
    let standing = appraise(quote, platform.as_ref(), collateral.as_ref(), terms, checks)?;
    let mut fields = platform.as_ref().map(fields).unwrap_or_default();
    if let Some(standing) = standing {
        let advisories: Vec<_> = standing.advisories.into_iter().collect();
        fields.push(("tcb status".to_owned(), standing.status.to_string()));
        fields.push(("advisories".to_owned(), advisories.join(" ")));
        let number = standing.evaluation_number.to_string();
        fields.push(("tcb evaluation number".to_owned(), number));
    }
    Ok(fields)
}

fn fields(platform: &Authentic) -> Vec<(String, String)> {
    let pck = &platform.pck;
    vec![
        ("ppid".to_owned(), hex::encode(pck.ppid)),
        ("fmspc".to_owned(), hex::encode(pck.fmspc)),
        ("pce id".to_owned(), hex::encode(pck.pce_id)),
        ("pck ca".to_owned(), pck.ca.name().to_owned()),
        ("tcb components".to_owned(), hex::encode(pck.components)),
        ("pce svn".to_owned(), pck.pce_svn.to_string()),
    ]
}

/// These bytes and zeros, if there is room for them.
fn padded(bytes: &[u8]) -> Option<[u8; 64]> {
    let mut data = [0; 64];
    data.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(data)
}

/// The image that was `measured`, if somebody said which are known.
pub(crate) fn recognise(
    references: Option<&References>,
    measured: &Measured,
    now: UnixTime,
    checks: &mut Checklist,
) -> Result<Option<Image>, Broken> {
    match references {
        Some(references) => references.recognise(measured, now, checks),
        None => checks.leave_open(&RECOGNISED, "there are no reference values").map(|()| None),
    }
}
