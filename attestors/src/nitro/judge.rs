//! Judging a document: one rule after the other, the cheap ones first.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA384};
use claviger_core::evidence::KeyDigest;
use claviger_core::time::UnixTime;

use super::chain::Chain;
use super::document::Document;
use super::envelope::Envelope;
use super::{Flavour, MAX_DOCUMENT, REGISTER};
use crate::checklist::{Broken, Checklist};
use crate::references::{Image, Measured, References};

/// What a document is judged by. What is missing leaves a rule open, which admits nobody.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// The time; none for the time that the document itself names, as an auditor wants it.
    pub(crate) at: Option<UnixTime>,
    pub(crate) nonce: Option<&'a [u8]>,
    pub(crate) binding: Option<&'a [u8]>,
    pub(crate) key: Option<&'a KeyDigest>,
    /// The roots that are trusted, as DER.
    pub(crate) roots: &'a [Vec<u8>],
    pub(crate) references: Option<&'a References>,
    pub(crate) debugging: &'a Debugging,
}

/// Which enclaves in debug mode are admitted.
#[derive(Debug)]
pub(crate) enum Debugging {
    /// None.
    Refused,
    /// Those of these parents.
    Of(Parents),
    /// It was not said whose: nobody is to be admitted.
    Unsaid,
}

/// Instances that may run enclaves in debug mode, by what the hypervisor measures of them.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    roles: BTreeSet<[u8; REGISTER]>,
    instances: BTreeSet<[u8; REGISTER]>,
}

/// PCR3 is of the instance's IAM role, PCR4 of its id.
const ROLE: u8 = 3;
const INSTANCE: u8 = 4;

impl Parents {
    /// The parents that have one of these roles (`arn:…`) or ids (`i-…`).
    pub(crate) fn new(names: &BTreeSet<String>) -> Self {
        let mut parents = Self::default();
        for name in names {
            let of_kind =
                if Self::is_role(name) { &mut parents.roles } else { &mut parents.instances };
            of_kind.insert(extended(name));
        }
        parents
    }

    /// Whether `name` is one of an IAM role.
    pub(crate) fn is_role(name: &str) -> bool {
        name.starts_with("arn:")
    }

    fn include(&self, document: &Document<'_>) -> bool {
        let is = |set: &BTreeSet<[u8; REGISTER]>, index| {
            document.measured(index).is_some_and(|value| set.contains(value))
        };
        is(&self.roles, ROLE) || is(&self.instances, INSTANCE)
    }
}

/// A register of zeros that was extended by `name`.
fn extended(name: &str) -> [u8; REGISTER] {
    let mut context = Context::new(&SHA384);
    context.update(&[0; REGISTER]);
    context.update(name.as_bytes());
    let mut value = [0; REGISTER];
    value.copy_from_slice(context.finish().as_ref());
    value
}

/// A document that was read, and what it turned out to be.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) document: Document<'a>,
    pub(crate) is_debug: bool,
    /// The software, if it is known.
    pub(crate) image: Option<Image>,
}

/// How far from now a document may have been made.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// How far the clock of the hypervisor's authority may be ahead of ours: it issues the last certificate
/// moments before the document, and does not date it back.
const EARLY: Duration = Duration::from_secs(60);

/// Goes through all rules for the document that is all of `bytes`. There is none if it can't be read.
///
/// # Errors
///
/// [`Broken`] for the first rule that is broken, if `checks` are for admission.
pub(crate) fn judge<'a>(
    bytes: &'a [u8],
    flavour: &Flavour,
    terms: &Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<Judged<'a>>, Broken> {
    let Some((envelope, document)) = read(bytes, flavour, checks)? else {
        for rule in flavour.rules.about_the_payload() {
            checks.leave_open(rule, "there is no document to look at")?;
        }
        return Ok(None);
    };
    check_freshness(&document, flavour, terms, checks)?;
    check_bond(&document, flavour, terms, checks)?;
    check_authenticity(&envelope, &document, flavour, terms, checks)?;
    let is_debug = flavour.launch.iter().any(|index| document.measured(*index).is_none());
    let image = if is_debug {
        check_debugging(&document, flavour, terms.debugging, checks)?;
        None
    } else {
        recognise(&document, flavour, terms, checks)?
    };
    Ok(Some(Judged { document, is_debug, image }))
}

fn read<'a>(
    bytes: &'a [u8],
    flavour: &Flavour,
    checks: &mut Checklist,
) -> Result<Option<(Envelope<'a>, Document<'a>)>, Broken> {
    let (rules, length) = (flavour.rules, bytes.len());
    let fits = length <= MAX_DOCUMENT;
    let size = fits.then_some(bytes);
    let size = size.ok_or_else(|| format!("it has {length} bytes; {MAX_DOCUMENT} are allowed"));
    let Some(bytes) = checks.take(&rules.size, size)? else { return Ok(None) };
    let envelope = checks.take(&rules.envelope, Envelope::parse(bytes))?;
    let Some(envelope) = envelope else { return Ok(None) };
    checks.take(&rules.algorithm, envelope.check_algorithm())?;
    let document = Document::parse(envelope.payload, flavour.registers);
    let document = checks.take(&rules.payload, document)?;
    Ok(document.map(|document| (envelope, document)))
}

