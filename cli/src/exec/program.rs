//! The program that is run, from its beginning to its end.

use std::ffi::OsString;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::process::Command;
use std::task::Poll;

use clap::Args;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};
use tokio::signal::unix::{self, SignalKind, signal};
use tracing::warn;

use crate::failure::Failure;

/// The program is there, and cannot be run.
const CANNOT_RUN: u8 = 126;

/// There is no such program.
const NOT_FOUND: u8 = 127;

/// The signals that are meant for the program.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// A program and its arguments.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// The program to run, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// From now on, whoever comes from the program and outlives its parent is given to us: it still
/// comes from here.
pub(crate) fn adopt_orphans() -> Result<(), Failure> {
    set_child_subreaper(Some(getpid())).map_err(|errno| {
        Failure::failed(format_args!("what the program leaves behind cannot be adopted: {errno}"))
    })
}

impl Program {
    /// Runs the program, with `variables` beside all that it would have without us, until it ends. It
    /// is passed `signals`; those whom it leaves behind may go on.
    pub(crate) async fn run(
        &self,
        variables: Vec<(String, String)>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let child = self.spawn(variables)?;
        loop {
            // The signal that a child has ended was listened for before there was one.
            if let Some(status) = ended(child)? {
                return outcome(status);
            }
            if let Some(signal) = signals.next_or_child().await {
                pass_on(signal, child);
            }
        }
    }

    fn spawn(&self, variables: Vec<(String, String)>) -> Result<Pid, Failure> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| Failure::usage("there is nothing to run").ending_with(NOT_FOUND))?;
        let spawned = Command::new(program).args(arguments).envs(variables).spawn();
        let child = spawned.map_err(|error| {
            let is_there = error.kind() != io::ErrorKind::NotFound;
            let code = if is_there { CANNOT_RUN } else { NOT_FOUND };
            let program = program.display();
            Failure::failed(format_args!("cannot run `{program}`: {error}")).ending_with(code)
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Failure::failed("the program has no number").ending_with(CANNOT_RUN))
    }
}

/// How the process `child` ended, if it has. Others whom we were given are laid to rest on the way.
fn ended(child: Pid) -> Result<Option<WaitStatus>, Failure> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => return Ok(Some(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => {
                return Err(Failure::failed(format_args!(
                    "the program cannot be waited for: {errno}"
                )));
            }
        }
    }
}

/// As a shell tells it.
fn outcome(status: WaitStatus) -> Result<(), Failure> {
    if let Some(signal) = status.terminating_signal() {
        return Err(Failure::ended_by(signal));
    }
    // A process's exit code has eight bits; what is none of them is a failure.
    let code = status.exit_status().map_or(1, |code| u8::try_from(code).unwrap_or(1));
    if code == 0 { Ok(()) } else { Err(Failure::ended(code)) }
}

fn pass_on(signal: Signal, child: Pid) {
    if [Signal::INT, Signal::QUIT].contains(&signal) && is_in_foreground() {
        // It comes from the terminal, which sent it to the program as well.
        return;
    }
    // It is our child and was not waited for: the number is its own.
    if let Err(errno) = kill_process(child, signal) {
        warn!(signal = signal.as_raw(), %errno, "the program was not passed a signal");
    }
}

/// Whether what is typed goes to our process group, which is the program's, too: fields 5 and 8 of
/// proc_pid_stat(5).
fn is_in_foreground() -> bool {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace();
    let (group, foreground) = (fields.nth(2), fields.nth(2));
    group.is_some() && group == foreground
}

/// The signals of our process.
#[derive(Debug)]
pub(crate) struct Signals {
    passed_on: Vec<(Signal, unix::Signal)>,
    children: unix::Signal,
}

impl Signals {
    /// Listens for those that are passed on, and are not ignored: what is, as under nohup(1), the
    /// program is to ignore, too.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format_args!("cannot listen for signals: {error}"));
        let ignored = ignored().map_err(failed)?;
        let mut passed_on = Vec::new();
        for kind in PASSED_ON {
            let number = kind.as_raw();
            if ignored & bit(number) == 0 {
                passed_on.push((kind, signal(SignalKind::from_raw(number)).map_err(failed)?));
            }
        }
        Ok(Self { passed_on, children: signal(SignalKind::child()).map_err(failed)? })
    }

    /// Waits for the next that is passed on.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.next_or_child().await {
                return signal;
            }
        }
    }

    /// Waits for the next that is passed on; none if a child has ended.
    async fn next_or_child(&mut self) -> Option<Signal> {
        poll_fn(|cx| {
            if self.children.poll_recv(cx).is_ready() {
                return Poll::Ready(None);
            }
            for (kind, signal) in &mut self.passed_on {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(Some(*kind));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The signals that this process ignores, each a [`bit`] (proc_pid_status(5)).
fn ignored() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The bit of the signal `number` in a mask.
fn bit(number: i32) -> u64 {
    let place = number.checked_sub(1).and_then(|place| u32::try_from(place).ok());
    place.and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_bit() {
        assert_eq!((bit(Signal::HUP.as_raw()), bit(Signal::TERM.as_raw())), (1, 1 << 14));
        assert_eq!((bit(0), bit(-1), bit(65)), (0, 0, 0));
        ignored().unwrap();
    }

    #[test]
    fn what_is_no_program_says_so_as_env_does() {
        let code = |program: &str| {
            let program = Program { command: vec![program.into()] };
            program.spawn(Vec::new()).unwrap_err().code()
        };
        assert_eq!(code("/nonexistent/program"), NOT_FOUND);
        assert_eq!(code("/"), CANNOT_RUN);
        assert_eq!(code("/proc/self/status"), CANNOT_RUN);
    }
}
