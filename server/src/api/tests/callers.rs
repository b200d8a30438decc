//! Every method demands its class of caller.

use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::claviger::admin::v1::{
    GetCheckpointRequest, ProveRecordRequest, ReadAuditRequest,
};
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_proto::claviger::agent::v1::agent_sync_client::AgentSyncClient;
use claviger_proto::claviger::agent::v1::{IssuePskRequest, RedeemPskRequest, SubscribeRequest};
use claviger_proto::spire::server::agent::v1::{
    BanAgentRequest, CountAgentsRequest, CreateJoinTokenRequest, DeleteAgentRequest,
    GetAgentRequest, ListAgentsRequest, PostStatusRequest, RenewAgentRequest,
};
use claviger_proto::spire::server::bundle::v1::{
    CountBundlesRequest, GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
};
use claviger_proto::spire::server::entry::v1::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest,
    GetAuthorizedEntriesRequest, GetEntryRequest, ListEntriesRequest, SyncAuthorizedEntriesRequest,
};
use claviger_proto::spire::server::svid::v1::{BatchNewX509svidRequest, MintX509svidRequest};
use tonic::Code;
use tonic::transport::Channel;

use super::world::{agents, bundles, entries, svids, world};

/// The codes with which the methods in `$calls` answer, each asked for nothing in particular.
macro_rules! codes {
    ($client:expr; $($method:ident $request:expr),+ $(,)?) => {
        vec![$((
            stringify!($method),
            $client.$method($request).await.map_or_else(|status| status.code(), |_| Code::Ok),
        )),+]
    };
}

async fn operators(channel: &Channel) -> Vec<(&'static str, Code)> {
    let (mut agent, mut entry) = (agents(channel), entries(channel));
    let (mut bundle, mut svid) = (bundles(channel), svids(channel));
    let mut all = codes![agent;
        count_agents CountAgentsRequest::default(),
        list_agents ListAgentsRequest::default(),
        get_agent GetAgentRequest::default(),
        delete_agent DeleteAgentRequest::default(),
        ban_agent BanAgentRequest::default(),
        create_join_token CreateJoinTokenRequest::default(),
    ];
    all.extend(codes![entry;
        count_entries CountEntriesRequest::default(),
        list_entries ListEntriesRequest::default(),
        get_entry GetEntryRequest::default(),
        batch_create_entry BatchCreateEntryRequest::default(),
        batch_update_entry BatchUpdateEntryRequest::default(),
        batch_delete_entry BatchDeleteEntryRequest::default(),
    ]);
    all.extend(codes![bundle;
        count_bundles CountBundlesRequest::default(),
        list_federated_bundles ListFederatedBundlesRequest::default(),
    ]);
    all.extend(codes![svid; mint_x509svid MintX509svidRequest::default()]);
    all
}

async fn agents_only(channel: &Channel) -> Vec<(&'static str, Code)> {
    let (mut agent, mut entry, mut svid) = (agents(channel), entries(channel), svids(channel));
    let mut all = codes![agent;
        renew_agent RenewAgentRequest::default(),
        post_status PostStatusRequest::default(),
    ];
    all.extend(codes![entry;
        get_authorized_entries GetAuthorizedEntriesRequest::default(),
        sync_authorized_entries tokio_stream::iter([SyncAuthorizedEntriesRequest::default()]),
    ]);
    all.extend(codes![svid; batch_new_x509svid BatchNewX509svidRequest::default()]);
    all
}

async fn ours_for_agents(channel: &Channel) -> Vec<(&'static str, Code)> {
    let mut sync = AgentSyncClient::new(channel.clone());
    let mut psk = AgentPskClient::new(channel.clone());
    let mut all = codes![sync; subscribe tokio_stream::iter([SubscribeRequest::default()])];
    all.extend(codes![psk;
        issue_psk IssuePskRequest::default(),
        redeem_psk RedeemPskRequest::default(),
    ]);
    all
}

async fn ours_for_operators(channel: &Channel) -> Vec<(&'static str, Code)> {
    let mut admin = AdminClient::new(channel.clone());
    codes![admin;
        read_audit ReadAuditRequest::default(),
        get_checkpoint GetCheckpointRequest::default(),
        prove_record ProveRecordRequest { sequence: 1 },
    ]
}

#[track_caller]
fn all_answer(answers: Vec<(&'static str, Code)>, code: Code) {
    for (method, answer) in answers {
        assert_eq!(answer, code, "{method}");
    }
}

#[track_caller]
fn none_answers(answers: Vec<(&'static str, Code)>, code: Code) {
    for (method, answer) in answers {
        assert_ne!(answer, code, "{method}");
    }
}

#[tokio::test]
async fn strangers_may_attest_and_read_the_bundle_and_nothing_else() {
    let world = world().await;
    let stranger = world.remote(None);
    all_answer(operators(&stranger).await, Code::PermissionDenied);
    all_answer(agents_only(&stranger).await, Code::PermissionDenied);
    all_answer(ours_for_agents(&stranger).await, Code::PermissionDenied);
    all_answer(ours_for_operators(&stranger).await, Code::PermissionDenied);
    let bundle = bundles(&stranger).get_bundle(GetBundleRequest::default()).await.unwrap();
    assert_eq!(bundle.into_inner().x509_authorities.len(), 1);
}

#[tokio::test]
async fn agents_are_no_operators() {
    let world = world().await;
    let agent = world.admitted().await;
    all_answer(operators(&agent.channel).await, Code::PermissionDenied);
    none_answers(agents_only(&agent.channel).await, Code::PermissionDenied);
    all_answer(ours_for_operators(&agent.channel).await, Code::Unimplemented);
}

#[tokio::test]
async fn the_operator_is_no_agent() {
    let world = world().await;
    let operator = world.operator();
    none_answers(operators(&operator).await, Code::PermissionDenied);
    all_answer(agents_only(&operator).await, Code::PermissionDenied);
    all_answer(ours_for_agents(&operator).await, Code::Unimplemented);
    all_answer(ours_for_operators(&operator).await, Code::Ok);
    let trust_domain = "other.org".to_owned();
    let federated = GetFederatedBundleRequest { trust_domain, output_mask: None };
    let code = bundles(&operator).get_federated_bundle(federated).await.unwrap_err().code();
    assert_eq!(code, Code::NotFound);
}

#[tokio::test]
async fn a_workloads_svid_does_not_make_an_agent() {
    let world = world().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = "spiffe://example.org/web".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    let minted = svids(&world.operator()).mint_x509svid(MintX509svidRequest { csr, ttl: 60 }).await;
    let workload = world.agent(&minted.unwrap().into_inner().svid.unwrap(), &key);
    assert_eq!(workload.id.path(), "/web");
    all_answer(agents_only(&workload.channel).await, Code::PermissionDenied);
    all_answer(operators(&workload.channel).await, Code::PermissionDenied);
}
