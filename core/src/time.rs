//! Time as a value.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A point in wall-clock time, in whole seconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The last second that X.509's GeneralizedTime can name, the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799);

    /// `secs` seconds after the epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This time, `span` later; the end of time if that does not exist.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()))
    }

    /// This time, `span` earlier; the epoch if that does not exist.
    #[must_use]
    pub const fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_secs()))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where `now` comes from. The only implementation that reads a real clock is [`SystemClock`].
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current wall-clock time.
    fn now(&self) -> UnixTime;

    /// The time at which to judge what claims to be valid from `not_before` on. A clock that is not
    /// believed may be behind that; whether the claim is genuine is judged by whoever asks, who then
    /// tells [`Self::witness`].
    fn judging(&self, not_before: UnixTime) -> UnixTime {
        let _believed_instead = not_before;
        self.now()
    }

    /// Somebody trusted has said at `not_before`, or later, what time it was: by signing something
    /// that is valid from then on. A clock that is believed anyway learns nothing from it.
    fn witness(&self, not_before: UnixTime) {
        let _known = not_before;
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> UnixTime {
        // A clock before 1970 is broken; zero makes every certificate look not yet valid.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime(since.map_or(0, |span| span.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let end = UnixTime::from_secs(u64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(UnixTime::from_secs(1).before(Duration::from_secs(2)), UnixTime::default());
        assert_eq!(UnixTime::from_secs(1).since(UnixTime::from_secs(2)), Duration::ZERO);
    }
}
