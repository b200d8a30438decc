//! Reports in files, for people.

use super::KIND;
use super::appraise::{CERTIFICATE, Evidence, Guest, Standard, appraise};
use super::config::Policy;
use super::endorsement::Endorsement;
use super::facts::{self, REGISTERS};
use super::report::{Report, SigningKey};
use super::roots::Roots;
use super::wire::Answer;
use crate::checklist::{Broken, Checklist, Rule};
use crate::inspect::{Given, Inspection};
use crate::references::References;

static ROOTS: Rule = Rule::new("sev_snp.roots", "there are roots to trace it to");

/// Looks at a report, or at an answer of a node's that has one; none if `document` is neither. The
/// certificate of its VCEK or VLEK is taken from the answer or from those that are given. It is judged
/// as with the default settings, of which a minimum of firmware is left open.
#[must_use]
pub fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    let answer = Answer::parse(document).ok();
    let bytes = answer.as_ref().map_or(document, |answer| &answer.report.0);
    let report = Report::parse(bytes).ok()?;
    let along = answer.as_ref().map(|answer| answer.endorsement.0.as_slice());
    let endorsement = along.or_else(|| endorsement(&report, given));
    let evidence = Evidence { report: bytes, endorsement };
    let mut checks = Checklist::exhaustive();
    // Nothing ends an exhaustive list.
    let guest = judge(evidence, given, &mut checks).ok()?;
    let endorsement = guest.as_ref().and_then(|guest| guest.endorsement.as_ref());
    Some(Inspection { kind: KIND, fields: fields(&report, endorsement), checks })
}

/// The certificate that is of the kind that signed the report; or any of such a kind, if none is.
fn endorsement<'a>(report: &Report<'_>, given: &'a Given) -> Option<&'a [u8]> {
    let read = |der: &'a Vec<u8>| Some((der, Endorsement::parse(der).ok()?.kind()));
    let all: Vec<_> = given.certificates.iter().filter_map(read).collect();
    let fits = |(_, kind): &&(&Vec<u8>, SigningKey)| *kind == report.signing_key();
    let best = all.iter().find(fits).or_else(|| all.first());
    best.map(|(der, _)| der.as_slice()).or_else(|| given.certificates.first().map(Vec::as_slice))
}

fn judge<'a>(
    evidence: Evidence<'a>,
    given: &Given,
    checks: &mut Checklist,
) -> Result<Option<Guest<'a>>, Broken> {
    let roots = if given.roots.is_empty() { Roots::amd() } else { Roots::of(&given.roots) };
    let Some(roots) = checks.take(&ROOTS, roots)? else {
        checks.leave_open(&CERTIFICATE, "there are no roots")?;
        return Ok(None);
    };
    let references = given.references.as_ref().map(|config| References::open(config, &REGISTERS));
    let references = match references {
        Some(opened) => checks.take(&super::appraise::REFERENCES, opened)?,
        None => None,
    };
    let policy = Policy { allow_debug: given.allow_debug, ..Policy::default() };
    let standard = Standard {
        roots: &roots,
        now: given.at,
        policy: &policy,
        binding: given.binding.as_deref(),
        crls: &[],
        references: references.as_ref(),
    };
    appraise(evidence, &standard, checks)
}

/// What people want to read, in this order. Registers have the names that reference values use.
fn fields(report: &Report<'_>, endorsement: Option<&Endorsement<'_>>) -> Vec<(String, String)> {
    let product = report.product().or(endorsement.map(|endorsement| endorsement.product));
    let tcb = |tcb: super::tcb::TcbVersion| tcb.describe(product);
    let names = |settings: &[(&'static str, bool)]| {
        let on = settings.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name);
        on.collect::<Vec<_>>().join(", ")
    };
    let mut fields = vec![
        ("version", report.version.to_string()),
        ("product", product.map_or_else(|| "unknown".to_owned(), |product| product.to_string())),
    ];
    let registers = facts::named(report).map(|(name, value)| (name, hex::encode(value)));
    fields.extend(registers);
    fields.extend([
        ("report_data", hex::encode(report.report_data)),
        ("report_id", hex::encode(report.report_id)),
        ("report_id_ma", hex::encode(report.report_id_ma)),
        ("chip_id", hex::encode(report.chip_id)),
        ("vmpl", report.vmpl.to_string()),
        ("guest_svn", report.guest_svn.to_string()),
        ("policy", names(&report.policy.settings())),
        ("platform", names(&report.platform.settings())),
        ("signing_key", report.signing_key().name().to_owned()),
        ("reported_tcb", tcb(report.reported_tcb)),
        ("committed_tcb", tcb(report.committed_tcb)),
        ("current_tcb", tcb(report.current_tcb)),
        ("launch_tcb", tcb(report.launch_tcb)),
        ("current_firmware", report.current.to_string()),
        ("committed_firmware", report.committed.to_string()),
    ]);
    if let Some((launch, current)) = report.mitigations {
        fields.push(("mitigations_at_launch", format!("{launch:#x}")));
        fields.push(("mitigations", format!("{current:#x}")));
    }
    if let Some(endorsement) = endorsement {
        let certificate = &endorsement.certificate;
        fields.push(("certificate_subject", certificate.subject().to_string()));
        fields.push(("certificate_issuer", certificate.issuer().to_string()));
        fields.push(("certificate_period", endorsement.period.to_string()));
        fields.push(("certificate_product", endorsement.product_name.clone()));
        fields.extend(endorsement.csp_id.iter().map(|csp| ("csp_id", csp.clone())));
    }
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
