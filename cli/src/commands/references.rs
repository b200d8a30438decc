//! `claviger references`: what an operator says about the software that may run, signed.

mod keygen;
mod show;
mod sign;

use std::path::Path;

use clap::Subcommand;
use claviger_attestors::inspect;
use claviger_attestors::references::{self, Manifest, ReferenceError};

use crate::console::Console;
use crate::failure::Failure;
use crate::files;

/// Signs and shows reference values: what was measured of the software that may run
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a key to sign reference values with
    #[command(
        long_about = "Makes a key to sign reference values with: the private key in FILE, for its \
        owner only, and the public key in FILE.pub. Servers need the public key and nothing else; \
        keep the private key away from them. No file is overwritten.\n\n\
        Example:\n  claviger references keygen operator.key"
    )]
    Keygen(keygen::Keygen),
    /// Signs reference values
    #[command(
        long_about = "Signs reference values, after checking all that a server would refuse: \
        registers that the kind of evidence does not have, values of another length or all zero, \
        images that nothing identifies, an end in the past. The file is\n\n  \
        {\"kind\":\"aws_nitro\",\"expires\":\"2027-06-30T00:00:00Z\",\"images\":[\n    \
        {\"name\":\"signer\",\"version\":\"1.4.2\",\"registers\":{\"pcr0\":\"…\"}}]}\n\n\
        and `claviger evidence inspect FILE --reference NAME` prints an image. What is signed is \
        the file as it stands (DSSE).\n\n\
        Example:\n  claviger references sign nitro.json --key operator.key --write references.json"
    )]
    Sign(sign::Sign),
    /// Shows signed reference values, and checks them
    #[command(
        long_about = "Shows signed reference values: until when they are worth something, which \
        images they recognise, and which of the keys signed them. With --key it succeeds only if \
        one of these signed them, they have not expired, and a server would take them.\n\n\
        Example:\n  claviger references show references.json --key operator.key.pub"
    )]
    Show(show::Show),
}

impl Command {
    pub(crate) fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Keygen(keygen) => keygen.run(console),
            Self::Sign(sign) => sign.run(console),
            Self::Show(show) => show.run(console),
        }
    }
}

/// The largest file of these, in bytes.
const MOST: u64 = 1 << 20;

/// The file at `path`.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    files::read(path, MOST)
}

/// Checks all that a server would refuse.
fn check(manifest: &Manifest) -> Result<(), ReferenceError> {
    let registers = inspect::kind(&manifest.kind).map(|kind| kind.registers).unwrap_or_default();
    let checks = registers.iter().map(|registers| manifest.check(registers));
    checks.reduce(Result::or).unwrap_or_else(|| {
        let names = inspect::KINDS.iter().filter(|kind| !kind.registers.is_empty());
        let names: Vec<_> = names.map(|kind| kind.name).collect();
        Err(ReferenceError::Content(format!(
            "there are none for evidence of kind `{}`; there are for {}",
            manifest.kind,
            names.join(", ")
        )))
    })
}

/// What is signed, in a server's terms.
const PAYLOAD_TYPE: &str = references::PAYLOAD_TYPE;
