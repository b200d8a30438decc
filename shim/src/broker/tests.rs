use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use claviger_proto::claviger::psk::v1::psk_broker_server::{PskBroker, PskBrokerServer};
use claviger_runtime::tasks::Tasks;
use tempfile::{TempDir, tempdir};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response};

use super::*;
use crate::fixture::{CLIENT, SERVER, identity};

/// Answers as scripted, and remembers what it was asked.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Result<RedeemResponse, Status>>>>,
    requests: Arc<Mutex<Vec<RedeemRequest>>>,
    issue: Option<IssueResponse>,
}

fn require_header<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("workload.spiffe.io") {
        Some(value) if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument("no header")),
    }
}

#[async_trait]
impl PskBroker for Scripted {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        require_header(&request)?;
        let request = request.into_inner();
        assert_eq!(
            (request.peer.as_str(), request.purpose.as_str(), request.ttl_seconds),
            (SERVER, "test", 60)
        );
        assert_eq!(request.spiffe_id, CLIENT);
        if request.series == "train" && request.epoch < 3 {
            let mut over = Status::failed_precondition("epoch 3 has begun");
            over.metadata_mut().insert(NEWEST_EPOCH, 3.into());
            return Err(over);
        }
        self.issue.clone().map(Response::new).ok_or_else(|| Status::permission_denied("no"))
    }

    async fn redeem(
        &self,
        request: Request<RedeemRequest>,
    ) -> Result<Response<RedeemResponse>, Status> {
        require_header(&request)?;
        self.requests.lock().unwrap().push(request.into_inner());
        self.answers.lock().unwrap().pop_front().unwrap().map(Response::new)
    }
}

/// A socket whose first `lost` connections are dropped, and then are answered from `script`.
struct World {
    dir: TempDir,
    script: Scripted,
    tasks: Tasks,
}

impl World {
    fn new(script: Scripted, lost: usize) -> Self {
        let world = Self { dir: tempdir().unwrap(), script, tasks: Tasks::default() };
        let listener = UnixListener::bind(world.dir.path().join("agent.sock")).unwrap();
        let service = PskBrokerServer::new(world.script.clone());
        world.tasks.spawn("broker", move |stop| async move {
            for _ in 0..lost {
                listener.accept().await?.0.readable().await?;
            }
            let incoming = UnixListenerStream::new(listener);
            let server = Server::builder().add_service(service);
            Ok(server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?)
        });
        world
    }

    fn client(&self) -> BrokerClient {
        BrokerClient::new(self.dir.path().join("agent.sock")).unwrap()
    }
}

fn answering(
    answers: impl IntoIterator<Item = Result<RedeemResponse, Status>>,
) -> (World, BrokerClient) {
    let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    let world = World::new(Scripted { answers, ..Scripted::default() }, 0);
    let client = world.client();
    (world, client)
}

fn yes() -> RedeemResponse {
    RedeemResponse {
        key: vec![3; 32],
        client_id: CLIENT.to_owned(),
        server_id: SERVER.to_owned(),
        purpose: "test".to_owned(),
        not_after: 9,
        run: "ci:7:1".to_owned(),
        ..RedeemResponse::default()
    }
}

fn offer() -> Offer {
    Offer { attempt: [1; 16], identity: identity(1), transcript: [2; 32], binder: [3; 32] }
}

