//! Every metric that the server itself records, by name, with its description.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Seconds until the authority that signs expires, by profile.
pub const AUTHORITY_EXPIRES_IN_SECONDS: &str = "claviger_server_authority_expires_in_seconds";
/// X.509-SVIDs signed.
pub const X509_SVIDS_ISSUED: &str = "claviger_server_x509_svids_issued_total";
/// Authorities of downstream servers signed.
pub const X509_CAS_ISSUED: &str = "claviger_server_x509_cas_issued_total";
/// JWT-SVIDs signed.
pub const JWT_SVIDS_ISSUED: &str = "claviger_server_jwt_svids_issued_total";
/// WIT-SVIDs signed.
pub const WIT_SVIDS_ISSUED: &str = "claviger_server_wit_svids_issued_total";
/// Attestation results signed.
pub const EARS_ISSUED: &str = "claviger_server_ears_issued_total";
/// Announcements of policies signed.
pub const POLICIES_ANNOUNCED: &str = "claviger_server_policies_announced_total";
/// Requests of strangers, by status.
pub const PUBLIC_REQUESTS: &str = "claviger_server_public_requests_total";
/// Credentials asked for with evidence and without an agent, by what and outcome.
pub const DIRECT_REQUESTS: &str = "claviger_server_direct_requests_total";
/// Checkpoints that witnesses were asked to sign, by witness and outcome.
pub const COSIGNATURES: &str = "claviger_server_audit_cosignatures_total";
/// Registration entries.
pub const ENTRIES: &str = "claviger_server_entries";
/// Bundles of other trust domains.
pub const FEDERATED_BUNDLES: &str = "claviger_server_federated_bundles";
/// Agents, banned ones included.
pub const AGENTS: &str = "claviger_server_agents";
/// Agents that are connected for changes.
pub const SUBSCRIBERS: &str = "claviger_server_subscribers";
/// Streams ended because the agent did not keep up.
pub const SUBSCRIBERS_TOO_SLOW: &str = "claviger_server_subscribers_too_slow_total";
/// Snapshots sent, where a change would have been enough had the agent been here.
pub const SNAPSHOTS: &str = "claviger_server_snapshots_total";
/// From a change to its acknowledgement by an agent.
pub const PROPAGATION_SECONDS: &str = "claviger_server_propagation_seconds";
/// Attestations, by outcome.
pub const ATTESTATIONS: &str = "claviger_server_attestations_total";
/// One-time PSKs asked for, by outcome.
pub const PSKS_ISSUED: &str = "claviger_server_psks_issued_total";
/// One-time PSKs presented, by outcome.
pub const PSKS_REDEEMED: &str = "claviger_server_psks_redeemed_total";
/// Calls refused because of who called.
pub const CALLERS_REFUSED: &str = "claviger_server_callers_refused_total";

/// Policy folders read, by whether the policies came into force.
pub const POLICY_LOADS: &str = "claviger_server_policy_loads_total";
/// 1 while what lies in the policy folder is wrong and older policies are in force.
pub const POLICIES_REFUSED: &str = "claviger_server_policies_refused";

/// Identities of which something is said: how much they are risked, or that they are in quarantine.
pub const STANDINGS: &str = "claviger_server_standings";
/// Of which in quarantine.
pub const QUARANTINED: &str = "claviger_server_quarantined";
/// Changes to how identities stand, by what was changed.
pub const STANDINGS_CHANGED: &str = "claviger_server_standings_changed_total";
/// From telling an agent of such a change to its acknowledgement.
pub const STANDINGS_SECONDS: &str = "claviger_server_standings_propagation_seconds";
/// Requests put off because the agent has not taken in yet how the identity stands.
pub const STALE: &str = "claviger_server_stale_evidence_total";

/// Requests that were not taken on, by why and by what they are worth.
pub const OVERLOADED: &str = "claviger_server_overloaded_total";
/// Requests denied because nobody new is counted: there are too many limits in use.
pub const LIMITS_FULL: &str = "claviger_server_limits_full_total";
/// Requests to the control door, by what and outcome.
pub const CONTROL_REQUESTS: &str = "claviger_server_control_requests_total";
/// Requests to the key door, by what and outcome.
pub const KEY_REQUESTS: &str = "claviger_server_key_requests_total";
/// Decisions of the policies, by verdict and action. Those with the verdict `deny` are the attempts
/// that were blocked.
pub const DECISIONS: &str = "claviger_server_decisions_total";
/// Credentials issued with the decision behind them on record.
pub const ISSUED_WITH_DECISION: &str = "claviger_server_issued_with_decision_total";
/// Denials and anomalies that are not on record because too many came at once, or the journal failed.
pub const DECISIONS_UNWRITTEN: &str = "claviger_server_decisions_unwritten_total";
/// What stood out among decisions, by kind.
pub const ANOMALIES: &str = "claviger_server_anomalies_total";
/// Events sent to other systems, by exporter.
pub const EVENTS_SENT: &str = "claviger_server_events_sent_total";
/// Events that no room was left for because an exporter did not keep up, by exporter.
pub const EVENTS_DROPPED: &str = "claviger_server_events_dropped_total";
/// Failed attempts to send events, by exporter.
pub const EVENTS_FAILED: &str = "claviger_server_events_failed_total";

