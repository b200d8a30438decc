//! The control door: who is let in, and what they are answered.

use std::net::SocketAddr;
use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::decision::Why;
use claviger_core::time::Clock;
use claviger_proto::claviger::admin::v1::control_client::ControlClient;
use claviger_proto::claviger::admin::v1::{Approval, ApproveRequest, ListApprovalsRequest};
use claviger_proto::spire::server::svid::v1::MintX509svidRequest;
use claviger_runtime::tls::{Identity, mutual_web_client_config};
use futures_util::future::join_all;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::{Code, Status};

use super::world::{World, entry, refused, svids, world_with};
use crate::registry::server_id;
use crate::storage::fixture::{NOW, TestClock};

pub(super) const BOT: &str = "spiffe://example.org/bot";
const DB: &str = "spiffe://example.org/db";

/// What the policies of these tests say beside `more`: gateways may ask, and the monitor may signal.
const POLICIES: &str = r#"
permit (principal, action == Action::"issue_x509", resource) when { principal in resource };
@id("ask")
permit (
    principal == Identity::"spiffe://example.org/gateway",
    action == Action::"ask",
    resource in TrustDomain::"example.org"
) unless { resource.path == "/secret" };
@id("signal")
permit (
    principal == Identity::"spiffe://example.org/monitor",
    action == Action::"signal",
    resource in TrustDomain::"example.org"
);
"#;

