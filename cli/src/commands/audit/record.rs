//! One record: as the server sends it, as a line of JSON, as a line for people.

use std::collections::BTreeMap;
use std::fmt;

use claviger_core::audit::TreeHash;
use claviger_core::decision::Decided;
use claviger_core::evidence::Appraisal;
use claviger_proto::claviger::admin::v1::AuditRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::phrases;
use crate::failure::Failure;
use crate::times;

/// `{"seq":1,"hash":"hex","body":{…}}`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) seq: u64,
    /// The SHA-256 of a zero byte and the body: a leaf of the log's tree (RFC 6962 §2.1).
    pub(super) hash: TreeHash,
    /// What is hashed, byte for byte.
    pub(super) body: Box<RawValue>,
}

impl TryFrom<AuditRecord> for Line {
    type Error = Failure;

    fn try_from(wire: AuditRecord) -> Result<Self, Failure> {
        let seq = wire.sequence;
        let damaged = || Failure::failed(format_args!("the server sent record {seq} damaged"));
        let body: Box<RawValue> =
            serde_json::from_slice(&wire.body).map_err(|_detail| damaged())?;
        // Whitespace around it would be lost on the way through JSON, and the hash would not fit.
        if body.get().as_bytes() != wire.body {
            return Err(damaged());
        }
        Ok(Self { seq, hash: TreeHash::of_leaf(&wire.body), body })
    }
}

/// `12  2026-11-21T10:00:00Z  psk_redeemed  client=… purpose=…`. A record of a newer version is
/// shown as well as it can be.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the order of their names, so that lines can be compared.
        let Ok(mut body) = serde_json::from_str::<BTreeMap<String, Value>>(self.body.get()) else {
            return write!(f, "{}  {}", self.seq, self.body);
        };
        let time = body.remove("time").and_then(|time| time.as_u64()).unwrap_or_default();
        let event = body.remove("event").unwrap_or_default();
        let event = event.as_str().unwrap_or("unknown");
        write!(f, "{:>5}  {}  {event:<20}", self.seq, times::show_unsigned(time))?;
        // What is issued says itself what was asked for.
        let is_issue = body.contains_key("policy") && body.contains_key("decided");
        for (name, value) in body {
            // In place of the JSON, which nobody reads.
            if name == "decided"
                && let Ok(decided) = serde_json::from_value::<Decided>(value.clone())
            {
                let answer = phrases::answer(&decided.decision);
                if is_issue {
                    write!(f, " {name}=\"{answer}\"")?;
                } else {
                    let question = phrases::question(&decided.question);
                    write!(f, " {name}=\"{question}: {answer}\"")?;
                }
                continue;
            }
            if name == "appraisal"
                && let Ok(appraisal) = serde_json::from_value::<Appraisal>(value.clone())
            {
                write!(f, " {name}=\"{appraisal}\"")?;
                continue;
            }
            match value {
                Value::String(text) => write!(f, " {name}={text}")?,
                Value::Bool(_) | Value::Number(_) => write!(f, " {name}={value}")?,
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    if let Some(value) = terse(value) {
                        write!(f, " {name}={value}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `value` without what says nothing: fields that are unset, lists that are empty.
fn terse(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) => (!text.is_empty()).then_some(Value::String(text)),
        Value::Array(list) => (!list.is_empty()).then_some(Value::Array(list)),
        Value::Object(fields) => {
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name, terse(value)?)));
            Some(Value::Object(fields.collect()))
        }
        Value::Bool(true) | Value::Number(_) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(body: &str) -> AuditRecord {
        AuditRecord { sequence: 3, body: body.as_bytes().to_vec() }
    }

    const BODY: &str = r#"{"time":1800000000,"event":"epoch_fenced","epoch":2,"reason":"new"}"#;

    #[test]
    fn a_body_keeps_its_bytes() {
        let odd = r#"{"time":1,  "event":"x","b":1.0,"a":"\u00e9"}"#;
        let line = Line::try_from(wire(odd)).unwrap();
        let json = serde_json::to_string(&line).unwrap();
        assert!(json.ends_with(&format!("\"body\":{odd}}}")), "{json}");
        let back: Line = serde_json::from_str(&json).unwrap();
        assert_eq!(back.body.get(), odd);
    }

    #[test]
    fn a_line_for_people_names_the_event_first() {
        let line = Line::try_from(wire(BODY)).unwrap().to_string();
        assert_eq!(line, "    3  2027-01-15T08:00:00Z  epoch_fenced         epoch=2 reason=new");
    }

    #[test]
    fn what_says_nothing_is_left_out_for_people() {
        let body = r#"{"time":0,"event":"x","entry":{"id":"e","ttl":null,"dns":[],"admin":false},
            "dns":[],"agent":null,"ok":false}"#;
        let line = Line::try_from(wire(body)).unwrap().to_string();
        assert!(line.ends_with(r#" entry={"id":"e"} ok=false"#), "{line}");
    }

    #[test]
    fn an_appraisal_is_read_in_words() {
        let appraisal =
            r#"{"kind":"tpm","bond":"key","trust":{"hardware":2},"measured":{"pcr4":"ff"}}"#;
        let body = format!(r#"{{"time":0,"event":"agent_attested","appraisal":{appraisal}}}"#);
        let line = Line::try_from(wire(&body)).unwrap().to_string();
        assert!(
            line.ends_with(r#" appraisal="tpm (key): affirming hardware=2 pcr4=ff""#),
            "{line}"
        );
        let newer = r#"{"time":0,"event":"x","appraisal":{"kind":1}}"#;
        let line = Line::try_from(wire(newer)).unwrap().to_string();
        assert!(line.ends_with(r#" appraisal={"kind":1}"#), "{line}");
    }

    #[test]
    fn a_decision_is_read_in_words() {
        let policy = "0".repeat(64);
        let decided = format!(
            r#"{{"question":{{"principal":{{"id":"spiffe://x/a"}},"action":"connect","resource":{{"identity":{{"id":"spiffe://x/b"}}}},"context":{{"purpose":"read"}}}},"decision":{{"verdict":"deny","policy":"{policy}","policies":["a.cedar#b"]}}}}"#
        );
        let denied = format!(r#"{{"time":0,"event":"denied","decided":{decided},"times":3}}"#);
        let line = Line::try_from(wire(&denied)).unwrap().to_string();
        assert!(
            line.ends_with(
                r#" decided="spiffe://x/a connect spiffe://x/b for read: deny by a.cedar#b" times=3"#
            ),
            "{line}"
        );
        let issued = format!(r#"{{"time":0,"event":"x","decided":{decided},"policy":"{policy}"}}"#);
        let line = Line::try_from(wire(&issued)).unwrap().to_string();
        assert!(line.contains(r#" decided="deny by a.cedar#b" policy=0"#), "{line}");
    }

    #[test]
    fn damage_on_the_way_is_told() {
        for damaged in [wire("{"), wire(" {}"), wire("")] {
            let told = Line::try_from(damaged).unwrap_err().to_string();
            assert!(told.contains("record 3"), "{told}");
        }
    }
}
