//! "No identity issued": all that a stranger hears, and what the operator hears beside it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use claviger_core::reason::Missing;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_runtime::unix::Peer;
use tonic::{Code, Status};
use tracing::info;

use super::Desk;
use crate::attestation::{NO_IDENTITY, is_operator};
use crate::credentials::Snapshot;
use crate::details;
use crate::explain::refusal;

/// Whose reasons are in the details.
const DOMAIN: &str = "claviger";

/// Refuses the process `peer`, which has `facts`. The log says why, at most once a second: to find
/// the nearest of many entries takes a while, and strangers must not make us do nothing else. An
/// operator, who may read the log anyway, is told in the details of the status.
pub(crate) fn nobody(desk: &Desk, snapshot: &Snapshot, peer: &Peer, facts: &Selectors) -> Status {
    let now = desk.clock.now();
    let (is_operator, is_logged) = (is_operator(peer.uid()), desk.refusals.admit(now));
    if !is_operator && !is_logged {
        return Status::permission_denied(NO_IDENTITY);
    }
    let (reason, nearest) = refusal(snapshot, facts, now);
    let mut said = HashMap::new();
    if let Some(nearest) = &nearest {
        said.insert("entry".to_owned(), nearest.entry.id.to_string());
        said.insert("spiffe_id".to_owned(), nearest.entry.spiffe_id.to_string());
        said.insert("missing".to_owned(), listed(&nearest.missing));
    }
    if is_logged {
        let of = |key: &str| said.get(key).map_or("", String::as_str);
        let (entry, id, missing) = (of("entry"), of("spiffe_id"), of("missing"));
        let (pid, uid) = (peer.pid(), peer.uid());
        info!(pid, uid, %reason, entry, id, missing, "no identity issued; see `claviger why`");
    }
    if is_operator {
        details::status(Code::PermissionDenied, NO_IDENTITY, DOMAIN, reason.name(), said)
    } else {
        Status::permission_denied(NO_IDENTITY)
    }
}

/// The selectors, as long as they take little room.
fn listed(missing: &[Missing]) -> String {
    const MOST: usize = 8;
    let selectors = missing.iter().take(MOST).map(|missing| missing.selector.to_string());
    selectors.collect::<Vec<_>>().join(" ")
}

/// Admits one thing a second.
#[derive(Debug, Default)]
pub(crate) struct Throttle(AtomicU64);

impl Throttle {
    fn admit(&self, now: UnixTime) -> bool {
        self.0.swap(now.as_secs(), Ordering::Relaxed) != now.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::world::NOW;

    #[test]
    fn once_a_second_is_enough() {
        let throttle = Throttle::default();
        assert!(throttle.admit(NOW));
        assert!(!throttle.admit(NOW));
        assert!(throttle.admit(NOW.after(Duration::from_secs(1))));
    }
}
