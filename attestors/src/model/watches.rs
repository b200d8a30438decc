//! Being told when files change: inotify(7), on the files themselves and not on their paths.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tracing::debug;

/// Files that somebody wants to hear of.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    /// By the kernel's number for a file.
    subscribers: Mutex<HashMap<i32, Subscribed>>,
}

#[derive(Debug)]
struct Subscribed {
    count: usize,
    touched: watch::Sender<()>,
}

/// What has to run for [`super::Attestor::changed`] to be told.
///
/// [`super::Attestor::changed`]: crate::workload::WorkloadAttestor::changed
#[derive(Debug)]
pub struct Watch(Arc<Watches>);

/// A file that is watched until this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    watches: Arc<Watches>,
    number: i32,
    touched: watch::Receiver<()>,
}

pub(super) fn open() -> io::Result<(Arc<Watches>, Watch)> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let watches = Arc::new(Watches { inotify, subscribers: Mutex::default() });
    Ok((Arc::clone(&watches), Watch(watches)))
}

impl Watches {
    /// Watches `file` from now on.
    pub(super) fn watch(self: &Arc<Self>, file: impl AsFd) -> io::Result<Watched> {
        // By our own link to it, which leads to nothing else.
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF;
        // An event that comes before the subscriber is there waits for the lock.
        let mut subscribers = self.subscribers();
        let number = inotify::add_watch(&self.inotify, path, flags)?;
        let subscribed = subscribers
            .entry(number)
            .or_insert_with(|| Subscribed { count: 0, touched: watch::Sender::default() });
        subscribed.count = subscribed.count.saturating_add(1);
        let touched = subscribed.touched.subscribe();
        Ok(Watched { watches: Arc::clone(self), number, touched })
    }

    fn subscribers(&self) -> MutexGuard<'_, HashMap<i32, Subscribed>> {
        // Nothing is left half done by a panic.
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all events that there are, and tells whom they concern.
    fn tell(&self) -> Result<(), Errno> {
        let mut room = [MaybeUninit::uninit(); 4_096];
        let mut events = inotify::Reader::new(&self.inotify, &mut room);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let all = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            let subscribers = self.subscribers();
            let concerned = subscribers.iter().filter(|(number, _)| all || **number == event.wd());
            concerned.for_each(|(_, subscribed)| {
                subscribed.touched.send_replace(());
            });
        }
    }
}

impl Watch {
    /// Runs for ever.
    ///
    /// # Errors
    ///
    /// An error of the kernel's, if it tells no more.
    pub async fn run(self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "the replacement is `unsafe` because a type might give out a descriptor and \
                      close it; an `OwnedFd` keeps its own open and unchanged until it is dropped"
        )]
        let events = AsyncFd::with_interest(self.0.inotify.try_clone()?, Interest::READABLE)?;
        loop {
            let mut ready = events.readable().await?;
            self.0.tell()?;
            ready.clear_ready();
        }
    }
}

impl Watched {
    /// Waits until the file is written to, gets other attributes or loses its last name.
    pub(super) async fn touched(&mut self) {
        // Without a sender nobody would tell, which is no reason to wait.
        drop(self.touched.changed().await);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut subscribers = self.watches.subscribers();
        let Some(subscribed) = subscribers.get_mut(&self.number) else { return };
        subscribed.count = subscribed.count.saturating_sub(1);
        if subscribed.count == 0 {
            subscribers.remove(&self.number);
            if let Err(error) = inotify::remove_watch(&self.watches.inotify, self.number) {
                // The kernel removes a file that is gone by itself.
                debug!(%error, "a file was no longer watched");
            }
        }
    }
}
