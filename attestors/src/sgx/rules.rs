//! What the report of an enclave has to be.

use claviger_core::time::UnixTime;

use super::KIND;
use super::config::Signed;
use crate::checklist::{Broken, Checklist, Rule};
use crate::dcap::{EnclaveReport, recognise};
use crate::references::{Image, Measured, References, Registers};

static BOUND: Rule = Rule::new(
    "sgx.report_data",
    "the report carries what it has to be bound to, and zeros behind it",
);
static DEBUG: Rule = Rule::new("sgx.debug", "the host cannot look into the enclave");
static ATTRIBUTES: Rule =
    Rule::new("sgx.attributes", "the enclave runs, and nothing is set that is not known");
static SIGNED: Rule = Rule::new(
    "sgx.signed_product",
    "an enclave that is known by its signer alone is the product, and of the version, that is wanted",
);

/// `ATTRIBUTES` (Intel SDM volume 3D): the enclave is initialized.
const INIT: u64 = 1;
const DEBUG_MODE: u64 = 1 << 1;
/// Those that are known and do no harm: `MODE64BIT`, `PROVISIONKEY`, `EINITTOKEN_KEY`, `CET`, `KSS` and
/// `AEXNOTIFY`.
const HARMLESS: u64 = 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10;

/// What an enclave is known by.
pub static REGISTERS: Registers = Registers {
    kind: KIND,
    length: |name| match name {
        "mrenclave" | "mrsigner" => Some(32),
        "configid" => Some(64),
        _ => None,
    },
    identifies: |name| matches!(name, "mrenclave" | "mrsigner"),
};

/// What was measured of an enclave.
pub(super) fn measured(report: &EnclaveReport) -> Measured {
    let registers = [
        ("mrenclave", report.mr_enclave.to_vec()),
        ("mrsigner", report.mr_signer.to_vec()),
        ("configid", report.config_id.to_vec()),
    ];
    registers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether the host can look into the enclave.
pub(super) const fn is_debug(report: &EnclaveReport) -> bool {
    report.flags() & DEBUG_MODE != 0
}

/// What the report is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// What it has to carry, if that is known.
    pub(super) report_data: Option<[u8; 64]>,
    /// The enclaves that may run, if they are known.
    pub(super) references: Option<&'a References>,
    /// Which product of a signer's may run.
    pub(super) signed: Option<Signed>,
    /// Whether an enclave will do whose host can look into it.
    pub(super) allow_debug: bool,
    pub(super) now: UnixTime,
}

/// The image that runs in the enclave with this report.
///
/// # Errors
///
/// [`Broken`] if the report is not what it has to be, and the checks are for admission.
pub(super) fn examine(
    report: &EnclaveReport,
    expected: Expected<'_>,
    checks: &mut Checklist,
) -> Result<Option<Image>, Broken> {
    match expected.report_data {
        Some(data) => {
            let bound = report.report_data == data;
            checks.require(&BOUND, bound, || "it carries something else")?;
        }
        None => checks.leave_open(&BOUND, "nobody said what it has to be bound to")?,
    }
    let flags = report.flags();
    checks.require(&DEBUG, expected.allow_debug || !is_debug(report), || {
        format!("its attributes are {flags:#018x}, which makes it a debug enclave")
    })?;
    let known = flags & INIT != 0 && flags & !(INIT | DEBUG_MODE | HARMLESS) == 0;
    checks.require(&ATTRIBUTES, known && report.reserved_is_zero, || {
        format!("its attributes are {flags:#018x}, or something reserved is not zero")
    })?;
    let measured = measured(report);
    let image = recognise(expected.references, &measured, expected.now, checks)?;
    if let Some(image) = &image
        && !image.registers.contains_key("mrenclave")
    {
        checks.take(&SIGNED, is_wanted(report, expected.signed))?;
    }
    Ok(image)
}

fn is_wanted(report: &EnclaveReport, signed: Option<Signed>) -> Result<(), String> {
    let Some(wanted) = signed else {
        return Err("`signed` does not say which product is wanted".to_owned());
    };
    let (product, version) = (report.isv_prod_id, report.isv_svn);
    if product != wanted.isv_prod_id {
        return Err(format!("it is product {product}, and {} is wanted", wanted.isv_prod_id));
    }
    if version < wanted.min_isv_svn {
        return Err(format!(
            "it is of version {version}, and at least {} is wanted",
            wanted.min_isv_svn
        ));
    }
    Ok(())
}
