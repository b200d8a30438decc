//! How far the platform that made a quote is to be trusted, by what Intel says about it.

use std::collections::BTreeSet;
use std::time::Duration;

use claviger_core::time::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::authentic::Authentic;
use super::chain::{Chain, Crls, Roots, is_signed};
use super::collateral::Collateral;
use super::config::TcbPolicy;
use super::identity::QeIdentity;
use super::pck::{Pck, common_name};
use super::quote::{Body, Quote};
use super::report::DomainReport;
use super::status::TcbStatus;
use super::tcb::{Judged, TcbInfo};
use crate::checklist::{Broken, Checklist, Rule};

static CRLS: Rule = Rule::new("dcap.revocation_lists", "there are revocation lists for this time");
static REVOKED: Rule = Rule::new(
    "dcap.revocation",
    "neither the platform's certificate nor its authority's is on its issuer's revocation list",
);
static TCB_SIGNED: Rule =
    Rule::new("dcap.tcb_info_signature", "Intel's signer of collateral signed the TCB info");
static TCB_DATES: Rule = Rule::new("dcap.tcb_info_dates", "the TCB info is for this time");
static TCB_PLATFORM: Rule =
    Rule::new("dcap.tcb_info_platform", "the TCB info is about this kind of platform");
static QE_SIGNED: Rule =
    Rule::new("dcap.qe_identity_signature", "Intel's signer of collateral signed the QE identity");
static QE_DATES: Rule = Rule::new("dcap.qe_identity_dates", "the QE identity is for this time");
static QE: Rule = Rule::new("dcap.qe_identity", "the quoting enclave is Intel's");
static LEVEL: Rule =
    Rule::new("dcap.tcb_level", "the platform has at least the versions of a known TCB level");
static MODULE: Rule = Rule::new("dcap.tdx_module", "the TDX module is one that Intel knows");
static NUMBER: Rule = Rule::new(
    "dcap.tcb_evaluation_number",
    "the collateral is of the TCB recovery that is asked for, or of a later one",
);
static STATUS: Rule = Rule::new("dcap.tcb_status", "the platform's TCB status is accepted");

/// By what a platform is judged.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Who is trusted to sign collateral.
    pub roots: &'a Roots,
    /// What is accepted.
    pub policy: &'a TcbPolicy,
    /// How long collateral is believed after it has expired.
    pub grace: Duration,
    /// The time for which it is judged.
    pub now: UnixTime,
}

/// How far a platform is to be trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// How up to date it is, with its quoting enclave and its TDX module.
    pub status: TcbStatus,
    /// Intel's advisories that say why.
    pub advisories: BTreeSet<String>,
    /// The TCB recovery by which it was judged.
    pub evaluation_number: u32,
}

