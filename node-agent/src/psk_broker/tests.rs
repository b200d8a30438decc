//! Through a real socket, with a real agent and a fake server.

use claviger_core::psk::identity::WireIdentity;
use claviger_runtime::comeback::SHORTEST;
use tokio::time::Instant;
use tonic::Code;

use super::*;
use crate::attestation::NO_IDENTITY;
use crate::world::{Client, World, entry, ours, theirs, with_header};

const US: &str = "spiffe://example.org/us";

fn issue_to(peer: &str) -> IssueRequest {
    IssueRequest { peer: peer.to_owned(), purpose: "test".to_owned(), ..IssueRequest::default() }
}

fn redeem_of(identity: &str) -> RedeemRequest {
    RedeemRequest {
        attempt_id: vec![1; 16],
        identity: identity.to_owned(),
        transcript_hash: vec![2; 32],
        binder: vec![3; 32],
        spiffe_id: String::new(),
    }
}

async fn issue(client: &Client, request: IssueRequest) -> Result<IssueResponse, Status> {
    client.psk.clone().issue(with_header(request)).await.map(Response::into_inner)
}

async fn redeem(client: &Client, request: RedeemRequest) -> Result<RedeemResponse, Status> {
    client.psk.clone().redeem(with_header(request)).await.map(Response::into_inner)
}

fn refused<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().unwrap();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn both_ends_derive_the_same_key_and_only_once() {
    let (_world, _agent, client) = World::with(vec![ours("us")]).await;
    let issued = issue(&client, issue_to(US)).await.unwrap();
    assert_eq!((issued.client_id.as_str(), issued.server_id.as_str()), (US, US));
    assert_eq!((issued.purpose.as_str(), issued.key.len()), ("test", 32));

    let redeemed = redeem(&client, redeem_of(&issued.identity)).await.unwrap();
    assert!(redeemed.key == issued.key, "the keys differ");
    assert_eq!((redeemed.client_id.as_str(), redeemed.server_id.as_str()), (US, US));
    assert_eq!(redeemed.not_after, issued.not_after);

    let repeated = redeem(&client, redeem_of(&issued.identity)).await.unwrap();
    assert!(repeated.key == issued.key, "another answer to the same attempt");
    let other = RedeemRequest { attempt_id: vec![9; 16], ..redeem_of(&issued.identity) };
    let again = refused(redeem(&client, other).await);
    assert_eq!(again, (Code::PermissionDenied, "refused".to_owned()));
}

