//! One-time PSKs.

use claviger_core::anomaly::Anomaly;
use claviger_core::audit::Event;
use claviger_core::decision::{Action, Why};
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::{PskBinding, PskHash, SeriesEpoch, binder};
use claviger_core::secret::Secret;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_proto::claviger::agent::v1::{
    IssuePskRequest, IssuePskResponse, RedeemPskRequest, RedeemPskResponse,
};
use tonic::{Code, Status};

use super::sync::{Stream, subscribe};
use super::world::{Agent, World, entry, refused, world, world_with};
use crate::storage::fixture::NOW;

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";
const TRANSCRIPT: [u8; 32] = [7; 32];
const UNKNOWN: &str = "p1.AAAAAAAAAAAAAAAAAAAAAA";

/// Two agents, one with the client and one with the server; both follow what changes.
struct Pair {
    world: World,
    web: Agent,
    db: Agent,
    following: [Stream; 2],
}

async fn pair_in(world: World) -> Pair {
    let (web, db) = (world.admitted().await, world.admitted().await);
    world
        .create(vec![
            entry("web", &web.id, "/web", "unix:uid:1"),
            entry("db", &db.id, "/db", "unix:uid:2"),
        ])
        .await;
    let following = [subscribe(&web, None).await, subscribe(&db, None).await];
    Pair { world, web, db, following }
}

async fn pair() -> Pair {
    pair_in(world().await).await
}

fn ask(client: &str, server: &str) -> IssuePskRequest {
    IssuePskRequest {
        client_id: client.into(),
        server_id: server.into(),
        purpose: "checkout".into(),
        ttl_seconds: 30,
        ..IssuePskRequest::default()
    }
}

async fn issue(agent: &Agent, request: IssuePskRequest) -> Result<IssuePskResponse, Status> {
    let issued = AgentPskClient::new(agent.channel.clone()).issue_psk(request).await;
    issued.map(tonic::Response::into_inner)
}

/// What a ClientHello would show.
fn offer(issued: &IssuePskResponse, attempt: u8) -> RedeemPskRequest {
    let id = |uri: &str| uri.parse::<SpiffeId>().unwrap();
    let binding = PskBinding {
        client: id(WEB),
        server: id(DB),
        purpose: "checkout".parse().unwrap(),
        not_after: UnixTime::from_secs(issued.not_after),
        hash: PskHash::Sha256,
        run: None,
        series: None,
        bits: None,
    };
    let psk = PskBase(Secret::copy_from(&issued.base).unwrap()).psk(&binding);
    RedeemPskRequest {
        attempt_id: vec![attempt; 16],
        identity: issued.identity.clone(),
        transcript_hash: TRANSCRIPT.to_vec(),
        binder: binder::compute(&psk, &TRANSCRIPT).to_vec(),
        acceptor_ids: vec![DB.into()],
    }
}

async fn redeem(agent: &Agent, request: RedeemPskRequest) -> Result<RedeemPskResponse, Status> {
    let redeemed = AgentPskClient::new(agent.channel.clone()).redeem_psk(request).await;
    redeemed.map(tonic::Response::into_inner)
}

#[track_caller]
fn all_alike(outcome: Result<RedeemPskResponse, Status>) {
    let Err(status) = outcome else { panic!("not refused") };
    let (code, text) = (status.code(), status.message());
    assert_eq!((code, text, status.details()), (Code::PermissionDenied, "refused", &[][..]));
}

#[tokio::test]
async fn a_key_works_once_for_the_two_it_names() {
    let Pair { world, web, db, following: _following } = pair().await;
    let issued = issue(&web, ask(WEB, DB)).await.unwrap();
    assert_eq!((issued.identity.len(), issued.not_after), (25, NOW + 30));
    let redeemed = redeem(&db, offer(&issued, 1)).await.unwrap();
    assert_eq!(redeemed.base, issued.base);
    assert_eq!((redeemed.client_id.as_str(), redeemed.server_id.as_str()), (WEB, DB));
    assert_eq!((redeemed.purpose.as_str(), redeemed.not_after), ("checkout", NOW + 30));

    assert!(redeem(&db, offer(&issued, 1)).await.is_ok(), "the answer was lost on the way");
    all_alike(redeem(&db, offer(&issued, 2)).await);
    let log = serde_json::to_value(world.events().await).unwrap();
    let count = |event: &str| {
        log.as_array().unwrap().iter().filter(|record| record["event"] == event).count()
    };
    assert_eq!((count("psk_issued"), count("psk_redeemed"), count("psk_replayed")), (1, 1, 1));
}

