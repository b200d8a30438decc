use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use claviger_core::anomaly::{Anomaly, Origin};
use claviger_core::audit::{Event, Head};
use claviger_core::decision::{
    Action, Context, Decided, Decision, Obligations, Parameter, Party, Question, Resource, Verdict,
    Why,
};
use claviger_core::grant::{PolicyDigest, Requester};
use claviger_core::psk::{PskBinding, PskHash};
use claviger_core::time::UnixTime;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::*;
use crate::config::Collector;
use crate::journal::Change;
use crate::storage::fixture::{Life, TestClock};
use crate::store::memory::MemoryStore;

const SCHEMA: &str = include_str!("../../../docs/events.schema.json");

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn decided(action: Action, verdict: Verdict) -> Box<Decided> {
    let party = |id: &str| Party::new(id.parse().unwrap());
    let resource = if let Action::Call(tool) = &action {
        Resource::Tool(tool.clone())
    } else if action == Action::IssueX509 {
        Resource::TrustDomain("example.org".parse().unwrap())
    } else {
        Resource::Identity(party("spiffe://example.org/db"))
    };
    let question = Question {
        principal: party("spiffe://example.org/web"),
        action,
        resource,
        context: Context {
            time: UnixTime::from_secs(7),
            purpose: Some("read".parse().unwrap()),
            parameters: [("to".to_owned(), Parameter::Flag(true))].into(),
            ..Context::default()
        },
    };
    let decision = Decision {
        verdict,
        policy: PolicyDigest::of(b"p"),
        policies: vec!["a.cedar#one".to_owned()],
        reasons: vec!["not at night".to_owned()],
        observed: Vec::new(),
        errors: Vec::new(),
        obligations: Obligations::default(),
    };
    Box::new(Decided { question, decision })
}

fn origin() -> Origin {
    Origin {
        prompt_id: Some("p-1".to_owned()),
        subject_chain: vec!["user:anna".to_owned(), "spiffe://example.org/agent".to_owned()],
        dataset_scope: vec!["tickets".to_owned()],
        atlas_mapping: vec!["AML.T0086".to_owned()],
    }
}

fn denied(why: Why) -> Event {
    let decided = decided(Action::Connect, Verdict::Deny);
    Event::Denied { decided, why, requester: None, times: 3, origin: Origin::default() }
}

/// One of every kind of record of which something is told.
#[expect(clippy::too_many_lines, reason = "there are many kinds")]
fn told() -> Vec<Event> {
    let id = || "spiffe://example.org/web".parse().unwrap();
    let (requester, reason) = (Requester::Operator { uid: 0 }, || "seen abroad".parse().unwrap());
    let policy = PolicyDigest::of(b"p");
    let call = || Action::Call("mail/send".parse().unwrap());
    let approval =
        claviger_core::approval::ApprovalId::of(&decided(call(), Verdict::Permit).question);
    let binding = PskBinding {
        client: id(),
        server: "spiffe://example.org/db".parse().unwrap(),
        purpose: "read".parse().unwrap(),
        not_after: UnixTime::from_secs(9),
        hash: PskHash::Sha256,
        run: None,
        series: None,
        bits: None,
    };
    let anomaly = |anomaly| Event::AnomalyFound {
        anomaly,
        decided: decided(Action::Connect, Verdict::Deny),
        why: Some(Why::Policy),
        origin: Origin::default(),
    };
    let nothing = Decided {
        decision: Decision::denial(policy, Vec::new()),
        ..*decided(Action::IssueX509, Verdict::Deny)
    };
    vec![
        denied(Why::Policy),
        denied(Why::Quarantined(id())),
        denied(Why::Rate),
        denied(Why::Unmet),
        Event::Denied {
            decided: Box::new(nothing),
            why: Why::Policy,
            requester: Some(requester.clone()),
            times: 1,
            origin: origin(),
        },
        Event::Observed {
            decided: decided(call(), Verdict::Observe),
            requester: None,
            times: 1,
            origin: origin(),
        },
        Event::AccessDecided {
            gateway: "spiffe://example.org/gateway".parse().unwrap(),
            decided: decided(call(), Verdict::Deny),
            why: Some(Why::Approval(approval)),
            params_hash: None,
            params: Vec::new(),
            times: 1,
            origin: Origin::default(),
        },
        anomaly(Anomaly::UnexpectedPath),
        anomaly(Anomaly::Rate { times: 31, usual: 2 }),
        anomaly(Anomaly::RepeatedDenials { denied: 11 }),
        Event::PskReplayed { identity: "p1.x".into(), binding, requester: Requester::Server },
        Event::EvidenceReplayed {
            kind: "oidc".to_owned(),
            issuer: "https://ci.example.org".to_owned(),
            digest: "00".to_owned(),
        },
        Event::Quarantined { id: id(), reason: reason(), requester: requester.clone(), version: 1 },
        Event::QuarantineLifted {
            id: id(),
            reason: reason(),
            requester: requester.clone(),
            version: 2,
        },
        Event::RiskChanged {
            id: id(),
            from: 0.try_into().unwrap(),
            to: 70.try_into().unwrap(),
            reason: reason(),
            requester: requester.clone(),
            version: 3,
        },
        Event::ApprovalGiven {
            id: approval,
            principal: id(),
            action: call(),
            until: UnixTime::from_secs(9),
            requester: requester.clone(),
        },
        Event::ApprovalRefused { id: approval, principal: id(), action: call(), requester },
        Event::PolicyLoaded { policy, policies: 3 },
        Event::PolicyRefused { policy, reason: "policy file `a.cedar`, line 3: …".to_owned() },
    ]
}

