//! Events as log records of OpenTelemetry: OTLP over HTTP, as JSON (OTLP 1.x, "JSON Protobuf
//! Encoding": names in lowerCamelCase, 64-bit numbers as strings, enumerations as numbers).

use std::sync::Arc;

use claviger_attestors::fetch::{Endpoint, Fetch, RootsError};
use serde_json::{Value, json};

use super::export::ExportError;
use super::notice::{Notice, Severity};
use crate::config::Collector;

/// Sends log records.
#[derive(Debug)]
pub(super) struct Otlp {
    fetch: Fetch,
    endpoint: Endpoint,
}

impl Otlp {
    pub(super) fn open(collector: &Collector) -> Result<Self, RootsError> {
        let fetch = Fetch::open(collector.ca_file.as_deref())?;
        Ok(Self { fetch, endpoint: collector.endpoint.clone() })
    }

    pub(super) async fn send(&self, notices: &[Arc<Notice>]) -> Result<(), ExportError> {
        let body = serde_json::to_vec(&request(notices)?)?;
        drop(self.fetch.post_json(&self.endpoint, body).await?);
        Ok(())
    }
}

/// An `ExportLogsServiceRequest`.
pub(super) fn request(notices: &[Arc<Notice>]) -> Result<Value, serde_json::Error> {
    let records: Vec<_> =
        notices.iter().map(|notice| log_record(notice)).collect::<Result<_, _>>()?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(json!({
        "resourceLogs": [{
            "resource": {
                "attributes": [
                    attribute("service.name", &text("claviger-server")),
                    attribute("service.version", &text(version)),
                ],
            },
            "scopeLogs": [{
                "scope": { "name": "claviger.events", "version": version },
                "logRecords": records,
            }],
        }],
    }))
}

fn log_record(notice: &Notice) -> Result<Value, serde_json::Error> {
    let time = notice.time.as_secs().saturating_mul(1_000_000_000).to_string();
    let (number, severity) = match notice.severity {
        Severity::Info => (9, "INFO"),
        Severity::Low => (10, "INFO2"),
        Severity::Medium => (13, "WARN"),
        Severity::High => (17, "ERROR"),
    };
    let Value::Object(fields) = serde_json::to_value(notice)? else { return Ok(Value::Null) };
    let attributes: Vec<_> = fields
        .into_iter()
        .filter(|(name, _)| !["time", "reason"].contains(&name.as_str()))
        .map(|(name, value)| attribute(&format!("claviger.{name}"), &any(value)))
        .collect();
    Ok(json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": number,
        "severityText": severity,
        "eventName": format!("claviger.{}", notice.event.name()),
        "body": text(&notice.reason),
        "attributes": attributes,
    }))
}

fn attribute(key: &str, value: &Value) -> Value {
    json!({ "key": key, "value": value })
}

fn text(value: &str) -> Value {
    json!({ "stringValue": value })
}

/// A value of ours as an `AnyValue`.
fn any(value: Value) -> Value {
    match value {
        Value::String(value) => text(&value),
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(value) => json!({ "intValue": value.to_string() }),
        Value::Array(values) => {
            let values: Vec<_> = values.into_iter().map(any).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Value::Object(_) | Value::Null => text(&value.to_string()),
    }
}
