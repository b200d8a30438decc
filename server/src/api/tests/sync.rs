//! Pushing changes.

use std::time::Duration;

use claviger_proto::claviger::admin::v1::WaitForEntriesRequest;
use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::claviger::agent::v1::agent_sync_client::AgentSyncClient;
use claviger_proto::claviger::agent::v1::{
    Ack, Cursor, Hello, SignedCheckpoint, Standings, SubscribeRequest, SubscribeResponse,
    subscribe_request::Step,
};
use claviger_proto::spire::server::agent::v1::BanAgentRequest;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::world::{Agent, World, agents, entry, refused, world};

/// One agent's subscription.
pub(super) struct Stream {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<SubscribeResponse>,
}

async fn open(agent: &Agent, first: Step) -> Result<Stream, Status> {
    let (requests, sent) = mpsc::channel(8);
    requests.send(SubscribeRequest { step: Some(first) }).await.unwrap();
    let mut client = AgentSyncClient::new(agent.channel.clone());
    let responses = client.subscribe(ReceiverStream::new(sent)).await?.into_inner();
    Ok(Stream { requests, responses })
}

pub(super) async fn subscribe(agent: &Agent, cursor: Option<Cursor>) -> Stream {
    open(agent, Step::Hello(Hello { cursor, ..Hello::default() })).await.unwrap()
}

impl Stream {
    pub(super) async fn next(&mut self) -> Result<SubscribeResponse, Status> {
        let next = timeout(Duration::from_secs(10), self.responses.message()).await.unwrap();
        next.map(|response| response.expect("the stream goes on"))
    }

    async fn ack(&self, sequence: u64) {
        self.send(Ack { sequence, standings: 0 }).await;
    }

    /// The next that it is told of how identities stand.
    pub(super) async fn standings(&mut self) -> Result<Standings, Status> {
        loop {
            if let Some(standings) = self.next().await?.standings {
                return Ok(standings);
            }
        }
    }

    /// Says that it has taken in how identities stand.
    pub(super) async fn ack_standings(&self, standings: u64) {
        self.send(Ack { sequence: 0, standings }).await;
    }

    async fn send(&self, ack: Ack) {
        let step = Some(Step::Ack(ack));
        self.requests.send(SubscribeRequest { step }).await.unwrap();
    }
}

fn upserts(response: &SubscribeResponse) -> Vec<&str> {
    response.upserts.iter().map(|entry| entry.id.as_str()).collect()
}

#[tokio::test]
async fn an_agent_is_told_everything_and_then_what_changes() {
    let world = world().await;
    let agent = world.admitted().await;
    world.create(vec![entry("web", &agent.id, "/web", "unix:uid:1")]).await;
    let mut stream = subscribe(&agent, None).await;
    let first = stream.next().await.unwrap();
    assert!(first.snapshot && !first.more);
    assert_eq!(upserts(&first), ["web"]);
    assert_eq!(first.bundle.unwrap().x509_authorities.len(), 1);
    let size = |wire: SignedCheckpoint| {
        let key = wire.verifier_key.parse().unwrap();
        claviger_core::audit::SignedCheckpoint::open(&wire.note, &key)
            .unwrap()
            .checkpoint()
            .head
            .size
    };
    let before = size(first.checkpoint.unwrap());
    assert!(before > 0);
    let place = first.cursor.unwrap();

    world.create(vec![entry("db", &agent.id, "/db", "unix:uid:2")]).await;
    let second = stream.next().await.unwrap();
    assert!(!second.snapshot && second.bundle.is_none());
    assert_eq!(upserts(&second), ["db"]);
    let then = second.cursor.unwrap();
    assert_eq!((&then.log_id, then.sequence), (&place.log_id, place.sequence + 1));
    assert!(size(second.checkpoint.unwrap()) > before);

    world.delete("web").await;
    let third = stream.next().await.unwrap();
    assert_eq!((third.deletes, third.upserts.len()), (vec!["web".to_owned()], 0));
    drop(stream);

    let resumed = subscribe(&agent, Some(then)).await.next().await.unwrap();
    assert_eq!((resumed.snapshot, resumed.deletes), (false, vec!["web".to_owned()]));
    let other = Cursor { log_id: vec![0; 16], sequence: 2 };
    assert!(subscribe(&agent, Some(other)).await.next().await.unwrap().snapshot, "another log");
}

