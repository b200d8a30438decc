//! Enclaves of AWS Nitro: an enclave shows what the hypervisor measured of it.
//!
//! The evidence is the attestation document that the Nitro security module makes, with the verifier's
//! nonce and the digest of the binding in it. The enclave with the module id `M` becomes
//! `spiffe://trust-domain/spire/agent/aws_nitro/M`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | judging | `verifier`, [`inspect`], and `nitro` beside this folder |
//! | gathering, and the security module's device | `collector`, `device` |

mod collector;
mod config;
mod device;
mod verifier;

#[cfg(test)]
mod tests;

pub use crate::nitro::{OpenError, Questions, SecurityModule};
pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::Config;
pub use verifier::Verifier;

use crate::inspect::{Given, Inspection};
use crate::nitro::{Flavour, Rules, register, rules};
use crate::references::Registers;

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "aws_nitro";

/// The registers that reference values can name. An enclave is known by its whole image (PCR0) or by who
/// signed that (PCR8). The kernel alone (PCR1) is the same for all that are built with AWS' own, an
/// application alone (PCR2) runs under any kernel; role and id of the parent (PCR3, PCR4) say where it
/// runs. All of these can be asked for in addition.
pub static REGISTERS: Registers =
    Registers { kind: KIND, length: register, identifies: |name| matches!(name, "pcr0" | "pcr8") };

static RULES: Rules = rules!("aws_nitro");

pub(crate) static FLAVOUR: Flavour = Flavour {
    kind: KIND,
    registers: "pcrs",
    launch: &[0, 1, 2],
    references: &REGISTERS,
    rules: &RULES,
};

/// What the document of an enclave says, and which rules it keeps; none if this is no such document.
#[must_use]
pub fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    crate::nitro::inspect(document, given, &FLAVOUR)
}
