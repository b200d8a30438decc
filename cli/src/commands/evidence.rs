//! `claviger evidence`: documents in files, read and judged by the rules of the verifiers.

mod given;
mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use claviger_attestors::inspect::{self, Inspection, Kind, Verdict};
use claviger_attestors::references::{Image, Registers};

use crate::console::Console;
use crate::failure::Failure;
use crate::files;
use given::{Conditions, kind};
use report::Report;

/// Reads evidence in files, and says which rules it keeps
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows what a document says, and what becomes of each rule
    #[command(
        long_about = "Shows what a document says, and what becomes of each rule by which the \
        server's verifier of its kind admits: kept, BROKEN, or open where something is missing \
        that the rule needs. The file may hold the document as it is, in hexadecimal digits or in \
        base64. Nothing is asked of any server, and no secret is shown: of a token, all but its \
        signature.\n\n\
        With --reference, what it measured of its software is printed as an image for `claviger \
        references sign`.\n\n\
        Example:\n  claviger evidence inspect attestation.bin\n  \
        claviger evidence inspect report.hex --certificate vcek.der --at 2026-03-01T00:00:00Z\n  \
        claviger evidence inspect attestation.bin --reference signer=1.4.2"
    )]
    Inspect(Inspect),
    /// Proves that a document keeps every rule
    #[command(
        long_about = "Proves that a document keeps every rule by which the server's verifier of \
        its kind admits. It succeeds only then: a rule that could not be looked at is not kept, so \
        give everything that the document is to be held against, or say with --without which open \
        rule you do without. One that is broken can't be done without.\n\n\
        By default it is judged as if it were presented now. For an audit, --document-time judges \
        it at the time that it says it was made, and --at at any other.\n\n\
        Exit codes: 0 every rule is kept, 1 one is broken, 2 the command line makes no sense or a \
        file can't be read, 3 none is broken, but some are open: what was looked at is genuine.\n\n\
        Example:\n  claviger evidence verify attestation.bin --nonce 5ad76b5f --binding 00112233 \\\n    \
        --references references.json --references-key operator.key.pub \\\n    \
        --document-time --without aws_nitro.freshness\n  \
        claviger evidence verify quote.bin --collateral collateral.json \\\n    \
        --references references.json --references-key operator.key.pub"
    )]
    Verify(Verify),
}

impl Command {
    pub(crate) fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Inspect(inspect) => inspect.run(console),
            Self::Verify(verify) => verify.run(console),
        }
    }
}

/// A document in a file.
#[derive(Args, Debug)]
struct Document {
    /// The file with the document; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Takes it for a document of this kind and no other
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<&'static Kind>,

    #[command(flatten)]
    conditions: Conditions,
}

impl Document {
    fn inspect(&self) -> Result<(Report, &'static Kind, Inspection), Failure> {
        let file = files::read(&self.file, u64::try_from(inspect::MAX_FILE).unwrap_or(u64::MAX))?;
        let given = self.conditions.read()?;
        let shown = self.file.display();
        let Some((encoding, kind, inspection)) = inspect::inspect(&file, self.kind, &given) else {
            let what =
                self.kind.map_or("evidence of any kind that is known here", |kind| kind.says);
            let names: Vec<_> = inspect::KINDS.iter().map(|kind| kind.name).collect();
            return Err(Failure::failed(format_args!("`{shown}` does not hold {what}"))
                .try_this(format_args!("these kinds are known: {}", names.join(", "))));
        };
        let report = Report::new(&self.file, kind, encoding, given.at, &inspection);
        Ok((report, kind, inspection))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    #[command(flatten)]
    document: Document,

    /// Prints what was measured as an image of this name, for a file of reference values
    #[arg(long, value_name = "NAME[=VERSION]")]
    reference: Option<String>,
}

impl Inspect {
    fn run(self, console: Console) -> Result<(), Failure> {
        let (report, kind, inspection) = self.document.inspect()?;
        match &self.reference {
            None => console.answer(&report),
            Some(name) => image(name, kind, &inspection).and_then(|image| {
                let json = serde_json::to_string_pretty(&image);
                crate::console::line(json.map_err(|error| Failure::because(&error))?)
            }),
        }
    }
}

/// What was measured, as an image of `name`, which may have a version behind `=`.
fn image(name: &str, kind: &Kind, inspection: &Inspection) -> Result<Image, Failure> {
    let (name, version) = match name.split_once('=') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (name, None),
    };
    let image = |registers: &Registers| {
        let (name, version) = (name.to_owned(), version.clone());
        let image = Image { name, version, registers: inspection.measured(registers) };
        image.check(registers).map(|()| image)
    };
    // A kind may have registers of several lengths; a document has those of one.
    let images = kind.registers.iter().map(|registers| image(registers));
    let image = images.reduce(|found, other| found.or(other)).ok_or_else(|| {
        Failure::usage(format_args!("there are no reference values for `{}`", kind.name))
    })?;
    image.map_err(|error| Failure::because(&error))
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    document: Document,

    /// Does without this rule if it is open, that is, if nothing was given to look at it with; may be
    /// repeated
    #[arg(long, value_name = "RULE")]
    without: Vec<String>,
}

impl Verify {
    fn run(self, console: Console) -> Result<(), Failure> {
        let (report, _kind, inspection) = self.document.inspect()?;
        let report = report.without(&self.without).map_err(|rule| {
            Failure::usage(format_args!("`{rule}` is no rule for this kind of document"))
                .try_this("`claviger evidence inspect FILE` shows all of them")
        })?;
        console.answer(&report)?;
        match inspection.verdict() {
            Verdict::Broken => Err(Failure::failed("the document breaks a rule")),
            Verdict::Open if !report.is_genuine() => {
                Err(Failure::undecided("no rule is broken, but not every one could be looked at")
                    .try_this("each rule that is open says what it needs; or do `--without` it"))
            }
            Verdict::Genuine | Verdict::Open => Ok(()),
        }
    }
}
