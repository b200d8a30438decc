//! Against pods in JSON, as the API server and the kubelet write them. The real API server is in
//! `tests/interop`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::cgroup::{Viewpoint, find};

const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";

fn id(number: u32) -> String {
    format!("{number:064x}")
}

fn uid(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}

/// A pod with one container, and one that ran before it.
fn pod(uid: &str, container: &str) -> Value {
    json!({
        "metadata": {
            "name": "web-7d4b9", "namespace": "shop", "uid": uid,
            "labels": { "app": "web", "odd": "a\nb", "x:y": "z", "empty": "" },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d", "uid": "owner" },
            ],
        },
        "spec": { "nodeName": "node-1", "serviceAccountName": "seller", "containers": [] },
        "status": {
            "containerStatuses": [{
                "name": "nginx", "image": "docker.io/nginx:1", "imageID": "docker.io/nginx@sha256:aa",
                "containerID": format!("containerd://{container}"),
                "ready": true, "restartCount": 0,
            }, {
                "name": "waiting", "image": "other", "imageID": "", "ready": false, "restartCount": 0,
            }],
            "initContainerStatuses": [{
                "name": "setup", "image": "setup:2", "imageID": "sha256:bb",
                "containerID": format!("containerd://{}", id(99)),
                "ready": true, "restartCount": 0,
            }],
        },
    })
}

fn parse(pod: Value) -> Pod {
    serde_json::from_value(pod).unwrap()
}

fn on(path: &str) -> Container {
    find(format!("0::{path}\n").as_bytes(), &Viewpoint::default()).unwrap().unwrap()
}

fn in_pod(uid: &str, container: &str) -> Container {
    on(&format!("/kubepods/burstable/pod{uid}/{container}"))
}

fn index(pods: &[Value]) -> Index {
    let index = Index::default();
    pods.iter().for_each(|pod| index.apply(&parse(pod.clone())));
    index
}

#[track_caller]
fn found(index: &Index, container: &Container, container_facts: bool) -> Vec<String> {
    match index.find(container, container_facts).unwrap() {
        Lookup::Facts(facts) => facts.iter().map(ToString::to_string).collect(),
        Lookup::NotYet => panic!("not found"),
    }
}

const POD_FACTS: [&str; 16] = [
    "k8s:node-name:node-1",
    "k8s:ns:shop",
    "k8s:pod-image-count:2",
    "k8s:pod-image:docker.io/nginx:1",
    "k8s:pod-image:docker.io/nginx@sha256:aa",
    "k8s:pod-image:other",
    "k8s:pod-init-image-count:1",
    "k8s:pod-init-image:setup:2",
    "k8s:pod-init-image:sha256:bb",
    "k8s:pod-label:app:web",
    "k8s:pod-label:empty:",
    "k8s:pod-name:web-7d4b9",
    "k8s:pod-owner-uid:ReplicaSet:owner",
    "k8s:pod-owner:ReplicaSet:web-7d",
    "k8s:pod-uid:2c48913c-b29f-11e7-9350-020968147796",
    "k8s:sa:seller",
];

#[test]
fn facts_have_spires_names() {
    let index = index(&[pod(UID, &id(1))]);
    assert_eq!(found(&index, &in_pod(UID, &id(1)), false), POD_FACTS);
    let of_container = |container: &str| -> Vec<_> {
        let mut facts = found(&index, &in_pod(UID, container), true);
        facts.retain(|fact| !POD_FACTS.contains(&fact.as_str()));
        facts
    };
    let nginx = [
        "k8s:container-image:docker.io/nginx:1",
        "k8s:container-image:docker.io/nginx@sha256:aa",
        "k8s:container-name:nginx",
    ];
    assert_eq!(of_container(&id(1)), nginx);
    let setup = ["k8s:container-image:setup:2", "k8s:container-image:sha256:bb"];
    assert_eq!(of_container(&id(99))[..2], setup);
}

#[test]
fn a_container_that_has_just_started_is_not_known_yet() {
    let index = index(&[pod(UID, &id(1))]);
    let new = in_pod(UID, &id(2));
    assert_eq!(index.find(&new, true).unwrap(), Lookup::NotYet);
    // Of the pod, there is enough to tell.
    assert_eq!(found(&index, &new, false), POD_FACTS);
    let elsewhere = in_pod(&uid(7), &id(3));
    assert_eq!(index.find(&elsewhere, false).unwrap(), Lookup::NotYet);
}

