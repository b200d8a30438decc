//! Finding out about local processes: what every workload attestor is given, and what it gives.
//!
//! A process is held by its directory in `/proc`, which never becomes another's. Whoever has asked
//! all attestors asks [`Process::unchanged`] last: if the process still runs the same program in the
//! same container, all that was found out is true of it at once.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::selector::{Selector, Selectors};
use futures_util::future::pending;
use rustix::fs::{AtFlags, StatxFlags, makedev, statx};
use rustix::io::Errno;
use tokio::time::Instant;
use tracing::debug;

use crate::cgroup::{self, Ambiguous, Container, Viewpoint};
use crate::proc::{ProcDir, ProcError};

/// A process, as the kernel named it when it connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Its number, in our PID namespace.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Since when everything has to have been found out anew, if there is such a time: no digest of a
    /// file that was read before counts.
    pub since: Option<Instant>,
}

/// Finds out one kind of facts about processes.
///
/// An attestor reports what it finds and never decides. What it is told by a service, it bounds
/// before it reads it. To find nothing is no error: a process outside of any container has no facts
/// about its container.
#[async_trait]
pub trait WorkloadAttestor: fmt::Debug + Send + Sync + 'static {
    /// The kind of its facts, such as `k8s`.
    fn kind(&self) -> &'static str;

    /// The facts about `process`.
    ///
    /// # Errors
    ///
    /// [`FactsError`] if they can't be had now.
    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError>;

    /// How long a process waits for its facts, at most. What is asked for is usually known by a
    /// service at once.
    fn patience(&self) -> Duration {
        PATIENCE
    }

    /// Waits until what was `said` of `process`, which is of this kind only, may no longer hold: then
    /// it is to be asked again. Who stops waiting may wait again: nothing is lost. Never, for facts that
    /// are asked for again whenever they matter.
    async fn changed(&self, _process: &Process, _said: &Selectors) {
        pending::<()>().await;
    }
}

/// A service that answers later has not answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that is looked at.
#[derive(Debug)]
pub struct Process {
    caller: Caller,
    dir: ProcDir,
    state: State,
    viewpoint: Arc<Viewpoint>,
    container: Result<Option<Container>, Ambiguous>,
}

/// What changes when a process becomes something else.
#[derive(Debug, Eq, PartialEq)]
struct State {
    cgroup: Vec<u8>,
    /// The program's device and inode, if we may know.
    program: Option<(u64, u64)>,
}

impl State {
    fn of(dir: &ProcDir) -> Result<Self, AttestError> {
        let cgroup = cgroup::read(dir).map_err(|error| failed("read the control groups", error))?;
        // Only what the kernel has in memory: it must not wait for a file system of the process's.
        let flags = AtFlags::STATX_DONT_SYNC;
        let program = match statx(dir, "exe", flags, StatxFlags::INO) {
            Ok(found) => Some((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino)),
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => None,
            Err(errno) => return Err(failed("inspect the program", errno.into())),
        };
        Ok(Self { cgroup, program })
    }
}

impl Process {
    /// The process of `caller`, seen from `viewpoint`.
    ///
    /// # Errors
    ///
    /// [`AttestError`] if it has ended or can't be looked at.
    pub fn open(caller: Caller, viewpoint: &Arc<Viewpoint>) -> Result<Self, AttestError> {
        let dir =
            ProcDir::open(caller.pid).map_err(|error| failed("open the /proc directory", error))?;
        let state = State::of(&dir)?;
        let container = cgroup::find(&state.cgroup, viewpoint);
        Ok(Self { caller, dir, state, viewpoint: Arc::clone(viewpoint), container })
    }

    /// Who it is.
    #[must_use]
    pub const fn caller(&self) -> Caller {
        self.caller
    }

