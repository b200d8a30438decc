//! What an operator asks beyond SPIRE's API, and what stops a server from starting.

use std::sync::Arc;

use claviger_core::audit::receipt::Receipt;
use claviger_core::audit::{Checkpoint, Event, SignedCheckpoint, TreeHash};
use claviger_core::time::Clock;
use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::claviger::admin::v1::{
    GetCheckpointRequest, ProveRecordRequest, ReadAuditRequest,
};
use claviger_proto::spire::server::bundle::v1::GetBundleRequest;
use claviger_proto::spire::types::BundleMask;
use claviger_runtime::tasks::Tasks;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::world::{World, bundles, config, refused, world, world_with};
use crate::config::Config;
use crate::run::Server;
use crate::storage::fixture::{NOW, TestClock};

async fn read(world: &World, request: ReadAuditRequest) -> Vec<u64> {
    let records = AdminClient::new(world.operator()).read_audit(request).await.unwrap();
    records.into_inner().map(|record| record.unwrap().sequence).collect().await
}

#[tokio::test]
async fn the_log_is_read_from_either_end() {
    let world = world().await;
    let events = world.events().await;
    let kinds = serde_json::to_value(&events).unwrap();
    let kinds: Vec<_> =
        kinds.as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(
        kinds,
        [
            "epoch_fenced",
            "server_started",
            "policy_loaded",
            "authority_prepared",
            "authority_activated",
            "authority_prepared",
            "authority_activated",
            "authority_prepared",
            "authority_activated",
            "policies_signed",
            "x509_svid_issued"
        ],
        "how a server starts"
    );
    let by = ReadAuditRequest::default;
    assert_eq!(read(&world, ReadAuditRequest { last: 2, ..by() }).await, [10, 11]);
    assert_eq!(read(&world, ReadAuditRequest { last: 99, limit: 2, ..by() }).await, [1, 2]);
    assert_eq!(read(&world, ReadAuditRequest { from_sequence: 10, ..by() }).await, [10, 11]);
    assert_eq!(read(&world, ReadAuditRequest { from_sequence: 12, ..by() }).await, [0; 0]);
}

#[tokio::test]
async fn the_log_is_followed_as_it_grows() {
    let world = world().await;
    let request = ReadAuditRequest { follow: true, from_sequence: 12, ..Default::default() };
    let records = AdminClient::new(world.operator()).read_audit(request).await.unwrap();
    let mut records = records.into_inner();
    let (record, _node) = tokio::join!(records.message(), world.token());
    let record = record.unwrap().unwrap();
    assert_eq!(record.sequence, 12);
    assert!(String::from_utf8(record.body).unwrap().contains("join_token_created"));
    world.stop().await;
    assert!(records.message().await.unwrap().is_none(), "following ends with the server");
}

#[tokio::test]
async fn a_checkpoint_names_the_end_of_the_log() {
    let world = world().await;
    let mut admin = AdminClient::new(world.operator());
    let request = GetCheckpointRequest::default();
    let wire = admin.get_checkpoint(request).await.unwrap().into_inner();
    let key = wire.verifier_key.parse().unwrap();
    let signed = SignedCheckpoint::open(&wire.note, &key).unwrap();
    let Checkpoint { epoch, head, time, .. } = signed.checkpoint();
    assert_eq!((*epoch, head.size, time.as_secs()), (1, 11, NOW));
    let request = GetCheckpointRequest { witnessed: true };
    refused(admin.get_checkpoint(request).await, Code::NotFound, "no witness");
}

#[tokio::test]
async fn every_record_is_shown_to_be_in_the_log() {
    let world = world().await;
    let mut admin = AdminClient::new(world.operator());
    for sequence in 1..=11 {
        let proof = admin.prove_record(ProveRecordRequest { sequence }).await.unwrap().into_inner();
        let wire = proof.checkpoint.unwrap();
        let hash = |bytes: Vec<u8>| TreeHash::from_bytes(bytes.try_into().unwrap());
        let receipt = Receipt {
            body: proof.body,
            sequence,
            path: proof.path.into_iter().map(hash).collect(),
            checkpoint: wire.note.parse().unwrap(),
        };
        let signed = receipt.verify(&wire.verifier_key.parse().unwrap(), &[]).unwrap();
        assert_eq!(signed.checkpoint().head.size, 11);
    }
    for sequence in [0, 12] {
        let missing = admin.prove_record(ProveRecordRequest { sequence }).await;
        refused(missing, Code::NotFound, "no record");
    }
}

#[tokio::test]
async fn a_bundle_shows_what_its_mask_names() {
    let world = world().await;
    let mask = BundleMask { sequence_number: true, ..BundleMask::default() };
    let request = GetBundleRequest { output_mask: Some(mask) };
    let bundle = bundles(&world.operator()).get_bundle(request).await.unwrap().into_inner();
    assert_eq!((bundle.trust_domain.as_str(), bundle.sequence_number), ("example.org", 3));
    assert!(bundle.x509_authorities.is_empty());
    let all = bundles(&world.operator()).get_bundle(GetBundleRequest::default()).await.unwrap();
    let der = &all.into_inner().x509_authorities[0].asn1;
    let pem = pem::parse(&world.running.bundle_pem).unwrap();
    assert_eq!(pem.contents(), &der[..]);
}

#[tokio::test]
async fn a_server_goes_on_where_it_stopped() {
    let first = world().await;
    let agent = first.admitted().await;
    let bundle = first.running.bundle_pem.clone();
    let dir = first.stop().await;

    let second = world_with(|config| *config = self::config(dir.path())).await;
    assert_eq!(second.running.bundle_pem, bundle);
    let channel = second.remote(Some(&agent.identity));
    let request = claviger_proto::spire::server::agent::v1::PostStatusRequest::default();
    super::world::agents(&channel).post_status(request).await.unwrap();
    let fences = second.events().await;
    let fences = fences.iter().filter(|event| matches!(event, Event::EpochFenced { .. }));
    assert_eq!(fences.count(), 1, "stopped in good order");
}

async fn does_not_start(config: Config, why: &str) {
    let tasks = Tasks::default();
    let clock: Arc<dyn Clock> = TestClock::at(NOW);
    let error = Server::start(config, clock, &tasks).await.unwrap_err();
    tasks.stop();
    let text = claviger_runtime::telemetry::Chain(&error).to_string();
    assert!(text.contains(why), "{text}");
}

#[tokio::test]
async fn what_stops_a_server_is_named() {
    let running = world().await;
    let mut taken = config(running.dir.path());
    does_not_start(taken.clone(), "another server is using").await;

    let dir = tempfile::tempdir().unwrap();
    taken.data_dir = dir.path().join("a");
    does_not_start(taken, "another process listens on").await;
    let mut taken = config(dir.path());
    taken.listen = running.running.address;
    does_not_start(taken, "choose another address").await;

    let mut unruly = config(dir.path());
    unruly.data_dir = dir.path().join("b");
    std::fs::create_dir(dir.path().join("policy")).unwrap();
    std::fs::write(dir.path().join("policy/x.cedar"), "permit").unwrap();
    unruly.policy_dir = Some(dir.path().join("policy"));
    does_not_start(unruly.clone(), "`x.cedar`").await;
    unruly.policy_dir = None;
    unruly.data_dir = dir.path().join("policy/x.cedar");
    does_not_start(unruly, "x.cedar").await;
    running.stop().await;
}
