//! A quote in a file, for people.
//!
//! Three forms are understood: a `TPMS_ATTEST` as tools write it, the same behind its length
//! (`TPM2B_ATTEST`), and JSON with the members `quote`, `signature`, `ak`, `ek`, `ek_certificates` and
//! `pcrs` (values by number), each value in base64: the TPM's structures as they are in the
//! conversation.
//!
//! An AK that is given as collateral, as `TPM2B_PUBLIC` and perhaps with a `TPMT_SIGNATURE` behind it,
//! is taken for known: whoever gives it knows whose it is. Of any other nothing is known but what the
//! EK's certificate says, and whether both are in one TPM can't be seen afterwards.

use serde::Deserialize;

use super::KIND;
use super::certificate::EkCertificate;
use super::chain::Roots;
use super::rules::{self, EkPolicy, Endorsement, Expected, Quoted};
use super::structure::{Attest, GENERATED, Hash, Pcrs, Public, Reader};
use super::verifier::{REGISTERS, REGISTERS_SHA384};
use super::wire::{self, Values};
use crate::checklist::{Broken, Checklist};
use crate::inspect::{Given, Inspection};
use crate::possession::Base64;
use crate::references::{Measured, RECOGNISED, References};

/// A quote and all that belongs to it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// A `TPMS_ATTEST`.
    quote: Option<Base64>,
    /// A `TPMT_SIGNATURE`.
    signature: Option<Base64>,
    /// A `TPM2B_PUBLIC`.
    ak: Option<Base64>,
    /// A `TPM2B_PUBLIC`.
    ek: Option<Base64>,
    #[serde(default)]
    ek_certificates: Vec<Base64>,
    pcrs: Option<Values>,
}

/// What a file says, as far as it can be read.
struct Document {
    attest: Vec<u8>,
    signature: Option<Vec<u8>>,
    ak: Option<Public>,
    /// Whether whoever asks gave the AK.
    is_known: bool,
    ek: Option<Public>,
    certificates: Vec<Vec<u8>>,
    values: Option<Values>,
}

/// Reads `document` and goes through its rules. None if it is no quote.
#[must_use]
pub fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    let document = Document::read(document, given)?;
    let attest = Attest::parse(&document.attest).ok()?;
    let fields = document.fields(&attest);
    let mut checks = Checklist::exhaustive();
    document.judge(&attest, given, &mut checks).ok()?;
    Some(Inspection { kind: KIND, fields, checks })
}

impl Document {
    fn read(bytes: &[u8], given: &Given) -> Option<Self> {
        let record = match bare(bytes) {
            Some(attest) => Record { quote: Some(Base64(attest.to_vec())), ..Record::default() },
            None => wire::read(bytes).ok()?,
        };
        let key = |bytes: Option<Base64>| bytes.and_then(|bytes| Public::parse(&bytes.0).ok());
        let is_known = given.collateral.is_some();
        let (known, signature) = beside(given.collateral.as_deref()).unzip();
        let signature = signature.filter(|signature| !signature.is_empty());
        let own = record.ek_certificates.into_iter().map(|certificate| certificate.0);
        Some(Self {
            attest: record.quote?.0,
            signature: signature.or_else(|| record.signature.map(|signature| signature.0)),
            ak: if is_known { known } else { key(record.ak) },
            is_known,
            ek: key(record.ek),
            certificates: own.chain(given.certificates.iter().cloned()).collect(),
            values: record.pcrs,
        })
    }

    fn judge(
        &self,
        attest: &Attest<'_>,
        given: &Given,
        checks: &mut Checklist,
    ) -> Result<(), Broken> {
        if !self.is_known || !self.certificates.is_empty() {
            self.judge_ek(given, checks)?;
            rules::activated(None, checks)?;
        }
        rules::attesting(self.ak.as_ref(), checks)?;
        let selection = attest.quote.as_ref().map(|quote| &quote.selection);
        let bank = selection.map_or(Hash::Sha256, |selection| selection.bank);
        let pcrs: Option<Pcrs> = self.values.as_ref().map(|values| wire::pcrs(bank, values));
        let quoted = Quoted {
            attest: &self.attest,
            signature: self.signature.as_deref(),
            ak: self.ak.as_ref(),
            pcrs: pcrs.as_ref(),
        };
        // Beside reference values nobody has to say which PCRs are asked for: those that they name.
        let selection = selection.filter(|_| given.references.is_some());
        // There is room for one of them: what binds a quote has the nonce in it.
        let extra = given.binding.as_deref().or(given.nonce.as_deref());
        let expected = Expected { extra, selection };
        let facts = rules::quoted(quoted, expected, checks)?;
        let measured = facts.map(|facts| facts.measured).unwrap_or_default();
        recognised(&measured, bank, given, checks)
    }

