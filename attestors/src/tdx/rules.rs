//! What the report of a virtual machine has to be.

use claviger_core::time::UnixTime;

use super::KIND;
use crate::checklist::{Broken, Checklist, Rule};
use crate::dcap::DomainReport;
use crate::references::{Image, Measured, References, Registers};

static BOUND: Rule = Rule::new(
    "tdx.report_data",
    "the report carries what it has to be bound to, and zeros behind it",
);
static DEBUG: Rule = Rule::new("tdx.debug", "the host cannot look into the machine");
static ATTRIBUTES: Rule = Rule::new(
    "tdx.attributes",
    "no attribute is set that is not known, or that lets the machine move elsewhere",
);

/// The attributes by which a machine's memory and state are open to its host: `TDATTRIBUTES.TUD`.
const UNDER_DEBUG: u64 = 0xff;
/// Those that are known and do no harm (Intel TDX Module ABI, `TDATTRIBUTES`): ICSSD, LASS,
/// SEPT_VE_DISABLE, PKS, KL, TPA and PERFMON. `MIGRATABLE` (bit 29) is not among them: such a machine
/// may go on on a platform of which its quote says nothing.
const HARMLESS: u64 = 1 << 16 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31 | 1 << 62 | 1 << 63;

/// Where software is measured. All that is measured later (`rtmr*`) is as good as what measured it, and
/// all that whoever launched the machine chose (`mrconfigid` …) may be anything; so an image has to name
/// what the machine began with.
pub static REGISTERS: Registers = Registers {
    kind: KIND,
    length: |name| NAMES.contains(&name).then_some(48),
    identifies: |name| name == "mrtd",
};

const NAMES: [&str; 11] = [
    "mrtd",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "rtmr3",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
    "mrseam",
    "mrsignerseam",
    "mrservicetd",
];

/// What was measured of a machine.
pub(super) fn measured(report: &DomainReport) -> Measured {
    let [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmr;
    let registers = [
        ("mrtd", report.mr_td),
        ("rtmr0", rtmr0),
        ("rtmr1", rtmr1),
        ("rtmr2", rtmr2),
        ("rtmr3", rtmr3),
        ("mrconfigid", report.mr_config_id),
        ("mrowner", report.mr_owner),
        ("mrownerconfig", report.mr_owner_config),
        ("mrseam", report.mr_seam),
        ("mrsignerseam", report.mr_signer_seam),
    ];
    let more = report.more.map(|more| ("mrservicetd", more.mr_service_td));
    let all = registers.into_iter().chain(more);
    all.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// Whether the host can look into the machine.
pub(super) const fn is_debug(report: &DomainReport) -> bool {
    report.td_attributes & UNDER_DEBUG != 0
}

/// What the report is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// What it has to carry, if that is known.
    pub(super) report_data: Option<[u8; 64]>,
    /// The images that may run, if they are known.
    pub(super) references: Option<&'a References>,
    /// Whether a machine will do whose host can look into it.
    pub(super) allow_debug: bool,
    pub(super) now: UnixTime,
}

/// The image that runs in the machine with this report.
///
/// # Errors
///
/// [`Broken`] if the report is not what it has to be, and the checks are for admission.
pub(super) fn examine(
    report: &DomainReport,
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
    let attributes = report.td_attributes;
    checks.require(&DEBUG, expected.allow_debug || !is_debug(report), || {
        format!("its attributes are {attributes:#018x}, which makes it a machine under debug")
    })?;
    let harmless = attributes & !(HARMLESS | UNDER_DEBUG) == 0;
    checks.require(&ATTRIBUTES, harmless, || format!("its attributes are {attributes:#018x}"))?;
    crate::dcap::recognise(expected.references, &measured(report), expected.now, checks)
}
