//! What is counted.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tonic::{Response, Status};

/// Entries delegated to this agent, and how many of them have a valid SVID of each kind.
pub(crate) fn held(entries: usize, svids: [(&'static str, usize); 2]) {
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "far below 2^52")]
    let number = |count: usize| count as f64;
    gauge!("claviger_agent_entries").set(number(entries));
    for (kind, count) in svids {
        gauge!("claviger_agent_svids", "kind" => kind).set(number(count));
    }
}

/// An SVID for a workload came.
pub(crate) fn svid_issued(kind: &'static str) {
    counter!("claviger_agent_svids_issued_total", "kind" => kind).increment(1);
}

/// SVIDs for workloads did not come.
pub(crate) fn svids_failed(kind: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!("claviger_agent_svids_failed_total", "kind" => kind).increment(count);
}

/// A JWT-SVID was given out, from the cache or made by the server.
pub(crate) fn jwt_svid(source: &'static str) {
    counter!("claviger_agent_jwt_svids_total", "source" => source).increment(1);
}

/// A JWT-SVID did not come from the server.
pub(crate) fn jwt_svid_failed() {
    counter!("claviger_agent_jwt_svids_failed_total").increment(1);
}

/// The stream of changes was opened, or could not be.
pub(crate) fn subscribed(outcome: &'static str) {
    counter!("claviger_agent_subscriptions_total", "outcome" => outcome).increment(1);
}

/// The server signed something that contradicts what it signed before.
pub(crate) fn checkpoint_alarm() {
    counter!("claviger_agent_checkpoint_alarms_total").increment(1);
}

/// Policies came into force, or went out of it, or were refused.
pub(crate) fn policies(outcome: &'static str) {
    counter!("claviger_agent_policies_total", "outcome" => outcome).increment(1);
}

/// A program's question was decided, or could not be.
pub(crate) fn decided(verdict: &'static str) {
    counter!("claviger_agent_decisions_total", "verdict" => verdict).increment(1);
}

/// A process was looked at.
pub(crate) fn attested(outcome: &'static str, took: Duration) {
    histogram!("claviger_agent_attestation_seconds", "outcome" => outcome).record(took);
}

/// A call ended its first step: it was answered, or refused.
pub(crate) fn counted<T>(
    method: &'static str,
    done: Result<T, Status>,
) -> Result<Response<T>, Status> {
    let outcome = if done.is_ok() { "ok" } else { "refused" };
    counter!("claviger_agent_calls_total", "method" => method, "outcome" => outcome).increment(1);
    done.map(Response::new)
}

/// A stream was opened (+1) or ended (-1).
pub(crate) fn streams(change: f64) {
    gauge!("claviger_agent_streams").increment(change);
}

/// A connection through the relay was opened (+1) or ended (-1).
pub(crate) fn relay_connections(change: f64) {
    gauge!("claviger_agent_relay_connections").increment(change);
}

/// A connection to the relay was closed at once.
pub(crate) fn relay_refused(reason: &'static str) {
    counter!("claviger_agent_relay_refused_total", "reason" => reason).increment(1);
}

/// A connection through the relay ended after so many bytes to the server and from it.
pub(crate) fn relayed(end: &'static str, up: u64, down: u64) {
    counter!("claviger_agent_relay_connections_total", "end" => end).increment(1);
    counter!("claviger_agent_relay_bytes_total", "direction" => "to-server").increment(up);
    counter!("claviger_agent_relay_bytes_total", "direction" => "from-server").increment(down);
}