#[tokio::test]
async fn every_refusal_to_redeem_is_the_same() {
    let Pair { world, web, db, following: _following } = pair().await;
    let issued = issue(&web, ask(WEB, DB)).await.unwrap();
    let good = || offer(&issued, 1);
    all_alike(redeem(&db, RedeemPskRequest { identity: UNKNOWN.into(), ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { identity: "junk".into(), ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { attempt_id: vec![1], ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { binder: vec![0; 32], ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { binder: vec![], ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { transcript_hash: vec![8; 32], ..good() }).await);
    let by_name = RedeemPskRequest { transcript_hash: Vec::new(), binder: Vec::new(), ..good() };
    all_alike(redeem(&db, by_name).await);
    all_alike(redeem(&db, RedeemPskRequest { acceptor_ids: vec![WEB.into()], ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { acceptor_ids: vec![], ..good() }).await);
    all_alike(redeem(&db, RedeemPskRequest { acceptor_ids: vec![DB.into(); 65], ..good() }).await);
    all_alike(redeem(&web, good()).await);

    world.delete("web").await;
    all_alike(redeem(&db, good()).await);
    world.create(vec![entry("web", &web.id, "/web", "unix:uid:1")]).await;
    assert!(redeem(&db, good()).await.is_ok(), "none of it has spent the key");
    world.clock.advance(31);
    all_alike(redeem(&db, offer(&issued, 1)).await);
}

#[tokio::test]
async fn an_agent_first_shows_what_it_remembers() {
    let Pair { world: _world, web, db, following } = pair().await;
    let issued = issue(&web, ask(WEB, DB)).await.unwrap();
    drop(following);
    // Until the server has noticed, it refuses what it does not know.
    let unknown = RedeemPskRequest { identity: UNKNOWN.into(), ..offer(&issued, 1) };
    let late = async {
        while redeem(&db, unknown.clone()).await.err().unwrap().code() != Code::Unavailable {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), late).await.unwrap();
    let _again = subscribe(&db, None).await;
    drop(redeem(&db, offer(&issued, 1)).await.unwrap());
}

#[tokio::test]
async fn a_key_is_issued_to_the_entitled_for_the_registered_only() {
    let Pair { world: _world, web, db, following: _following } = pair().await;
    let denied = |outcome: Result<IssuePskResponse, Status>| {
        refused(outcome.map(drop), Code::PermissionDenied, "not permitted");
    };
    denied(issue(&db, ask(WEB, DB)).await);
    denied(issue(&web, ask(WEB, "spiffe://example.org/nobody")).await);
    denied(issue(&web, ask(WEB, "spiffe://other.org/db")).await);
    let bad = |request| issue(&web, request);
    let malformed = |outcome: Result<IssuePskResponse, Status>, field| {
        refused(outcome.map(drop), Code::InvalidArgument, field);
    };
    malformed(bad(ask("web", DB)).await, "client_id: ");
    malformed(bad(ask(WEB, "db")).await, "server_id: ");
    // A key to oneself could be reflected.
    malformed(bad(ask(WEB, WEB)).await, "server_id: ");
    let long = IssuePskRequest { ttl_seconds: 301, ..ask(WEB, DB) };
    malformed(bad(long).await, "ttl_seconds: ");
    let spaced = IssuePskRequest { purpose: "a b".into(), ..ask(WEB, DB) };
    malformed(bad(spaced).await, "purpose: ");
    let default = bad(IssuePskRequest { ttl_seconds: 0, ..ask(WEB, DB) }).await.unwrap();
    assert_eq!(default.not_after, NOW + 60);
}

#[tokio::test]
async fn what_the_policy_refuses_is_on_record_once_a_minute() {
    let policies = tempfile::tempdir().unwrap();
    let rules = r#"permit (principal, action == Action::"issue_x509", resource);"#;
    std::fs::write(policies.path().join("rules.cedar"), rules).unwrap();
    let world = world_with(|config| config.policy_dir = Some(policies.path().into())).await;
    let Pair { world, web, .. } = pair_in(world).await;
    for _ in 0..3 {
        let denied = issue(&web, ask(WEB, DB)).await.map(drop);
        refused(denied, Code::PermissionDenied, "not permitted");
    }
    let denied = |event: &Event| {
        let Event::Denied { decided, why, times, .. } = event else { return false };
        let asked = decided.question.action == Action::IssuePsk;
        asked && *why == Why::Policy && *times == 1
    };
    world.recorded(denied).await;
    let unexpected = Anomaly::UnexpectedPath;
    let stands_out = |event: &Event| matches!(event, Event::AnomalyFound { anomaly, .. } if *anomaly == unexpected);
    world.recorded(stands_out).await;
    let denials = world.events().await.into_iter().filter(|event| denied(event)).count();
    assert_eq!(denials, 1);
}

#[tokio::test]
async fn a_policy_may_permit_to_redeem_by_name_alone() {
    let policies = tempfile::tempdir().unwrap();
    std::fs::write(policies.path().join("dev.cedar"), claviger_policy::source::DEV).unwrap();
    let world = world_with(|config| config.policy_dir = Some(policies.path().into())).await;
    let Pair { world: _world, web, db, following: _following } = pair_in(world).await;
    let issued = issue(&web, ask(WEB, DB)).await.unwrap();
    let by_name = RedeemPskRequest { transcript_hash: vec![], binder: vec![], ..offer(&issued, 1) };
    let redeemed = redeem(&db, by_name.clone()).await.map_err(|status| status.to_string());
    assert_eq!(redeemed.map(|redeemed| redeemed.base), Ok(issued.base.clone()));
    all_alike(redeem(&db, RedeemPskRequest { attempt_id: vec![2; 16], ..by_name }).await);
}

#[tokio::test]
async fn of_many_attempts_one_succeeds() {
    let Pair { world: _world, web, db, following: _following } = pair().await;
    let issued = issue(&web, ask(WEB, DB)).await.unwrap();
    let attempts = (0..100).map(|attempt| redeem(&db, offer(&issued, attempt)));
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_later_epoch_of_a_series_voids_the_keys_of_the_earlier() {
    let Pair { world, web, db, following: _following } = pair().await;
    let of = |epoch| IssuePskRequest { series: "train".into(), epoch, ..ask(WEB, DB) };
    let (third, also) = (issue(&web, of(3)).await.unwrap(), issue(&web, of(3)).await.unwrap());
    let offer_of = |issued: &IssuePskResponse, epoch, attempt| {
        let binding = PskBinding {
            client: WEB.parse().unwrap(),
            server: DB.parse().unwrap(),
            purpose: "checkout".parse().unwrap(),
            not_after: UnixTime::from_secs(issued.not_after),
            hash: PskHash::Sha256,
            run: None,
            series: SeriesEpoch::from_wire("train", epoch).unwrap(),
            bits: None,
        };
        let psk = PskBase(Secret::copy_from(&issued.base).unwrap()).psk(&binding);
        let binder = binder::compute(&psk, &TRANSCRIPT).to_vec();
        RedeemPskRequest { binder, ..offer(issued, attempt) }
    };
    // Whoever takes it for a key of another epoch, or of none, has another key.
    all_alike(redeem(&db, offer(&third, 1)).await);
    all_alike(redeem(&db, offer_of(&third, 4, 1)).await);
    let redeemed = redeem(&db, offer_of(&third, 3, 1)).await.map_err(|status| status.to_string());
    let redeemed = redeemed.unwrap();
    assert_eq!((redeemed.series.as_str(), redeemed.epoch), ("train", 3));

    let fourth = issue(&web, of(4)).await.unwrap();
    all_alike(redeem(&db, offer_of(&also, 3, 2)).await);
    redeem(&db, offer_of(&fourth, 4, 3)).await.unwrap();
    let over = issue(&web, of(3)).await.err().unwrap();
    assert_eq!(over.code(), Code::FailedPrecondition, "{over}");
    assert_eq!(over.metadata().get(claviger_proto::NEWEST_EPOCH).unwrap(), "4");
    let log = serde_json::to_value(world.events().await).unwrap();
    let voided = log.as_array().unwrap().iter().find(|record| record["event"] == "psk_voided");
    let voided = voided.unwrap();
    assert_eq!((&voided["series"]["epoch"], &voided["newest"]), (&3.into(), &4.into()));

    let malformed = |outcome: Result<IssuePskResponse, Status>, field| {
        refused(outcome.map(drop), Code::InvalidArgument, field);
    };
    malformed(issue(&web, of(0)).await, "epoch: ");
    let nameless = IssuePskRequest { series: String::new(), ..of(1) };
    malformed(issue(&web, nameless).await, "series: ");
}

/// Many who begin an epoch at once all get a key of it.
#[tokio::test]
async fn an_epoch_may_begin_with_many_keys_at_once() {
    let Pair { world: _world, web, .. } = pair().await;
    for epoch in 1..4 {
        let asks = (0..50).map(|_| {
            let request = IssuePskRequest { series: "train".into(), epoch, ..ask(WEB, DB) };
            issue(&web, request)
        });
        for issued in futures_util::future::join_all(asks).await {
            drop(issued.map_err(|status| status.to_string()).unwrap());
        }
    }
}
