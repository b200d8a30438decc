//! Evidence in a file, for people: what it says, and which rules it keeps.
//!
//! Each kind has a function `inspect` that reads a document of its own, and goes through the rules by
//! which its verifier admits. [`KINDS`] has all of them.
//!
//! | to find | look in |
//! |---|---|
//! | which kinds there are | [`KINDS`] |
//! | documents that are written as text | [`encoding`] |
//! | any chain of X.509 certificates | `certificates` |
//! | any signed token | `token` |

mod certificates;
pub mod encoding;
mod token;

use std::collections::BTreeMap;

use claviger_core::time::UnixTime;

use crate::checklist::{Broken, Checklist, Outcome, Rule};
use crate::references::{self, Registers};
use crate::{aws_nitro, nitro_tpm, nvidia_gpu, sev_snp, sgx, tdx, tpm};
use encoding::{Encoding, readings};

/// What a document says and which rules it keeps.
#[derive(Debug)]
pub struct Inspection {
    /// The kind of evidence.
    pub kind: &'static str,
    /// What is in it, in the order in which people want to read it: names, and values as text.
    pub fields: Vec<(String, String)>,
    /// What became of each rule.
    pub checks: Checklist,
}

impl Inspection {
    /// What all rules together come to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::Genuine;
        for (_rule, outcome) in self.checks.checks() {
            match outcome {
                Outcome::Kept => {}
                Outcome::Broken(_) => return Verdict::Broken,
                Outcome::Open(_) => verdict = Verdict::Open,
            }
        }
        verdict
    }

    /// What it measured of the software into these `registers`, as reference values write it. What was
    /// never measured, which is all zero, is no reference.
    #[must_use]
    pub fn measured(&self, registers: &Registers) -> BTreeMap<String, String> {
        let measured = self.fields.iter().filter(|(name, value)| {
            let length = (registers.length)(name).unwrap_or_default();
            let bytes = hex::decode(value).unwrap_or_default();
            length != 0 && bytes.len() == length && bytes.iter().any(|byte| *byte != 0)
        });
        measured.cloned().collect()
    }
}

/// What all rules together come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Every rule is kept.
    Genuine,
    /// None is broken, but some could not be looked at.
    Open,
    /// At least one is broken.
    Broken,
}

/// What a document is judged by. What is missing leaves the rules open that need it.
#[derive(Debug)]
pub struct Given {
    /// The time for which it is judged; none for the document's own time, if it has one.
    pub at: Option<UnixTime>,
    /// The nonce that it has to carry.
    pub nonce: Option<Vec<u8>>,
    /// What it has to be bound to: the bytes that it has to carry where its kind has room for them,
    /// such as `user_data` or `report_data`.
    pub binding: Option<Vec<u8>>,
    /// Certificates that come beside it, each as DER, in any order: a VCEK, an EK certificate.
    pub certificates: Vec<Vec<u8>>,
    /// Roots, each as DER, that are trusted instead of the vendor's.
    pub roots: Vec<Vec<u8>>,
    /// What else comes beside it, such as the collateral of a quote.
    pub collateral: Option<Vec<u8>>,
    /// What its software has to be: the file of reference values.
    pub references: Option<references::Config>,
    /// Whether a machine in debug mode will do.
    pub allow_debug: bool,
}

static APPLIES: Rule =
    Rule::new("given.applies", "a document of this kind can be held against what was given");

impl Given {
    /// Nothing but the document itself.
    pub const NOTHING: Self = Self {
        at: None,
        nonce: None,
        binding: None,
        certificates: Vec::new(),
        roots: Vec::new(),
        collateral: None,
        references: None,
        allow_debug: false,
    };

    /// Leaves a rule open for each thing that was given and that a kind can't be held against, so that
    /// nobody takes a document for checked which was not.
    fn refuse(&self, kind: &str, unused: &[Unused], checks: &mut Checklist) -> Result<(), Broken> {
        for unused in unused {
            let (name, given) = match unused {
                Unused::Nonce => ("a nonce", self.nonce.is_some()),
                Unused::Binding => ("a binding", self.binding.is_some()),
                Unused::Collateral => ("collateral", self.collateral.is_some()),
                Unused::References => ("reference values", self.references.is_some()),
            };
            if given {
                checks.leave_open(&APPLIES, format!("{kind} does not go by {name}"))?;
            }
        }
        Ok(())
    }
}

/// Something in [`Given`] that a kind does not go by.
#[derive(Clone, Copy, Debug)]
enum Unused {
    Nonce,
    Binding,
    Collateral,
    References,
}

/// A kind of document that can be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, which is that of the evidence if it is one.
    pub name: &'static str,
    /// What it is, in a few words.
    pub says: &'static str,
    /// Where it measures software, one set of registers for each length that they can have; empty if
    /// there are no reference values for it.
    pub registers: &'static [&'static Registers],
    inspect: fn(&[u8], &Given) -> Option<Inspection>,
}

