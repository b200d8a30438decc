//! Which refusals were written to the audit log a moment ago.
//!
//! A workload that asks in vain a thousand times a second must not fill the log: each client, server
//! and purpose is written once a minute, and there is a bound on how many of them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::UnixTime;

/// The most refusals written in one minute.
const MAX: usize = 1_024;

/// The refusals of this minute.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    number: u64,
    seen: HashSet<(SpiffeId, SpiffeId, Purpose)>,
}

impl Denials {
    /// Whether this refusal is to be written.
    pub(super) fn is_news(
        &self,
        client: &SpiffeId,
        server: &SpiffeId,
        purpose: &Purpose,
        now: UnixTime,
    ) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.as_secs() / 60;
        if minute.number != number {
            *minute = Minute { number, seen: HashSet::new() };
        }
        minute.seen.len() < MAX
            && minute.seen.insert((client.clone(), server.clone(), purpose.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_news(denials: &Denials, purpose: &str, now: u64) -> bool {
        let (client, server) = ("spiffe://example.org/a", "spiffe://example.org/b");
        denials.is_news(
            &client.parse().unwrap(),
            &server.parse().unwrap(),
            &purpose.parse().unwrap(),
            UnixTime::from_secs(now),
        )
    }

    #[test]
    fn each_is_written_once_a_minute() {
        let denials = Denials::default();
        assert!(is_news(&denials, "read", 0));
        assert!(!is_news(&denials, "read", 59));
        assert!(is_news(&denials, "write", 59));
        assert!(is_news(&denials, "read", 60));
    }

    #[test]
    fn there_is_a_bound_on_all_of_them() {
        let denials = Denials::default();
        let written = (0..2 * MAX).filter(|n| is_news(&denials, &n.to_string(), 0)).count();
        assert_eq!(written, MAX);
    }
}
