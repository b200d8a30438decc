//! The rules that a TPM's word has to keep.
//!
//! First those about the keys, which can be looked at before the TPM is asked anything; then those
//! about its answer. What is not there leaves rules open, which only whoever inspects a file may do.

use std::collections::BTreeSet;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use claviger_core::time::UnixTime;

use super::certificate::EkCertificate;
use super::chain::Roots;
use super::structure::{
    Attest, Clock, GENERATED, Pcrs, Public, QUOTE, Selection, Signature, attribute,
};
use crate::checklist::{Broken, Checklist, Rule};
use crate::references::Measured;

static EK_CHAIN: Rule = Rule::new(
    "tpm.ek_chain",
    "a configured root vouches for the EK's certificate, and all on the way to it are valid",
);
static EK_PURPOSE: Rule = Rule::new(
    "tpm.ek_purpose",
    "the EK's certificate is for an endorsement key, and no authority's",
);
static EK_KEY: Rule =
    Rule::new("tpm.ek_key", "the EK is the key in its certificate, and decrypts for its TPM only");
static EK_ALLOWED: Rule = Rule::new("tpm.ek_allowed", "the EK is one that is allowed, if some are");
static AK_ATTRIBUTES: Rule = Rule::new(
    "tpm.ak_attributes",
    "the AK was made in its TPM, can't leave it, and signs what the TPM made and nothing else",
);
static AK_ALGORITHM: Rule = Rule::new(
    "tpm.ak_algorithm",
    "the AK is ECDSA on P-256 or P-384, or RSA with 2048 bits or more, with SHA-256 or SHA-384",
);
static ACTIVATED: Rule = Rule::new(
    "tpm.activated",
    "the TPM that holds the AK has the EK: it read what was made for both",
);
static SIGNATURE: Rule = Rule::new("tpm.signature", "the AK signed the quote");
static GENUINE: Rule = Rule::new("tpm.quote", "a TPM made it by itself, and it is a quote");
static BOUND: Rule =
    Rule::new("tpm.bound", "the quote carries the digest of the nonce and of what it is bound to");
static SELECTED: Rule = Rule::new(
    "tpm.pcr_selection",
    "the quote is of the PCRs that were asked for, and of no others",
);
static DIGEST: Rule =
    Rule::new("tpm.pcr_digest", "what is in the PCRs has the digest that the quote carries");

/// What an EK is judged by.
#[derive(Debug)]
pub(super) struct EkPolicy {
    pub(super) roots: Roots,
    /// The only EKs that are allowed, if some are.
    pub(super) allowed: Option<BTreeSet<String>>,
}

/// An EK, and who vouches for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endorsement<'a> {
    pub(super) certificate: Option<&'a [u8]>,
    /// Those that lead to a root.
    pub(super) others: &'a [Vec<u8>],
    pub(super) ek: Option<&'a Public>,
}

/// What the certificate of the EK says, which is true if the rules about it are kept. It is judged by
/// a policy, at a time.
pub(super) fn endorsed(
    endorsement: Endorsement<'_>,
    judged_by: Option<(&EkPolicy, UnixTime)>,
    checks: &mut Checklist,
) -> Result<Option<EkCertificate>, Broken> {
    let Endorsement { certificate: der, others, ek } = endorsement;
    let Some(der) = der else {
        for rule in [&EK_CHAIN, &EK_PURPOSE, &EK_KEY, &EK_ALLOWED] {
            checks.leave_open(rule, "the EK's certificate is not there")?;
        }
        return Ok(None);
    };
    match judged_by {
        Some((policy, now)) => {
            checks.take(&EK_CHAIN, policy.roots.vouch(der, others, now)).map(drop)?;
        }
        None => checks.leave_open(&EK_CHAIN, "no roots are given, or no time")?,
    }
    let certificate = EkCertificate::parse(der).ok_or("it is no X.509 certificate");
    let certificate = certificate.and_then(|it| it.check_purpose().map(|()| it));
    let certificate = checks.take(&EK_PURPOSE, certificate)?;
    let Some(certificate) = certificate else { return Ok(None) };
    match ek {
        Some(ek) => checks.take(&EK_KEY, is_ek(ek, &certificate)).map(drop)?,
        None => checks.leave_open(&EK_KEY, "the EK's public area is not there")?,
    }
    let digest = certificate.digest.to_string();
    let allowed = judged_by.and_then(|(policy, _)| policy.allowed.as_ref());
    let is_allowed = allowed.is_none_or(|allowed| allowed.contains(&digest));
    checks.require(&EK_ALLOWED, is_allowed, || format!("`{digest}` is not in `ek-allow-list`"))?;
    Ok(Some(certificate))
}

fn is_ek(ek: &Public, certificate: &EkCertificate) -> Result<(), &'static str> {
    let wanted = attribute::FIXED_TPM
        | attribute::FIXED_PARENT
        | attribute::SENSITIVE_DATA_ORIGIN
        | attribute::RESTRICTED
        | attribute::DECRYPT;
    if !certificate.is_for(&ek.key) {
        return Err("the certificate is for another key");
    }
    if !ek.has(wanted) || ek.attributes & attribute::SIGN != 0 {
        return Err("it is not a key that its TPM keeps and only decrypts with");
    }
    if ek.symmetric.is_none() {
        return Err("it protects nothing: it has no cipher");
    }
    Ok(())
}

