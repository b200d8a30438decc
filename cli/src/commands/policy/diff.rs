//! `claviger policy diff`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_policy::diff::{self, Difference};
use claviger_policy::{PolicySet, Source};
use serde::Serialize;

use super::known::Known;
use crate::console::{self, Console};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The folder with the policies as they were
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The folder with the policies as they are to be
    #[arg(value_name = "NEW")]
    new: PathBuf,

    #[command(flatten)]
    known: Known,
}

impl Diff {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let compile = |dir: &PathBuf| {
            let set = Source::read(dir).and_then(PolicySet::compile);
            set.map_err(|error| Failure::usage(error).within(format_args!("`{}`", dir.display())))
        };
        let (old, new) = (compile(&self.old)?, compile(&self.new)?);
        let known = self.known.identities(console).await?;
        let differences = diff::diff(&old, &new, &known).map_err(Failure::usage)?;
        let report = Report { differences };
        console.answer(&report)?;
        if report.differences.is_empty() {
            return Ok(());
        }
        Err(Failure::failed("the two sets of policies differ in who reaches whom"))
    }
}

/// `{"differences":[{"gained","from","to","purpose","way"}]}`.
#[derive(Debug, Serialize)]
struct Report {
    differences: Vec<Difference>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            return f.write_str("nobody gains or loses a path");
        }
        let row = |difference: &Difference| {
            let purpose = difference.purpose.as_ref().map_or("*", |purpose| purpose.as_str());
            [
                if difference.gained { "gained" } else { "lost" }.to_owned(),
                difference.from.join("\n"),
                difference.to.join("\n"),
                purpose.to_owned(),
                difference.way.name().to_owned(),
            ]
        };
        let rows = self.differences.iter().map(row).collect();
        f.write_str(&console::table(["", "FROM", "TO", "PURPOSE", "BY"], rows))
    }
}
