//! What is counted, beside what the enforcer counts.

use metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use crate::relay::{Ended, Moved};

/// Connections of a route that are open, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Open(String);

impl Open {
    pub(crate) fn of(route: &str) -> Self {
        gauge!("claviger_shim_open", "route" => route.to_owned()).increment(1);
        Self(route.to_owned())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("claviger_shim_open", "route" => self.0.clone()).decrement(1);
    }
}

/// A connection of `route` took from `begun` until now to make.
pub(crate) fn connected(route: &str, begun: Instant) {
    let took = begun.elapsed().as_secs_f64();
    histogram!("claviger_shim_connect_seconds", "route" => route.to_owned()).record(took);
}

/// A connection of `route` was refused.
pub(crate) fn refused(route: &str, reason: &'static str) {
    let route = route.to_owned();
    counter!("claviger_shim_refused_total", "route" => route, "reason" => reason).increment(1);
}

/// A connection of `route` ended.
pub(crate) fn ended(route: &str, how: &Ended, moved: Moved) {
    let count = |direction: &'static str, bytes: u64| {
        let route = route.to_owned();
        counter!("claviger_shim_bytes_total", "route" => route, "direction" => direction)
            .increment(bytes);
    };
    count("sent", moved.sent);
    count("received", moved.received);
    let route = route.to_owned();
    counter!("claviger_shim_ended_total", "route" => route, "how" => how.label()).increment(1);
}

/// So many access records were not written.
pub(crate) fn records_lost(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!("claviger_shim_access_records_lost_total").increment(count);
}
