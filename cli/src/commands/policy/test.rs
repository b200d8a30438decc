//! `claviger policy test`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_core::decision::{Decision, Verdict};
use claviger_policy::table::{self, Outcome};
use serde::Serialize;

use super::compile;
use crate::console::{self, Console};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// The folder with the policies and the tables
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Test {
    pub(super) fn run(self, console: Console) -> Result<(), Failure> {
        let set = compile(&self.dir)?;
        let outcomes = table::run(&set).map_err(|error| Failure::because(&error))?;
        if outcomes.is_empty() {
            let dir = self.dir.display();
            return Err(Failure::failed(format_args!("no `*.test.toml` in `{dir}` holds a case")));
        }
        let report = Report::of(&outcomes);
        console.answer(&report)?;
        match report.failed {
            0 => Ok(()),
            1 => Err(Failure::failed("one case was not decided as expected")),
            many => Err(Failure::failed(format_args!("{many} cases were not decided as expected"))),
        }
    }
}

/// `{"passed","failed","failures":[{"file","line","name","expected","because","decision"}]}`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    passed: usize,
    failed: usize,
    failures: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    file: &'a str,
    line: usize,
    name: &'a str,
    expected: Verdict,
    because: Option<&'a str>,
    decision: &'a Decision,
}

impl<'a> Report<'a> {
    fn of(outcomes: &'a [Outcome]) -> Self {
        let row = |outcome: &'a Outcome| Row {
            file: &outcome.file,
            line: outcome.line,
            name: &outcome.name,
            expected: outcome.expected,
            because: outcome.because.as_deref(),
            decision: &outcome.decision,
        };
        let failures: Vec<_> = outcomes.iter().filter(|it| !it.passed()).map(row).collect();
        Self {
            passed: outcomes.len().saturating_sub(failures.len()),
            failed: failures.len(),
            failures,
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.failures.is_empty() {
            let row = |row: &Row<'_>| {
                let expected = match row.because {
                    Some(policy) => format!("{}\nby {policy}", verdict(row.expected)),
                    None => verdict(row.expected).to_owned(),
                };
                let case = format!("{}:{}\n{}", row.file, row.line, row.name);
                [case, expected, verdict(row.decision.verdict).to_owned(), why(row.decision)]
            };
            let rows = self.failures.iter().map(row).collect();
            let header = ["CASE", "EXPECTED", "DECIDED", "BY"];
            writeln!(f, "{}\n", console::table(header, rows))?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The name of a verdict.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Permit => "permit",
        Verdict::Observe => "observe",
        Verdict::Deny => "deny",
    }
}

/// The policies that made a decision so, their reasons, and what could not be evaluated.
pub(super) fn why(decision: &Decision) -> String {
    let reasons = decision.reasons.iter().map(|reason| format!("\"{reason}\""));
    let lines: Vec<_> =
        decision.policies.iter().cloned().chain(reasons).chain(decision.errors.clone()).collect();
    if lines.is_empty() { "no policy permits it".to_owned() } else { lines.join("\n") }
}
