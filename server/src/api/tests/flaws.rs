//! Flaws of published sample code for the identities and tools of AI agents, each as a test that fails
//! closed here. `docs/policy.md` has the table.

use claviger_core::audit::Event;
use claviger_core::decision::{Parameter, Why};
use claviger_proto::claviger::agent::v1::IssuePskRequest;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_runtime::tls::Identity;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code;

use super::gateways::{BOT, Reply, connect, door};
use super::world::{World, entry, refused};
use crate::storage::fixture::NOW;

const TOOLS: &str = r#"
[[tool]]
name = "execute_trade"

[tool.parameters.symbol]
type = "text"
one-of = ["AAPL", "MSFT"]

[tool.parameters.amount]
type = "number"
min = 1
max = 1000

[[tool]]
name = "quote"

[tool.parameters.symbol]
type = "text"
max-length = 8
"#;

const TRADERS: &str = r#"
@id("trade")
@approval("human")
@audit("detailed")
permit (
    principal == Identity::"spiffe://example.org/bot",
    action == Action::"call:execute_trade",
    resource
) when { context.parameters.amount <= 500 };

@id("quote")
@rate("5/1m")
permit (
    principal == Identity::"spiffe://example.org/bot",
    action == Action::"call:quote",
    resource
);
"#;

/// A door whose gateway asks for the bot.
struct Desk {
    world: World,
    gateway: Identity,
}

async fn desk(policies: &str) -> Desk {
    let world = door(policies, TOOLS).await;
    let gateway = world.svid("/gateway").await;
    Desk { world, gateway }
}

fn call(tool: &str, parameters: &Value) -> Value {
    json!({
        "subject": { "type": "identity", "id": BOT },
        "action": { "name": format!("call:{tool}"), "properties": parameters },
        "resource": { "type": "tool", "id": tool },
        "context": { "purpose": "rebalance", "prompt_id": "p-1", "subject_chain": ["alice", BOT] },
    })
}

fn trade(amount: i64) -> Value {
    call("execute_trade", &json!({ "symbol": "AAPL", "amount": amount }))
}

impl Desk {
    async fn ask(&self, question: &Value) -> Reply {
        self.world.post(&self.gateway, "/v1/authorize", question).await
    }

    async fn decision(&self, question: &Value) -> (bool, Option<String>) {
        self.ask(question).await.decision()
    }

    /// What is on record of calls.
    async fn records(&self) -> Vec<Event> {
        let is_it = |event: &Event| matches!(event, Event::AccessDecided { .. });
        self.world.events().await.into_iter().filter(is_it).collect()
    }
}

#[tokio::test]
async fn a_constrained_parameter_that_is_left_out_misspelt_or_of_another_type_is_denied() {
    let desk = desk(TRADERS).await;
    assert_eq!(desk.decision(&call("quote", &json!({ "symbol": "AAPL" }))).await, (true, None));
    for parameters in [
        json!({}),
        json!({ "Symbol": "AAPL" }),
        json!({ "symbol": "AAPL", "more": 1 }),
        json!({ "symbol": 7 }),
        json!({ "symbol": ["AAPL"] }),
        json!({ "symbol": "far too long" }),
        Value::Null,
    ] {
        let question = call("quote", &parameters);
        assert_eq!(desk.decision(&question).await, (false, None), "{question}");
    }
    // Not even a human is asked for what no policy permits.
    for parameters in [
        json!({ "symbol": "AAPL" }),
        json!({ "symbol": "AAPL", "amont": 5 }),
        json!({ "symbol": "AAPL", "amount": "5" }),
        json!({ "symbol": "AAPL", "amount": 501 }),
        json!({ "symbol": "AAPL", "amount": 0 }),
        json!({ "symbol": "GME", "amount": 5 }),
    ] {
        let question = call("execute_trade", &parameters);
        assert_eq!(desk.decision(&question).await, (false, None), "{question}");
    }
    assert_eq!(desk.decision(&call("unheard_of", &json!({}))).await, (false, None));
}

