//! EC2 instances with a NitroTPM: an instance shows what it has booted.
//!
//! The evidence is the attestation document that the NitroTPM makes: as an enclave's
//! ([`aws_nitro`](crate::aws_nitro)), but with the registers of a TPM under a name of their own. The
//! instance with the module id `M` becomes `spiffe://trust-domain/spire/agent/nitro_tpm/M`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | judging | `verifier`, [`inspect`], and `nitro` beside this folder |
//! | gathering, by AWS' own program | `collector`, `program` |

mod collector;
mod config;
mod program;
mod verifier;

#[cfg(test)]
mod tests;

pub use crate::nitro::{OpenError, Questions, SecurityModule};
pub use collector::{Collector, CollectorConfig};
pub use config::Config;
pub use verifier::Verifier;

use crate::inspect::{Given, Inspection};
use crate::nitro::{Flavour, Rules, register, rules};
use crate::references::Registers;

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "nitro_tpm";

/// The registers that reference values can name. A machine is known by the boot loader or unified kernel
/// image that the firmware started (PCR4), or by the keys whose signature it asks for (PCR7, with keys
/// of one's own). The registers from 8 on are extended by what runs then, so they are worth something
/// only beside one of these.
pub static REGISTERS: Registers =
    Registers { kind: KIND, length: register, identifies: |name| matches!(name, "pcr4" | "pcr7") };

static RULES: Rules = rules!("nitro_tpm");

pub(crate) static FLAVOUR: Flavour = Flavour {
    kind: KIND,
    registers: "nitrotpm_pcrs",
    launch: &[],
    references: &REGISTERS,
    rules: &RULES,
};

/// What the document of a NitroTPM says, and which rules it keeps; none if this is no such document.
#[must_use]
pub fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    crate::nitro::inspect(document, given, &FLAVOUR)
}
