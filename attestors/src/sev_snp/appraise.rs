//! The rules that a report has to keep, one after the other. A pure function of the report, what it is
//! judged by, and the time.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use claviger_core::time::UnixTime;

use super::config::Policy;
use super::crl::{self, Named};
use super::endorsement::Endorsement;
use super::facts::registers;
use super::product::Product;
use super::report::{Report, SigningKey};
use super::roots::{Authority, Roots};
use crate::checklist::{Broken, Checklist, Rule};
use crate::references::{Image, References};

pub(super) static LENGTH: Rule = Rule::new("sev_snp.length", "a report has 1184 bytes");
pub(super) static VERSION: Rule = Rule::new("sev_snp.version", "its version is 2, 3, 4 or 5");
pub(super) static RESERVED: Rule =
    Rule::new("sev_snp.reserved", "what AMD reserves is zero, and what has to be one is one");
pub(super) static ALGORITHM: Rule =
    Rule::new("sev_snp.algorithm", "it is signed by ECDSA on P-384 with SHA-384");
pub(super) static SIGNING_KEY: Rule =
    Rule::new("sev_snp.signing_key", "it is signed by a VCEK or a VLEK");
pub(super) static CERTIFICATE: Rule =
    Rule::new("sev_snp.certificate", "a certificate as AMD issues it names that key");
pub(super) static CHAIN: Rule = Rule::new(
    "sev_snp.chain",
    "AMD's authority for such keys of the product issued the certificate",
);
pub(super) static VALIDITY: Rule =
    Rule::new("sev_snp.validity", "all certificates are valid at the time");
pub(super) static REVOCATION: Rule =
    Rule::new("sev_snp.revocation", "no certificate is in AMD's current list of revoked ones");
pub(super) static SIGNATURE: Rule =
    Rule::new("sev_snp.signature", "the certified key signed the report");
pub(super) static PRODUCT: Rule =
    Rule::new("sev_snp.product", "report and certificate are of the same generation of processors");
pub(super) static CHIP: Rule =
    Rule::new("sev_snp.chip_id", "a VCEK's certificate is that of the chip in the report");
pub(super) static TCB: Rule =
    Rule::new("sev_snp.tcb", "the certificate is for the firmware that the report names");
pub(super) static TCB_ORDER: Rule = Rule::new(
    "sev_snp.tcb_order",
    "neither reported nor committed firmware is newer than what runs",
);
pub(super) static TCB_MINIMUM: Rule =
    Rule::new("sev_snp.tcb_minimum", "all firmware is at least as new as the operator demands");
pub(super) static AUTHOR_KEY: Rule = Rule::new(
    "sev_snp.author_key",
    "there is an author's key if the report says so, and else none",
);
pub(super) static VMPL: Rule =
    Rule::new("sev_snp.vmpl", "it was asked for at the privilege level that the operator expects");
pub(super) static DEBUG: Rule = Rule::new("sev_snp.debug", "the host may not debug the guest");
pub(super) static MIGRATION: Rule =
    Rule::new("sev_snp.migration", "no migration agent may take the guest elsewhere");
pub(super) static REQUIREMENTS: Rule =
    Rule::new("sev_snp.requirements", "policy and platform are as the operator requires");
pub(super) static ADMITTED: Rule =
    Rule::new("sev_snp.admitted", "the operator admits the chip, or the cloud that has the key");
pub(super) static BINDING: Rule =
    Rule::new("sev_snp.binding", "REPORT_DATA is what it has to be bound to, and zeros");
pub(super) static REFERENCES: Rule =
    Rule::new("sev_snp.references", "there are reference values to hold it against");

/// A report and the certificate beside it, as they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    pub(super) report: &'a [u8],
    pub(super) endorsement: Option<&'a [u8]>,
}

/// What a report is judged by. What is missing leaves rules open, so that nobody is admitted.
#[derive(Debug)]
pub(super) struct Standard<'a> {
    pub(super) roots: &'a Roots,
    pub(super) now: Option<UnixTime>,
    pub(super) policy: &'a Policy,
    /// What REPORT_DATA begins with. Zeros follow.
    pub(super) binding: Option<&'a [u8]>,
    /// AMD's lists of revoked certificates, of which all that are for the report's product count.
    pub(super) crls: &'a [(Product, Vec<u8>)],
    pub(super) references: Option<&'a References>,
}

/// A guest, by what it shows. It is proved if every rule is kept.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub(super) report: Report<'a>,
    pub(super) endorsement: Option<Endorsement<'a>>,
    pub(super) image: Option<Image>,
}

