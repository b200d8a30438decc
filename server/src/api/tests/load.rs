//! Too much of it.

use claviger_proto::claviger::agent::v1::RedeemPskRequest;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_proto::spire::server::agent::v1::CountAgentsRequest;
use tonic::Code;

use super::world::*;

/// What an agent is told when it lists, `times` times, what it may not see.
async fn list(agent: &Agent, times: usize) -> Vec<tonic::Status> {
    let mut told = Vec::new();
    for _ in 0..times {
        let counted = agents(&agent.channel).count_agents(CountAgentsRequest::default()).await;
        told.push(counted.unwrap_err());
    }
    told
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back_and_can_still_redeem() {
    let world = world_with(|config| config.limits.rates.caller = 4).await;
    let (greedy, modest) = (world.admitted().await, world.admitted().await);
    let told = list(&greedy, 30).await;
    assert_eq!(told[0].code(), Code::PermissionDenied);
    let refused = told.last().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().starts_with("the caller asks too often; try again in "));
    let seconds = refused.metadata().get("retry-after").unwrap().to_str().unwrap();
    let millis = refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    let (seconds, millis): (u64, u64) = (seconds.parse().unwrap(), millis.parse().unwrap());
    assert!((1..=2).contains(&seconds) && (1..=1_000 * seconds).contains(&millis));

    // A connection that was permitted before is not held up by listings.
    let nothing = RedeemPskRequest::default();
    let redeemed = AgentPskClient::new(greedy.channel.clone()).redeem_psk(nothing).await;
    assert_ne!(redeemed.map(drop).unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(list(&modest, 1).await[0].code(), Code::PermissionDenied, "others are served");
    for _ in 0..100 {
        agents(&world.operator()).count_agents(CountAgentsRequest::default()).await.unwrap();
    }
    world.stop().await;
}