fn check_freshness(
    document: &Document<'_>,
    flavour: &Flavour,
    terms: &Terms<'_>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let rule = &flavour.rules.freshness;
    let Some(now) = terms.at else {
        return checks.leave_open(rule, "it is judged at the time that it names itself");
    };
    let off =
        Duration::from_millis(document.timestamp).abs_diff(Duration::from_secs(now.as_secs()));
    checks.require(rule, off <= FRESH, || format!("it was made {} s from now", off.as_secs()))
}

fn check_bond(
    document: &Document<'_>,
    flavour: &Flavour,
    terms: &Terms<'_>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let rules = flavour.rules;
    if let Some(nonce) = terms.nonce {
        let why = || carried(document.nonce, "nonce");
        checks.require(&rules.nonce, document.nonce == Some(nonce), why)?;
    } else {
        checks.leave_open(&rules.nonce, "no nonce is given")?;
    }
    if let Some(binding) = terms.binding {
        let why = || carried(document.user_data, "user data");
        checks.require(&rules.binding, document.user_data == Some(binding), why)?;
    } else {
        checks.leave_open(&rules.binding, "nothing is given that it has to be bound to")?;
    }
    match (document.public_key.filter(|key| !key.is_empty()), terms.key) {
        (None, _) => checks.require(&rules.public_key, true, || ""),
        (Some(carried), Some(key)) => {
            let carried = KeyDigest::of_spki(carried);
            let why = || format!("it carries the key with the SHA-256 {carried}");
            checks.require(&rules.public_key, carried == *key, why)
        }
        (Some(_), None) => checks.leave_open(&rules.public_key, "no key is given"),
    }
}

fn carried(value: Option<&[u8]>, what: &str) -> String {
    value.map_or_else(
        || format!("it carries no {what}"),
        |value| format!("it carries other {what}: {}", hex::encode(value)),
    )
}

fn check_authenticity(
    envelope: &Envelope<'_>,
    document: &Document<'_>,
    flavour: &Flavour,
    terms: &Terms<'_>,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let rules = flavour.rules;
    let is_rooted =
        document.bundle.first().is_some_and(|first| terms.roots.iter().any(|root| root == first));
    checks.require(&rules.root, is_rooted, || "the first in `cabundle` is another certificate")?;
    let chain = match Chain::parse(document) {
        Ok(chain) => chain,
        Err(error) => {
            checks.take(&rules.chain, Err::<(), _>(error))?;
            checks.leave_open(&rules.validity, "the certificates can't be read")?;
            return checks.leave_open(&rules.signature, "the certificates can't be read");
        }
    };
    checks.take(&rules.chain, chain.check())?;
    let early = if terms.at.is_some() { EARLY } else { Duration::ZERO };
    let at = terms.at.unwrap_or_else(|| document.made());
    checks.take(&rules.validity, chain.check_validity(at, early))?;
    let signed = match chain.signer_key() {
        Ok(key) => envelope.check_signature(key).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    checks.take(&rules.signature, signed).map(|_signed| ())
}

fn check_debugging(
    document: &Document<'_>,
    flavour: &Flavour,
    debugging: &Debugging,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let rules = flavour.rules;
    let is_allowed = !matches!(debugging, Debugging::Refused);
    checks.require(&rules.debug, is_allowed, || {
        "one of PCR0 to PCR2 is missing or zero: its memory and its console are open to the parent"
    })?;
    match debugging {
        Debugging::Refused => Ok(()),
        Debugging::Of(parents) => checks.require(
            &rules.debug_parent,
            parents.include(document),
            || "neither the role (PCR3) nor the id (PCR4) of its instance is in `debug-parents`",
        ),
        Debugging::Unsaid => checks.leave_open(&rules.debug_parent, "no parents are given"),
    }
}

fn recognise(
    document: &Document<'_>,
    flavour: &Flavour,
    terms: &Terms<'_>,
    checks: &mut Checklist,
) -> Result<Option<Image>, Broken> {
    let rules = flavour.rules;
    if !flavour.launch.is_empty() {
        checks.require(&rules.debug, true, || "")?;
    }
    let Some(references) = terms.references else {
        checks.leave_open(&rules.software, "no reference values are given")?;
        return Ok(None);
    };
    let measured: Measured = document
        .registers
        .iter()
        .map(|(index, value)| (format!("pcr{index}"), value.to_vec()))
        .collect();
    references.recognise(&measured, terms.at.unwrap_or_else(|| document.made()), checks)
}
