//! Who is at the other end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Once};

use nix::errno::Errno as NixErrno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::SetOnce;
use tracing::warn;

use super::program::Program;

/// The process that connected, in the kernel's word: SO_PEERCRED and SO_PEERPIDFD, both recorded
/// when it called `connect`. Clones are the same peer.
///
/// The pidfd pins the process. As long as [`Self::has_exited`] says no, the number [`Self::pid`]
/// belongs to this process and to no later one: so read from `/proc/<pid>` first, ask afterwards,
/// and what was read was about this process. What it does not pin is the program: a process may
/// `exec` another, or hand the connection to a child. What a child writes ends the connection; for
/// the rest, there is [`Self::has_changed`].
#[derive(Clone, Debug)]
pub struct Peer(Arc<Process>);

#[derive(Debug)]
struct Process {
    credentials: Credentials,
    pidfd: AsyncFd<OwnedFd>,
    connection: Option<Connection>,
}

/// What there is to know of a process that connected.
#[derive(Debug)]
struct Connection {
    /// What it ran when the connection was accepted.
    program: Option<Program>,
    /// Whether it has written anything since then.
    spoken: SetOnce<()>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Credentials {
    pid: Pid,
    uid: u32,
    gid: u32,
}

impl Peer {
    /// Asks the kernel who connected `stream`, soon after it was accepted.
    ///
    /// What another process writes to it, to which the connection was handed on, is not told from what
    /// this one writes: [`Listener`](super::Listener) sees to that.
    ///
    /// # Errors
    ///
    /// [`PeerError`] if nobody can be named.
    pub fn of(stream: &UnixStream) -> Result<Self, PeerError> {
        let cred = stream.peer_cred()?;
        // The kernel says 0 for a process that has no number in our PID namespace.
        let pid = cred.pid().and_then(Pid::from_raw).ok_or(PeerError::OtherNamespace)?;
        let credentials = Credentials { pid, uid: cred.uid(), gid: cred.gid() };
        let pidfd = match getsockopt(stream, PeerPidfd) {
            Ok(pidfd) => pidfd,
            Err(NixErrno::ENOPROTOOPT) => pin_by_number(credentials)?,
            Err(NixErrno::ESRCH | NixErrno::EINVAL) => return Err(PeerError::Exited),
            Err(errno) => return Err(PeerError::Io(errno.into())),
        };
        let connection = Connection { program: Program::of(pid), spoken: SetOnce::new() };
        Self::new(credentials, pidfd, Some(connection))
    }

    /// The process that has the number `pid` now, in our PID namespace, for callers who name
    /// another process than themselves. Which process they meant is their affair: a number says
    /// nothing about who had it before. From here on it is this process and no other.
    ///
    /// # Errors
    ///
    /// [`NoProcess`] if no process has the number, or the kernel does not say.
    pub fn by_number(pid: u32) -> Result<Self, NoProcess> {
        let none = || NoProcess::Unknown(pid);
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(none)?;
        let pinned = pin(pid)
            .and_then(|(pidfd, (uid, gid))| Self::new(Credentials { pid, uid, gid }, pidfd, None));
        pinned.map_err(|error| match error {
            PeerError::Exited | PeerError::OtherNamespace | PeerError::OtherProcess => none(),
            PeerError::Io(error) => NoProcess::Io(error),
        })
    }

    fn new(
        credentials: Credentials,
        pidfd: OwnedFd,
        connection: Option<Connection>,
    ) -> Result<Self, PeerError> {
        #[expect(
            deprecated,
            reason = "the replacement is `unsafe` because a type might give out a descriptor and \
                      close it; an `OwnedFd` keeps its own open and unchanged until it is dropped"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self(Arc::new(Process { credentials, pidfd, connection })))
    }

    /// Its process id, in our PID namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.credentials.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Its effective user id when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.credentials.uid
    }

    /// Its effective group id when it connected.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.credentials.gid
    }

    /// A file descriptor that refers to the process and never to another.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.get_ref().as_fd()
    }

    /// Whether the process has ended. If the kernel can't say, it has.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        has_exited(self.pidfd())
    }

    /// Whether the process, if it connected, has ended since or runs another program. Then nothing
    /// more may be sent to it: the program of now need not be who reads, nor who asked.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let pid = self.0.credentials.pid;
        let is_other = |connection: &Connection| connection.program != Program::of(pid);
        self.0.connection.as_ref().is_some_and(is_other) || self.has_exited()
    }

    /// Waits until the process, if it connected, has written something since its program was looked
    /// at. Only then is that program known to be the one that asks: what came before may have been
    /// written by another one, which the process ran when it connected. HTTP/2 and TLS have each
    /// client answer the server's first words, so nobody waits for long.
    pub async fn spoken(&self) {
        if let Some(connection) = &self.0.connection {
            connection.spoken.wait().await;
        }
    }

    /// It has.
    pub(super) fn has_spoken(&self) {
        if let Some(connection) = &self.0.connection {
            // Once is enough.
            drop(connection.spoken.set(()));
        }
    }

    /// Waits until the process ends.
    pub async fn exited(&self) {
        // Readiness is only a hint, and it fails only when the runtime is going away.
        while let Ok(mut hint) = self.0.pidfd.readable().await {
            if self.has_exited() {
                return;
            }
            hint.clear_ready();
        }
    }
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)) != Ok(0)
}