fn notice_of(event: Event) -> Notice {
    Notice::of(12, &Body { time: UnixTime::from_secs(1_800_000_000), event }).unwrap()
}

#[test]
fn every_event_fits_the_schema() {
    let schema = schema();
    for event in told() {
        let json = serde_json::to_value(notice_of(event)).unwrap();
        let wrong: Vec<_> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{json}");
    }
}

#[test]
fn the_schema_refuses_what_is_no_event() {
    let schema = schema();
    let right = serde_json::to_value(notice_of(denied(Why::Policy))).unwrap();
    assert!(schema.is_valid(&right));
    for (field, value) in [
        ("event", Value::from("other")),
        ("severity", Value::from("critical")),
        ("time", Value::from(7)),
        ("principal", Value::from("web")),
        ("decision_id", Value::Null),
        ("unknown", Value::from(1)),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert!(!schema.is_valid(&wrong), "{field}");
    }
}

#[test]
fn a_denial_says_who_wanted_what_and_why_not() {
    let json = serde_json::to_string(&notice_of(denied(Why::Policy))).unwrap();
    let id = decided(Action::Connect, Verdict::Deny).id();
    let policy = PolicyDigest::of(b"p");
    let wanted = format!(
        concat!(
            r#"{{"time":"2027-01-15T08:00:00Z","event":"denied","severity":"medium","record":12,"#,
            r#""reason":"not at night","principal":"spiffe://example.org/web","action":"connect","#,
            r#""resource":"spiffe://example.org/db","purpose":"read","times":3,"#,
            r#""policies":["a.cedar#one"],"policy_snapshot":"{}","decision_id":"{}","#,
            r#""atlas_mapping":["AML.T0012"]}}"#
        ),
        policy, id
    );
    assert_eq!(json, wanted);
}

#[test]
fn what_the_caller_suspects_goes_before_what_we_do() {
    let observed = told().into_iter().find(|event| matches!(event, Event::Observed { .. }));
    assert_eq!(notice_of(observed.unwrap()).origin, origin());
}

