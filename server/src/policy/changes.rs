//! Being told when what lies in a folder changes: inotify(7), on the folder and on the way to it.
//!
//! Editors write a new file and rename it; Kubernetes makes a new folder beside the old one and renames
//! a symbolic link; others swap a link further up. All of these are renames, seen where they happen.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{debug, error};

/// Tells when something in a folder changes.
#[derive(Debug)]
pub(super) struct Watch {
    dir: PathBuf,
    events: AsyncFd<OwnedFd>,
    /// The folder's number, and the name that matters in each folder above it.
    numbers: Vec<(i32, Option<PathBuf>)>,
}

/// What happens to a folder, or to a name on the way to it. Not that a file is written to: it may be
/// half there.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

impl Watch {
    /// Watches `dir` from now on.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "the replacement is `unsafe` because a type might give out a descriptor and \
                      close it; an `OwnedFd` keeps its own open and unchanged until it is dropped"
        )]
        let events = AsyncFd::with_interest(events, Interest::READABLE)?;
        let mut watch = Self { dir: dir.to_owned(), events, numbers: Vec::new() };
        watch.follow()?;
        Ok(watch)
    }

    /// Waits until something changes that may matter.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            let matters = told(self.events.get_ref(), &self.numbers)?;
            ready.clear_ready();
            drop(ready);
            if matters {
                // A name may lead elsewhere now.
                if let Err(error) = self.follow() {
                    error!(%error, dir = %self.dir.display(), "the policy folder is not watched \
                        any more; run `claviger policy reload` after each change");
                }
                return Ok(());
            }
        }
    }

    /// Watches whatever the path leads to now, and forgets what it led to.
    fn follow(&mut self) -> io::Result<()> {
        let inotify = self.events.get_ref();
        let mut numbers = Vec::new();
        let mut name: Option<&Path> = None;
        for folder in self.dir.ancestors() {
            match inotify::add_watch(inotify, folder, CHANGES) {
                Ok(number) => numbers.push((number, name.map(Path::to_owned))),
                // Removed meanwhile: a folder above it tells when it is there again. One above may
                // be closed to us.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {
                    debug!(folder = %folder.display(), "cannot be watched");
                }
                Err(errno) => return Err(errno.into()),
            }
            name = folder.file_name().map(Path::new);
        }
        for (old, _) in self.numbers.drain(..) {
            if numbers.iter().all(|(number, _)| *number != old)
                && let Err(error) = inotify::remove_watch(inotify, old)
            {
                // The kernel removes a folder that is gone by itself.
                debug!(%error, "a folder was no longer watched");
            }
        }
        self.numbers = numbers;
        Ok(())
    }
}

/// Reads all events that there are, and says whether any matters.
fn told(inotify: &OwnedFd, numbers: &[(i32, Option<PathBuf>)]) -> io::Result<bool> {
    let mut room = [MaybeUninit::uninit(); 4_096];
    let mut events = inotify::Reader::new(inotify, &mut room);
    let mut matters = false;
    loop {
        let event = match events.next() {
            Ok(event) => event,
            Err(Errno::WOULDBLOCK) => return Ok(matters),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let name = event.file_name().map(|name| Path::new(OsStr::from_bytes(name.to_bytes())));
        matters |= event.events().contains(ReadFlags::QUEUE_OVERFLOW)
            || numbers.iter().any(|(number, wanted)| {
                *number == event.wd() && (wanted.is_none() || wanted.as_deref() == name)
            });
    }
}