/// Pins a process by its number, for kernels before SO_PEERPIDFD (Linux 6.5).
///
/// Between `connect` and now the number may have passed to another process. One that runs as
/// somebody else is found out here; another process of the same user is not, hence the warning.
fn pin_by_number(credentials: Credentials) -> Result<OwnedFd, PeerError> {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        warn!(
            "this kernel lacks SO_PEERPIDFD: a caller that exits at once can be taken for the \
             process that gets its number next; upgrade to Linux 6.5 or newer"
        );
    });

    let (pidfd, ids) = pin(credentials.pid)?;
    if ids != (credentials.uid, credentials.gid) {
        return Err(PeerError::OtherProcess);
    }
    Ok(pidfd)
}

/// Pins the process that has the number `pid` now, and says as which user and group it runs.
fn pin(pid: Pid) -> Result<(OwnedFd, (u32, u32)), PeerError> {
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // A number that is a thread's, not a process's, is invalid; newer kernels say ENOENT.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Err(PeerError::Exited),
        Err(errno) => return Err(PeerError::Io(errno.into())),
    };
    let ids = effective_ids(pid)?;
    // Asked last: had the process ended before `/proc` was read, this would say so.
    if has_exited(pidfd.as_fd()) {
        return Err(PeerError::Exited);
    }
    Ok((pidfd, ids))
}

/// The effective user and group of a process, from `/proc/<pid>/status` (proc_pid_status(5)).
fn effective_ids(pid: Pid) -> Result<(u32, u32), PeerError> {
    /// Both lines are among the first ten; the list of groups, which can be long, comes after.
    const MAX_BYTES: u64 = 4_096;

    let status = match File::open(format!("/proc/{pid}/status")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PeerError::Exited),
        opened => opened?,
    };
    let (mut uid, mut gid) = (None, None);
    for line in BufReader::new(status.take(MAX_BYTES)).lines() {
        let line = line?;
        // Real, effective, saved, file system.
        let effective = |ids: &str| ids.split_ascii_whitespace().nth(1)?.parse().ok();
        match line.split_once(':') {
            Some(("Uid", ids)) => uid = effective(ids),
            Some(("Gid", ids)) => {
                gid = effective(ids);
                break;
            }
            _ => {}
        }
    }
    uid.zip(gid).ok_or(PeerError::OtherProcess)
}

/// Checks at start that callers can be pinned at all, rather than at the first call.
pub(super) fn check_kernel() -> io::Result<()> {
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    Ok(())
}

/// Why there is no process to speak of.
#[derive(Debug, thiserror::Error)]
pub enum NoProcess {
    /// No process has the number.
    #[error("there is no process {0}")]
    Unknown(u32),
    /// The kernel does not say.
    #[error("the kernel does not say who the process is")]
    Io(#[source] io::Error),
}

/// Why the process at the other end is unknown.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It ended before we looked.
    #[error("the caller has already exited")]
    Exited,
    /// It is not in our PID namespace, so nothing about it can be looked up.
    #[error("the caller is in another PID namespace; run this process in the host's (`hostPID`)")]
    OtherNamespace,
    /// Its number belongs to another process by now.
    #[error("the caller's process number belongs to another process")]
    OtherProcess,
    /// The kernel does not say.
    #[error("the kernel does not say who the caller is")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::process::{Child, Command};

    use super::*;

    /// A process that runs until its standard input is closed.
    fn child() -> (Child, Pid) {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        (child, pid)
    }

    fn ours(pid: Pid) -> Credentials {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Credentials { pid, uid, gid }
    }

    #[tokio::test]
    async fn a_connection_names_its_process() {
        let (_here, there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&there).unwrap();
        let pid = rustix::process::getpid();
        assert_eq!(peer.0.credentials, ours(pid));
        assert_eq!(peer.pid(), std::process::id());
        assert!(!peer.has_exited());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed_before_it_is_reaped() {
        let (mut child, pid) = child();
        let peer = Peer::new(ours(pid), pin_by_number(ours(pid)).unwrap(), None).unwrap();
        assert!(!peer.has_exited());
        drop(child.stdin.take());
        peer.exited().await;
        assert!(peer.has_exited());
        child.wait().await.unwrap();
        assert!(peer.has_exited());
    }

    #[tokio::test]
    async fn a_number_that_belongs_to_another_user_is_refused() {
        let (_child, pid) = child();
        for stranger in
            [Credentials { uid: 4_242, ..ours(pid) }, Credentials { gid: 4_242, ..ours(pid) }]
        {
            assert!(matches!(pin_by_number(stranger).unwrap_err(), PeerError::OtherProcess));
        }
    }

    #[tokio::test]
    async fn a_number_that_belongs_to_nobody_is_refused() {
        let (mut child, pid) = child();
        child.kill().await.unwrap();
        assert!(matches!(pin_by_number(ours(pid)).unwrap_err(), PeerError::Exited));
    }

    #[tokio::test]
    async fn a_process_that_ended_but_is_not_reaped_is_refused() {
        let (mut child, pid) = child();
        let peer = Peer::new(ours(pid), pin_by_number(ours(pid)).unwrap(), None).unwrap();
        drop(child.stdin.take());
        peer.exited().await;
        assert!(matches!(pin_by_number(ours(pid)).unwrap_err(), PeerError::Exited));
        child.wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_found_by_its_number_until_it_ends() {
        let (mut child, pid) = child();
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        let peer = Peer::by_number(number).unwrap();
        assert_eq!((peer.0.credentials, peer.pid()), (ours(pid), number));
        child.kill().await.unwrap();
        peer.exited().await;
        for nobody in [number, 0, u32::MAX] {
            let error = Peer::by_number(nobody).unwrap_err();
            assert!(matches!(error, NoProcess::Unknown(n) if n == nobody), "{error}");
        }
    }

    #[test]
    fn this_kernel_will_do() {
        check_kernel().unwrap();
    }
}