/// Describes all of them, for whoever reads `/metrics`.
pub fn describe() {
    describe_gauge!(
        AUTHORITY_EXPIRES_IN_SECONDS,
        Unit::Seconds,
        "Seconds until the signing authority expires, by profile; its successor takes over long \
         before"
    );
    describe_counter!(X509_SVIDS_ISSUED, "X.509-SVIDs signed");
    describe_counter!(X509_CAS_ISSUED, "Authorities of downstream servers signed");
    describe_counter!(JWT_SVIDS_ISSUED, "JWT-SVIDs signed");
    describe_counter!(WIT_SVIDS_ISSUED, "WIT-SVIDs signed");
    describe_counter!(POLICIES_ANNOUNCED, "Announcements of policies signed");
    describe_counter!(EARS_ISSUED, "Attestation results signed");
    describe_counter!(
        COSIGNATURES,
        "Checkpoints that witnesses were asked to sign, by witness and outcome"
    );
    describe_counter!(PUBLIC_REQUESTS, "Requests to the public endpoint, by status");
    describe_counter!(
        DIRECT_REQUESTS,
        "Credentials asked for with evidence and without an agent, by what and outcome"
    );
    describe_gauge!(ENTRIES, "Registration entries");
    describe_gauge!(FEDERATED_BUNDLES, "Bundles of other trust domains");
    describe_gauge!(AGENTS, "Agents, banned ones included");
    describe_gauge!(SUBSCRIBERS, "Agents connected for changes");
    describe_counter!(SUBSCRIBERS_TOO_SLOW, "Streams ended because the agent did not keep up");
    describe_counter!(SNAPSHOTS, "Full states sent to agents");
    describe_histogram!(
        PROPAGATION_SECONDS,
        Unit::Seconds,
        "From a change to its acknowledgement by an agent"
    );
    describe_counter!(ATTESTATIONS, "Attestations, by outcome");
    describe_counter!(PSKS_ISSUED, "One-time PSKs asked for, by outcome");
    describe_counter!(PSKS_REDEEMED, "One-time PSKs presented, by outcome");
    describe_counter!(CALLERS_REFUSED, "Calls refused because of who called");
    describe_counter!(OVERLOADED, "Requests that were not taken on, by why and class");
    describe_counter!(LIMITS_FULL, "Requests denied because too many limits are in use");
    describe_counter!(CONTROL_REQUESTS, "Requests to the control door, by what and outcome");
    describe_counter!(KEY_REQUESTS, "Requests to the key door, by what and outcome");
    describe_counter!(
        POLICY_LOADS,
        "Changes of the policy folder, by whether the policies came into force"
    );
    describe_gauge!(
        POLICIES_REFUSED,
        "1 while what lies in the policy folder is wrong and older policies are in force"
    );
    describe_counter!(DECISIONS, "Decisions of the policies, by verdict and action");
    describe_counter!(ISSUED_WITH_DECISION, "Credentials issued with the decision on record");
    describe_counter!(DECISIONS_UNWRITTEN, "Denials and anomalies that are not on record");
    describe_counter!(ANOMALIES, "What stood out among decisions, by kind");
    describe_counter!(EVENTS_SENT, "Events sent to other systems, by exporter");
    describe_counter!(EVENTS_DROPPED, "Events dropped because an exporter did not keep up");
    describe_counter!(EVENTS_FAILED, "Failed attempts to send events, by exporter");
    describe_gauge!(STANDINGS, "Identities that are risked or in quarantine, or were lately");
    describe_gauge!(QUARANTINED, "Identities in quarantine");
    describe_counter!(STANDINGS_CHANGED, "Changes to risk and quarantine, by what was changed");
    describe_histogram!(
        STANDINGS_SECONDS,
        Unit::Seconds,
        "From telling an agent of a change to risk or quarantine to its acknowledgement"
    );
    describe_counter!(STALE, "Requests put off until the agent has fresh evidence of the workload");
}
