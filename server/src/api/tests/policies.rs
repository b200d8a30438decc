//! Changing policies while the server runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use claviger_core::audit::Event;
use claviger_proto::claviger::admin::v1::control_client::ControlClient;
use claviger_proto::claviger::admin::v1::{
    GetPoliciesRequest, GetPoliciesResponse, ReloadPoliciesRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use super::world::{World, refused, world, world_with};

const ONE: &str = "permit (principal, action == Action::\"issue_x509\", resource);";
const WRONG: &str = "permit (principal,\naction == Action::\"isue\", resource);";

fn control(world: &World) -> ControlClient<Channel> {
    ControlClient::new(world.operator())
}

/// A server whose policies lie in `dir`.
async fn at(dir: &Path) -> World {
    let dir = dir.to_owned();
    world_with(move |config| config.policy_dir = Some(dir)).await
}

async fn status(world: &World) -> GetPoliciesResponse {
    control(world).get_policies(GetPoliciesRequest::default()).await.unwrap().into_inner()
}

/// Waits until the policies are as `wanted`.
async fn until(
    world: &World,
    wanted: impl Fn(&GetPoliciesResponse) -> bool,
) -> GetPoliciesResponse {
    let waiting = async {
        loop {
            let now = status(world).await;
            if wanted(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap()
}

#[tokio::test]
async fn what_comes_to_lie_in_the_folder_is_put_in_force() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.cedar"), ONE).unwrap();
    let world = at(dir.path()).await;
    let first = status(&world).await;
    assert_eq!((first.count, first.refused.as_str()), (1, ""));

    fs::write(dir.path().join("a.cedar"), ONE.repeat(2)).unwrap();
    let second = until(&world, |now| now.count == 2).await;
    assert_ne!(second.digest, first.digest);
    // As editors do it.
    fs::write(dir.path().join("new"), ONE.repeat(3)).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("a.cedar")).unwrap();
    until(&world, |now| now.count == 3).await;
    fs::remove_file(dir.path().join("a.cedar")).unwrap();
    until(&world, |now| now.count == 0).await;

    let events = world.events().await;
    let loaded = events.iter().filter(|event| matches!(event, Event::PolicyLoaded { .. }));
    assert_eq!(loaded.count(), 4);
    world.stop().await;
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str, text: &str| {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a.cedar"), text).unwrap();
    };
    let point = |at: &Path, to: &str| {
        symlink(to, dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), at).unwrap();
    };
    // As Kubernetes mounts a ConfigMap.
    version("..1", ONE);
    point(&dir.path().join("..data"), "..1");
    symlink("..data/a.cedar", dir.path().join("a.cedar")).unwrap();
    let world = at(dir.path()).await;
    assert_eq!(status(&world).await.count, 1);
    version("..2", &ONE.repeat(2));
    point(&dir.path().join("..data"), "..2");
    until(&world, |now| now.count == 2).await;
    world.stop().await;

    // As deployments swap a whole tree.
    let world = at(&dir.path().join("..data")).await;
    assert_eq!(status(&world).await.count, 2);
    point(&dir.path().join("..data"), "..1");
    until(&world, |now| now.count == 1).await;
    fs::write(dir.path().join("..1/b.cedar"), ONE).unwrap();
    until(&world, |now| now.count == 2).await;
    world.stop().await;
}

#[tokio::test]
async fn wrong_policies_leave_the_old_ones_in_force_and_say_where_they_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.cedar"), ONE).unwrap();
    let world = at(dir.path()).await;
    let first = status(&world).await;
    fs::write(dir.path().join("b.cedar"), WRONG).unwrap();
    let wrong = until(&world, |now| !now.refused.is_empty()).await;
    assert_eq!((&wrong.digest, wrong.count), (&first.digest, 1));
    assert!(wrong.refused.contains("`b.cedar`, line 2"), "{}", wrong.refused);
    let reloaded = control(&world).reload_policies(ReloadPoliciesRequest {}).await;
    refused(reloaded, Code::FailedPrecondition, "`b.cedar`, line 2");

    fs::remove_file(dir.path().join("b.cedar")).unwrap();
    let right = until(&world, |now| now.refused.is_empty()).await;
    assert_eq!((right.digest, right.since), (first.digest, first.since));
    let events = world.events().await;
    let refusals = events.iter().filter(|event| matches!(event, Event::PolicyRefused { .. }));
    assert_eq!(refusals.count(), 1, "once for each mistake, however often it is read");
    world.stop().await;
}

#[tokio::test]
async fn without_a_folder_there_is_nothing_to_reload() {
    let world = world().await;
    let reloaded = control(&world).reload_policies(ReloadPoliciesRequest {}).await;
    refused(reloaded, Code::FailedPrecondition, "policy-dir");
    let digest = "00".repeat(32);
    let unknown = control(&world).get_policies(GetPoliciesRequest { digest }).await;
    refused(unknown, Code::NotFound, "");
    world.stop().await;
}
