//! The one way in which a peer is refused, whatever the reason.
//!
//! Unknown, spent or expired key, wrong binder, broken protocol: the peer sees the same bytes, not
//! before the same time. A TLS stack's own alerts would tell an attacker which identities exist
//! (RFC 8446, appendix E.6).

use std::time::Duration;

use aws_lc_rs::rand;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::backend::Io;

/// A fatal `decrypt_error` (RFC 8446 §6.2), in plain text: no keys were agreed on.
pub(crate) const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 51];

/// No refusal comes earlier after the connection began; longer than the broker takes to answer.
const LEAST: Duration = Duration::from_millis(100);

/// Added at random, in steps of a 256th.
const JITTER: Duration = Duration::from_millis(50);

/// How long, and for how many bytes, we listen to a peer that still talks. To close before it was
/// read would reset the connection and could overtake the alert.
const LINGER: (Duration, u64) = (Duration::from_millis(500), 64 << 10);

/// Tells the peer that it is refused, and closes.
pub(crate) async fn refuse(io: &mut dyn Io, started: Instant) {
    close(io, started, &ALERT).await;
}

/// The same where the peer has our first flight: an alert in plain text would be none any more, and
/// one that is encrypted would say what a stack knows. The peer sees the connection end.
pub(crate) async fn hang_up(io: &mut dyn Io, started: Instant) {
    close(io, started, &[]).await;
}

async fn close(io: &mut dyn Io, started: Instant, last_words: &[u8]) {
    let mut step = [0];
    // Without randomness it is the full jitter.
    let step = rand::fill(&mut step).map_or(u8::MAX, |()| step[0]);
    sleep_until(started + LEAST + JITTER * step.into() / 256).await;

    let closing = async {
        io.write_all(last_words).await?;
        io.shutdown().await?;
        let (_, bytes) = LINGER;
        tokio::io::copy(&mut io.take(bytes), &mut tokio::io::sink()).await
    };
    match timeout(LINGER.0, closing).await {
        Ok(Ok(_drained)) => {}
        Ok(Err(error)) => debug!(%error, "the refused peer was gone"),
        Err(_elapsed) => debug!("the refused peer did not close"),
    }
}