    /// The first certificate that is an EK's is judged, and the others help.
    fn judge_ek(&self, given: &Given, checks: &mut Checklist) -> Result<(), Broken> {
        let is_ek =
            |der: &&Vec<u8>| EkCertificate::parse(der).is_some_and(|it| it.check_purpose().is_ok());
        let first = self.certificates.iter().find(is_ek).or_else(|| self.certificates.first());
        let certificate = first.map(Vec::as_slice);
        let policy = EkPolicy { roots: Roots::of(&given.roots, &self.certificates), allowed: None };
        let judged_by = given.at.filter(|_| !given.roots.is_empty()).map(|at| (&policy, at));
        let endorsement = Endorsement { certificate, others: &[], ek: self.ek.as_ref() };
        rules::endorsed(endorsement, judged_by, checks).map(drop)
    }

    fn fields(&self, attest: &Attest<'_>) -> Vec<(String, String)> {
        let mut fields = vec![
            ("magic".to_owned(), format!("{:#010x}", attest.magic)),
            ("type".to_owned(), format!("{:#06x}", attest.kind)),
            ("qualified-signer".to_owned(), hex::encode(attest.signer)),
            ("extra-data".to_owned(), hex::encode(attest.extra)),
            ("clock-ms".to_owned(), attest.clock.milliseconds.to_string()),
            ("reset-count".to_owned(), attest.clock.resets.to_string()),
            ("restart-count".to_owned(), attest.clock.restarts.to_string()),
            ("clock-safe".to_owned(), attest.clock.is_safe.to_string()),
            ("firmware-version".to_owned(), format!("{:016x}", attest.firmware)),
        ];
        let mut field = |name: &str, value: String| fields.push((name.to_owned(), value));
        if let Some(quote) = &attest.quote {
            field("pcr-selection", quote.selection.text());
            field("pcr-digest", hex::encode(quote.digest));
        }
        for (pcr, value) in self.values.iter().flatten() {
            field(&format!("pcr{pcr}"), hex::encode(&value.0));
        }
        if let Some(ak) = &self.ak {
            field("ak-name", hex::encode(ak.name()));
        }
        for certificate in self.certificates.iter().filter_map(|der| EkCertificate::parse(der)) {
            if certificate.check_purpose().is_ok() {
                field("ek", certificate.digest.to_string());
                field("ek-issuer", certificate.issuer);
                field("manufacturer", certificate.manufacturer);
                field("model", certificate.model);
                field("tpm-version", certificate.version);
            }
        }
        fields
    }
}

/// A `TPMS_ATTEST`, or one behind its length.
fn bare(bytes: &[u8]) -> Option<&[u8]> {
    let is_attest = |bytes: &[u8]| bytes.starts_with(&GENERATED.to_be_bytes());
    if is_attest(bytes) {
        return Some(bytes);
    }
    let mut reader = Reader::new(bytes);
    let attest = reader.sized(MAX_ATTEST).ok()?;
    (is_attest(attest) && reader.end().is_ok()).then_some(attest)
}

/// The longest `TPM2B_ATTEST` that is read.
const MAX_ATTEST: usize = 1_024;

/// An AK, and the signature after it.
fn beside(collateral: Option<&[u8]>) -> Option<(Public, Vec<u8>)> {
    let mut reader = Reader::new(collateral?);
    let ak = Public::read(&mut reader).ok()?;
    Some((ak, reader.rest().to_vec()))
}

fn recognised(
    measured: &Measured,
    bank: Hash,
    given: &Given,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let registers = match bank {
        Hash::Sha256 => &REGISTERS,
        Hash::Sha384 => &REGISTERS_SHA384,
    };
    let (Some(config), Some(now)) = (&given.references, given.at) else {
        return checks.leave_open(&RECOGNISED, "no reference values are given, or no time");
    };
    if measured.is_empty() {
        return checks.leave_open(&RECOGNISED, "what is in the PCRs is not known");
    }
    match References::open(config, registers) {
        Ok(references) => references.recognise(measured, now, checks).map(drop),
        Err(error) => checks.take(&RECOGNISED, Err::<(), _>(error)).map(drop),
    }
}
