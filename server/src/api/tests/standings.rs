//! Risk and quarantine.

use claviger_core::audit::Event;
use claviger_proto::claviger::admin::v1::control_client::ControlClient;
use claviger_proto::claviger::admin::v1::set_standing_request::Change;
use claviger_proto::claviger::admin::v1::{
    ListStandingsRequest, SetStandingRequest, SetStandingResponse,
};
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_proto::claviger::agent::v1::{IssuePskRequest, RedeemPskRequest};
use claviger_proto::spire::server::agent::v1::{ListAgentsRequest, PostStatusRequest};
use claviger_proto::spire::server::entry::v1::GetAuthorizedEntriesRequest;
use claviger_proto::spire::server::svid::v1::{
    BatchNewX509svidRequest, MintX509svidRequest, NewJwtsvidRequest, NewX509svidParams,
};
use futures_util::future::join;
use rcgen::KeyPair;
use tonic::{Code, Response, Status};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::sync::{Stream, subscribe};
use super::world::{Agent, World, agents, config, csr, entries, entry, refused, svids, world};

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";

fn asked(id: &str, change: Change) -> SetStandingRequest {
    SetStandingRequest {
        spiffe_id: id.into(),
        change: change.into(),
        risk: 0,
        reason: "test".into(),
        timeout_ms: 0,
    }
}

async fn set(world: &World, request: SetStandingRequest) -> Result<SetStandingResponse, Status> {
    ControlClient::new(world.operator()).set_standing(request).await.map(Response::into_inner)
}

/// The certificate, or why there is none.
async fn svid(agent: &Agent, entry_id: &str) -> Result<Vec<u8>, Code> {
    let csr = csr(&KeyPair::generate().unwrap());
    let params = vec![NewX509svidParams { entry_id: entry_id.into(), csr }];
    let request = BatchNewX509svidRequest { params };
    let answer = svids(&agent.channel).batch_new_x509svid(request).await;
    let result = answer.map_err(|status| status.code())?.into_inner().results.remove(0);
    match result.svid {
        Some(svid) => Ok(svid.cert_chain[0].to_vec()),
        None => Err(result.status.unwrap().code.into()),
    }
}

async fn jwt(agent: &Agent, entry_id: &str) -> Result<(), Code> {
    let (entry_id, audience) = (entry_id.into(), vec!["x".into()]);
    let request = NewJwtsvidRequest { entry_id, audience };
    let answer = svids(&agent.channel).new_jwtsvid(request).await;
    answer.map(drop).map_err(|status| status.code())
}

async fn psk(agent: &Agent) -> Result<String, Code> {
    let request = IssuePskRequest {
        client_id: WEB.into(),
        server_id: DB.into(),
        purpose: "checkout".into(),
        ttl_seconds: 30,
        ..IssuePskRequest::default()
    };
    let answer = AgentPskClient::new(agent.channel.clone()).issue_psk(request).await;
    answer.map(|issued| issued.into_inner().identity).map_err(|status| status.code())
}

/// An agent with two workloads that follows what changes.
async fn followed() -> (World, Agent, Stream) {
    let world = world().await;
    let agent = world.admitted().await;
    world
        .create(vec![
            entry("web", &agent.id, "/web", "unix:uid:1"),
            entry("db", &agent.id, "/db", "unix:uid:2"),
        ])
        .await;
    let mut stream = subscribe(&agent, None).await;
    let first = stream.standings().await.unwrap();
    assert!(first.snapshot && first.upserts.is_empty() && first.version == 0);
    (world, agent, stream)
}

fn serial(der: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec()
}

