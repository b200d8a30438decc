//! How long to wait before trying again, and chance.

use std::time::Duration;

/// Pauses that double from `first` to `last`, each shortened by up to a half at random, so that the
/// agents of a fleet do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// It worked: the next failure is the first.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause. `jitter` is random.
    pub(crate) fn pause(&mut self, jitter: u16) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.last);
        shorten(full, jitter)
    }
}

/// `full`, shortened by up to a half.
fn shorten(full: Duration, jitter: u16) -> Duration {
    full - full.mul_f64(0.5 * f64::from(jitter) / f64::from(u16::MAX))
}

/// A random number for [`Backoff::pause`] and `Validity::renew_at`. If the library has no
/// randomness, there is none in the timing either.
pub(crate) fn jitter() -> u16 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u16::from_ne_bytes(bytes),
        Err(aws_lc_rs::error::Unspecified) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
        let mut millis = || backoff.pause(0).as_millis();
        assert_eq!([millis(), millis(), millis(), millis(), millis()], [50, 100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.pause(0).as_millis(), 50);
    }

    #[test]
    fn chance_halves_a_pause_at_most() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(2));
        assert_eq!(backoff.pause(u16::MAX), Duration::from_secs(1));
        let pause = backoff.pause(u16::MAX / 2);
        assert!(Duration::from_secs(1) < pause && pause < Duration::from_secs(2));
    }
}
