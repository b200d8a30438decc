//! Records as events of the Open Cybersecurity Schema Framework, version 1.3.0 (<https://schema.ocsf.io>).
//!
//! | what happened | class |
//! |---|---|
//! | credentials, entries, agents, authorities, policies and standings are made, changed or withdrawn | Entity Management, 3004 |
//! | somebody proved who they are, or failed to | Authentication, 3002 |
//! | a decision | API Activity, 6003 |
//! | an anomaly | Detection Finding, 2004 |
//! | the server starts, or begins an epoch | Application Lifecycle, 6002 |
//!
//! The whole record is in `unmapped`, whatever else is said of it.

use serde_json::{Map, Value, json};

use super::record::Line;

/// The version of the schema.
const VERSION: &str = "1.3.0";

/// How an event is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    /// Entity Management: what is done (`activity_id`), to what kind of thing, called by which field.
    Entity(u64, &'static str, &'static str),
    /// Authentication: whether it succeeded, and in which field stands who it was.
    Authentication(bool, &'static str),
    /// API Activity: whether it was permitted.
    Decision(bool),
    Finding,
    /// Application Lifecycle, by `activity_id`.
    Lifecycle(u64),
    /// Base Event: a record of a newer version than this program.
    Unknown,
}

const CREATE: u64 = 1;
const UPDATE: u64 = 3;
const DELETE: u64 = 4;
const DISABLE: u64 = 9;
const ACTIVATE: u64 = 10;
const SUSPEND: u64 = 12;
const RESUME: u64 = 13;
const OTHER: u64 = 99;

impl Class {
    fn of(event: &str) -> Self {
        match event {
            "server_started" => Self::Lifecycle(3),
            "epoch_fenced" => Self::Lifecycle(OTHER),
            "authority_prepared" => Self::Entity(CREATE, "signing authority", "key"),
            "authority_activated" => Self::Entity(ACTIVATE, "signing authority", "key"),
            "policy_loaded" => Self::Entity(UPDATE, "policies", "policy"),
            "policy_refused" | "policies_signed" => Self::Entity(OTHER, "policies", "policy"),
            "join_token_created" => Self::Entity(CREATE, "join token", "token"),
            "join_token_replayed" => Self::Authentication(false, "token"),
            "evidence_replayed" => Self::Authentication(false, "digest"),
            "agent_attested" => Self::Authentication(true, "agent"),
            "directly_attested" => Self::Authentication(true, "id"),
            "agent_evicted" => Self::Entity(DELETE, "agent", "agent"),
            "agent_banned" => Self::Entity(DISABLE, "agent", "agent"),
            "entry_created" => Self::Entity(CREATE, "registration entry", "entry"),
            "entry_updated" => Self::Entity(UPDATE, "registration entry", "entry"),
            "entry_deleted" => Self::Entity(DELETE, "registration entry", "id"),
            "bundle_set" => Self::Entity(UPDATE, "trust bundle", "trust_domain"),
            "bundle_deleted" => Self::Entity(DELETE, "trust bundle", "trust_domain"),
            "x509_svid_issued" => Self::Entity(CREATE, "X.509-SVID", "subject"),
            "x509_svid_revoked" => Self::Entity(DELETE, "X.509-SVID", "subject"),
            "x509_ca_issued" => Self::Entity(CREATE, "downstream authority", "server"),
            "jwt_svid_issued" => Self::Entity(CREATE, "JWT-SVID", "subject"),
            "wit_svid_issued" => Self::Entity(CREATE, "WIT-SVID", "subject"),
            "ear_issued" => Self::Entity(CREATE, "attestation result", "agent"),
            "psk_issued" => Self::Entity(CREATE, "one-time key", "identity"),
            "psk_redeemed" => Self::Authentication(true, "client"),
            "psk_replayed" | "psk_voided" => Self::Authentication(false, "client"),
            "quarantined" => Self::Entity(SUSPEND, "identity", "id"),
            "quarantine_lifted" => Self::Entity(RESUME, "identity", "id"),
            "risk_changed" => Self::Entity(UPDATE, "identity", "id"),
            "approval_given" => Self::Entity(CREATE, "approval", "id"),
            "approval_refused" | "approval_used" => Self::Entity(DELETE, "approval", "id"),
            "access_decided" | "observed" => Self::Decision(true),
            "denied" | "psk_denied" => Self::Decision(false),
            "anomaly_found" => Self::Finding,
            _ => Self::Unknown,
        }
    }

