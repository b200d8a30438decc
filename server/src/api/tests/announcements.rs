//! Telling agents which policies are in force, and handing them out.

use claviger_core::bundle::Bundle;
use claviger_core::policies::Announcement;
use claviger_policy::local::Signed;
use claviger_policy::{Source, source};
use claviger_proto::claviger::agent::v1::FetchPoliciesRequest;
use claviger_proto::claviger::agent::v1::SubscribeResponse;
use claviger_proto::claviger::agent::v1::agent_policy_client::AgentPolicyClient;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::sync::{Stream, subscribe};
use super::world::{World, world, world_with};

async fn fetch(channel: &Channel, sha256: &[u8]) -> Result<Vec<u8>, Status> {
    let request = FetchPoliciesRequest { sha256: sha256.to_vec() };
    let pieces = AgentPolicyClient::new(channel.clone()).fetch_policies(request).await?;
    let pieces: Vec<_> = pieces.into_inner().map(|piece| piece.unwrap().bytes).collect().await;
    Ok(pieces.concat())
}

/// The announcement in `response`, checked as an agent does.
fn announced(response: &SubscribeResponse, bundle: &Bundle) -> (String, Announcement) {
    let token = response.policy.clone().unwrap().token;
    let keys = &bundle.jwt_authorities;
    let says = Announcement::verify(&token, &World::domain(), keys).unwrap();
    (token, says)
}

/// The next response that says which policies are in force.
async fn next(stream: &mut Stream) -> SubscribeResponse {
    loop {
        let response = stream.next().await.unwrap();
        if response.policy.is_some() {
            return response;
        }
    }
}

#[tokio::test]
async fn an_agent_is_told_which_policies_are_in_force_and_gets_them() {
    let world = world().await;
    let agent = world.admitted().await;
    let first = subscribe(&agent, None).await.next().await.unwrap();
    let bundle = Bundle::try_from(first.bundle.clone().unwrap()).unwrap();
    let (token, says) = announced(&first, &bundle);
    let bytes = fetch(&agent.channel, &says.sha256).await.unwrap();
    assert_eq!(Source::from_bytes(&bytes).unwrap(), Source::built_in());
    let keys = &bundle.jwt_authorities;
    let signed = Signed::open(&token, &bytes, &World::domain(), keys).unwrap();
    assert_eq!(signed.set().digest(), Source::built_in().digest());
    let other = fetch(&agent.channel, &[0; 32]).await.unwrap_err();
    assert_eq!(other.code(), Code::NotFound);
    let short = fetch(&agent.channel, &[0; 31]).await.unwrap_err();
    assert_eq!(short.code(), Code::InvalidArgument);
    let stranger = fetch(&world.remote(None), &says.sha256).await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
    let operator = fetch(&world.operator(), &says.sha256).await.unwrap_err();
    assert_eq!(operator.code(), Code::Unimplemented, "it is not served there");
}

#[tokio::test]
async fn a_change_of_policies_is_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("a.cedar"), text).unwrap();
    write(source::DEFAULT);
    let world = world_with(|config| config.policy_dir = Some(dir.path().to_owned())).await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    let first = next(&mut stream).await;
    let bundle = Bundle::try_from(first.bundle.clone().unwrap()).unwrap();
    let (_, before) = announced(&first, &bundle);
    write(source::DEV);
    let (_, after) = announced(&next(&mut stream).await, &bundle);
    assert!(before.version < after.version);
    assert_ne!((before.sha256, before.policy), (after.sha256, after.policy));
    let gone = fetch(&agent.channel, &before.sha256).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let bytes = fetch(&agent.channel, &after.sha256).await.unwrap();
    assert_eq!(Source::from_bytes(&bytes).unwrap().file("a.cedar"), Some(source::DEV));
    // What is wrong is announced to nobody.
    write("permit (principal, action, resource) when { context.no };");
    write(source::DEFAULT);
    let (_, last) = announced(&next(&mut stream).await, &bundle);
    assert_eq!(last.sha256, before.sha256);
    assert!(after.version < last.version);
}