#[tokio::test]
async fn a_named_identity_must_be_the_callers() {
    let (_world, _agent, client) = World::with(vec![ours("us"), ours("also"), theirs("x")]).await;
    let named =
        |id: &str| IssueRequest { spiffe_id: format!("spiffe://example.org/{id}"), ..issue_to(US) };
    assert!(issue(&client, named("us")).await.unwrap().client_id.ends_with("/us"));
    assert!(issue(&client, named("also")).await.unwrap().client_id.ends_with("/also"));
    assert_eq!(refused(issue(&client, named("x")).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn every_refusal_to_redeem_looks_the_same() {
    let (_world, _agent, client) = World::with(vec![ours("us"), theirs("them")]).await;
    let for_others = issue(&client, issue_to("spiffe://example.org/them")).await.unwrap().identity;
    let unknown = WireIdentity::from_bytes([9; 16]).to_string();
    let not_ours =
        RedeemRequest { spiffe_id: "spiffe://example.org/them".into(), ..redeem_of(&unknown) };
    for request in [
        redeem_of(&for_others),
        redeem_of(&unknown),
        redeem_of("p1.garbage"),
        redeem_of(""),
        RedeemRequest { binder: vec![], ..redeem_of(&unknown) },
        RedeemRequest { attempt_id: vec![], ..redeem_of(&unknown) },
        not_ours,
    ] {
        let answer = refused(redeem(&client, request).await);
        assert_eq!(answer, (Code::PermissionDenied, "refused".to_owned()));
    }
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_which_field() {
    let (_world, _agent, client) = World::with(vec![ours("us")]).await;
    for (request, field) in [
        (issue_to("example.org"), "peer: "),
        (IssueRequest { purpose: "two words".into(), ..issue_to(US) }, "purpose: "),
        (IssueRequest { ttl_seconds: 301, ..issue_to(US) }, "ttl_seconds: "),
        (IssueRequest { spiffe_id: "x".into(), ..issue_to(US) }, "spiffe_id: "),
    ] {
        let (code, message) = refused(issue(&client, request).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.starts_with(field), "{message}");
    }
    let forbidden = IssueRequest { purpose: "forbidden".into(), ..issue_to(US) };
    assert_eq!(refused(issue(&client, forbidden).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn nobody_gets_a_key_without_header_or_identity() {
    let (_world, _agent, client) = World::with(vec![theirs("them")]).await;
    let no_header = client.psk.clone().issue(issue_to(US)).await;
    assert_eq!(refused(no_header).0, Code::InvalidArgument);
    let no_header = client.psk.clone().redeem(redeem_of("")).await;
    assert_eq!(refused(no_header).0, Code::InvalidArgument);
    let no_identity = refused(issue(&client, issue_to(US)).await);
    assert_eq!(no_identity, (Code::PermissionDenied, NO_IDENTITY.to_owned()));
    let unknown = WireIdentity::from_bytes([9; 16]).to_string();
    let no_identity = refused(redeem(&client, redeem_of(&unknown)).await);
    assert_eq!(no_identity, (Code::PermissionDenied, "refused".to_owned()));
}

#[tokio::test]
async fn both_ends_derive_from_the_epoch_of_a_series_and_an_earlier_one_is_over() {
    let (_world, _agent, client) = World::with(vec![ours("us")]).await;
    let of = |epoch| IssueRequest { series: "train".into(), epoch, ..issue_to(US) };
    let issued = issue(&client, of(3)).await.unwrap();
    let redeemed = redeem(&client, redeem_of(&issued.identity)).await.unwrap();
    assert!(redeemed.key == issued.key, "the keys differ");
    assert_eq!((redeemed.series.as_str(), redeemed.epoch), ("train", 3));

    let over = issue(&client, of(2)).await.err().unwrap();
    assert_eq!(over.code(), Code::FailedPrecondition, "{over}");
    assert_eq!(over.metadata().get("claviger-newest-epoch").unwrap(), "3");
    for (request, field) in [
        (of(0), "epoch: "),
        (IssueRequest { series: "two words".into(), ..of(1) }, "series: "),
        (IssueRequest { series: String::new(), ..of(1) }, "series: "),
    ] {
        let (code, message) = refused(issue(&client, request).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.starts_with(field), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_noticed_at_once() {
    let (mut world, _agent, client) = World::with(vec![ours("us")]).await;
    let issued = issue(&client, issue_to(US)).await.unwrap();
    world.stop_server().await;
    let start = Instant::now();
    assert_eq!(refused(issue(&client, issue_to(US)).await).0, Code::Unavailable);
    assert_eq!(refused(redeem(&client, redeem_of(&issued.identity)).await).0, Code::Unavailable);
    assert!(start.elapsed() < DEADLINE);

    // The same attempt may be repeated.
    world.restart_server().await;
    let redeemed = async {
        loop {
            match redeem(&client, redeem_of(&issued.identity)).await {
                Ok(redeemed) => return redeemed,
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    };
    assert!(crate::world::within(redeemed).await.key == issued.key);
}

#[tokio::test]
async fn whoever_hangs_up_keeps_their_place_until_the_server_has_answered() {
    let (world, _agent, client) = World::with(vec![ours("us")]).await;
    let [begun, go] = &*world.server.slow;
    let slow = IssueRequest { purpose: "slow".into(), ..issue_to(US) };
    tokio::select! {
        _answer = issue(&client, slow) => panic!("it is not to be answered yet"),
        () = begun.notified() => {}
    }
    // Time to hear that the caller has hung up.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.server.psks(), 0);
    go.notify_one();
    let made = async {
        while world.server.psks() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    crate::world::within(made).await;
}

#[test]
fn whoever_is_refused_for_now_learns_how_long_to_wait() {
    let wait = Duration::from_millis(250);
    let mut overloaded = Status::resource_exhausted("the server is overloaded");
    pushback::set(&mut overloaded, wait);
    let told = Status::from(issue::IssueError::Server(overloaded));
    assert_eq!((told.code(), pushback::of(&told)), (Code::ResourceExhausted, Some(wait)));

    let queue = Queue::new(ISSUED_SOON);
    let places: Vec<_> = (0..).map_while(|uid| queue.enter(uid).ok()).collect();
    let told = busy(queue.enter(0).unwrap_err());
    assert_eq!((told.code(), pushback::of(&told)), (Code::Unavailable, Some(SHORTEST)));
    drop(places);
}

#[test]
fn the_first_identity_speaks_unless_another_is_named() {
    let identities = ["a", "b"].map(|id| Arc::new(entry(id, &["unix:uid:1"])));
    let id = |name: &str| format!("spiffe://example.org/{name}").parse::<SpiffeId>().unwrap();
    assert_eq!(choose(&identities, None), Some(id("a")));
    assert_eq!(choose(&identities, Some(&id("b"))), Some(id("b")));
    assert_eq!(choose(&identities, Some(&id("c"))), None);
    assert_eq!(choose(&[], None), None);
}

#[test]
fn a_base_has_32_bytes() {
    assert!(base(vec![1; 32]).is_some());
    assert!(base(vec![1; 31]).is_none());
}