#[tokio::test]
async fn what_needs_a_human_is_not_done_without_one_nor_twice_nor_otherwise() {
    let desk = desk(TRADERS).await;
    let (false, Some(id)) = desk.decision(&trade(5)).await else { panic!("no human was asked") };
    desk.world.approve(&id, false).await.unwrap();
    let (denied, other) = desk.decision(&trade(6)).await;
    assert!(!denied && other.as_ref() != Some(&id), "another amount is another thing");
    let mut with_it = trade(6);
    with_it["context"]["approval"] = json!(id);
    assert_eq!(desk.decision(&with_it).await, (false, None), "an approval for something else");

    let replies = desk.world.fifty(&desk.gateway, &trade(5)).await;
    assert_eq!(replies.iter().filter(|reply| reply.decision().0).count(), 1);
    assert_eq!(desk.decision(&trade(5)).await, (false, Some(id)));
}

#[tokio::test]
async fn of_fifty_calls_at_once_five_are_let_through() {
    let desk = desk(TRADERS).await;
    let question = call("quote", &json!({ "symbol": "AAPL" }));
    let replies = desk.world.fifty(&desk.gateway, &question).await;
    assert_eq!(replies.iter().filter(|reply| reply.decision().0).count(), 5);
    desk.world.clock.set(NOW + 59);
    assert_eq!(desk.decision(&question).await, (false, None));
    desk.world.clock.set(NOW + 60);
    assert_eq!(desk.decision(&question).await, (true, None));
}

#[tokio::test]
async fn an_identity_is_looked_at_anew_each_time() {
    let careful = r#"
    permit (principal, action == Action::"connect", resource) when { context.risk < 50 };
    "#;
    let desk = desk(careful).await;
    let monitor = desk.world.svid("/monitor").await;
    let question = connect(BOT, "spiffe://example.org/db", "read");
    let say = async |what: Value| {
        let mut signal = json!({ "spiffe_id": BOT, "reason": "test" });
        signal.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        assert_eq!(desk.world.post(&monitor, "/v1/risk", &signal).await.status, 200);
    };
    assert_eq!(desk.decision(&question).await, (true, None));
    say(json!({ "risk": 90 })).await;
    assert_eq!(desk.decision(&question).await, (false, None), "a risk that was raised");
    say(json!({ "risk": 0 })).await;
    assert_eq!(desk.decision(&question).await, (true, None));
    say(json!({ "quarantine": true })).await;
    assert_eq!(desk.decision(&question).await, (false, None), "a quarantine");
    say(json!({ "quarantine": false })).await;
    assert_eq!(desk.decision(&question).await, (true, None));
    desk.world.delete("bot").await;
    assert_eq!(desk.decision(&question).await, (false, None), "an entry that is gone");
}

/// The samples say that a denial quarantines, and do not do it. Here nothing says so: whoever could make
/// others ask in vain could shut them out. It is on record, and the tenth of the last hundred is an event.
#[tokio::test]
async fn a_denial_is_on_record_and_quarantines_nobody() {
    let desk = desk(TRADERS).await;
    for _ in 0..3 {
        let denied = call("execute_trade", &json!({ "symbol": "AAPL", "amount": 999 }));
        assert_eq!(desk.decision(&denied).await, (false, None));
    }
    assert_eq!(desk.decision(&call("quote", &json!({ "symbol": "A" }))).await, (true, None));
    let records = desk.records().await;
    assert_eq!(records.len(), 2, "the same denial once a minute: {records:?}");
    assert!(matches!(&records[0], Event::AccessDecided { why: Some(Why::Policy), .. }));
}

