//! What all our listeners do alike: survive failing accepts.

use std::io;
use std::time::Duration;

use metrics::counter;
use tracing::warn;

/// The pause after a failed accept: long enough not to spin while the process has no file
/// descriptors left, short enough to go unnoticed when it has some again.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LAST: Duration = Duration::from_secs(1);

    /// An accept succeeded.
    pub const fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    /// An accept failed: says so, and waits before the next one unless only that one connection is
    /// concerned.
    pub async fn pause(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        counter!("claviger_accept_failures_total").increment(1);
        warn!(%error, pause_ms = self.0.as_millis(), "cannot accept connections");
        tokio::time::sleep(self.0).await;
        self.0 = self.0.saturating_mul(2).min(Self::LAST);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let no_descriptors = Errno::MFILE.into();
        let start = Instant::now();
        for _ in 0..10 {
            backoff.pause(&no_descriptors).await;
        }
        // 10 + 20 + … + 640 ms, then three times the limit.
        assert_eq!(start.elapsed().as_millis(), 1_270 + 3_000);

        backoff.reset();
        let start = Instant::now();
        backoff.pause(&no_descriptors).await;
        assert_eq!(start.elapsed(), Backoff::FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_hung_up_delays_nobody() {
        let start = Instant::now();
        Backoff::default().pause(&Errno::CONNABORTED.into()).await;
        assert!(start.elapsed().is_zero());
    }
}
