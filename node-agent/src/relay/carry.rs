//! One connection, from its first byte to its last.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger_runtime::place::ServerAddr;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics;

/// Time to reach the server.
const DEADLINE: Duration = Duration::from_secs(10);

/// When the relay is told to stop, a connection ends as soon as nothing moved for this long ...
const QUIET: Duration = Duration::from_millis(250);

/// ... and after this long whatever moves. Agents keep their connections open for ever.
const DRAIN: Duration = Duration::from_secs(5);

/// Carries connections to one server.
pub(super) struct Carrier {
    pub(super) server: ServerAddr,
    pub(super) idle: Duration,
}

/// How a connection ended.
enum End {
    /// Both ends are done.
    Closed,
    /// One end broke off.
    Broken(io::Error),
    /// Nothing moved for too long.
    Idle,
    /// The relay stops.
    Stopped,
}

impl End {
    /// The value of a metric's label.
    const fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken(_) => "broken",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "broken: {error}"),
            Self::Closed | Self::Idle | Self::Stopped => f.write_str(self.label()),
        }
    }
}

impl Carrier {
    /// Carries what `near` says to the server, and back, until both are done or `stop` fires.
    pub(super) async fn carry<S>(&self, near: S, peer: u32, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = Instant::now();
        let dialed = timeout(DEADLINE, self.server.dial());
        let far = match stop.run_until_cancelled(dialed).await {
            None => return,
            Some(Ok(Ok(far))) => far,
            Some(Ok(Err(error))) => return self.unreachable(peer, &error),
            Some(Err(elapsed)) => return self.unreachable(peer, &elapsed.into()),
        };
        metrics::relay_connections(1.0);
        let moved = Moved::default();
        let end = moved.between(near, far, self.idle, &stop).await;
        metrics::relay_connections(-1.0);
        let Moved { up, down } = moved;
        let (up, down) = (up.into_inner(), down.into_inner());
        metrics::relayed(end.label(), up, down);
        info!(peer, end = %end, up, down, seconds = begun.elapsed().as_secs(), "relayed");
    }

    fn unreachable(&self, peer: u32, error: &io::Error) {
        metrics::relay_refused("unreachable");
        warn!(peer, server = %self.server, %error, "cannot reach the server for an enclave");
    }
}

/// How many bytes have moved: to the server, and from it.
#[derive(Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

impl Moved {
    async fn between<N, F>(&self, near: N, far: F, idle: Duration, stop: &CancellationToken) -> End
    where
        N: AsyncRead + AsyncWrite + Unpin,
        F: AsyncRead + AsyncWrite + Unpin,
    {
        let mut near = InspectReader::new(near, counting(&self.up));
        let mut far = InspectReader::new(far, counting(&self.down));
        tokio::select! {
            ended = copy_bidirectional(&mut near, &mut far) => match ended {
                Ok(_moved) => End::Closed,
                Err(error) => End::Broken(error),
            },
            () = self.quiet_for(idle) => End::Idle,
            () = self.drained(stop) => End::Stopped,
        }
    }

    /// Waits until nothing has moved for `span`, and up to as much longer.
    async fn quiet_for(&self, span: Duration) {
        let mut before = self.sum();
        loop {
            sleep(span).await;
            let now = self.sum();
            if now == before {
                return;
            }
            before = now;
        }
    }

    async fn drained(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        drop(timeout(DRAIN, self.quiet_for(QUIET)).await);
    }

    fn sum(&self) -> u64 {
        self.up.load(Ordering::Relaxed).wrapping_add(self.down.load(Ordering::Relaxed))
    }
}

/// Adds up what is read.
fn counting(bytes: &AtomicU64) -> impl FnMut(&[u8]) {
    |read| {
        let read = u64::try_from(read.len()).unwrap_or(u64::MAX);
        bytes.fetch_add(read, Ordering::Relaxed);
    }
}
