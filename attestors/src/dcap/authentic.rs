//! Whether a quote is genuine: made by a quoting enclave on a platform of Intel's.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::time::UnixTime;

use super::chain::{Chain, Roots, is_signed};
use super::pck::Pck;
use super::quote::Quote;
use crate::checklist::{Broken, Checklist, Rule};

static CHAIN: Rule =
    Rule::new("dcap.pck_chain_form", "the quote carries the chain of the platform's certificate");
static VOUCHED: Rule =
    Rule::new("dcap.pck_chain", "Intel's root vouches for the platform's certificate at this time");
static PLATFORM: Rule = Rule::new(
    "dcap.pck_certificate",
    "the platform's certificate says which platform it is and which versions it has",
);
static QE_REPORT: Rule = Rule::new(
    "dcap.qe_report_signature",
    "the platform's key signed the report of the quoting enclave",
);
static KEY: Rule = Rule::new(
    "dcap.attestation_key",
    "the quoting enclave's report holds the digest of the attestation key, and nothing more",
);
static SIGNATURE: Rule =
    Rule::new("dcap.signature", "the attestation key signed the header and the body of the quote");

/// The platform that made a quote.
#[derive(Clone, Debug)]
pub struct Authentic {
    pub(super) chain: Chain,
    /// What its certificate says.
    pub pck: Pck,
}

/// The platform that made `quote`, which one of `roots` vouches for at `now`. Whether that has been
/// revoked, and how up to date it is, is for [`appraise`](super::appraise).
///
/// # Errors
///
/// [`Broken`] if the quote is not genuine, and the checks are for admission.
pub fn authenticate(
    quote: &Quote<'_>,
    roots: &Roots,
    now: UnixTime,
    checks: &mut Checklist,
) -> Result<Option<Authentic>, Broken> {
    let found = match checks.take(&CHAIN, Chain::from_pem(quote.pck_chain))? {
        Some(chain) => {
            checks.take(&VOUCHED, roots.vouch(&chain, None, now))?;
            let pck = checks.take(&PLATFORM, Pck::parse(chain.leaf()))?;
            pck.map(|pck| Authentic { chain, pck })
        }
        None => {
            checks.leave_open(&VOUCHED, "there is no chain")?;
            checks.leave_open(&PLATFORM, "there is no chain")?;
            None
        }
    };
    match &found {
        Some(found) => {
            let genuine =
                is_signed(&found.pck.key, quote.qe_report_signed, quote.qe_report_signature);
            checks.require(&QE_REPORT, genuine, || "somebody else signed it, or something else")?;
        }
        None => checks.leave_open(&QE_REPORT, "the platform's key is not known")?,
    }
    let names_key = names_attestation_key(quote);
    checks.require(&KEY, names_key, || "it is another key, or there is more beside it")?;
    let key = [&[UNCOMPRESSED], quote.attestation_key].concat();
    let signed = is_signed(&key, quote.signed, quote.signature);
    checks.require(&SIGNATURE, signed, || "another key signed it, or it signed something else")?;
    Ok(found)
}

/// The first byte of a point on a curve that is written as `x || y` (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Whether the quoting enclave's report data is SHA-256(attestation key ‖ authentication data), and
/// zeros.
fn names_attestation_key(quote: &Quote<'_>) -> bool {
    let named = [quote.attestation_key, quote.qe_authentication_data].concat();
    let mut expected = [0; 64];
    let (first, _zeros) = expected.split_at_mut(32);
    first.copy_from_slice(digest(&SHA256, &named).as_ref());
    verify_slices_are_equal(&expected, &quote.qe_report.report_data).is_ok()
}
