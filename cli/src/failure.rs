//! How a command fails: one readable form, and an exit code that scripts can rely on.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use claviger_runtime::telemetry::Chain;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    problem: String,
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// It was refused, or it failed.
    Failed,
    /// What was typed or configured makes no sense.
    Usage,
    /// It can't be told: there is nothing against it, and not everything for it.
    #[cfg(feature = "evidence")]
    Undecided,
    /// It is told by an exit code that others have given a meaning.
    #[cfg(feature = "shim")]
    Code(u8),
    /// The program that was run ended so, and has said why.
    #[cfg(feature = "shim")]
    Ended(u8),
    /// Nobody reads our output any more, as in `claviger audit tail | head`.
    Unread,
}

impl Failure {
    /// The command was refused, or failed. `problem` says what was wrong and with which value.
    pub(crate) fn failed(problem: impl fmt::Display) -> Self {
        Self { kind: Kind::Failed, problem: problem.to_string(), remedy: None }
    }

    /// What was asked can't be told: there is nothing against it, and not everything for it.
    #[cfg(feature = "evidence")]
    pub(crate) fn undecided(problem: impl fmt::Display) -> Self {
        Self { kind: Kind::Undecided, ..Self::failed(problem) }
    }

    /// What was typed or configured makes no sense.
    pub(crate) fn usage(problem: impl fmt::Display) -> Self {
        Self { kind: Kind::Usage, ..Self::failed(problem) }
    }

    /// It failed because of `error`, which is told with its causes.
    pub(crate) fn because(error: &(dyn Error + 'static)) -> Self {
        Self::failed(Chain(error))
    }

    /// What to do about it.
    pub(crate) fn try_this(self, remedy: impl fmt::Display) -> Self {
        Self { remedy: Some(remedy.to_string()), ..self }
    }

    /// The same, and what it happened to.
    pub(crate) fn within(self, place: impl fmt::Display) -> Self {
        Self { problem: format!("{place}: {}", self.problem), ..self }
    }

    /// The same, told by the exit code `code`.
    #[cfg(feature = "shim")]
    pub(crate) fn ending_with(self, code: u8) -> Self {
        Self { kind: Kind::Code(code), ..self }
    }

    /// A program that was run ended with `code`.
    #[cfg(feature = "shim")]
    pub(crate) const fn ended(code: u8) -> Self {
        Self { kind: Kind::Ended(code), problem: String::new(), remedy: None }
    }

    /// A signal ended a program that was run, or us before there was one: a shell's codes begin at 128.
    #[cfg(feature = "shim")]
    pub(crate) fn ended_by(signal: i32) -> Self {
        let number = u8::try_from(signal).unwrap_or(u8::MAX);
        Self::ended(number.saturating_add(128))
    }

    /// What the user is told, without what to do about it.
    #[cfg(all(feature = "shim", feature = "ci"))]
    pub(crate) fn problem(&self) -> &str {
        &self.problem
    }

    /// How the process ends.
    pub(crate) const fn code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            #[cfg(feature = "evidence")]
            Kind::Undecided => 3,
            #[cfg(feature = "shim")]
            Kind::Code(code) | Kind::Ended(code) => code,
            Kind::Unread => 0,
        }
    }

    /// Tells the user, and says how the process ends.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.is_told() {
            // If stderr is gone too, the exit code still tells.
            drop(writeln!(io::stderr(), "{self}"));
        }
        self.code().into()
    }

    /// Whether there is nothing to add.
    const fn is_told(&self) -> bool {
        match self.kind {
            Kind::Failed | Kind::Usage => false,
            #[cfg(feature = "evidence")]
            Kind::Undecided => false,
            #[cfg(feature = "shim")]
            Kind::Code(_) => false,
            #[cfg(feature = "shim")]
            Kind::Ended(_) => true,
            Kind::Unread => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.problem)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  hint: {remedy}"),
            None => Ok(()),
        }
    }
}

/// Output could not be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let failure = Self::failed(format_args!("cannot write the output: {error}"));
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::Unread, ..failure };
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_and_what_to_do() {
        let failure = Failure::failed("no server listens at `/x`").try_this("start one");
        assert_eq!(failure.to_string(), "error: no server listens at `/x`\n  hint: start one");
    }

    #[test]
    fn a_reader_who_left_is_no_failure() {
        let left = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(left.kind, Kind::Unread);
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.kind, Kind::Failed);
    }
}