/// That `ak` signs nothing that a TPM did not make.
pub(super) fn attesting(ak: Option<&Public>, checks: &mut Checklist) -> Result<(), Broken> {
    let Some(ak) = ak else {
        checks.leave_open(&AK_ATTRIBUTES, "the AK is not there")?;
        return checks.leave_open(&AK_ALGORITHM, "the AK is not there");
    };
    let wanted = [
        (attribute::FIXED_TPM, "fixedTPM"),
        (attribute::FIXED_PARENT, "fixedParent"),
        (attribute::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (attribute::RESTRICTED, "restricted"),
        (attribute::SIGN, "sign"),
    ];
    let missing = wanted.into_iter().find(|(bit, _)| !ak.has(*bit));
    let attributes = match missing {
        Some((_, name)) => Err(format!("it has not the attribute `{name}`")),
        None if ak.attributes & attribute::DECRYPT != 0 => Err("it decrypts, too".to_owned()),
        None => Ok(()),
    };
    checks.take(&AK_ATTRIBUTES, attributes)?;
    let scheme = ak.scheme.ok_or("it may sign by any algorithm");
    checks.take(&AK_ALGORITHM, scheme.and_then(|scheme| ak.key.signs_by(scheme)))?;
    Ok(())
}

/// That the TPM found the secret that was made for it: what was hidden there, and what it found.
pub(super) fn activated(
    secret: Option<(&[u8], &[u8])>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let Some((hidden, found)) = secret else {
        return checks.leave_open(&ACTIVATED, "only who made the secret can tell, and at once");
    };
    let is_found = verify_slices_are_equal(hidden, found).is_ok();
    checks.require(&ACTIVATED, is_found, || "it read something else, or could not")
}

/// A quote, and what came with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a> {
    /// The `TPMS_ATTEST`.
    pub(super) attest: &'a [u8],
    /// The `TPMT_SIGNATURE`.
    pub(super) signature: Option<&'a [u8]>,
    pub(super) ak: Option<&'a Public>,
    pub(super) pcrs: Option<&'a Pcrs>,
}

/// What a quote has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// What it has to carry: [`short`](claviger_core::evidence::BindingDigest::short).
    pub(super) extra: Option<&'a [u8]>,
    /// The PCRs that it has to be of.
    pub(super) selection: Option<&'a Selection>,
}

/// What a quote says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Facts {
    pub(super) selection: Selection,
    /// What is in these PCRs, by the names `pcr0` to `pcr23`.
    pub(super) measured: Measured,
    pub(super) clock: Clock,
    pub(super) firmware: u64,
    /// The qualified name of the key that signed it.
    pub(super) signer: Vec<u8>,
}

/// What the quote says, which is true if the rules about it are kept.
pub(super) fn quoted(
    quoted: Quoted<'_>,
    expected: Expected<'_>,
    checks: &mut Checklist,
) -> Result<Option<Facts>, Broken> {
    signed(quoted, checks)?;
    let attest = Attest::parse(quoted.attest).map_err(|malformed| malformed.to_string());
    let genuine = attest.and_then(|attest| {
        if attest.magic != GENERATED {
            return Err(format!("its magic is {:#010x}, not {GENERATED:#010x}", attest.magic));
        }
        let (kind, quote) = (attest.kind, attest.quote.clone());
        let quote = quote.ok_or_else(|| format!("its type is {kind:#06x}, not {QUOTE:#06x}"))?;
        Ok((attest, quote))
    });
    let Some((attest, quote)) = checks.take(&GENUINE, genuine)? else { return Ok(None) };
    match expected.extra {
        Some(extra) => {
            let is_bound = verify_slices_are_equal(extra, attest.extra).is_ok();
            checks.require(&BOUND, is_bound, || "its extraData is another")?;
        }
        None => checks.leave_open(&BOUND, "neither nonce nor binding is given")?,
    }
    match expected.selection {
        Some(selection) => checks.require(&SELECTED, quote.selection == *selection, || {
            let (is, asked) = (quote.selection.text(), selection.text());
            format!("it is of {is}, and {asked} was asked for")
        })?,
        None => checks.leave_open(&SELECTED, "nobody says which PCRs are asked for")?,
    }
    let measured = match (quoted.pcrs, quoted.ak.and_then(|ak| ak.scheme)) {
        (Some(pcrs), Some((_, hash))) => {
            let have = pcrs.are(&quote.selection) && pcrs.digest(hash) == quote.digest;
            checks.require(&DIGEST, have, || "the values are others, or not all")?;
            pcrs.values.iter().map(|(pcr, value)| (format!("pcr{pcr}"), value.clone())).collect()
        }
        _ => {
            checks.leave_open(&DIGEST, "the PCRs' values or the AK are not there")?;
            Measured::new()
        }
    };
    Ok(Some(Facts {
        selection: quote.selection,
        measured,
        clock: attest.clock,
        firmware: attest.firmware,
        signer: attest.signer.to_vec(),
    }))
}

/// That the AK signed these very bytes, by the one algorithm that it may sign by.
fn signed(quoted: Quoted<'_>, checks: &mut Checklist) -> Result<(), Broken> {
    let (Some(ak), Some(signature)) = (quoted.ak, quoted.signature) else {
        return checks.leave_open(&SIGNATURE, "the AK or the signature is not there");
    };
    let signature = Signature::parse(signature).map_err(|malformed| malformed.to_string());
    let signed = signature.and_then(|signature| {
        if Some(signature.scheme) != ak.scheme {
            return Err("it is by another algorithm than the AK's".to_owned());
        }
        let is_by = signature.is_by(&ak.key, quoted.attest);
        is_by.then_some(()).ok_or_else(|| "it is not the AK's signature of these bytes".to_owned())
    });
    checks.take(&SIGNATURE, signed).map(drop)
}