#[test]
fn what_is_issued_is_no_event() {
    let body = |event: &str| format!(r#"{{"time":1800000000,"event":"{event}","subject":"x"}}"#);
    for routine in ["x509_svid_issued", "jwt_svid_issued", "wit_svid_issued"] {
        assert!(is_routine(body(routine).as_bytes()));
    }
    for other in ["denied", "x509_svid_revoked", "psk_replayed"] {
        assert!(!is_routine(body(other).as_bytes()));
    }
    assert!(
        Notice::of(
            1,
            &Body { time: UnixTime::default(), event: Event::ServerStarted { epoch: 1 } }
        )
        .is_none()
    );
}

/// A storage that tells of what is written.
async fn telling(config: &EventsConfig, dir: &Path) -> Life {
    let clock = TestClock::at(1_800_000_000);
    let life = Life::over(Arc::new(MemoryStore::default()), dir, &clock).await.unwrap();
    assert_ne!(*life.storage.journal.head().borrow(), Head::default());
    start(config, &life.storage.journal, &life.tasks).unwrap();
    life
}

async fn deny(life: &Life) {
    let change = Change { events: vec![denied(Why::Policy)], ..Change::default() };
    life.storage.journal.commit(change).await.unwrap();
}

/// Waits until `look` finds something.
async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_denial_is_in_the_file_within_a_second_and_files_may_be_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let config = EventsConfig { file: Some(path.clone()), ..EventsConfig::default() };
    let life = telling(&config, dir.path()).await;
    let begun = Instant::now();
    deny(&life).await;
    eventually(|| (lines(&path).len() == 1).then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let rotated = dir.path().join("events.jsonl.1");
    std::fs::rename(&path, &rotated).unwrap();
    deny(&life).await;
    eventually(|| (lines(&path).len() == 1).then_some(())).await;
    assert_eq!(lines(&rotated).len(), 1);
    life.stop().await;
    assert!(lines(&path).iter().chain(&lines(&rotated)).all(|line| schema().is_valid(line)));
}

#[tokio::test]
async fn an_exporter_that_fails_is_tried_again_and_the_journal_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not-there-yet");
    let path = folder.join("events.jsonl");
    let config = EventsConfig { file: Some(path.clone()), ..EventsConfig::default() };
    let life = telling(&config, dir.path()).await;
    for _ in 0..10 {
        deny(&life).await;
    }
    assert!(!path.exists());
    std::fs::create_dir(&folder).unwrap();
    eventually(|| (lines(&path).len() == 10).then_some(())).await;
    life.stop().await;
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG` (RFC 5424 §6), taken apart.
fn message(text: &str) -> Value {
    let parts: Vec<_> = text.splitn(8, ' ').collect();
    assert_eq!(parts[0], "<84>1", "authpriv, warning: {text}");
    assert_eq!(parts[1], "2027-01-15T08:00:00Z");
    assert!(!parts[2].is_empty());
    assert_eq!((parts[3], parts[5], parts[6]), ("claviger", "denied", "-"));
    assert_eq!(parts[4], std::process::id().to_string());
    serde_json::from_str(parts[7]).unwrap()
}

/// Takes one datagram; its length.
type Receive<'a> = &'a dyn Fn(&mut [u8]) -> usize;

#[tokio::test]
async fn syslog_is_told_over_udp_and_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let path = dir.path().join("log");
    let unix = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let from_udp = |buffer: &mut [u8]| udp.recv(buffer).unwrap();
    let from_unix = |buffer: &mut [u8]| unix.recv(buffer).unwrap();
    let ways: [(String, Receive<'_>); 2] = [
        (format!("udp:{}", udp.local_addr().unwrap()), &from_udp),
        (format!("unix:{}", path.display()), &from_unix),
    ];
    for (target, receive) in ways {
        let mut syslog = Syslog::new(target.parse().unwrap());
        syslog.send(&[Arc::new(notice_of(denied(Why::Policy)))]).await.unwrap();
        let mut buffer = [0; 4_096];
        let length = receive(&mut buffer);
        let told = message(std::str::from_utf8(&buffer[..length]).unwrap());
        assert!(schema().is_valid(&told));
    }
}

#[tokio::test]
async fn syslog_over_tcp_says_before_each_message_how_long_it_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    let mut syslog = Syslog::new(target.parse().unwrap());
    let notice = Arc::new(notice_of(denied(Why::Policy)));
    syslog.send(&[Arc::clone(&notice), notice]).await.unwrap();
    drop(syslog);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).await.unwrap();
    let mut rest = received.as_str();
    for _ in 0..2 {
        let (length, message_and_more) = rest.split_once(' ').unwrap();
        let (this, more) = message_and_more.split_at(length.parse().unwrap());
        assert!(schema().is_valid(&message(this)));
        rest = more;
    }
    assert_eq!(rest, "");
}

/// What we send is read by the types that OpenTelemetry generates from its own `.proto` files.
#[test]
fn log_records_are_what_opentelemetry_reads() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

    let notices: Vec<_> = told().into_iter().map(|event| Arc::new(notice_of(event))).collect();
    let json = otlp::request(&notices).unwrap();
    let read: ExportLogsServiceRequest = serde_json::from_value(json).unwrap();
    let [resource] = read.resource_logs.as_slice() else { panic!("one resource") };
    let service = &resource.resource.as_ref().unwrap().attributes[0];
    assert_eq!(service.key, "service.name");
    let records = &resource.scope_logs[0].log_records;
    assert_eq!(records.len(), notices.len());
    let first = &records[0];
    assert_eq!(first.time_unix_nano, 1_800_000_000_000_000_000);
    assert_eq!((first.severity_number, first.severity_text.as_str()), (13, "WARN"));
    assert_eq!(first.event_name, "claviger.denied");
    let body = first.body.as_ref().unwrap().value.clone();
    assert_eq!(body, Some(Any::StringValue("not at night".to_owned())));
    let value = |key: &str| {
        let attribute = first.attributes.iter().find(|attribute| attribute.key == key);
        attribute.unwrap().value.as_ref().unwrap().value.clone().unwrap()
    };
    assert_eq!(value("claviger.record"), Any::IntValue(12));
    assert_eq!(value("claviger.action"), Any::StringValue("connect".to_owned()));
    let Any::ArrayValue(policies) = value("claviger.policies") else { panic!("an array") };
    assert_eq!(policies.values.len(), 1);
}

#[tokio::test]
async fn a_collector_is_sent_log_records_and_asked_again_if_it_is_busy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let collector = std::thread::spawn(move || {
        ["503 Service Unavailable", "200 OK"].map(|status| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            request
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let plain = claviger_attestors::fetch::Plain::Loopback;
    let endpoint = claviger_attestors::fetch::Endpoint::parse(&endpoint, plain).unwrap();
    let otlp = Some(Collector { endpoint, ca_file: None });
    let life = telling(&EventsConfig { otlp, ..EventsConfig::default() }, dir.path()).await;
    deny(&life).await;
    let [first, second] = tokio::task::spawn_blocking(|| collector.join().unwrap()).await.unwrap();
    assert!(first.0.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{}", first.0);
    assert!(first.0.contains("content-type: application/json"), "{}", first.0);
    assert_eq!(first.1, second.1);
    assert!(second.1.contains(r#""eventName":"claviger.denied""#), "{}", second.1);
    life.stop().await;
}

fn read_request(stream: &mut std::net::TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        let length = stream.read(&mut chunk).unwrap();
        bytes.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase().replace("post /v1/logs http", "POST /v1/logs HTTP");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| body.len() == length.parse::<usize>().unwrap()) {
            return (head, body.to_owned());
        }
    }
}