/// How far the platform that made `quote` is to be trusted, by `collateral`.
///
/// # Errors
///
/// [`Broken`] if it is not, and the checks are for admission.
pub fn appraise(
    quote: &Quote<'_>,
    platform: Option<&Authentic>,
    collateral: Option<&Collateral>,
    terms: Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<Standing>, Broken> {
    let (Some(platform), Some(collateral)) = (platform, collateral) else {
        let why = match platform {
            Some(_) => "there is no collateral",
            None => "the platform is not known",
        };
        return leave_open(quote, why, checks).map(|()| None);
    };
    let crls = revocation(platform, collateral, terms, checks)?;
    let tcb = tcb_info(collateral, crls.as_ref(), terms, checks)?;
    let identity = qe_identity(collateral, crls.as_ref(), terms, checks)?;
    let mut numbers = Vec::new();
    let mut judged = Vec::new();
    match &identity {
        Some(identity) => {
            judged.push(checks.take(&QE, identity.judge(quote.tee(), &quote.qe_report))?);
            numbers.push(identity.tcb_evaluation_data_number);
        }
        None => checks.leave_open(&QE, "there is no QE identity")?,
    }
    match &tcb {
        Some(tcb) => {
            judged.extend(judge_platform(tcb, quote, &platform.pck, checks)?);
            numbers.push(tcb.tcb_evaluation_data_number);
        }
        None => {
            for rule in [&TCB_PLATFORM, &LEVEL].into_iter().chain(module_rule(quote)) {
                checks.leave_open(rule, "there is no TCB info")?;
            }
        }
    }
    let number = numbers.into_iter().min().filter(|_| tcb.is_some() && identity.is_some());
    decide(judged.into_iter().collect(), number, terms.policy, checks)
}

fn decide(
    judged: Option<Vec<Judged>>,
    number: Option<u32>,
    policy: &TcbPolicy,
    checks: &mut Checklist,
) -> Result<Option<Standing>, Broken> {
    let (Some(judged), Some(evaluation_number)) = (judged, number) else {
        checks.leave_open(&NUMBER, "the platform could not be judged")?;
        checks.leave_open(&STATUS, "the platform could not be judged")?;
        return Ok(None);
    };
    let recent = policy.min_evaluation_number.is_none_or(|least| least <= evaluation_number);
    checks.require(&NUMBER, recent, || {
        let least = policy.min_evaluation_number.unwrap_or_default();
        format!("it is of number {evaluation_number}, and `min-evaluation-number` is {least}")
    })?;
    let status = judged.iter().fold(TcbStatus::UpToDate, |all, one| all.with(one.status));
    let advisories: BTreeSet<_> = judged.into_iter().flat_map(|one| one.advisories).collect();
    checks.require(&STATUS, policy.accepts(status), || {
        let listed: Vec<_> = advisories.iter().map(String::as_str).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        format!("it is `{status}`, which `tcb.accept` does not list; advisories: {listed}")
    })?;
    Ok(Some(Standing { status, advisories, evaluation_number }))
}

fn leave_open(quote: &Quote<'_>, why: &'static str, checks: &mut Checklist) -> Result<(), Broken> {
    let rules = [&CRLS, &REVOKED, &TCB_SIGNED, &TCB_DATES, &QE_SIGNED, &QE_DATES, &QE];
    let more = [&TCB_PLATFORM, &LEVEL].into_iter().chain(module_rule(quote));
    let rules = rules.into_iter().chain(more).chain([&NUMBER, &STATUS]);
    rules.into_iter().try_for_each(|rule| checks.leave_open(rule, why))
}

const fn domain<'a>(quote: &'a Quote<'_>) -> Option<&'a DomainReport> {
    match &quote.body {
        Body::Enclave(_) => None,
        Body::Domain(report) => Some(report),
    }
}

fn module_rule(quote: &Quote<'_>) -> Option<&'static Rule> {
    domain(quote).map(|_| &MODULE)
}

/// Whether `now` lies between the two dates.
fn is_current(dates: (UnixTime, UnixTime), terms: Terms<'_>) -> Result<(), String> {
    let (issued, next) = dates;
    let (now, end) = (terms.now, next.after(terms.grace));
    if now < issued {
        return Err(format!("it was issued at {}, which is still to come", written(issued)));
    }
    if end <= now {
        return Err(format!("it expired at {}", written(end)));
    }
    Ok(())
}

fn written(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "no known time".to_owned(), |time| time.to_string())
}

fn unix(time: jiff::Timestamp) -> UnixTime {
    UnixTime::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
}

fn revocation(
    platform: &Authentic,
    collateral: &Collateral,
    terms: Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<Crls>, Broken> {
    let crls = collateral.crls();
    let dated = crls.as_ref().map_err(ToString::to_string).and_then(|crls| {
        is_current(crls.root.dates, terms).map_err(|why| format!("the root's: {why}"))?;
        is_current(crls.pck.dates, terms).map_err(|why| format!("the platforms': {why}"))
    });
    checks.take(&CRLS, dated)?;
    let Ok(crls) = crls else {
        checks.leave_open(&REVOKED, "there are no lists")?;
        return Ok(None);
    };
    checks.take(&REVOKED, terms.roots.vouch(&platform.chain, Some(&crls), terms.now))?;
    Ok(Some(crls))
}

fn tcb_info(
    collateral: &Collateral,
    crls: Option<&Crls>,
    terms: Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<TcbInfo>, Broken> {
    let document = Document {
        text: &collateral.tcb_info,
        signature: &collateral.tcb_info_signature,
        signer: &collateral.tcb_info_issuer_chain,
    };
    let info = document
        .verify(crls, terms)
        .and_then(|text| TcbInfo::parse(text.as_bytes()).map_err(|error| error.to_string()));
    let Some(info) = checks.take(&TCB_SIGNED, info)? else {
        checks.leave_open(&TCB_DATES, "there is no TCB info")?;
        return Ok(None);
    };
    checks.take(&TCB_DATES, is_current((unix(info.issue_date), unix(info.next_update)), terms))?;
    Ok(Some(info))
}

fn qe_identity(
    collateral: &Collateral,
    crls: Option<&Crls>,
    terms: Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<QeIdentity>, Broken> {
    let document = Document {
        text: &collateral.qe_identity,
        signature: &collateral.qe_identity_signature,
        signer: &collateral.qe_identity_issuer_chain,
    };
    let identity = document
        .verify(crls, terms)
        .and_then(|text| QeIdentity::parse(text.as_bytes()).map_err(|error| error.to_string()));
    let Some(identity) = checks.take(&QE_SIGNED, identity)? else {
        checks.leave_open(&QE_DATES, "there is no QE identity")?;
        return Ok(None);
    };
    let dates = (unix(identity.issue_date), unix(identity.next_update));
    checks.take(&QE_DATES, is_current(dates, terms))?;
    Ok(Some(identity))
}

fn judge_platform(
    tcb: &TcbInfo,
    quote: &Quote<'_>,
    pck: &Pck,
    checks: &mut Checklist,
) -> Result<Vec<Option<Judged>>, Broken> {
    checks.take(&TCB_PLATFORM, tcb.concerns(quote.tee(), pck))?;
    let domain = domain(quote);
    let level = tcb.judge(pck, domain).ok_or("it is older than every level that Intel knows");
    let mut judged = vec![checks.take(&LEVEL, level)?];
    if let Some(domain) = domain {
        judged.push(checks.take(&MODULE, tcb.judge_module(domain))?);
    }
    Ok(judged)
}

/// A text that Intel's signer of collateral signed.
struct Document<'a> {
    text: &'a str,
    signature: &'a [u8],
    /// The signer's chain, in PEM.
    signer: &'a str,
}

impl<'a> Document<'a> {
    /// The text, once its signature is verified.
    fn verify(&self, crls: Option<&Crls>, terms: Terms<'_>) -> Result<&'a str, String> {
        let crls = crls.ok_or("nobody knows if its signer was revoked")?;
        let chain = Chain::from_pem(self.signer.as_bytes()).map_err(|error| error.to_string())?;
        let vouched = terms.roots.vouch(&chain, Some(crls), terms.now);
        vouched.map_err(|error| error.to_string())?;
        let (_, certificate) = X509Certificate::from_der(chain.leaf())
            .map_err(|_not_one| "its signer's certificate cannot be read")?;
        // Intel's root vouches for platforms, too; their keys sign no collateral.
        if common_name(certificate.subject()) != Some("Intel SGX TCB Signing") {
            return Err("its signer is not Intel's signer of collateral".to_owned());
        }
        let key = certificate.public_key().subject_public_key.data.as_ref();
        if !is_signed(key, self.text.as_bytes(), self.signature) {
            return Err("the signature is not by its signer, or over something else".to_owned());
        }
        Ok(self.text)
    }
}
