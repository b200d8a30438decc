//! What a report says: for entries, for the record, and for people.

use std::collections::BTreeMap;

use claviger_core::evidence::{TrustClaim, TrustVector};
use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};
use claviger_core::selector::{Selector, Selectors};

use super::KIND;
use super::endorsement::Endorsement;
use super::report::Report;
use crate::VerifyError;
use crate::references::{Image, Measured, Registers};

/// What reference values may name. MEASUREMENT is of what was loaded at launch. ID_KEY_DIGEST names the
/// key by which the guest's owner signed that very measurement, which the firmware verified. The others
/// only say more about either.
pub static REGISTERS: Registers = Registers {
    kind: KIND,
    length: |register| match register {
        "measurement" | "id_key_digest" | "author_key_digest" => Some(48),
        "host_data" => Some(32),
        "family_id" | "image_id" => Some(16),
        _ => None,
    },
    identifies: |register| matches!(register, "measurement" | "id_key_digest"),
};

/// The registers of a report.
pub(super) fn registers(report: &Report<'_>) -> Measured {
    named(report).into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// The same, in the order in which people want to read them.
pub(super) fn named<'a>(report: &'a Report<'_>) -> [(&'static str, &'a [u8]); 6] {
    [
        ("measurement", &report.measurement),
        ("host_data", &report.host_data),
        ("id_key_digest", &report.id_key_digest),
        ("author_key_digest", &report.author_key_digest),
        ("family_id", &report.family_id),
        ("image_id", &report.image_id),
    ]
}

/// The identity that a guest earns. REPORT_ID is the firmware's number for this guest: it is random,
/// nobody else's, and lasts from launch to shutdown, also when the guest is taken to another chip.
pub(super) fn agent_id(
    report: &Report<'_>,
    trust_domain: &TrustDomain,
) -> Result<SpiffeId, ParseIdError> {
    let taint = if report.policy.allows_debugging() { "/debug" } else { "" };
    let guest = hex::encode(report.report_id);
    trust_domain.join(&format!("/spire/agent/{KIND}{taint}/{guest}"))
}

/// What was verified. What is all zero was not set, and selects nothing.
pub(super) fn selectors(
    report: &Report<'_>,
    endorsement: &Endorsement<'_>,
    image: &Image,
) -> Result<Selectors, VerifyError> {
    let product = endorsement.product;
    let mut facts = vec![
        format!("image:{}", image.name),
        format!("product:{product}"),
        format!("signing_key:{}", endorsement.kind().name()),
        format!("vmpl:{}", report.vmpl),
        format!("guest_svn:{}", report.guest_svn),
    ];
    facts.extend(image.version.iter().map(|version| format!("version:{version}")));
    facts.extend(endorsement.csp_id.iter().map(|csp| format!("csp_id:{csp}")));
    let chip = ("chip_id", report.chip_id.as_slice());
    let set = named(report).into_iter().chain([chip]);
    let set = set.filter(|(_, value)| value.iter().any(|byte| *byte != 0));
    facts.extend(set.map(|(name, value)| format!("{name}:{}", hex::encode(value))));
    let tcb = report.reported_tcb.components(product);
    facts.extend(tcb.map(|(part, version)| format!("tcb:{}:{version}", part.name())));
    let policy = report.policy.settings().into_iter();
    facts.extend(policy.map(|(setting, is_on)| format!("policy:{setting}:{is_on}")));
    if report.policy.allows_debugging() {
        facts.push("debug:true".to_owned());
    }
    let selectors = facts.iter().map(|fact| Selector::new(KIND, fact));
    selectors.collect::<Result<_, _>>().map_err(|_invalid| VerifyError::Malformed)
}

/// What goes on record.
pub(super) fn measured(
    report: &Report<'_>,
    endorsement: &Endorsement<'_>,
) -> BTreeMap<String, String> {
    let registers = named(report).into_iter();
    let set = registers.filter(|(_, value)| value.iter().any(|byte| *byte != 0));
    let set = set.map(|(name, value)| (name.to_owned(), hex::encode(value)));
    let product = endorsement.product;
    let more = [
        ("product", product.to_string()),
        ("firmware", report.current.to_string()),
        ("tcb", report.reported_tcb.describe(Some(product))),
        ("chip_id", hex::encode(report.chip_id)),
    ];
    set.chain(more.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// AR4SI's "unsafe": the memory can be read from outside.
const VISIBLE: TrustClaim = TrustClaim::new(96);
/// AR4SI's "known to be exploitable", of a configuration.
const UNSAFE_CONFIGURATION: TrustClaim = TrustClaim::new(32);

/// How far a guest is to be trusted that kept all rules.
pub(super) fn trust(report: &Report<'_>) -> TrustVector {
    let debug = report.policy.allows_debugging();
    TrustVector {
        instance_identity: TrustClaim::AFFIRMING,
        executables: TrustClaim::AFFIRMING,
        hardware: TrustClaim::AFFIRMING,
        configuration: if debug { UNSAFE_CONFIGURATION } else { TrustClaim::AFFIRMING },
        runtime_opaque: if debug { VISIBLE } else { TrustClaim::AFFIRMING },
        ..TrustVector::default()
    }
}