#[tokio::test]
async fn a_large_snapshot_comes_in_pages() {
    let world = world().await;
    let agent = world.admitted().await;
    let one = |n: usize| entry(&format!("e{n:04}"), &agent.id, "/web", &format!("unix:uid:{n}"));
    world.create((0..1_000).map(one).collect()).await;
    world.create((1_000..1_001).map(one).collect()).await;
    let mut stream = subscribe(&agent, None).await;
    let mut shape = Vec::new();
    for _ in 0..3 {
        let page = stream.next().await.unwrap();
        assert_eq!(page.cursor.unwrap().sequence, 1_002, "agent and entries");
        shape.push((page.snapshot, page.upserts.len(), page.more, page.bundle.is_some()));
    }
    assert_eq!(shape, [(true, 500, true, true), (true, 500, true, false), (true, 1, false, false)]);
}

#[tokio::test]
async fn the_operator_waits_until_agents_have_applied_a_change() {
    let world = world().await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    stream.next().await.unwrap();
    world.create(vec![entry("web", &agent.id, "/web", "unix:uid:1")]).await;
    let sequence = stream.next().await.unwrap().cursor.unwrap().sequence;

    let mut admin = AdminClient::new(world.operator());
    let mut wait = async |timeout_ms| {
        let entry_ids = vec!["web".to_owned()];
        let answer = admin.wait_for_entries(WaitForEntriesRequest { entry_ids, timeout_ms }).await;
        let answer = answer.unwrap().into_inner();
        (answer.reached, answer.pending)
    };
    assert_eq!(wait(10).await, (vec![], vec![agent.id.to_string()]));
    stream.ack(sequence).await;
    // The stream takes acknowledgements while it waits for something to tell.
    let (answer, ended) =
        tokio::join!(wait(10_000), timeout(Duration::from_secs(1), stream.responses.message()));
    assert_eq!(answer, (vec![agent.id.to_string()], vec![]));
    assert!(ended.is_err(), "nothing more is told");
}

#[tokio::test]
async fn the_stream_of_a_banned_agent_ends() {
    let world = world().await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    stream.next().await.unwrap();
    let request = BanAgentRequest { id: Some((&agent.id).into()) };
    agents(&world.operator()).ban_agent(request).await.unwrap();
    refused(stream.next().await, Code::Aborted, "has ended");
    let again = open(&agent, Step::Hello(Hello::default())).await.map(|_| ());
    refused(again, Code::PermissionDenied, "banned");
}

#[tokio::test]
async fn a_stream_that_does_not_keep_to_the_order_ends() {
    let world = world().await;
    let agent = world.admitted().await;
    let acks = open(&agent, Step::Ack(Ack { sequence: 1, standings: 0 })).await.map(|_| ());
    refused(acks, Code::InvalidArgument, "must be a Hello");
    let stray = SignedCheckpoint::default();
    let hello = Hello { checkpoint: Some(stray), ..Hello::default() };
    let malformed = open(&agent, Step::Hello(hello)).await.map(|_| ());
    refused(malformed, Code::InvalidArgument, "checkpoint");

    let mut stream = subscribe(&agent, None).await;
    stream.next().await.unwrap();
    let step = Some(Step::Hello(Hello::default()));
    stream.requests.send(SubscribeRequest { step }).await.unwrap();
    refused(stream.next().await, Code::InvalidArgument, "must be an Ack");
}

#[tokio::test]
async fn a_checkpoint_of_somebody_else_changes_nothing() {
    let world = world().await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    let real = stream.next().await.unwrap().checkpoint.unwrap();
    let epoch = "\nepoch 1\n";
    let changed = |to: &str| real.note.replace(epoch, to);
    for forged in [
        SignedCheckpoint { note: changed("\nepoch 2\n"), ..real.clone() },
        SignedCheckpoint { note: changed("\nepoch 1000\n"), ..real.clone() },
        real.clone(),
    ] {
        let hello = Hello { checkpoint: Some(forged), ..Hello::default() };
        let mut stream = open(&agent, Step::Hello(hello)).await.unwrap();
        assert!(stream.next().await.unwrap().checkpoint.unwrap().note.contains(epoch));
    }
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let world: World = world().await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    stream.next().await.unwrap();
    let (ended, _dir) = tokio::join!(stream.next(), world.stop());
    refused(ended, Code::Unavailable, "stopping");
}
