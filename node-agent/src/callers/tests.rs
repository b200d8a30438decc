//! Through a real socket, with a real agent and a fake server.

use claviger_proto::claviger::caller::v1::callers_client::CallersClient;

use super::*;
use crate::world::{StartedAgent, World, cat, ours, theirs, workload};

const US: &str = "spiffe://example.org/us";
const CAT: &str = "spiffe://example.org/cat";
const THEM: &str = "spiffe://example.org/them";

fn our_pid() -> i32 {
    std::process::id().try_into().unwrap()
}

fn refused(answer: Result<String, Status>) -> Code {
    answer.unwrap_err().code()
}

#[tokio::test]
async fn a_process_is_what_was_asked_about_and_nothing_else() {
    let (mut child, pid, entry) = cat();
    let (_world, _agent, client) = World::with(vec![ours("us"), entry, theirs("them")]).await;
    assert_eq!(client.identify(pid, &[CAT]).await.unwrap(), CAT);
    assert_eq!(client.identify(pid, &[THEM, CAT, US]).await.unwrap(), CAT);
    assert_eq!(client.identify(our_pid(), &[CAT, US]).await.unwrap(), US);
    assert_eq!(refused(client.identify(pid, &[US, THEM]).await), Code::PermissionDenied);

    child.kill().await.unwrap();
    assert_eq!(refused(client.identify(pid, &[CAT]).await), Code::PermissionDenied);
}

#[tokio::test]
async fn of_two_that_it_has_the_first_asked_about_is_confirmed() {
    let (_world, _agent, client) = World::with(vec![ours("us"), ours("also")]).await;
    let also = "spiffe://example.org/also";
    assert_eq!(client.identify(our_pid(), &[US, also]).await.unwrap(), US);
    assert_eq!(client.identify(our_pid(), &[also, US]).await.unwrap(), also);
}

#[tokio::test]
async fn who_is_nobody_learns_nothing() {
    let (_child, pid, entry) = cat();
    let (_world, _agent, client) = World::with(vec![entry]).await;
    let status = client.identify(pid, &[CAT]).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, NO_IDENTITY));
}

#[tokio::test]
async fn a_question_must_make_sense() {
    let (_world, _agent, client) = World::with(vec![ours("us")]).await;
    let many = [US; MAX_IDS + 1];
    for (pid, any_of) in [
        (our_pid(), [].as_slice()),
        (our_pid(), &many),
        (our_pid(), &["example.org/us"]),
        (our_pid(), &[US, ""]),
        (0, &[US]),
        (-1, &[US]),
    ] {
        assert_eq!(refused(client.identify(pid, any_of).await), Code::InvalidArgument, "{pid}");
    }
    assert_eq!(client.identify(our_pid(), &many[1..]).await.unwrap(), US);
    let nobody = client.identify(i32::MAX, &[US]).await.unwrap_err();
    let none = client.identify(our_pid(), &[THEM]).await.unwrap_err();
    assert_eq!((nobody.code(), nobody.message()), (none.code(), none.message()));
}

#[tokio::test]
async fn nobody_in_quarantine_is_confirmed_or_told() {
    let (_child, pid, entry) = cat();
    let (world, _agent, client): (World, StartedAgent, _) =
        World::with(vec![ours("us"), entry]).await;
    assert_eq!(client.identify(pid, &[CAT]).await.unwrap(), CAT);
    world.server.took_in(world.server.stand(CAT, 0, true)).await;
    assert_eq!(refused(client.identify(pid, &[CAT]).await), Code::PermissionDenied);
    world.server.took_in(world.server.stand(CAT, 0, false)).await;
    assert_eq!(client.identify(pid, &[CAT]).await.unwrap(), CAT);
    world.server.took_in(world.server.stand(US, 0, true)).await;
    assert_eq!(refused(client.identify(pid, &[CAT]).await), Code::PermissionDenied);
}

#[tokio::test]
async fn without_the_header_nothing_is_answered() {
    let (world, _agent, _client) = World::with(vec![ours("us")]).await;
    let channel = workload(&world.socket()).await.channel;
    let mut callers = CallersClient::new(channel);
    let request = IdentifyRequest { pid: our_pid(), any_of: vec![US.to_owned()] };
    let status = callers.identify(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "security header missing from request");
}
