//! Which processes hold a socket.
//!
//! The kernel does not say; every process of the socket's user is looked at. One search answers all
//! who wait when it begins, and one runs at a time: however many connections come at once, they cost
//! little more than one.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Dir, Mode, OFlags, RawMode, open, readlinkat_raw};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::tcp::Socket;

/// The most connections that wait for a search.
const MAX_WAITING: usize = 16_384;

/// The most descriptors that a search looks at: a tenth of a second.
const MAX_DESCRIPTORS: usize = 100_000;

/// The most processes that hold one socket.
const MAX_HOLDERS: usize = 16;

/// Looks for the holders of sockets.
#[derive(Debug, Default)]
pub(super) struct Search {
    waiting: Mutex<Vec<Wish>>,
    turn: tokio::sync::Mutex<()>,
}

/// One who waits.
#[derive(Debug)]
struct Wish {
    socket: Socket,
    answer: oneshot::Sender<Result<Vec<Holder>, SearchError>>,
}

/// A process that holds a socket, under one of its descriptors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    descriptor: u32,
}

impl Search {
    /// Those who held `socket` after this was called, the oldest number first; each may have ended, or
    /// let go of it.
    pub(super) async fn holders(&self, socket: &Socket) -> Result<Vec<Holder>, SearchError> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish { socket: *socket, answer })?;
        let turn = self.turn.lock().await;
        let wishes = std::mem::take(&mut *self.waiting());
        // Otherwise somebody who had the turn before has looked for this one, too.
        if !wishes.is_empty() {
            drop(spawn_blocking(|| search(wishes)).await);
        }
        drop(turn);
        answered.await.unwrap_or(Err(SearchError::Stopped))
    }

    fn wish(&self, wish: Wish) -> Result<(), SearchError> {
        let mut waiting = self.waiting();
        if MAX_WAITING <= waiting.len() {
            return Err(SearchError::Busy);
        }
        waiting.push(wish);
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Wish>> {
        // Pushing and taking leave it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Whether it still holds `socket` there.
    pub(super) fn still_holds(&self, socket: &Socket) -> bool {
        let link = fs::read_link(format!("/proc/{}/fd/{}", self.pid, self.descriptor));
        link.is_ok_and(|link| number(link.as_os_str().as_encoded_bytes()) == Some(socket.inode))
    }
}

/// Looks for what is wished for, and answers.
fn search(wishes: Vec<Wish>) {
    let sockets = wishes.iter().map(|wish| wish.socket);
    let found = Found::of(sockets);
    for Wish { socket, answer } in wishes {
        let holders = match &found {
            Ok(found) => found.holders(&socket),
            Err(error) => Err(error.into()),
        };
        // Whoever asked may be gone.
        drop(answer.send(holders));
    }
}

/// Who holds the sockets that are looked for, by their numbers.
struct Found(HashMap<u64, Vec<Holder>>);

impl Found {
    /// Looks at the processes of the sockets' users. Where that is not enough, also at those that say
    /// root's of themselves because they may not be looked into, and at this one.
    fn of(sockets: impl Iterator<Item = Socket>) -> io::Result<Self> {
        let (mut uids, mut holders) = (Vec::new(), HashMap::new());
        for socket in sockets {
            uids.push(socket.uid);
            holders.insert(socket.inode, Vec::new());
        }
        let (mut found, mut left) = (Self(holders), MAX_DESCRIPTORS);
        let us = std::process::id();
        let (likely, others): (Vec<_>, Vec<_>) =
            processes()?.into_iter().partition(|(pid, uid)| *pid != us && uids.contains(uid));
        for (pid, _) in likely {
            found.look_into(pid, &mut left)?;
        }
        if found.0.values().any(Vec::is_empty) {
            for (pid, _) in others.into_iter().filter(|(pid, uid)| *pid == us || *uid == 0) {
                found.look_into(pid, &mut left)?;
            }
        }
        Ok(found)
    }

    fn holders(&self, socket: &Socket) -> Result<Vec<Holder>, SearchError> {
        let holders = self.0.get(&socket.inode).cloned().unwrap_or_default();
        if MAX_HOLDERS < holders.len() { Err(SearchError::Shared) } else { Ok(holders) }
    }

    /// Takes down what the process `pid` holds. One that has ended, or may not be looked into, holds
    /// nothing that we know of.
    fn look_into(&mut self, pid: u32, left: &mut usize) -> io::Result<()> {
        let Ok(folder) = descriptors(pid) else { return Ok(()) };
        let Ok(entries) = Dir::read_from(&folder) else { return Ok(()) };
        for entry in entries {
            let Ok(entry) = entry else { break };
            let Some(descriptor) = decimal(entry.file_name().to_bytes()) else { continue };
            *left = left.checked_sub(1).ok_or_else(too_many)?;
            let mut link = [0; 64];
            let Ok(length) = readlinkat_raw(&folder, entry.file_name(), &mut link) else {
                continue;
            };
            let held = link.get(..length).and_then(number);
            if let Some(holders) = held.and_then(|inode| self.0.get_mut(&inode))
                && holders.last().is_none_or(|last| last.pid != pid)
            {
                holders.push(Holder { pid, descriptor });
            }
        }
        Ok(())
    }
}

/// Every process, and whose it is; those that began first come first.
fn processes() -> io::Result<Vec<(u32, u32)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = decimal(entry.file_name().as_encoded_bytes()) else { continue };
        // It may have ended meanwhile.
        if let Ok(about) = entry.metadata() {
            processes.push((pid, about.uid()));
        }
    }
    processes.sort_unstable();
    Ok(processes)
}

fn descriptors(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/{pid}/fd"), flags, Mode::from_raw_mode(RawMode::MIN))?)
}

fn decimal(name: &[u8]) -> Option<u32> {
    str::from_utf8(name).ok()?.parse().ok()
}

/// The number in `socket:[number]` (proc_pid_fd(5)).
fn number(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok()
}

fn too_many() -> io::Error {
    io::Error::other(format!("there are more than {MAX_DESCRIPTORS} descriptors to look at"))
}

/// Why it is not known who holds a socket.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SearchError {
    /// Too many connections wait for this.
    #[error("{MAX_WAITING} connections wait to be looked for already")]
    Busy,
    /// More processes than it makes sense to ask about.
    #[error("more than {MAX_HOLDERS} processes hold the other end")]
    Shared,
    /// There is too much to look at, or `/proc` cannot be read.
    #[error("the holders of the other end are not found: {0}")]
    Failed(String),
    /// The process is ending.
    #[error("the search was broken off")]
    Stopped,
}

impl From<&io::Error> for SearchError {
    fn from(error: &io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