#[test]
fn control_groups_and_kubernetes_must_agree() {
    let index = index(&[pod(UID, &id(1))]);
    let error = index.find(&in_pod(&uid(7), &id(1)), true).unwrap_err().to_string();
    assert!(error.contains(UID) && error.contains(&uid(7)), "{error}");
    // Where the pod is hidden, the container alone tells.
    assert_eq!(
        found(&index, &on(&format!("/../cri-containerd-{}.scope", id(1))), false),
        POD_FACTS
    );
    index.apply(&parse(pod(&uid(8), &id(1))));
    let error = index.find(&on(&format!("/../{}", id(1))), true).unwrap_err().to_string();
    assert!(error.contains("in two pods"), "{error}");
}

#[test]
fn a_pod_made_from_a_file_is_found_by_its_mirror() {
    let hash = "0123456789abcdef0123456789abcdef";
    let mut mirror = pod(UID, &id(1));
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": hash });
    let index = index(&[mirror]);
    assert_eq!(found(&index, &in_pod(hash, &id(1)), false), POD_FACTS);
    // What another pod says of itself is no use to it.
    index.find(&in_pod(&hash.replace('0', "1"), &id(1)), true).unwrap_err();
}

#[test]
fn the_index_follows() {
    let index = index(&[pod(UID, &id(1))]);
    let mut changes = index.changes();
    let mut changed = pod(UID, &id(1));
    changed["metadata"]["labels"] = json!({ "app": "other" });
    index.apply(&parse(changed));
    assert!(changes.has_changed().unwrap());
    let facts = found(&index, &in_pod(UID, &id(1)), false);
    assert!(facts.contains(&"k8s:pod-label:app:other".to_owned()), "{facts:?}");
    assert!(!facts.contains(&"k8s:pod-label:app:web".to_owned()));

    changes.mark_unchanged();
    index.replace(&[parse(pod(&uid(2), &id(2)))]);
    assert!(changes.has_changed().unwrap());
    assert_eq!(index.find(&in_pod(UID, &id(1)), true).unwrap(), Lookup::NotYet);
    index.delete(&parse(pod(&uid(2), &id(2))));
    assert_eq!(index.len(), 0);
    index.apply(&Pod::default());
    assert_eq!(index.len(), 0);
}

#[test]
fn the_index_is_bounded() {
    let index = Index::default();
    for number in 0..1_030 {
        index.apply(&parse(pod(&uid(number), &id(number))));
    }
    assert_eq!(index.len(), 1_024);
    assert_eq!(index.find(&in_pod(&uid(1_029), &id(1_029)), true).unwrap(), Lookup::NotYet);
    // A pod that is known may change for ever.
    index.apply(&parse(pod(&uid(5), &id(2_000))));
    found(&index, &in_pod(&uid(5), &id(2_000)), true);
    let labels: serde_json::Map<_, _> = (0..1_000).map(|n| (n.to_string(), "x".into())).collect();
    let mut many = pod(&uid(5), &id(5));
    many["metadata"]["labels"] = labels.into();
    index.apply(&parse(many));
    let facts = found(&index, &in_pod(&uid(5), &id(5)), false);
    assert_eq!(facts.iter().filter(|fact| fact.starts_with("k8s:pod-label:")).count(), 256);
}

#[test]
fn only_what_root_made_is_a_pods() {
    let pod = format!("kubepods/burstable/pod{UID}/{}", id(1));
    for (path, may_be) in [
        (format!("/{pod}"), true),
        (format!("/../../pod{UID}/{}", id(1)), true),
        (format!("/../{}", id(1)), true),
        (format!("/crio-{}.scope", id(1)), true),
        (format!("/docker/{}", id(1)), false),
        (format!("/user.slice/user-1000.slice/user@1000.service/{pod}"), false),
        (format!("/system.slice/web.service/{pod}"), false),
        (format!("/../../../user-1000.slice/user@1000.service/{pod}"), false),
    ] {
        assert_eq!(may_be_a_pods(&on(&path)), may_be, "{path}");
    }
}