    /// `class_uid`, `category_uid` and `activity_id`.
    const fn numbers(self) -> (u64, u64, u64) {
        match self {
            Self::Entity(activity, _, _) => (3_004, 3, activity),
            // Logon.
            Self::Authentication(..) => (3_002, 3, 1),
            Self::Decision(_) => (6_003, 6, OTHER),
            Self::Finding => (2_004, 2, CREATE),
            Self::Lifecycle(activity) => (6_002, 6, activity),
            Self::Unknown => (0, 0, OTHER),
        }
    }

    const fn succeeded(self) -> bool {
        !matches!(self, Self::Authentication(false, _) | Self::Decision(false))
    }

    /// Informational, medium or high.
    const fn severity(self) -> u64 {
        match self {
            Self::Entity(..) | Self::Authentication(true, _) | Self::Lifecycle(_) => 1,
            Self::Decision(true) | Self::Unknown => 1,
            Self::Decision(false) | Self::Finding => 3,
            Self::Authentication(false, _) => 4,
        }
    }
}

/// The event that `line` is.
pub(super) fn event(line: &Line) -> Value {
    let body = serde_json::from_str(line.body.get());
    let body: Map<String, Value> = body.unwrap_or_default();
    let name = body.get("event").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let class = Class::of(&name);
    // A gateway's question is answered either way under one name.
    let class = if name == "access_decided" { Class::Decision(permitted(&body)) } else { class };
    let (class_uid, category_uid, activity_id) = class.numbers();
    let seconds = body.get("time").and_then(Value::as_u64).unwrap_or_default();
    let product = json!({
        "name": "Claviger", "vendor_name": "Claviger", "version": env!("CARGO_PKG_VERSION"),
    });
    let mut event = json!({
        "metadata": {
            "version": VERSION,
            "product": product,
            "uid": line.seq.to_string(),
            "event_code": name,
            "log_name": "audit",
        },
        "time": seconds.saturating_mul(1_000),
        "class_uid": class_uid,
        "category_uid": category_uid,
        "activity_id": activity_id,
        "type_uid": class_uid.saturating_mul(100).saturating_add(activity_id),
        "severity_id": class.severity(),
        "status_id": if class.succeeded() { 1 } else { 2 },
    });
    let mut say = |name: &str, value: Value| {
        if let Some(event) = event.as_object_mut() {
            event.insert(name.to_owned(), value);
        }
    };
    if activity_id == OTHER {
        say("activity_name", name.clone().into());
    }
    match class {
        Class::Entity(_, kind, field) => {
            let called = text(&body, field).or_else(|| text(&body, "policy"));
            let uid = ["serial", "id"].into_iter().find_map(|field| text(&body, field));
            say("entity", thing(kind, called.as_ref(), uid, line.seq));
        }
        Class::Authentication(_, field) => {
            say("user", thing("workload", text(&body, field).as_ref(), None, line.seq));
            say("service", json!({ "name": text(&body, "server").unwrap_or("claviger".into()) }));
        }
        Class::Decision(_) => {
            let at = |path: &str| body.get("decided").and_then(|decided| decided.pointer(path));
            let who = at("/question/principal/id").or(body.get("client"));
            let who = thing("workload", who, None, line.seq);
            let action = at("/question/action").cloned().unwrap_or_else(|| name.clone().into());
            let action = action.as_str().map_or_else(|| action.to_string(), ToOwned::to_owned);
            say("src_endpoint", who.clone());
            say("actor", json!({ "user": who }));
            say("api", json!({ "operation": action }));
        }
        Class::Finding => {
            let title = format!("anomaly in record {}", line.seq);
            say("finding_info", json!({ "title": title, "uid": line.seq.to_string() }));
        }
        Class::Lifecycle(_) => say("app", product),
        Class::Unknown => {}
    }
    say("unmapped", Value::Object(body));
    event
}

/// An object of `kind`, which is none of the kinds that the schema has numbers for. The schema wants it
/// called somehow: by the number of the record, if the record does not say how.
fn thing(kind: &str, name: Option<&Value>, uid: Option<Value>, record: u64) -> Value {
    let mut thing = json!({ "type": kind, "type_id": OTHER });
    let name = name.filter(|name| name.is_string()).cloned();
    let uid = uid.or_else(|| name.clone()).unwrap_or_else(|| record.to_string().into());
    for (field, value) in [("name", name), ("uid", Some(uid))] {
        if let (Some(object), Some(value)) = (thing.as_object_mut(), value) {
            object.insert(field.to_owned(), value);
        }
    }
    thing
}