#[tokio::test]
async fn a_quarantine_is_in_force_and_everywhere_before_it_is_answered() {
    let (world, agent, mut stream) = followed().await;
    let held = svid(&agent, "web").await.unwrap();
    svid(&agent, "db").await.unwrap();
    let request = SetStandingRequest { timeout_ms: 10_000, ..asked(WEB, Change::Quarantine) };
    let (answer, told) = join(set(&world, request), async {
        let told = stream.standings().await.unwrap();
        stream.ack_standings(told.version).await;
        told
    })
    .await;
    let answer = answer.unwrap();
    assert_eq!((answer.reached, answer.pending.len()), (vec![agent.id.to_string()], 0));
    assert_eq!((answer.revoked, answer.lacking.as_str(), answer.unchanged), (1, "", false));
    let [standing] = told.upserts.as_slice() else { panic!("{told:?}") };
    assert!(standing.spiffe_id == WEB && standing.quarantined && !told.snapshot && !told.more);
    let answered = answer.standing.unwrap();
    assert_eq!((answered.version, answered.reason.as_str()), (standing.version, "test"));

    let lists = loop {
        if let Some(revoked) = stream.next().await.unwrap().revoked {
            break revoked.lists;
        }
    };
    let (_, list) = CertificateRevocationList::from_der(&lists[0]).unwrap();
    let listed: Vec<_> = list.iter_revoked_certificates().map(|one| one.raw_serial()).collect();
    assert_eq!(listed, [serial(&held)]);

    assert_eq!(svid(&agent, "web").await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(jwt(&agent, "web").await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(psk(&agent).await.unwrap_err(), Code::PermissionDenied);
    svid(&agent, "db").await.unwrap();
    let again = set(&world, asked(WEB, Change::Quarantine)).await.unwrap();
    assert_eq!((again.unchanged, again.revoked, again.standing.unwrap().version), (true, 1, 1));
    let events = world.events().await;
    assert!(events.iter().any(|event| matches!(event, Event::Quarantined { version: 1, .. })));
    let issued = events.iter().filter_map(|event| {
        let Event::X509SvidIssued { serial, .. } = event else { return None };
        *serial
    });
    assert!(issued.map(|serial| serial.as_bytes().to_vec()).any(|one| one == serial(&held)));
}

/// An agent gets nothing for an identity until it has thrown away what it knew of it.
#[tokio::test]
async fn a_change_asks_for_fresh_evidence() {
    let (world, agent, mut stream) = followed().await;
    let key = psk(&agent).await.unwrap();
    let risk = SetStandingRequest { risk: 30, ..asked(WEB, Change::Risk) };
    let answer = set(&world, risk.clone()).await.unwrap();
    assert_eq!((answer.reached.len(), answer.pending), (0, vec![agent.id.to_string()]));
    for stale in
        [svid(&agent, "web").await.map(drop), jwt(&agent, "web").await, psk(&agent).await.map(drop)]
    {
        assert_eq!(stale.unwrap_err(), Code::Unavailable, "so that it asks again");
    }
    svid(&agent, "db").await.unwrap();
    let told = stream.standings().await.unwrap();
    assert_eq!((told.version, told.upserts[0].risk, told.upserts[0].quarantined), (1, 30, false));
    stream.ack_standings(told.version + 5).await;
    let request = SetStandingRequest { timeout_ms: 10_000, ..risk };
    let answer = set(&world, request).await.unwrap();
    assert!(answer.unchanged && answer.reached == [agent.id.to_string()], "{answer:?}");
    svid(&agent, "web").await.unwrap();
    psk(&agent).await.unwrap();

    // The acceptor's side, and one who knows of a later change only.
    set(&world, SetStandingRequest { risk: 10, ..asked(DB, Change::Risk) }).await.unwrap();
    let redeem = RedeemPskRequest {
        attempt_id: vec![1; 16],
        identity: key,
        transcript_hash: vec![7; 32],
        binder: vec![0; 32],
        acceptor_ids: vec![DB.into()],
    };
    let mut psks = AgentPskClient::new(agent.channel.clone());
    refused(psks.redeem_psk(redeem.clone()).await, Code::Unavailable, "try again");
    let told = stream.standings().await.unwrap();
    stream.ack_standings(told.version).await;
    let request = SetStandingRequest { timeout_ms: 10_000, risk: 10, ..asked(DB, Change::Risk) };
    assert_eq!(set(&world, request).await.unwrap().reached.len(), 1);
    refused(psks.redeem_psk(redeem).await, Code::PermissionDenied, "refused");

    // Whoever connects anew has taken in nothing yet.
    drop(stream);
    let mut stream = subscribe(&agent, None).await;
    let told = stream.standings().await.unwrap();
    assert!(told.snapshot && told.upserts.len() == 2);
    assert_eq!(svid(&agent, "web").await.unwrap_err(), Code::Unavailable);
    stream.ack_standings(told.version).await;
    let request = SetStandingRequest { timeout_ms: 10_000, risk: 30, ..asked(WEB, Change::Risk) };
    assert_eq!(set(&world, request).await.unwrap().reached.len(), 1);
    svid(&agent, "web").await.unwrap();
}

#[tokio::test]
async fn an_agent_in_quarantine_is_told_so_and_nothing_else() {
    let (world, agent, mut stream) = followed().await;
    svid(&agent, "web").await.unwrap();
    let id = agent.id.to_string();
    let request = SetStandingRequest { timeout_ms: 10_000, ..asked(&id, Change::Quarantine) };
    let answer = set(&world, request).await.unwrap();
    assert!(answer.reached.is_empty() && answer.pending.is_empty(), "nobody waits for it");
    assert_eq!(answer.revoked, 2, "its own, and what it has for its workload");
    let told = stream.standings().await.unwrap();
    assert!(told.upserts[0].spiffe_id == id && told.upserts[0].quarantined);
    assert_eq!(stream.standings().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(svid(&agent, "web").await.unwrap_err(), Code::Unavailable);
    assert_eq!(psk(&agent).await.unwrap_err(), Code::Unavailable);
    refused(
        entries(&agent.channel)
            .get_authorized_entries(GetAuthorizedEntriesRequest::default())
            .await,
        Code::Unavailable,
        "in quarantine",
    );
    let mut stream = subscribe(&agent, None).await;
    let told = stream.standings().await.unwrap();
    assert!(told.upserts.len() == 1 && told.upserts[0].quarantined && !told.snapshot);
    assert_eq!(stream.standings().await.unwrap_err().code(), Code::Unavailable);

    set(&world, asked(&id, Change::Lift)).await.unwrap();
    let post = async || agents(&agent.channel).post_status(PostStatusRequest::default()).await;
    let older = "older than what was said of it";
    refused(post().await, Code::PermissionDenied, older);
    let mut stream = subscribe(&agent, None).await;
    assert!(!stream.standings().await.unwrap().upserts[0].quarantined);
    assert_eq!(stream.standings().await.unwrap_err().code(), Code::PermissionDenied);
    let other = world.admitted().await;
    let mut stream = subscribe(&other, None).await;
    assert_eq!(stream.standings().await.unwrap().upserts.len(), 1, "others are told all");
}

#[tokio::test]
async fn an_administrator_in_quarantine_is_none() {
    let world = super::world::world_with(|config| {
        config.admin_ids = [WEB.parse().unwrap()].into();
    })
    .await;
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(WEB.try_into().unwrap())];
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    let minted = svids(&world.operator()).mint_x509svid(MintX509svidRequest { csr, ttl: 0 }).await;
    let ops = world.agent(&minted.unwrap().into_inner().svid.unwrap(), &key);
    let list = async || agents(&ops.channel).list_agents(ListAgentsRequest::default()).await;
    list().await.unwrap();
    set(&world, asked(WEB, Change::Quarantine)).await.unwrap();
    refused(list().await, Code::PermissionDenied, "in quarantine");
}

#[tokio::test]
async fn a_restart_withdraws_what_a_crash_left() {
    let (world, agent, stream) = followed().await;
    let held = svid(&agent, "web").await.unwrap();
    set(&world, asked(WEB, Change::Quarantine)).await.unwrap();
    set(&world, SetStandingRequest { risk: 7, ..asked(DB, Change::Risk) }).await.unwrap();
    drop(stream);
    let clock = std::sync::Arc::clone(&world.clock);
    let dir = world.stop().await;
    // As if it had stopped before it revoked.
    let store = crate::store::embedded::EmbeddedStore::open(dir.path().join("data/store"));
    let store = store.await.unwrap();
    let gone = crate::store::Write::delete(crate::store::Space::Authorities, *b"revoked");
    crate::store::Store::write(&store, vec![gone]).await.unwrap();
    drop(store);
    let world = World::again(dir, clock, config).await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    let first = stream.next().await.unwrap();
    let (_, list) =
        CertificateRevocationList::from_der(&first.revoked.as_ref().unwrap().lists[0]).unwrap();
    let listed: Vec<_> = list.iter_revoked_certificates().map(|one| one.raw_serial()).collect();
    assert_eq!(listed, [serial(&held)]);
    let stands = first.standings.unwrap();
    assert_eq!((stands.version, stands.upserts.len()), (2, 2));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field() {
    let world = world().await;
    let cases = [
        (asked("x", Change::Quarantine), "spiffe_id: "),
        (asked("spiffe://example.org", Change::Quarantine), "spiffe_id: a whole trust domain"),
        (asked(WEB, Change::Unspecified), "change: "),
        (SetStandingRequest { risk: 101, ..asked(WEB, Change::Risk) }, "risk: "),
        (SetStandingRequest { risk: 300, ..asked(WEB, Change::Risk) }, "risk: "),
        (SetStandingRequest { reason: String::new(), ..asked(WEB, Change::Lift) }, "reason: "),
        (SetStandingRequest { reason: "x".repeat(257), ..asked(WEB, Change::Lift) }, "reason: "),
    ];
    for (request, field) in cases {
        refused(set(&world, request).await, Code::InvalidArgument, field);
    }
    let lift = set(&world, asked(WEB, Change::Lift)).await;
    refused(lift, Code::FailedPrecondition, "not in quarantine");
    let own = set(&world, asked("spiffe://example.org/spire/server", Change::Quarantine)).await;
    refused(own, Code::FailedPrecondition, "this server itself");
    let mut stranger = ControlClient::new(world.remote(None));
    let set = stranger.set_standing(asked(WEB, Change::Quarantine)).await;
    refused(set, Code::PermissionDenied, "not for strangers");
    let mut agent = ControlClient::new(world.admitted().await.channel);
    refused(agent.set_standing(asked(WEB, Change::Quarantine)).await, Code::Unimplemented, "");
}

#[tokio::test]
async fn listings_have_pages() {
    let world = world().await;
    for n in 0..502_u32 {
        let id = format!("spiffe://example.org/{n}");
        let change = if n % 2 == 0 { Change::Quarantine } else { Change::Risk };
        set(&world, SetStandingRequest { risk: 1, ..asked(&id, change) }).await.unwrap();
    }
    for (quarantined, want) in [(false, 502), (true, 251)] {
        let (mut all, mut after, mut pages) = (Vec::new(), 0, 0);
        loop {
            let request = ListStandingsRequest { quarantined, after };
            let page = ControlClient::new(world.operator()).list_standings(request).await;
            let page = page.unwrap().into_inner();
            (pages, after) = (pages + 1, page.next);
            all.extend(page.standings.into_iter().map(|standing| standing.version));
            if after == 0 {
                break;
            }
        }
        assert!(all.len() == want && all.is_sorted(), "{}", all.len());
        assert_eq!(pages, if quarantined { 1 } else { 2 });
    }
}
