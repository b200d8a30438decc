//! How long somebody is to wait who was refused, in the metadata of a gRPC status (gRFC A6).

use std::time::Duration;

use tonic::Status;
use tonic::metadata::AsciiMetadataValue;

/// The key, whose value is milliseconds in decimal.
pub const KEY: &str = "grpc-retry-pushback-ms";

/// The key that is there if there is too much to do for all callers, and not for the one who asks.
const CROWDED: &str = "claviger-crowded";

/// Says in `status` to come back after `wait`, at least a millisecond.
pub fn set(status: &mut Status, wait: Duration) {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    status.metadata_mut().insert(KEY, millis.into());
}

/// What `status` says, if anything.
#[must_use]
pub fn of(status: &Status) -> Option<Duration> {
    status.metadata().get(KEY)?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// Says in `status` that there is too much to do, whoever asks: fewer should ask at a time.
pub fn set_crowded(status: &mut Status) {
    status.metadata_mut().insert(CROWDED, AsciiMetadataValue::from_static("true"));
}

/// Whether `status` says so.
#[must_use]
pub fn is_crowded(status: &Status) -> bool {
    status.metadata().contains_key(CROWDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nothing_else() {
        let mut status = Status::resource_exhausted("");
        assert_eq!((of(&status), is_crowded(&status)), (None, false));
        set_crowded(&mut status);
        assert!(is_crowded(&status));
        for (wait, heard) in [(0, 1), (250, 250), (u64::MAX, u64::MAX)] {
            set(&mut status, Duration::from_millis(wait));
            assert_eq!(of(&status), Some(Duration::from_millis(heard)));
        }
        for unheard in ["-1", "1.5", "soon", "18446744073709551616"] {
            status.metadata_mut().insert(KEY, unheard.parse().unwrap());
            assert_eq!(of(&status), None);
        }
    }
}