fn by_watch(index: Arc<Index>) -> Attestor {
    Attestor { index, kubelet: None, container_facts: true }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_waits_for_the_watch() {
    let index = Arc::new(index(&[pod(UID, &id(1))]));
    let attestor = by_watch(Arc::clone(&index));
    let container = in_pod(UID, &id(2));
    let soon = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        index.apply(&parse(pod(&uid(7), &id(7))));
        tokio::time::sleep(Duration::from_secs(2)).await;
        index.apply(&parse(pod(UID, &id(2))));
    };
    let (facts, ()) = tokio::join!(attestor.find(&container), soon);
    assert!(facts.unwrap().contains(&"k8s:container-name:nginx".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_look_up_does_not_wait_for_ever() {
    let attestor = by_watch(Arc::new(index(&[pod(UID, &id(1))])));
    let start = Instant::now();
    let error = attestor.find(&in_pod(UID, &id(2))).await.unwrap_err().to_string();
    assert_eq!(start.elapsed(), PATIENCE);
    for part in [UID, &id(2), "the API server", "1, and not this one"] {
        assert!(error.contains(part), "{error}");
    }
    let nothing = by_watch(Arc::default()).find(&in_pod(UID, &id(2))).await.unwrap_err();
    assert!(nothing.to_string().contains("none at all"), "{nothing}");
}

/// A fake kubelet that answers everything the same, to whoever has the token.
async fn kubelet(status: &str, body: Vec<u8>) -> (KubeletConfig, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2_048];
            let read = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..read]).to_lowercase();
            assert!(text.starts_with("get /pods http/1.1\r\n"), "{text}");
            assert!(text.contains("authorization: bearer opensesame\r\n"), "{text}");
            count.fetch_add(1, Ordering::Relaxed);
            // A client that has heard enough hangs up.
            drop(stream.write_all(head.as_bytes()).await);
            drop(stream.write_all(&body).await);
        }
    });
    let config = KubeletConfig {
        address,
        ca_path: None,
        token_path: Some(PathBuf::from("/nonexistent")),
        client_certificate_path: None,
        client_key_path: None,
    };
    (config, asked)
}

async fn by_kubelet(mut config: KubeletConfig) -> (Attestor, TempDir) {
    let dir = tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "OpenSesame\n").unwrap();
    config.token_path = Some(token);
    let config = Config { kubelet: Some(config), ..Config::default() };
    let (attestor, watch) = Attestor::open(&config).await.unwrap();
    assert!(watch.is_none());
    (attestor, dir)
}

#[tokio::test]
async fn many_look_ups_ask_the_kubelet_once() {
    let list = json!({ "kind": "PodList", "apiVersion": "v1", "items": [pod(UID, &id(1))] });
    let (config, asked) = kubelet("200 OK", list.to_string().into_bytes()).await;
    let (attestor, _dir) = by_kubelet(config).await;
    let container = in_pod(UID, &id(1));
    let all = futures_util::future::join_all((0..50).map(|_| attestor.find(&container))).await;
    assert!(all.into_iter().all(|facts| facts.unwrap().len() == POD_FACTS.len() + 3));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_kubelet_is_not_asked_all_the_time() {
    let list = json!({ "kind": "PodList", "apiVersion": "v1", "items": [] });
    let (config, asked) = kubelet("200 OK", list.to_string().into_bytes()).await;
    let (attestor, _dir) = by_kubelet(config).await;
    let container = in_pod(UID, &id(1));
    let patience = Duration::from_millis(1_200);
    tokio::time::timeout(patience, attestor.find(&container)).await.unwrap_err();
    // At once, and after each half of a second.
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..=3).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_kubelet_that_is_broken_is_said_so() {
    for (status, body, why) in [
        ("403 Forbidden", Vec::new(), "nodes/proxy"),
        ("302 Found", Vec::new(), "302"),
        ("200 OK", b"[]".to_vec(), "no list of pods"),
        ("200 OK", vec![b' '; 17 << 20], "more than is read"),
    ] {
        let (config, _) = kubelet(status, body).await;
        let (attestor, _dir) = by_kubelet(config).await;
        let error = attestor.find(&in_pod(UID, &id(1))).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("OpenSesame"), "{error}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let mut kubelet = KubeletConfig {
        address: "https://127.0.0.1:1".to_owned(),
        ca_path: Some("/nonexistent/ca".into()),
        token_path: None,
        client_certificate_path: None,
        client_key_path: None,
    };
    let open = async |kubelet: &KubeletConfig| {
        let config = Config { kubelet: Some(kubelet.clone()), ..Config::default() };
        Attestor::open(&config).await.unwrap_err().to_string()
    };
    assert!(open(&kubelet).await.contains("kubelet.ca-path: cannot use `/nonexistent/ca`"));
    kubelet.ca_path = Some("/dev/null".into());
    assert!(open(&kubelet).await.contains("/dev/null"));
    let config = Config {
        node_name: Some("n".to_owned()),
        kubeconfig: Some("/nonexistent/kubeconfig".into()),
        ..Config::default()
    };
    let error = Attestor::open(&config).await.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/kubeconfig"), "{error}");
}
