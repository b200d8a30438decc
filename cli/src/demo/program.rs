//! One of the demo's programs, from the outside.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::orders::{Order, Report};
use crate::failure::Failure;

/// A running program that takes orders. It ends with the demo.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    path: PathBuf,
    agent: PathBuf,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Program {
    /// Starts the program at `path`, which finds its agent as every workload does.
    pub(super) fn start(path: &Path, agent: &Path) -> Result<Self, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = spawn(path, agent, &["demo-workload"])?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(cannot_start(path, "it has no standard streams"));
        };
        let (path, agent) = (path.to_owned(), agent.to_owned());
        let reports = BufReader::new(stdout).lines();
        Ok(Self { name, path, agent, orders, reports, _child: child })
    }

    /// Runs the same binary once more with `args`, beside the program. It ends when it is dropped.
    pub(super) fn beside(&self, args: &[&str]) -> Result<Child, Failure> {
        spawn(&self.path, &self.agent, args)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Gives an order, and waits for the report.
    pub(super) async fn order(&mut self, order: &Order) -> Result<Report, Failure> {
        let told = |error: &dyn Display| {
            Failure::failed(format_args!("program `{}` does not answer: {error}", self.name))
        };
        let mut line = serde_json::to_vec(order).map_err(|error| told(&error))?;
        line.push(b'\n');
        self.orders.write_all(&line).await.map_err(|error| told(&error))?;
        let report = self.reports.next_line().await.map_err(|error| told(&error))?;
        let report = report.ok_or_else(|| told(&"it ended"))?;
        serde_json::from_str(&report).map_err(|error| told(&error))
    }

    /// The failure that `report` is, where another was due.
    pub(super) fn unexpected(&self, due: &str, report: &Report) -> Failure {
        let got = if let Report::Failed(why) | Report::Refused(why) = report {
            why.clone()
        } else {
            serde_json::to_string(report).unwrap_or_default()
        };
        Failure::failed(format_args!("{}: {due} was due, but: {got}", self.name))
    }
}

fn spawn(path: &Path, agent: &Path, args: &[&str]) -> Result<Child, Failure> {
    Command::new(path)
        .args(args)
        .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", agent.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot_start(path, error))
}

fn cannot_start(path: &Path, why: impl Display) -> Failure {
    Failure::failed(format_args!("cannot start `{}`: {why}", path.display()))
        .try_this("set TMPDIR to a directory from which programs may be run (not mounted `noexec`)")
}