#[tokio::test]
async fn an_offer_reaches_the_broker_and_its_answer_the_caller() {
    let (world, client) = answering([Ok(yes())]);
    let redeemed = client.redeem(&offer()).await.unwrap();
    assert_eq!(redeemed.psk.0.expose(), &[3; 32]);
    assert_eq!(redeemed.client.to_string(), CLIENT);
    assert_eq!(redeemed.server.to_string(), SERVER);
    assert_eq!(redeemed.purpose.as_str(), "test");
    assert_eq!(redeemed.run.unwrap().as_str(), "ci:7:1");
    let want = RedeemRequest {
        attempt_id: vec![1; 16],
        identity: identity(1).to_string(),
        transcript_hash: vec![2; 32],
        binder: vec![3; 32],
        spiffe_id: String::new(),
    };
    assert_eq!(*world.script.requests.lock().unwrap(), [want]);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_attempt() {
    let (world, client) = answering([Err(Status::unavailable("restarting")), Ok(yes())]);
    client.redeem(&offer()).await.unwrap();
    let requests = world.script.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let answers = Arc::new(Mutex::new([Ok(yes())].into()));
    let world = World::new(Scripted { answers, ..Scripted::default() }, 1);
    world.client().redeem(&offer()).await.unwrap();
}

#[tokio::test]
async fn it_asks_twice_at_most() {
    let lost = || Err(Status::unavailable("down"));
    let (world, client) = answering([lost(), lost(), Ok(yes())]);
    let error = client.redeem(&offer()).await.unwrap_err();
    assert!(matches!(error, RedeemError::Unavailable(_)), "{error}");
    assert_eq!(world.script.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (world, client) = answering([Err(Status::permission_denied("refused"))]);
    let error = client.redeem(&offer()).await.unwrap_err();
    assert!(matches!(error, RedeemError::Refused), "{error}");
    assert_eq!(world.script.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn no_agent_is_no_refusal() {
    let dir = tempdir().unwrap();
    let client = BrokerClient::new(dir.path().join("absent.sock")).unwrap();
    let error = client.redeem(&offer()).await.unwrap_err();
    assert!(matches!(error, RedeemError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn an_answer_is_parsed_before_it_is_believed() {
    type Change = fn(&mut RedeemResponse);
    let changes: [(&str, Change); 6] = [
        ("key", |answer| answer.key.truncate(31)),
        ("client_id", |answer| answer.client_id.clear()),
        ("server_id", |answer| answer.server_id.push('/')),
        ("purpose", |answer| answer.purpose.push(' ')),
        ("run", |answer| answer.run.push(' ')),
        ("server_id", |answer| answer.server_id = "spiffe://example.org/other".to_owned()),
    ];
    for (field, change) in changes {
        let mut answer = yes();
        change(&mut answer);
        let (_world, client) = answering([Ok(answer)]);
        let client = client.acting_as(SERVER.parse().unwrap());
        match client.redeem(&offer()).await {
            Err(RedeemError::Malformed(found)) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn by_identity_alone_nothing_is_proven() {
    let (world, client) = answering([Ok(yes())]);
    client.redeem_by_identity(identity(1)).await.unwrap();
    let requests = world.script.requests.lock().unwrap();
    assert_eq!(requests[0].attempt_id.len(), 16);
    assert!(requests[0].transcript_hash.is_empty());
    assert!(requests[0].binder.is_empty());
}

async fn issue(response: Option<IssueResponse>) -> Result<Issued, IssueError> {
    let world = World::new(Scripted { issue: response, ..Scripted::default() }, 0);
    let client = world.client().acting_as(CLIENT.parse().unwrap());
    client.issue(&SERVER.parse().unwrap(), &"test".parse().unwrap(), PskTtl::default()).await
}

fn key() -> IssueResponse {
    IssueResponse {
        identity: identity(1).to_string(),
        key: vec![1; 32],
        client_id: CLIENT.to_owned(),
        server_id: SERVER.to_owned(),
        purpose: "test".to_owned(),
        not_after: 9,
    }
}

#[tokio::test]
async fn a_key_is_issued_for_the_peer_that_was_named() {
    let issued = issue(Some(key())).await.unwrap();
    assert_eq!(issued.identity, identity(1));
    assert_eq!(issued.psk.0.expose(), &[1; 32]);
    assert_eq!(issued.client.to_string(), CLIENT);
    assert_eq!(issued.not_after.as_secs(), 9);
}

#[tokio::test]
async fn a_key_for_another_peer_or_purpose_is_not_accepted() {
    let elsewhere = IssueResponse { server_id: CLIENT.to_owned(), ..key() };
    assert!(matches!(issue(Some(elsewhere)).await, Err(IssueError::Malformed("server_id"))));
    let other = IssueResponse { purpose: "other".to_owned(), ..key() };
    assert!(matches!(issue(Some(other)).await, Err(IssueError::Malformed(_))));
    let nameless = IssueResponse { identity: "p1.".to_owned(), ..key() };
    assert!(matches!(issue(Some(nameless)).await, Err(IssueError::Malformed("identity"))));
}

#[tokio::test]
async fn of_an_epoch_that_is_over_there_is_no_key_and_the_newest_is_named() {
    let world = World::new(Scripted { issue: Some(key()), ..Scripted::default() }, 0);
    let client = world.client().acting_as(CLIENT.parse().unwrap());
    let (peer, purpose) = (SERVER.parse().unwrap(), "test".parse().unwrap());
    let of = async |epoch| {
        let series = SeriesEpoch::from_wire("train", epoch).unwrap().unwrap();
        client.issue_of(&peer, &purpose, PskTtl::default(), &series).await
    };
    assert_eq!(of(2).await.unwrap_err().newest_epoch().map(NonZeroU64::get), Some(3));
    of(3).await.unwrap();
    assert_eq!(issue(None).await.unwrap_err().newest_epoch(), None);
}

#[tokio::test]
async fn a_denied_key_is_a_status() {
    let error = issue(None).await.unwrap_err();
    assert!(
        matches!(&error, IssueError::Broker(status) if status.code() == Code::PermissionDenied),
        "{error}"
    );
}