/// Goes through all rules. None if the bytes are no report.
pub(super) fn appraise<'a>(
    evidence: Evidence<'a>,
    standard: &Standard<'_>,
    checks: &mut Checklist,
) -> Result<Option<Guest<'a>>, Broken> {
    let Some(report) = checks.take(&LENGTH, Report::parse(evidence.report))? else {
        return Ok(None);
    };
    check_form(&report, checks)?;
    let endorsement = match evidence.endorsement {
        Some(der) => checks.take(&CERTIFICATE, Endorsement::parse(der))?,
        None => {
            checks.leave_open(&CERTIFICATE, "the certificate of its VCEK or VLEK is missing")?;
            None
        }
    };
    match &endorsement {
        Some(endorsement) => {
            check_chain(endorsement, standard, checks)?;
            check_endorsed(&report, endorsement, checks)?;
            check_tcb(&report, endorsement.product, standard.policy, checks)?;
            check_admitted(&report, endorsement, standard.policy, checks)?;
        }
        None => {
            for rule in [&CHAIN, &VALIDITY, &SIGNATURE, &PRODUCT, &CHIP, &TCB, &TCB_MINIMUM] {
                checks.leave_open(rule, "there is no certificate to go by")?;
            }
        }
    }
    check_guest(&report, standard.policy, checks)?;
    check_binding(&report, standard.binding, checks)?;
    let image = recognise(&report, standard, checks)?;
    Ok(Some(Guest { report, endorsement, image }))
}

/// What can be told from the report alone.
fn check_form(report: &Report<'_>, checks: &mut Checklist) -> Result<(), Broken> {
    checks.require(&VERSION, Report::VERSIONS.contains(&report.version), || {
        format!("its version is {}", report.version)
    })?;
    checks.require(
        &RESERVED,
        report.reserved_is_zero && report.policy.is_known(),
        || "a reserved byte or bit says something that is unknown here",
    )?;
    checks.require(&ALGORITHM, report.algorithm == 1, || {
        format!("its algorithm is {}, which is not specified", report.algorithm)
    })?;
    let masked = report.masks_chip_key();
    let is_signed = match report.signing_key() {
        SigningKey::Vcek => !masked,
        SigningKey::Vlek => true,
        SigningKey::Other => false,
    };
    checks.require(&SIGNING_KEY, is_signed, || {
        if masked { "the host masks the chip's key" } else { "it is signed by neither" }
    })?;
    let has_digest = report.author_key_digest != [0; 48];
    checks.require(
        &AUTHOR_KEY,
        has_digest == report.has_author_key(),
        || "flag and digest of the author's key contradict each other",
    )
}

/// Who vouches for the certificate, and whether that still counts.
fn check_chain(
    endorsement: &Endorsement<'_>,
    standard: &Standard<'_>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let product = endorsement.product;
    let signer = standard.roots.signer(endorsement.role, product);
    let ark = standard.roots.ark(product);
    let signed = signer.filter(|signer| signer.signed(&endorsement.certificate)).zip(ark);
    let chain = signed
        .ok_or_else(|| format!("its issuer is named as AMD's for {product}, and did not sign it"));
    let Some((signer, ark)) = checks.take(&CHAIN, chain)? else {
        checks.leave_open(&VALIDITY, "nobody vouches for the certificate")?;
        return checks.leave_open(&REVOCATION, "nobody vouches for the certificate");
    };
    let Some(now) = standard.now else {
        checks.leave_open(&VALIDITY, "a report does not say its time, and none was given")?;
        return Ok(());
    };
    let periods = [endorsement.period, signer.period, ark.period];
    let passed = periods.into_iter().find(|period| !period.contains(now));
    checks.take(&VALIDITY, passed.map_or(Ok(()), |period| Err(format!("one is for {period}"))))?;
    check_revocation(endorsement, (signer, ark), now, standard, checks)
}

fn check_revocation(
    endorsement: &Endorsement<'_>,
    (signer, ark): (&Authority, &Authority),
    now: UnixTime,
    standard: &Standard<'_>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let certificate = &endorsement.certificate;
    let what = match endorsement.kind() {
        SigningKey::Vcek => ("VCEK", "ASK"),
        SigningKey::Vlek | SigningKey::Other => ("VLEK", "ASVK"),
    };
    let (issuer, serial) = (certificate.issuer().as_raw(), certificate.raw_serial());
    let chain = [
        Named { what: what.0, issuer, serial },
        Named { what: what.1, issuer: &signer.issuer, serial: &signer.serial },
        Named { what: "ARK", issuer: &ark.issuer, serial: &ark.serial },
    ];
    for (_, list) in standard.crls.iter().filter(|(product, _)| *product == ark.product) {
        checks.take(&REVOCATION, crl::check(list, ark, &chain, now))?;
    }
    Ok(())
}

/// Whether report and certificate belong together.
fn check_endorsed(
    report: &Report<'_>,
    endorsement: &Endorsement<'_>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, endorsement.key());
    let signed = endorsement.kind() == report.signing_key()
        && key.verify(report.signed, &report.signature).is_ok();
    checks.require(&SIGNATURE, signed, || {
        let (says, is) = (report.signing_key().name(), endorsement.kind().name());
        if says == is {
            "the key in the certificate did not sign it".to_owned()
        } else {
            format!("it is signed by a key of the kind `{says}`, and the certificate is a {is}'s")
        }
    })?;
    let product = endorsement.product;
    // A report of version 2 does not say what it is from.
    let same = report.cpu.is_none() || report.product() == Some(product);
    checks.require(&PRODUCT, same && product.is_named_by(&endorsement.product_name), || {
        let (cpu, name) = (report.cpu.unwrap_or_default(), &endorsement.product_name);
        format!("the processor is {}, and the certificate is for `{name}`", hex::encode(cpu))
    })?;
    if endorsement.kind() == SigningKey::Vcek {
        checks.require(&CHIP, endorsement.is_of_chip(&report.chip_id), || {
            if report.chip_id == [0; 64] {
                "the host masks the chip's id, so the certificate can't be held against it"
            } else {
                "it is that of another chip"
            }
        })?;
    }
    checks.require(&TCB, endorsement.tcb == report.reported_tcb, || {
        let describe = |tcb: super::tcb::TcbVersion| tcb.describe(Some(product));
        let (reported, certified) = (describe(report.reported_tcb), describe(endorsement.tcb));
        format!("the report names {reported}, and the certificate {certified}")
    })
}