#[tokio::test]
async fn the_record_says_as_much_of_parameters_as_the_policies_want() {
    let full = TRADERS.replace("@rate(\"5/1m\")", "@audit(\"full\")");
    let desk = desk(&full).await;
    desk.ask(&trade(123)).await;
    let mut denied = trade(999);
    denied["context"]["purpose"] = json!("gamble");
    desk.ask(&denied).await;
    desk.ask(&call("quote", &json!({ "symbol": "MSFT" }))).await;
    let records = desk.records().await;
    let [detailed, standard, full] = &records[..] else { panic!("{records:?}") };
    let parts = |event: &Event| {
        let Event::AccessDecided { params, params_hash, decided, origin, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(origin.prompt_id.as_deref(), Some("p-1"));
        assert_eq!(params_hash.as_ref().unwrap().len(), 64);
        (params.clone(), decided.question.context.parameters.clone())
    };
    assert_eq!(parts(detailed), (vec!["amount".into(), "symbol".into()], [].into()));
    assert_eq!(parts(standard), (vec![], [].into()), "nothing that a policy of calls permits");
    let symbol = Parameter::Text("MSFT".into());
    assert_eq!(parts(full), (vec!["symbol".into()], [("symbol".into(), symbol)].into()));
    for event in [detailed, standard] {
        let json = serde_json::to_string(event).unwrap();
        assert!(!json.contains("AAPL") && !json.contains("123") && !json.contains("999"), "{json}");
    }
}

/// A key for a connection only to whose node proved lately what it is.
#[tokio::test]
async fn stale_evidence_is_stepped_up_by_attesting_again() {
    let fresh = r#"
    permit (principal, action == Action::"issue_psk", resource)
    when { context has evidence && context.evidence.age_seconds < 60 };
    "#;
    let world = door(fresh, "").await;
    let node = world.token().await;
    let agent = world.attest(&node).await.unwrap();
    world.create(vec![entry("fresh", &agent.id, "/bot", "unix:uid:1")]).await;
    let request = IssuePskRequest {
        client_id: BOT.into(),
        server_id: "spiffe://example.org/db".into(),
        purpose: "checkout".into(),
        ttl_seconds: 30,
        ..IssuePskRequest::default()
    };
    let issue = async |channel| AgentPskClient::new(channel).issue_psk(request.clone()).await;
    issue(agent.channel.clone()).await.unwrap();
    world.clock.set(NOW + 60);
    refused(issue(agent.channel.clone()).await, Code::PermissionDenied, "not permitted");
    let again = world.attest(&node).await.unwrap();
    issue(again.channel).await.unwrap();
}

/// One approval, one key: what a policy says of calls holds for keys, too.
#[tokio::test]
async fn a_key_that_takes_a_human_and_may_be_had_twice_a_minute() {
    let careful = r#"
    @approval("human")
    permit (principal, action == Action::"issue_psk", resource) when { context.purpose == "pay" };
    @rate("2/1m")
    permit (principal, action == Action::"issue_psk", resource) when { context.purpose == "read" };
    "#;
    let world = door(careful, "").await;
    let agent = world.admitted().await;
    world.create(vec![entry("mine", &agent.id, "/bot", "unix:uid:1")]).await;
    let issue = async |purpose: &str| {
        let request = IssuePskRequest {
            client_id: BOT.into(),
            server_id: "spiffe://example.org/db".into(),
            purpose: purpose.into(),
            ttl_seconds: 30,
            ..IssuePskRequest::default()
        };
        AgentPskClient::new(agent.channel.clone()).issue_psk(request).await
    };
    let reads = join_all((0..50).map(|_| issue("read"))).await;
    assert_eq!(reads.iter().filter(|issued| issued.is_ok()).count(), 2);

    refused(issue("pay").await, Code::PermissionDenied, "not permitted");
    let waiting = world.waiting().await;
    assert_eq!(waiting.len(), 1);
    world.approve(&waiting[0].id, false).await.unwrap();
    let pays = join_all((0..50).map(|_| issue("pay"))).await;
    assert_eq!(pays.iter().filter(|issued| issued.is_ok()).count(), 1);
    refused(issue("pay").await, Code::PermissionDenied, "not permitted");
}
