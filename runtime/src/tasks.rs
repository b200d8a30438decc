//! Every task of the process, and the order in which they stop.
//!
//! Nothing is spawned outside a [`Tasks`] (`clippy.toml` enforces it). Shutdown has three steps:
//! tell everyone, wait for a grace period, then drop what is left.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span};

use crate::telemetry::Chain;

/// A group of tasks that stop together. Clones are handles to the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Runs `task` until it returns. It is handed a token that fires when the group is to stop.
    ///
    /// If the task fails or panics, the whole group drains: half a server is worse than a restart.
    pub fn spawn<F>(&self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let running = task(self.token());
        let stop = self.stop.clone();
        let supervised = async move {
            let stop_all = stop.drop_guard(); // Fires on a panic, too.
            match running.await {
                Ok(()) => drop(stop_all.disarm()),
                Err(error) => error!(error = %Chain(&*error), "task failed"),
            }
        };
        self.tracker.spawn(supervised.instrument(info_span!("task", name)));
    }

    /// Does `work` to its end, even if whoever waits for it no longer does: a caller that hangs up
    /// must not leave it half done. `None` if it panicked, which stops the group.
    pub async fn see_through<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, finished) = oneshot::channel();
        self.spawn(name, |_stop| async move {
            drop(done.send(work.await));
            Ok(())
        });
        finished.await.ok()
    }

    /// A group within this one: it stops when this one does, or alone, and this one's drain waits
    /// for it. A failure in it stops only itself; who made it watches [`Self::drained`] of it.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self { stop: self.stop.child_token(), tracker: TaskTracker::new() };
        let Self { stop, tracker } = child.clone();
        self.tracker.spawn(async move {
            stop.cancelled_owned().await;
            tracker.close();
            tracker.wait().await;
        });
        child
    }

    /// A token that fires when the group is to stop. Cancelling it stops nothing else.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Asks every task to finish.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until a stop is asked for, then up to `grace` for the tasks to finish.
    pub async fn drained(&self, grace: Duration) -> Drain {
        self.stop.cancelled().await;
        self.tracker.close();
        info!(tasks = self.tracker.len(), "draining");
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => Drain::Clean,
            Err(_elapsed) => Drain::Forced { unfinished: self.tracker.len() },
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drain {
    /// Every task finished by itself.
    Clean,
    /// Time ran out.
    Forced {
        /// Tasks that were still running.
        unfinished: usize,
    },
}

/// The signals by which an operator ends the process: SIGINT and SIGTERM.
///
/// From the moment it exists, neither ends the process by itself. Keep it for the whole run, so
/// that a second signal, by which an impatient operator asks to skip the drain, is not lost.
#[derive(Debug)]
pub struct ShutdownSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl ShutdownSignals {
    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// What the operating system says, if a handler can't be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> ShutdownSignal {
        tokio::select! {
            _ = self.interrupt.recv() => ShutdownSignal::Interrupt,
            _ = self.terminate.recv() => ShutdownSignal::Terminate,
        }
    }
}

/// Which signal arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShutdownSignal {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a supervisor.
    Terminate,
}

impl fmt::Display for ShutdownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn waits_for_work_in_flight() {
        let tasks = Tasks::default();
        tasks.spawn("slow", |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(GRACE / 2).await;
            Ok(())
        });
        tasks.stop();
        assert_eq!(tasks.drained(GRACE).await, Drain::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_a_stuck_task() {
        let tasks = Tasks::default();
        tasks.spawn("stuck", |_| pending());
        tasks.stop();
        assert_eq!(tasks.drained(GRACE).await, Drain::Forced { unfinished: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_stops_all() {
        let tasks = Tasks::default();
        tasks.spawn("bystander", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        tasks.spawn("broken", |_| async { anyhow::bail!("no") });
        assert_eq!(tasks.drained(GRACE).await, Drain::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn one_panic_stops_all() {
        let tasks = Tasks::default();
        tasks.spawn("broken", |_| async { panic!("bug") });
        assert_eq!(tasks.drained(GRACE).await, Drain::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_well_stops_nobody() {
        let tasks = Tasks::default();
        let (done, ended) = oneshot::channel();
        tasks.spawn("short", |_| async move {
            done.send(()).map_err(|()| anyhow::anyhow!("nobody waits"))
        });
        ended.await.unwrap();
        assert!(!tasks.token().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_through_ends_whoever_waits() {
        let tasks = Tasks::default();
        let (ended, mut end) = tokio::sync::watch::channel(false);
        let work = async move {
            tokio::time::sleep(GRACE).await;
            ended.send_replace(true);
            7
        };
        let impatient = tasks.see_through("work", work);
        tokio::time::timeout(GRACE / 2, impatient).await.unwrap_err();
        end.wait_for(|ended| *ended).await.unwrap();
        assert_eq!(tasks.see_through("quick", async { 7 }).await, Some(7));
        assert_eq!(tasks.see_through("broken", async { panic!("bug") }).await, None::<()>);
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_fails_alone_but_stops_with_its_parent() {
        let parent = Tasks::default();
        let failing = parent.child();
        failing.spawn("broken", |_| async { anyhow::bail!("no") });
        assert_eq!(failing.drained(GRACE).await, Drain::Clean);
        assert!(!parent.token().is_cancelled());

        parent.child().spawn("stuck", |_| pending());
        parent.stop();
        assert_eq!(parent.drained(GRACE).await, Drain::Forced { unfinished: 1 });
    }

    #[tokio::test]
    async fn each_signal_arrives_and_the_process_survives() {
        let mut signals = ShutdownSignals::listen().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(signals.next().await, ShutdownSignal::Terminate);
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(signals.next().await, ShutdownSignal::Interrupt);
    }
}