/// A server with a control door, under policies and tools.
pub(super) async fn door(policies: &str, tools: &str) -> World {
    let (policies, tools) = (format!("{POLICIES}\n{policies}"), tools.to_owned());
    let world = world_with(move |config| {
        let dir = config.data_dir.with_file_name("policies");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("p.cedar"), policies).unwrap();
        std::fs::write(dir.join("tools.toml"), tools).unwrap();
        config.policy_dir = Some(dir);
        config.control = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let parent = "spiffe://example.org/node".parse().unwrap();
    let entries = ["bot", "db", "gateway", "monitor", "secret"];
    let entries = entries
        .map(|name| entry(name, &parent, &format!("/{name}"), &format!("unix:user:{name}")))
        .to_vec();
    world.create(entries).await;
    world
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Reply {
    /// The decision, and the approval that it takes.
    #[track_caller]
    pub(super) fn decision(&self) -> (bool, Option<String>) {
        assert_eq!(self.status, 200, "{}", self.body);
        let approval = self.body["context"]["approval"].as_str().map(str::to_owned);
        (self.body["decision"].as_bool().unwrap(), approval)
    }

    #[track_caller]
    fn is_problem(&self, status: u16, name: &str) {
        let kind = format!("urn:claviger:problem:{name}");
        assert_eq!((self.status, self.body["type"].as_str()), (status, Some(kind.as_str())));
    }
}

impl World {
    /// An SVID of `path`, which the operator mints.
    pub(super) async fn svid(&self, path: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://example.org{path}").try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let csr = params.serialize_request(&key).unwrap().der().to_vec();
        let request = MintX509svidRequest { csr, ttl: 3_600 };
        let minted = svids(&self.operator()).mint_x509svid(request).await.unwrap();
        self.agent(&minted.into_inner().svid.unwrap(), &key).identity
    }

    /// Asks as `identity`.
    pub(super) async fn post(&self, identity: &Identity, path: &str, body: &Value) -> Reply {
        self.send(identity, "POST", path, &body.to_string()).await.unwrap()
    }

    /// One request on a connection of its own; nothing if there is no connection.
    async fn send(
        &self,
        identity: &Identity,
        method: &str,
        path: &str,
        body: &str,
    ) -> Option<Reply> {
        send(&mut self.open(identity).await?, method, path, body).await
    }

    /// Asks fifty times at once: five times on each of ten connections.
    pub(super) async fn fifty(&self, identity: &Identity, question: &Value) -> Vec<Reply> {
        let body = question.to_string();
        let asks = (0..10).map(|_| async {
            let mut stream = self.open(identity).await.unwrap();
            for _ in 0..5 {
                write(&mut stream, "POST", "/v1/authorize", &body).await.unwrap();
            }
            let mut replies = Vec::new();
            for _ in 0..5 {
                replies.push(read(&mut stream).await.unwrap());
            }
            replies
        });
        join_all(asks).await.into_iter().flatten().collect()
    }

    /// A connection as `identity`. The server may still refuse it.
    async fn open(&self, identity: &Identity) -> Option<TlsStream<TcpStream>> {
        self.open_at(self.running.control.unwrap(), identity).await
    }

    /// The same to another door.
    pub(super) async fn open_at(
        &self,
        door: SocketAddr,
        identity: &Identity,
    ) -> Option<TlsStream<TcpStream>> {
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        let server = server_id(&Self::domain());
        let tls = mutual_web_client_config(identity, &self.trust(), server, clock);
        let tcp = TcpStream::connect(door).await.unwrap();
        let name = ServerName::try_from("server").unwrap();
        TlsConnector::from(tls).connect(name, tcp).await.ok()
    }

    pub(super) async fn approve(&self, id: &str, refuse: bool) -> Result<Approval, Status> {
        let request = ApproveRequest { id: id.to_owned(), refuse, ttl_seconds: 0 };
        let answered = ControlClient::new(self.operator()).approve(request).await?;
        Ok(answered.into_inner().approval.unwrap())
    }

    pub(super) async fn waiting(&self) -> Vec<Approval> {
        let mut control = ControlClient::new(self.operator());
        let listed = control.list_approvals(ListApprovalsRequest {}).await.unwrap();
        listed.into_inner().approvals
    }

    pub(super) async fn quarantine(&self, id: &str) {
        let signal = json!({ "spiffe_id": id, "quarantine": true, "reason": "test" });
        let monitor = self.svid("/monitor").await;
        assert_eq!(self.post(&monitor, "/v1/risk", &signal).await.status, 200);
    }
}

/// One request on a connection that stays open.
pub(super) async fn send(
    stream: &mut TlsStream<TcpStream>,
    method: &str,
    path: &str,
    body: &str,
) -> Option<Reply> {
    write(stream, method, path, body).await?;
    read(stream).await
}

async fn write(
    stream: &mut TlsStream<TcpStream>,
    method: &str,
    path: &str,
    body: &str,
) -> Option<()> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.ok()
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Option<Reply> {
    let mut answer = Vec::new();
    let head = loop {
        answer.push(stream.read_u8().await.ok()?);
        if answer.ends_with(b"\r\n\r\n") {
            break String::from_utf8(answer).unwrap();
        }
    };
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(Reply { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

pub(super) fn connect(from: &str, to: &str, purpose: &str) -> Value {
    json!({
        "subject": { "type": "identity", "id": from },
        "action": { "name": "connect" },
        "resource": { "type": "identity", "id": to },
        "context": { "purpose": purpose },
    })
}

const READERS: &str = r#"
@id("read")
permit (principal, action == Action::"connect", resource)
when { principal.path == "/bot" && context.purpose == "read" };
"#;

#[tokio::test]
async fn gateways_are_answered_on_every_path_and_it_is_on_record() {
    let world = door(READERS, "").await;
    let gateway = world.svid("/gateway").await;
    for path in ["/v1/authorize", "/access/v1/evaluation", "/access/v1/evaluations"] {
        let yes = world.post(&gateway, path, &connect(BOT, DB, "read")).await;
        assert_eq!(yes.decision(), (true, None), "{path}");
        let no = world.post(&gateway, path, &connect(BOT, DB, "write")).await;
        assert_eq!(no.decision(), (false, None), "{path}");
        assert_eq!(no.body["context"]["reason_user"]["en"], "not permitted");
    }
    let found = world.send(&gateway, "GET", "/.well-known/authzen-configuration", "").await;
    let found = found.unwrap().body;
    assert_eq!(found["policy_decision_point"], "https://server");
    assert_eq!(found["access_evaluation_endpoint"], "https://server/access/v1/evaluation");

    let decided = |event| {
        let Event::AccessDecided { decided, why, .. } = event else { return None };
        Some((decided.decision.policies, why))
    };
    let events: Vec<_> = world.events().await.into_iter().filter_map(decided).collect();
    // Each permit, and the same denial once a minute.
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(events[0], (vec!["p.cedar#read".to_owned()], None));
    assert_eq!(events[1], (vec![], Some(Why::Policy)));
}

#[tokio::test]
async fn several_questions_are_answered_in_their_order() {
    let world = door(READERS, "").await;
    let gateway = world.svid("/gateway").await;
    let ask = |semantic: &str| {
        let mut body = connect(BOT, DB, "read");
        body["evaluations"] = json!([
            {}, { "context": { "purpose": "write" } }, {}, { "context": { "purpos": "read" } },
        ]);
        body["options"] = json!({ "evaluations_semantic": semantic });
        body
    };
    for (semantic, want) in [
        ("execute_all", vec![true, false, true, false]),
        ("deny_on_first_deny", vec![true, false]),
        ("permit_on_first_permit", vec![true]),
    ] {
        let reply = world.post(&gateway, "/access/v1/evaluations", &ask(semantic)).await;
        let answers = reply.body["evaluations"].as_array().unwrap();
        let answers: Vec<_> = answers.iter().map(|a| a["decision"].as_bool().unwrap()).collect();
        assert_eq!(answers, want, "{semantic}");
    }
    let path = "/access/v1/evaluations";
    world.post(&gateway, path, &ask("other")).await.is_problem(400, "malformed-request");
    let mut many = connect(BOT, DB, "read");
    many["evaluations"] = Value::Array(vec![json!({}); 101]);
    world.post(&gateway, path, &many).await.is_problem(400, "malformed-request");
}

#[tokio::test]
async fn only_those_ask_whom_a_policy_lets_and_only_about_whom() {
    let world = door(READERS, "").await;
    let (gateway, bot) = (world.svid("/gateway").await, world.svid("/bot").await);
    let question = connect(BOT, DB, "read");
    world.post(&bot, "/v1/authorize", &question).await.is_problem(403, "refused");
    let secret = connect("spiffe://example.org/secret", DB, "read");
    world.post(&gateway, "/v1/authorize", &secret).await.is_problem(403, "refused");
    // Whoever is unknown is denied, and nothing says that they are.
    for (from, to) in [("spiffe://example.org/ghost", DB), (BOT, "spiffe://example.org/ghost")] {
        let reply = world.post(&gateway, "/v1/authorize", &connect(from, to, "read")).await;
        assert_eq!(reply.decision(), (false, None));
        assert!(!reply.body.to_string().contains("ghost"), "{}", reply.body);
    }
}

#[tokio::test]
async fn nobody_is_let_in_who_is_not_believed_any_more() {
    let world = door(READERS, "").await;
    let gateway = world.svid("/gateway").await;
    let question = connect(BOT, DB, "read").to_string();
    let ask = async |stream: &mut TlsStream<TcpStream>| {
        send(stream, "POST", "/v1/authorize", &question).await
    };
    let mut open = world.open(&gateway).await.unwrap();
    assert_eq!(ask(&mut open).await.unwrap().status, 200);
    assert_eq!(ask(&mut open).await.unwrap().status, 200);

    // A namesake of another server's.
    let other = door(READERS, "").await.svid("/gateway").await;
    assert!(world.send(&other, "POST", "/v1/authorize", &question).await.is_none());

    // The connection is as good as the SVID: while it is neither in quarantine nor over.
    world.quarantine("spiffe://example.org/gateway").await;
    let refused = ask(&mut open).await.unwrap();
    assert!(matches!(refused.status, 401 | 403), "{refused:?}");
    let monitor = world.svid("/monitor").await;
    let mut open = world.open(&monitor).await.unwrap();
    ask(&mut open).await.unwrap().is_problem(403, "refused");
    world.clock.set(NOW + 3_601);
    ask(&mut open).await.unwrap().is_problem(401, "unauthenticated");
    assert!(world.send(&monitor, "POST", "/v1/authorize", &question).await.is_none());
}

#[tokio::test]
async fn a_request_is_one_or_is_refused() {
    let world = door(READERS, "").await;
    let gateway = world.svid("/gateway").await;
    let post =
        async |body: &str| world.send(&gateway, "POST", "/v1/authorize", body).await.unwrap();
    for body in ["", "[]", "null", "{\"subject\":1}", "{}{}", "{\"action\":{\"name\":7}}"] {
        post(body).await.is_problem(400, "malformed-request");
    }
    let twice = r#"{"action":{"name":"call","properties":{"a":1,"a":2}}}"#;
    post(twice).await.is_problem(400, "malformed-request");
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(70_000));
    post(&large).await.is_problem(413, "too-large");
    let get = world.send(&gateway, "GET", "/v1/authorize", "").await.unwrap();
    get.is_problem(405, "method-not-allowed");
    let other = world.send(&gateway, "POST", "/v1/other", "{}").await.unwrap();
    other.is_problem(404, "not-found");
}

#[tokio::test]
async fn a_signal_of_risk_counts_at_once_and_twice_is_once() {
    let world = door(READERS, "").await;
    let (gateway, monitor) = (world.svid("/gateway").await, world.svid("/monitor").await);
    let question = connect(BOT, DB, "read");
    let signal = |more: Value| {
        let mut body = json!({ "spiffe_id": BOT, "reason": "beacons" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let quarantine = signal(json!({ "quarantine": true }));
    world.post(&gateway, "/v1/risk", &quarantine).await.is_problem(403, "refused");
    let risk = world.post(&monitor, "/v1/risk", &signal(json!({ "risk": 40 }))).await;
    assert_eq!((risk.status, &risk.body["risk"]), (200, &json!(40)));

    let first = world.post(&monitor, "/v1/risk", &quarantine).await;
    assert_eq!(
        (&first.body["quarantined"], &first.body["unchanged"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(world.post(&gateway, "/v1/authorize", &question).await.decision(), (false, None));
    let again = world.post(&monitor, "/v1/risk", &quarantine).await;
    assert_eq!(
        (&again.body["version"], &again.body["unchanged"]),
        (&first.body["version"], &json!(true))
    );

    let lift = signal(json!({ "quarantine": false }));
    assert_eq!(world.post(&monitor, "/v1/risk", &lift).await.status, 200);
    world.post(&monitor, "/v1/risk", &lift).await.is_problem(409, "contradiction");
    assert_eq!(world.post(&gateway, "/v1/authorize", &question).await.decision(), (true, None));
    for bad in [json!({}), json!({ "risk": 101 }), json!({ "risk": 1, "quarantine": true })] {
        world.post(&monitor, "/v1/risk", &signal(bad)).await.is_problem(400, "malformed-request");
    }
}

#[tokio::test]
async fn of_fifty_at_once_five_are_let_through_and_fewer_at_risk() {
    let policies = r#"
    @rate("5/1m")
    permit (principal, action == Action::"connect", resource);
    "#;
    let world = door(policies, "").await;
    let gateway = world.svid("/gateway").await;
    let count = async |purpose: &str| {
        let question = connect(BOT, DB, purpose);
        let replies = world.fifty(&gateway, &question).await;
        replies.iter().filter(|reply| reply.decision().0).count()
    };
    assert_eq!(count("read").await, 5);
    assert_eq!(count("write").await, 5);
    world.clock.set(NOW + 60);
    let monitor = world.svid("/monitor").await;
    let signal = json!({ "spiffe_id": DB, "risk": 60, "reason": "leaks" });
    assert_eq!(world.post(&monitor, "/v1/risk", &signal).await.status, 200);
    assert_eq!(count("read").await, 2);
}

#[tokio::test]
async fn a_human_approves_of_exactly_this_once() {
    let policies = r#"
    @approval("human")
    permit (principal, action == Action::"connect", resource);
    "#;
    let world = door(policies, "").await;
    let gateway = world.svid("/gateway").await;
    let ask = async |purpose: &str| {
        let question = connect(BOT, DB, purpose);
        world.post(&gateway, "/v1/authorize", &question).await.decision()
    };
    let (false, Some(id)) = ask("read").await else { panic!("not asked for") };
    assert_eq!(world.waiting().await[0].id, id);
    world.approve(&id, false).await.unwrap();
    let (denied, other) = ask("write").await;
    assert!(!denied && other.as_ref() != Some(&id), "another purpose is another thing");
    let question = connect(BOT, DB, "read");
    let replies = world.fifty(&gateway, &question).await;
    let permitted = replies.iter().filter(|reply| reply.decision().0).count();
    assert_eq!(permitted, 1);
    assert_eq!(ask("read").await, (false, Some(id.clone())));

    world.approve(&id, true).await.unwrap();
    let refusal = world.post(&gateway, "/v1/authorize", &question).await;
    assert_eq!(refusal.body["context"]["reason_user"]["en"], "a human refused this");
    refused(world.approve(&"0".repeat(64), false).await, Code::NotFound, "nobody asked");
    refused(world.approve("7", false).await, Code::InvalidArgument, "64 hexadecimal");
    let said = |event: &&Event| {
        matches!(
            event,
            Event::ApprovalGiven { .. }
                | Event::ApprovalUsed { .. }
                | Event::ApprovalRefused { .. }
        )
    };
    assert_eq!(world.events().await.iter().filter(said).count(), 3);
}