/// Whether the firmware is what it should be.
fn check_tcb(
    report: &Report<'_>,
    product: Product,
    policy: &Policy,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let current = report.current_tcb;
    let ahead = current
        .behind(report.reported_tcb, product)
        .or_else(|| current.behind(report.committed_tcb, product));
    checks.require(&TCB_ORDER, ahead.is_none() && report.committed <= report.current, || {
        let part = ahead.map_or("firmware", super::tcb::Component::name);
        format!("its {part} is older than what is committed or reported")
    })?;
    let Some(minimum) = &policy.minimum_tcb else {
        return checks.leave_open(&TCB_MINIMUM, "no minimum was given");
    };
    let Some(minimum) = minimum.get(&product) else {
        return checks.require(&TCB_MINIMUM, false, || {
            format!("`minimum-tcb` has no entry for {product}, so none is admitted")
        });
    };
    let minimum = minimum.version(product);
    let named = [
        ("reported", report.reported_tcb),
        ("committed", report.committed_tcb),
        ("current", current),
        ("launch", report.launch_tcb),
    ];
    let behind = named.into_iter().find_map(|(name, tcb)| {
        let part = tcb.behind(minimum, product)?;
        Some((name, part.name(), tcb.describe(Some(product))))
    });
    let old = policy.minimum_firmware.filter(|minimum| report.committed < *minimum);
    checks.require(&TCB_MINIMUM, behind.is_none() && old.is_none(), || match behind {
        Some((name, part, tcb)) => format!("its {part} is too old in the {name} TCB: {tcb}"),
        None => format!("its committed firmware {} is too old", report.committed),
    })
}

/// Whether the operator wants to have to do with this chip, or this cloud.
fn check_admitted(
    report: &Report<'_>,
    endorsement: &Endorsement<'_>,
    policy: &Policy,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let chip = hex::encode(report.chip_id);
    let stranger = policy.chip_ids.as_ref().is_some_and(|chips| !chips.contains(&chip));
    let csp = endorsement.csp_id.as_ref().filter(|_| endorsement.kind() == SigningKey::Vlek);
    let foreign = csp
        .filter(|csp| policy.csp_ids.as_ref().is_some_and(|known| !known.contains(csp.as_str())));
    checks.require(&ADMITTED, !stranger && foreign.is_none(), || match foreign {
        Some(csp) => format!("the cloud `{csp}` is not in `csp-ids`"),
        None => format!("the chip {chip} is not in `chip-ids`"),
    })
}

/// What the guest may be subjected to.
fn check_guest(report: &Report<'_>, policy: &Policy, checks: &mut Checklist) -> Result<(), Broken> {
    checks.require(&VMPL, report.vmpl == u32::from(policy.vmpl), || {
        format!("its VMPL is {}, and {} is expected", report.vmpl, policy.vmpl)
    })?;
    let guest = report.policy;
    checks.require(
        &DEBUG,
        policy.allow_debug || !guest.allows_debugging(),
        || "its policy allows debugging: the host can read its memory",
    )?;
    checks.require(
        &MIGRATION,
        policy.allow_migration || !guest.allows_migration(),
        || "its policy allows a migration agent",
    )?;
    let unmet = policy.require.iter().find(|requirement| !requirement.is_met(report));
    checks.require(&REQUIREMENTS, unmet.is_none(), || {
        format!("it does not have `{}`", unmet.map_or("", |requirement| requirement.name()))
    })
}

fn check_binding(
    report: &Report<'_>,
    binding: Option<&[u8]>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    match binding {
        Some(binding) => {
            let rest = report.report_data.strip_prefix(binding);
            let bound = rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
            checks.require(&BINDING, bound, || {
                "its REPORT_DATA is something else: it was made for another key, nonce or server"
            })
        }
        None => checks.leave_open(&BINDING, "it was not said what it has to be bound to"),
    }
}

fn recognise(
    report: &Report<'_>,
    standard: &Standard<'_>,
    checks: &mut Checklist,
) -> Result<Option<Image>, Broken> {
    match (standard.references, standard.now) {
        (Some(references), Some(now)) => references.recognise(&registers(report), now, checks),
        (Some(_), None) => checks.leave_open(&REFERENCES, "no time was given").map(|()| None),
        (None, _) => checks.leave_open(&REFERENCES, "none were given").map(|()| None),
    }
}