/// What `field` calls somebody or something: itself, or the id in it.
fn text(body: &Map<String, Value>, field: &str) -> Option<Value> {
    let value = body.get(field)?;
    let called = value.get("id").unwrap_or(value);
    called.is_string().then(|| called.clone())
}

fn permitted(body: &Map<String, Value>) -> bool {
    let verdict = body.get("decided").and_then(|decided| decided.pointer("/decision/verdict"));
    verdict.and_then(Value::as_str) != Some("deny")
}

#[cfg(test)]
mod tests {
    use claviger_proto::claviger::admin::v1::AuditRecord;

    use super::*;

    fn told(body: &str) -> Value {
        let record = AuditRecord { sequence: 9, body: body.as_bytes().to_vec() };
        event(&Line::try_from(record).unwrap())
    }

    /// The names of the variants of `Event`, read where they are written.
    fn names() -> Vec<String> {
        let source = include_str!("../../../../core/src/audit/event.rs");
        let variants =
            source.split("pub enum Event {").nth(1).unwrap().split("\n}").next().unwrap();
        let mut names = Vec::new();
        for line in variants.lines() {
            let Some(variant) = line.strip_prefix("    ").and_then(|line| line.strip_suffix(" {"))
            else {
                continue;
            };
            let mut name = String::new();
            for letter in variant.chars() {
                if letter.is_ascii_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(letter.to_ascii_lowercase());
            }
            names.push(name.replace("x509_c_a", "x509_ca"));
        }
        assert!(names.len() > 30, "{names:?}");
        names
    }

    #[test]
    fn every_event_has_a_class() {
        for name in names() {
            assert_ne!(Class::of(&name), Class::Unknown, "{name}");
        }
    }

    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(all) => all.iter().any(has_null),
            Value::Object(all) => all.values().any(has_null),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    /// tests/interop/audit holds what a server writes against the definitions of the schema.
    #[test]
    fn nothing_is_null_and_everybody_is_called_somehow_however_little_a_record_says() {
        for name in names() {
            for client in ["", r#","client":{"id":7},"policy":null"#] {
                let event = told(&format!(r#"{{"time":7,"event":"{name}"{client}}}"#));
                let said =
                    event.as_object().unwrap().iter().filter(|(name, _)| *name != "unmapped");
                for (field, value) in said {
                    assert!(!has_null(value), "{name}: {field}");
                }
                for place in ["/entity", "/user", "/actor/user", "/src_endpoint"] {
                    if let Some(thing) = event.pointer(place) {
                        assert_eq!(thing["uid"], "9", "{name}: {place}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_class_requires_is_there() {
        let issued = told(
            r#"{"time":7,"event":"x509_svid_issued","serial":"4f","subject":"spiffe://x/a","ttl":60}"#,
        );
        assert_eq!((&issued["class_uid"], &issued["type_uid"]), (&3_004.into(), &300_401.into()));
        let entity = json!({"type":"X.509-SVID","type_id":99,"name":"spiffe://x/a","uid":"4f"});
        assert_eq!(issued["entity"], entity);
        assert_eq!((&issued["time"], &issued["metadata"]["uid"]), (&7_000.into(), &"9".into()));
        assert_eq!(issued["unmapped"]["ttl"], 60);

        let replayed = told(
            r#"{"time":7,"event":"psk_replayed","identity":"p1.x","client":"spiffe://x/a","server":"spiffe://x/b"}"#,
        );
        assert_eq!((&replayed["class_uid"], &replayed["status_id"]), (&3_002.into(), &2.into()));
        assert_eq!(
            (&replayed["user"]["name"], &replayed["severity_id"]),
            (&"spiffe://x/a".into(), &4.into())
        );

        let denied = told(
            r#"{"time":7,"event":"denied","decided":{"question":{"principal":{"id":"spiffe://x/a"},"action":"connect"},"decision":{"verdict":"deny"}}}"#,
        );
        assert_eq!((&denied["class_uid"], &denied["status_id"]), (&6_003.into(), &2.into()));
        assert_eq!(
            (&denied["api"]["operation"], &denied["activity_name"]),
            (&"connect".into(), &"denied".into())
        );

        let newer = told(r#"{"time":7,"event":"news"}"#);
        assert_eq!((&newer["class_uid"], &newer["type_uid"]), (&0.into(), &99.into()));
    }
}