    /// The container that it is in, if it is in one.
    ///
    /// # Errors
    ///
    /// [`Ambiguous`] if that can't be told.
    pub fn container(&self) -> Result<Option<&Container>, Ambiguous> {
        self.container.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The container of another process, seen from where this one was seen. An engine says which
    /// process a container began with: where that one is, the container is.
    pub(crate) fn container_of(&self, pid: u32) -> Option<Container> {
        let dir = ProcDir::open(pid).ok()?;
        cgroup::find(&cgroup::read(&dir).ok()?, &self.viewpoint).ok()?
    }

    /// Its directory in `/proc`.
    pub(crate) fn proc_dir(&self) -> Result<ProcDir, FactsError> {
        let dir = self.dir.try_clone();
        dir.map_err(|error| FactsError::unavailable("cannot hold on to the process", error))
    }

    /// Whether its number is still its own.
    #[must_use]
    pub fn is_there(&self) -> bool {
        statx(self.dir.as_fd(), "stat", AtFlags::empty(), StatxFlags::INO).is_ok()
    }

    /// Makes sure that what was found out is about what the process still is.
    ///
    /// # Errors
    ///
    /// [`AttestError`] if the process has ended, runs another program or is in another container.
    pub fn unchanged(&self) -> Result<(), AttestError> {
        let now = State::of(&self.dir)?;
        if now.program != self.state.program {
            return Err(AttestError::OtherProgram);
        }
        if now.cgroup != self.state.cgroup {
            return Err(AttestError::Moved);
        }
        Ok(())
    }
}

fn failed(doing: &'static str, error: ProcError) -> AttestError {
    match error {
        ProcError::Exited => AttestError::Exited,
        ProcError::TooLong => AttestError::Strange("it is in too many control groups"),
        ProcError::Io(source) => AttestError::Io { doing, source },
    }
}

/// The selector `kind:name:value`, unless no selector can say it.
pub(crate) fn fact(kind: &'static str, name: &str, value: impl fmt::Display) -> Option<Selector> {
    Selector::new(kind, &format!("{name}:{value}"))
        .inspect_err(|error| debug!(kind, name, %error, "a fact that no selector can express"))
        .ok()
}

/// Why an attestor says nothing about a process.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Its container is not certain.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// The service that knows does not know it, or says what can't be true. `what` says it all.
    #[error("{what}")]
    Unknown {
        /// What was asked, and what came.
        what: String,
    },
    /// The service that knows can't be asked.
    #[error("{what}")]
    Unavailable {
        /// What was tried, and what to do.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl FactsError {
    pub(crate) fn unknown(what: impl Into<String>) -> Self {
        Self::Unknown { what: what.into() }
    }

    pub(crate) fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { what: what.into(), source: Some(source.into()) }
    }
}

/// Why nothing is said about a process.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// It has ended.
    #[error("the process has exited")]
    Exited,
    /// It runs another program than when it connected.
    #[error("the process began another program since it connected; let that connect anew")]
    NotWhoConnected,
    /// It has not said a word since its program was looked at.
    #[error("the process connected, and did not take up the conversation")]
    Silent,
    /// It runs as another user or group than when it connected.
    #[error("the process has changed its user or group since it connected; let it connect anew")]
    OtherUser,
    /// It began to run another program while it was looked at.
    #[error("the process began another program while it was looked at")]
    OtherProgram,
    /// It was moved to other control groups while it was looked at.
    #[error("the process was moved to other control groups while it was looked at")]
    Moved,
    /// The file of its program was written to while it was read.
    #[error("the program of the process changed while it was read")]
    ProgramWritten,
    /// The kernel's answer is longer or other than we know it.
    #[error("/proc says something about the process that is not understood: {0}")]
    Strange(&'static str),
    /// Too many others are looked at, or a file system does not answer.
    #[error("looking at the process took too long")]
    TimedOut,
    /// We are shutting down.
    #[error("shutting down")]
    Stopping,
    /// An attestor without which nobody is to be attested found nothing out.
    #[error("the `{kind}` attestor is required, and found nothing out")]
    Required {
        /// The kind of its facts.
        kind: &'static str,
        /// Why.
        source: FactsError,
    },
    /// The kernel does not answer.
    #[error("cannot {doing} of the process")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}
