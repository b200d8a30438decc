//! How evidence was judged, shown to the operator and signed for others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_core::audit::Event;
use claviger_core::evidence::Appraisal;
use claviger_core::grant::Requester;
use claviger_core::jose::compact::Compact;
use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::claviger::admin::v1::{GetAppraisalRequest, GetAppraisalResponse};
use claviger_proto::spire::server::agent::v1::BanAgentRequest;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::bundle::v1::GetBundleRequest;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::world::{Agent, World, bundles, world};
use crate::storage::fixture::NOW;

async fn appraisal(
    world: &World,
    request: GetAppraisalRequest,
) -> Result<GetAppraisalResponse, Status> {
    let answer = AdminClient::new(world.operator()).get_appraisal(request).await;
    answer.map(tonic::Response::into_inner)
}

/// A request for the signed appraisal of `agent`.
fn signed(agent: &Agent) -> GetAppraisalRequest {
    GetAppraisalRequest { agent_id: agent.id.to_string(), sign: true, nonce: Vec::new(), ttl: 0 }
}

#[tokio::test]
async fn an_agents_appraisal_is_remembered_and_shown() {
    let world = world().await;
    let agent = world.attest(&world.token().await).await.unwrap();
    let request = GetAppraisalRequest { sign: false, ..signed(&agent) };
    let answer = appraisal(&world, request).await.unwrap();
    let shown: Appraisal = serde_json::from_slice(&answer.appraisal).unwrap();
    assert_eq!((answer.appraised_at, answer.token.as_str()), (NOW, ""));
    let events = world.events().await;
    let recorded = events.iter().find_map(|event| {
        let Event::AgentAttested { appraisal, .. } = event else { return None };
        appraisal.clone()
    });
    assert_eq!(Some(shown), recorded);
    assert!(!events.iter().any(|event| matches!(event, Event::EarIssued { .. })));
}

#[tokio::test]
async fn a_result_is_recorded_and_signed_by_the_key_of_jwt_svids() {
    let world = world().await;
    let agent = world.attest(&world.token().await).await.unwrap();
    let request = GetAppraisalRequest { nonce: b"12345678".to_vec(), ..signed(&agent) };
    let answer = appraisal(&world, request).await.unwrap();

    let token = Compact::parse(&answer.token).unwrap();
    assert_eq!(token.kind.as_deref(), Some("eat+jwt"));
    let request = GetBundleRequest { output_mask: None };
    let bundle = bundles(&world.operator()).get_bundle(request).await.unwrap().into_inner();
    let key = bundle.jwt_authorities.iter().find(|key| key.key_id == token.key_id).unwrap();
    let key = claviger_core::jose::PublicKey::from_spki(&key.public_key).unwrap();
    assert!(key.verifies(token.algorithm, token.signed.as_bytes(), &token.signature));

    let claims: Value = serde_json::from_slice(&token.payload).unwrap();
    assert_eq!(claims["claviger_agent"], json!(agent.id));
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(answer.expires_at)));
    assert_eq!(claims["eat_nonce"], URL_SAFE_NO_PAD.encode("12345678"));
    assert_eq!(claims["submods"]["join_token"]["ear_status"], "none");
    let Some(Event::EarIssued { agent: about, appraised_at, requester, .. }) =
        world.events().await.pop()
    else {
        panic!("no record of it")
    };
    assert_eq!((about, appraised_at.as_secs()), (agent.id, NOW));
    assert!(matches!(requester, Requester::Operator { .. }));
}

#[tokio::test]
async fn nobody_is_to_rely_on_an_agent_that_is_out() {
    let world = world().await;
    let agent = world.attest(&world.token().await).await.unwrap();
    let refused = async |request| appraisal(&world, request).await.unwrap_err().code();
    let stranger = GetAppraisalRequest {
        agent_id: "spiffe://example.org/spire/agent/x/1".to_owned(),
        ..signed(&agent)
    };
    assert_eq!(refused(stranger).await, Code::NotFound);
    let malformed = GetAppraisalRequest { agent_id: "x".to_owned(), ..signed(&agent) };
    assert_eq!(refused(malformed).await, Code::InvalidArgument);
    for length in [7, 65] {
        let odd = GetAppraisalRequest { nonce: vec![1; length], ..signed(&agent) };
        assert_eq!(refused(odd).await, Code::InvalidArgument);
    }
    let short = GetAppraisalRequest { ttl: 1, ..signed(&agent) };
    assert_eq!(refused(short).await, Code::InvalidArgument);

    // It ends with the SVID of the agent, however long it is asked to last.
    let long = GetAppraisalRequest { ttl: 1_000_000, ..signed(&agent) };
    let end = appraisal(&world, long).await.unwrap().expires_at;
    assert_eq!(end, NOW + 3_600);
    let ban = BanAgentRequest { id: Some((&agent.id).into()) };
    AgentClient::new(world.operator()).ban_agent(ban).await.unwrap();
    assert_eq!(refused(signed(&agent)).await, Code::FailedPrecondition);
    let shown = GetAppraisalRequest { sign: false, ..signed(&agent) };
    assert_eq!(appraisal(&world, shown).await.unwrap().appraised_at, NOW);
}

#[tokio::test]
async fn an_agent_whose_svid_has_ended_has_to_attest_again() {
    let world = world().await;
    let agent = world.attest(&world.token().await).await.unwrap();
    world.clock.advance(3_600);
    let refused = appraisal(&world, signed(&agent)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("attest again"), "{}", refused.message());
}
