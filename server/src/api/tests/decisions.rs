//! Decisions on record: whole, with the policies that made them, and decided again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use claviger_core::audit::Event;
use claviger_core::decision::{Action, Verdict, Why};
use claviger_core::grant::PolicyDigest;
use claviger_policy::replay::Past;
use claviger_policy::{PolicySet, Source};
use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::claviger::admin::v1::control_client::ControlClient;
use claviger_proto::claviger::admin::v1::{
    GetPoliciesRequest, ReadAuditRequest, ReloadPoliciesRequest,
};
use claviger_proto::claviger::agent::v1::IssuePskRequest;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::world::{Agent, World, entry, world_with};

const PERMISSIVE: &str = "permit (principal, action, resource);";
const OBSERVING: &str = r#"
    permit (principal, action in Action::"issue", resource);
    @mode("observe")
    permit (principal, action, resource);
"#;
const STRICT: &str = r#"permit (principal, action in Action::"issue", resource);"#;

async fn enforce(world: &World, dir: &Path, text: &str) {
    std::fs::write(dir.join("p.cedar"), text).unwrap();
    let mut control = ControlClient::new(world.operator());
    control.reload_policies(ReloadPoliciesRequest {}).await.unwrap();
}

async fn ask(agent: &Agent, purpose: &str) -> Code {
    let request = IssuePskRequest {
        client_id: "spiffe://example.org/web".into(),
        server_id: "spiffe://example.org/db".into(),
        purpose: purpose.into(),
        ttl_seconds: 30,
        ..IssuePskRequest::default()
    };
    let issued = AgentPskClient::new(agent.channel.clone()).issue_psk(request).await;
    issued.map_or_else(|status| status.code(), |_issued| Code::Ok)
}

async fn policies(world: &World, digest: PolicyDigest) -> PolicySet {
    let request = GetPoliciesRequest { digest: digest.to_string() };
    let answer = ControlClient::new(world.operator()).get_policies(request).await.unwrap();
    let files = serde_json::from_slice(&answer.into_inner().policies).unwrap();
    let set = PolicySet::compile(Source::new(files)).unwrap();
    assert_eq!(set.digest(), digest);
    set
}

#[tokio::test]
async fn what_was_decided_under_changing_policies_is_decided_again_alike() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.cedar"), PERMISSIVE).unwrap();
    let world = world_with(|config| config.policy_dir = Some(dir.path().into())).await;
    let web = world.admitted().await;
    world
        .create(vec![
            entry("web", &web.id, "/web", "unix:uid:1"),
            entry("db", &web.id, "/db", "unix:uid:2"),
        ])
        .await;
    assert_eq!(ask(&web, "one").await, Code::Ok);
    enforce(&world, dir.path(), OBSERVING).await;
    assert_eq!(ask(&web, "two").await, Code::Ok);
    world.recorded(|event| matches!(event, Event::Observed { .. })).await;
    enforce(&world, dir.path(), STRICT).await;
    assert_eq!(ask(&web, "three").await, Code::PermissionDenied);
    world
        .recorded(|event| {
            let Event::Denied { decided, why, .. } = event else { return false };
            *why == Why::Policy && decided.question.action == Action::IssuePsk
        })
        .await;

    let request = ReadAuditRequest::default();
    let records = AdminClient::new(world.operator()).read_audit(request).await.unwrap();
    let records: Vec<_> = records.into_inner().map(Result::unwrap).collect().await;
    let (mut sets, mut verdicts) = (HashMap::new(), Vec::new());
    for record in records {
        let Some(past) = Past::on_record(&record.body).unwrap() else { continue };
        let digest = past.decided.decision.policy;
        if let Entry::Vacant(unknown) = sets.entry(digest) {
            unknown.insert(policies(&world, digest).await);
        }
        assert_eq!(past.differs(&sets[&digest]), None, "{}", past.event);
        verdicts.push((past.event.clone(), past.verdict()));
    }
    assert_eq!(sets.len(), 3);
    for (event, verdict) in [
        ("x509_svid_issued", Verdict::Permit),
        ("psk_issued", Verdict::Permit),
        ("psk_issued", Verdict::Observe),
        ("observed", Verdict::Observe),
        ("denied", Verdict::Deny),
    ] {
        assert!(verdicts.contains(&(event.to_owned(), verdict)), "{event} in {verdicts:?}");
    }
}

#[tokio::test]
async fn policies_that_never_were_in_force_are_not_found() {
    let world = world_with(|_| {}).await;
    let get = async |digest: &str| {
        let request = GetPoliciesRequest { digest: digest.to_owned() };
        let answer = ControlClient::new(world.operator()).get_policies(request).await;
        answer.map(drop).map_err(|status| status.code())
    };
    assert_eq!(get("").await, Ok(()));
    assert_eq!(get(&PolicyDigest::of(b"none").to_string()).await, Err(Code::NotFound));
    assert_eq!(get("none").await, Err(Code::InvalidArgument));
}