/// Every kind, those first that are easiest told from the others.
pub static KINDS: &[Kind] = &[
    Kind {
        name: aws_nitro::KIND,
        says: "the attestation document of a Nitro enclave",
        registers: &[&aws_nitro::REGISTERS],
        inspect: aws_nitro::inspect,
    },
    Kind {
        name: nitro_tpm::KIND,
        says: "the attestation document of a NitroTPM",
        registers: &[&nitro_tpm::REGISTERS],
        inspect: nitro_tpm::inspect,
    },
    Kind {
        name: sev_snp::KIND,
        says: "the report of a SEV-SNP guest",
        registers: &[&sev_snp::REGISTERS],
        inspect: sev_snp::inspect,
    },
    Kind {
        name: tpm::KIND,
        says: "the quote of a TPM",
        registers: &[&tpm::REGISTERS, &tpm::REGISTERS_SHA384],
        inspect: tpm::inspect,
    },
    Kind {
        name: nvidia_gpu::KIND,
        says: "the evidence of NVIDIA's GPUs or switches",
        registers: &[&nvidia_gpu::REGISTERS],
        inspect: nvidia_gpu::inspect,
    },
    Kind {
        name: tdx::KIND,
        says: "the quote of a TDX virtual machine",
        registers: &[&tdx::REGISTERS],
        inspect: tdx::inspect,
    },
    Kind {
        name: sgx::KIND,
        says: "the quote of an SGX enclave",
        registers: &[&sgx::REGISTERS],
        inspect: sgx::inspect,
    },
    Kind {
        name: token::KIND,
        says: "a signed token (JWT), such as a CI job's",
        registers: &[],
        inspect: token::inspect,
    },
    Kind {
        name: certificates::KIND,
        says: "a chain of X.509 certificates, leaf first",
        registers: &[],
        inspect: certificates::inspect,
    },
];

/// The kind of this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The largest file with a document, in bytes: text takes more room than what it stands for.
pub const MAX_FILE: usize = 256 << 10;

/// Looks at the document in `file`: as one of `only`, or as the first kind that it can be read as. The
/// file may hold it as text. None if it is no document of such a kind.
#[must_use]
pub fn inspect(
    file: &[u8],
    only: Option<&Kind>,
    given: &Given,
) -> Option<(Encoding, &'static Kind, Inspection)> {
    if MAX_FILE < file.len() {
        return None;
    }
    let readings = readings(file);
    let kinds = KINDS.iter().filter(|kind| only.is_none_or(|only| only.name == kind.name));
    kinds.flat_map(|kind| readings.iter().map(move |reading| (kind, reading))).find_map(
        |(kind, (encoding, document))| {
            let inspection = (kind.inspect)(document, given)?;
            Some((*encoding, kind, inspection))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    static REGISTERS: Registers = Registers {
        kind: "test",
        length: |name| matches!(name, "app" | "zero" | "short").then_some(2),
        identifies: |name| name == "app",
    };

    static RULE: Rule = Rule::new("test.rule", "it is so");

    fn inspection(enter: fn(&mut Checklist)) -> Inspection {
        let mut checks = Checklist::exhaustive();
        enter(&mut checks);
        let fields = [("app", "0102"), ("zero", "0000"), ("short", "01"), ("time", "0102")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Inspection { kind: "test", fields, checks }
    }

    #[test]
    fn one_broken_rule_outweighs_all_that_are_open_or_kept() {
        let verdict = |enter| inspection(enter).verdict();
        assert_eq!(verdict(|_| {}), Verdict::Genuine);
        assert_eq!(verdict(|checks| checks.require(&RULE, true, || "").unwrap()), Verdict::Genuine);
        assert_eq!(verdict(|checks| checks.leave_open(&RULE, "").unwrap()), Verdict::Open);
        let both = |checks: &mut Checklist| {
            checks.require(&RULE, false, || "").unwrap();
            checks.leave_open(&RULE, "").unwrap();
        };
        assert_eq!(verdict(both), Verdict::Broken);
    }

    #[test]
    fn only_whole_registers_that_were_measured_become_references() {
        let measured = inspection(|_| {}).measured(&REGISTERS);
        assert_eq!(measured.into_iter().collect::<Vec<_>>(), [("app".into(), "0102".into())]);
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for kind in KINDS {
            assert_eq!(super::kind(kind.name).unwrap().says, kind.says);
            assert!(kind.registers.iter().all(|registers| registers.kind == kind.name));
        }
    }

    #[test]
    fn garbage_and_what_is_too_large_is_of_no_kind() {
        let read = |file: &[u8]| inspect(file, None, &Given::NOTHING).map(|(_, kind, _)| kind.name);
        for file in [&b""[..], b"\0", b"garbage", b"{}", &vec![b'A'; MAX_FILE], &[0x30; 64]] {
            assert_eq!(read(file), None, "{} bytes", file.len());
        }
        let token = include_bytes!("../../tests/fuzz/seeds/token/jwt");
        assert_eq!(read(token), Some("jwt"));
        assert_eq!(read(&[&token[..], &vec![b'\n'; MAX_FILE]].concat()), None);
    }
}
