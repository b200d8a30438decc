//! One connection, from its first byte to its last.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use claviger_runtime::place::{Dialed, ServerAddrs};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics;
use crate::server::Places;

/// Time to reach a server.
const DEADLINE: Duration = Duration::from_secs(10);

/// When the relay is told to stop, a connection ends as soon as nothing moved for this long ...
const QUIET: Duration = Duration::from_millis(250);

/// ... and after this long whatever moves. Agents keep their connections open for ever.
const DRAIN: Duration = Duration::from_secs(5);

/// Carries connections to servers.
pub(super) struct Carrier {
    servers: Places,
    /// How many connections there were: each begins with another server.
    carried: AtomicUsize,
    idle: Duration,
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
    /// Carries them to any of `servers`; one on which nothing moved for `idle` is ended.
    pub(super) fn new(servers: ServerAddrs, idle: Duration) -> Self {
        Self { servers: Places::new(servers), carried: AtomicUsize::default(), idle }
    }

    /// A connection to the first server that takes it, beginning with the next one.
    async fn dial(&self, peer: u32) -> Option<Dialed> {
        let mut all = self.servers.look_up().await;
        let begin = self.carried.fetch_add(1, Ordering::Relaxed).checked_rem(all.len());
        all.rotate_left(begin.unwrap_or(0));
        for server in all {
            let patience = self.servers.patience(DEADLINE);
            let error = match timeout(patience, server.dial()).await {
                Ok(Ok(far)) => return Some(far),
                Ok(Err(error)) => error,
                Err(elapsed) => elapsed.into(),
            };
            warn!(peer, %server, %error, "cannot reach the server for an enclave");
        }
        None
    }

    /// Carries what `near` says to the server, and back, until both are done or `stop` fires.
    pub(super) async fn carry<S>(&self, near: S, peer: u32, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = Instant::now();
        let far = match stop.run_until_cancelled(self.dial(peer)).await {
            None => return,
            Some(Some(far)) => far,
            Some(None) => {
                metrics::relay_refused("unreachable");
                return;
            }
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
