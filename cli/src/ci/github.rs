//! What GitHub Actions reads of a step: masks, and files that hand variables to later steps.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use clap::Args;

use crate::console;
use crate::failure::Failure;

/// Whether logs are told to hide `secret`; anywhere but in GitHub Actions nobody would understand.
///
/// It goes to stderr, which the runner reads too: stdout is for the answer.
pub(crate) fn mask(secret: &str) {
    if env::var_os("GITHUB_ACTIONS").is_none_or(|value| value != "true") {
        return;
    }
    // A mask has one line.
    for line in secret.lines().filter(|line| !line.is_empty()) {
        console::remark(format_args!("::add-mask::{line}"));
    }
}

/// Where variables go, beside stdout.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Handover {
    /// Gives the variables to the job's later steps (GitHub's $GITHUB_ENV) instead of printing them
    #[arg(long)]
    github_env: bool,

    /// Makes the variables outputs of this step (GitHub's $GITHUB_OUTPUT) instead of printing them
    #[arg(long)]
    github_output: bool,
}

impl Handover {
    /// Hands `variables` over: to later steps, if that was asked for, or to stdout.
    pub(crate) fn give(self, variables: &[(&str, &str)]) -> Result<(), Failure> {
        let wanted = [(self.github_env, "GITHUB_ENV"), (self.github_output, "GITHUB_OUTPUT")];
        let mut given = false;
        for (_, name) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            let path = env::var_os(name).ok_or_else(|| {
                Failure::usage(format_args!("the environment variable `{name}` is not set"))
                    .try_this("this is for steps of GitHub Actions; elsewhere, read stdout")
            })?;
            append(Path::new(&path), variables)?;
            given = true;
        }
        if !given {
            for (name, value) in variables {
                console::line(format_args!("{name}={value}"))?;
            }
        }
        Ok(())
    }

    /// Whether stdout is left alone.
    pub(crate) const fn is_elsewhere(self) -> bool {
        self.github_env || self.github_output
    }
}

/// Values have one line: nobody can add variables of their own to the file.
fn append(path: &Path, variables: &[(&str, &str)]) -> Result<(), Failure> {
    let failed =
        |error| Failure::failed(format_args!("cannot write to `{}`: {error}", path.display()));
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    for (name, value) in variables {
        if value.contains(['\n', '\r']) {
            return Err(Failure::failed(format_args!("the value of `{name}` has several lines")));
        }
        writeln!(file, "{name}={value}").map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_appended_one_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "A=1\n").unwrap();
        append(&path, &[("B", "2"), ("C", "3")]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=1\nB=2\nC=3\n");
        append(&path, &[("B", "2\nPATH=/evil")]).unwrap_err();
    }
}
