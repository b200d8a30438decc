use std::sync::Arc;
use std::time::Duration;

use claviger_core::evidence::{Binding, Bond, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::fake::{
    Answer, DISCOVERY, FakeApi, KEYS, NODE, POD, REVIEW, ROUND_TRIP, claims, node, pod, reviewed,
    status, unsigned,
};
use super::*;
use crate::NoConversation;
use crate::jwks::audience::bound;
use crate::jwks::fixture::SigningKey;

/// A verifier of the clusters `prod` and `dev`, each with an API server of its own.
struct World {
    prod: Arc<FakeApi>,
    dev: Arc<FakeApi>,
    verifier: Verifier,
    trust_domain: TrustDomain,
    now: UnixTime,
}

impl World {
    fn new(settings: &str) -> Self {
        let (prod, dev) = (FakeApi::new(), FakeApi::new());
        let toml = format!(
            "service-account-allow-list = ['claviger:agent']\n\
             allowed-pod-label-keys = ['app']\n\
             allowed-node-label-keys = ['topology.kubernetes.io/zone']\n{settings}"
        );
        let config = toml::from_str(&toml).unwrap();
        let clusters = [("prod", &prod), ("dev", &dev)].map(|(name, fake)| {
            (name.to_owned(), Cluster::new(name, &config, fake.client()).unwrap())
        });
        Self {
            prod,
            dev,
            verifier: Verifier { clusters: clusters.into() },
            trust_domain: "example.org".parse().unwrap(),
            now: UnixTime::from_secs(1_800_000_100),
        }
    }

    /// Presents a token with `claims` as one of `prod`.
    async fn present(&self, claims: &Value) -> Result<AttestedNode, VerifyError> {
        self.present_token("prod", &unsigned(claims)).await
    }

    async fn present_token(&self, cluster: &str, token: &str) -> Result<AttestedNode, VerifyError> {
        let evidence = json!({"cluster": cluster, "token": token}).to_string();
        self.present_bytes(evidence.as_bytes()).await
    }

    async fn present_bytes(&self, evidence: &[u8]) -> Result<AttestedNode, VerifyError> {
        let claim = NodeClaim {
            evidence,
            key: &KeyDigest::of_spki(b"key"),
            binding: &self.binding(),
            trust_domain: &self.trust_domain,
            caller: None,
            now: self.now,
        };
        self.verifier.verify(claim, &mut NoConversation).await
    }

    fn binding(&self) -> Binding {
        Binding::new(KIND, b"key", &self.trust_domain)
    }

    /// By whose word `token` of `prod` is accepted.
    async fn accepted(&self, token: &str) -> String {
        self.present_token("prod", token).await.unwrap().appraisal().source.clone()
    }

    /// Why the usual token is not genuine.
    async fn refused(&self) -> String {
        let error = self.present(&claims()).await.unwrap_err();
        assert!(matches!(error, VerifyError::NotGenuine(_)), "{error:?}");
        error.to_string()
    }

    /// Why the usual token can't be judged.
    async fn undecided(&self) -> String {
        let error = self.present(&claims()).await.unwrap_err();
        assert!(matches!(error, VerifyError::Unavailable(_)), "{error:?}");
        std::error::Error::source(&error).unwrap().to_string()
    }
}

fn selectors(node: &AttestedNode) -> Vec<String> {
    node.selectors().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_pods_token_earns_the_identity_of_its_node() {
    let node = World::new("").present(&claims()).await.unwrap();
    assert_eq!(node.id().to_string(), "spiffe://example.org/spire/agent/k8s_psat/prod/node-uid-1");
    assert!(node.reattestable());
    let appraisal = node.appraisal();
    assert_eq!(
        (appraisal.kind.as_str(), appraisal.bond, appraisal.source.as_str()),
        ("k8s_psat", Bond::Bearer, "token review")
    );
    let expected = [
        "k8s_psat:agent_node_ip:192.0.2.7",
        "k8s_psat:agent_node_label:topology.kubernetes.io/zone:a",
        "k8s_psat:agent_node_name:node-1",
        "k8s_psat:agent_node_uid:node-uid-1",
        "k8s_psat:agent_ns:claviger",
        "k8s_psat:agent_pod_label:app:agent",
        "k8s_psat:agent_pod_name:agent-1",
        "k8s_psat:agent_pod_uid:pod-uid-1",
        "k8s_psat:agent_sa:agent",
        "k8s_psat:cluster:prod",
    ];
    assert_eq!(selectors(&node), expected);
}

/// Kubernetes accepts no such label; what answers in its place might.
#[tokio::test]
async fn a_label_that_no_entry_can_ask_for_is_left_out() {
    let world = World::new("");
    for (value, is_said) in [("", true), ("a b:c", true), ("a\nb", false), ("\u{1b}[2J", false)] {
        let mut pod = pod();
        pod["metadata"]["labels"]["app"] = json!(value);
        world.prod.say(POD, Answer::Json(200, pod));
        let said = selectors(&world.present(&claims()).await.unwrap());
        let selector = format!("k8s_psat:agent_pod_label:app:{value}");
        assert_eq!(said.contains(&selector), is_said, "{value:?}");
        assert_eq!(said.len(), if is_said { 10 } else { 9 }, "{said:?}");
    }
}

#[tokio::test]
async fn an_agent_can_be_named_for_its_pod() {
    let node = World::new("use-pod-uid-for-agent-id = true").present(&claims()).await.unwrap();
    let id = "spiffe://example.org/spire/agent/k8s_psat/prod/pod/pod-uid-1";
    assert_eq!(node.id().to_string(), id);
}

#[tokio::test]
async fn a_bound_token_is_for_one_key() {
    let world = World::new("require-binding = true");
    assert!(world.refused().await.contains("require-binding"));
    assert_eq!(world.prod.asked(), [""; 0]);

    let audience = bound("spire-server", &world.binding());
    let mut claims = claims();
    claims["aud"] = json!([audience]);
    let confirmed = json!({"status": reviewed(&[&audience])});
    world.prod.say(REVIEW, Answer::Json(201, confirmed));
    let node = world.present(&claims).await.unwrap();
    assert_eq!(node.appraisal().bond, Bond::Key);

    // An API server that would confirm the audience without the key does not confirm the key.
    world.prod.say(REVIEW, Answer::Json(201, json!({"status": reviewed(&["spire-server"])})));
    let error = world.present(&claims).await.unwrap_err().to_string();
    assert!(error.contains("does not confirm"), "{error}");

    let other = Binding::new(KIND, b"other", &world.trust_domain);
    claims["aud"] = json!([bound("spire-server", &other)]);
    let error = world.present(&claims).await.unwrap_err().to_string();
    assert!(error.contains("another key"), "{error}");
}

#[tokio::test]
async fn what_strangers_make_up_is_no_work_for_the_api_server() {
    let world = World::new("");
    let with = |path: &str, value: Value| {
        let mut claims = claims();
        *claims.pointer_mut(path).unwrap() = value;
        claims
    };
    for (claims, why) in [
        (with("/aud", json!(["kubernetes"])), "meant for somebody else"),
        (with("/exp", json!(1_800_000_100)), "ended at"),
        (with("/nbf", json!(1_800_000_161)), "from the future"),
        (with("/kubernetes.io/namespace", json!("x")), "not the service account"),
        (with("/kubernetes.io/pod", Value::Null), "not bound to a pod"),
        (with("/kubernetes.io/pod/name", json!("a/log")), "payload"),
    ] {
        let error = world.present(&claims).await.unwrap_err();
        assert!(matches!(error, VerifyError::NotGenuine(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let mut stranger = with("/sub", json!("system:serviceaccount:claviger:other"));
    stranger["kubernetes.io"]["serviceaccount"]["name"] = json!("other");
    let error = world.present(&stranger).await.unwrap_err().to_string();
    assert!(error.contains("`claviger:other` is not in `service-account-allow-list`"), "{error}");

    let error = world.present_token("test", &unsigned(&claims())).await.unwrap_err().to_string();
    assert!(error.contains("no cluster `test`"), "{error}");
    for bad in [b"".as_slice(), b"{}", b"\xff", br#"{"cluster":"prod\n","token":"t"}"#] {
        let error = world.present_bytes(bad).await.unwrap_err();
        assert!(matches!(error, VerifyError::Malformed), "{error:?}");
    }
    assert_eq!((world.prod.asked(), world.dev.asked()), (vec![], vec![]));
}

#[tokio::test]
async fn each_cluster_speaks_for_itself() {
    let world = World::new("");
    let unknown = json!({"status": {"authenticated": false, "error": "invalid bearer token"}});
    world.dev.say(REVIEW, Answer::Json(201, unknown));
    let error = world.present_token("dev", &unsigned(&claims())).await.unwrap_err().to_string();
    assert!(error.contains("cluster `dev`") && error.contains("invalid bearer token"), "{error}");
    assert_eq!(world.prod.asked(), [""; 0]);
    assert!(!world.dev.asked().is_empty());
}

#[tokio::test]
async fn a_review_that_does_not_vouch_refuses() {
    let world = World::new("");
    for (path, value, why) in [
        ("/authenticated", json!(false), "does not accept the token"),
        ("/audiences", Value::Null, "does not confirm"),
        ("/user/username", json!("admin"), "no pod's"),
        ("/user/username", json!("system:serviceaccount:claviger:other"), "another one's"),
    ] {
        let mut review = reviewed(&["spire-server"]);
        *review.pointer_mut(path).unwrap() = value;
        world.prod.say(REVIEW, Answer::Json(201, json!({"status": review})));
        let refused = world.refused().await;
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_pod_or_node_that_is_gone_or_another_refuses() {
    let world = World::new("");
    world.prod.say(POD, status(404, "NotFound"));
    assert!(world.refused().await.contains("there is no pod `agent-1`"));
    let mut other = pod();
    other["metadata"]["uid"] = json!("pod-uid-2");
    world.prod.say(POD, Answer::Json(200, other));
    assert!(world.refused().await.contains("the pod was replaced"));

    // Another world, which has not seen the node.
    let world = World::new("");
    world.prod.say(NODE, status(404, "NotFound"));
    assert!(world.refused().await.contains("there is no node `node-1`"));
    let mut other = node();
    other["metadata"]["uid"] = json!("node-uid-2");
    world.prod.say(NODE, Answer::Json(200, other));
    assert!(world.refused().await.contains("the node was replaced"));
    world.prod.say(NODE, Answer::Json(200, node()));
    assert_eq!(world.accepted(&unsigned(&claims())).await, "token review");
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let world = World::new("offline-keys = true");
    for (question, right) in [
        (REVIEW, "create tokenreviews.authentication.k8s.io"),
        (POD, "get pods"),
        (NODE, "get nodes"),
    ] {
        let fake = World::new("offline-keys = true");
        fake.prod.say(question, status(403, "Forbidden"));
        assert!(fake.undecided().await.contains(right), "{right}");
    }
    world.prod.say(REVIEW, status(401, "Unauthorized"));
    assert!(world.undecided().await.contains("credentials"));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_admits_nobody() {
    for question in [REVIEW, POD, NODE] {
        for answer in [
            Answer::Silence,
            Answer::Broken,
            Answer::Flood(3 << 20),
            Answer::Json(200, json!([])),
            Answer::Json(200, json!("no object")),
            status(500, "InternalError"),
            status(429, "TooManyRequests"),
        ] {
            let world = World::new("timeout = '3s'");
            world.prod.say(question, answer.clone());
            let begin = Instant::now();
            world.undecided().await;
            assert!(begin.elapsed() <= Duration::from_secs(3), "{question}: {answer:?}");
        }
    }
}

/// All questions at once; and a node is looked up again after a minute only.
#[tokio::test(start_paused = true)]
async fn judging_takes_one_round_trip() {
    let mut world = World::new("");
    let mut judged = async |now: u64, claims: &Value| {
        world.now = UnixTime::from_secs(now);
        let begin = Instant::now();
        assert_eq!(world.accepted(&unsigned(claims)).await, "token review");
        (world.prod.asked().len(), begin.elapsed().as_millis() / ROUND_TRIP.as_millis())
    };
    assert_eq!(judged(1_800_000_100, &claims()).await, (3, 1));
    assert_eq!(judged(1_800_000_100, &claims()).await, (2, 1));
    assert_eq!(judged(1_800_000_160, &claims()).await, (3, 1));
    // An old cluster's token does not say which node to ask about.
    let mut old = claims();
    old["kubernetes.io"].as_object_mut().unwrap().remove("node");
    assert_eq!(judged(1_800_000_161, &old).await, (2, 1));
    assert_eq!(judged(1_800_000_260, &old).await, (3, 2));
}

/// A world whose clusters' keys may be believed, and a token that `prod` signed.
async fn offline_world() -> (World, SigningKey) {
    let world = World::new("offline-keys = true");
    let key = SigningKey::rsa("key-1");
    let document = json!({"issuer": "https://kube.example.org", "jwks_uri": "https://elsewhere"});
    world.prod.say(DISCOVERY, Answer::Json(200, document));
    let keys = serde_json::from_str(&key.set()).unwrap();
    world.prod.say(KEYS, Answer::Json(200, keys));
    assert_eq!(world.accepted(&key.token(&claims())).await, "token review");
    (world, key)
}

#[tokio::test(start_paused = true)]
async fn cached_keys_prove_what_the_token_says_and_no_more() {
    let (world, key) = offline_world().await;
    for answer in [Answer::Silence, Answer::Broken, status(503, "ServiceUnavailable")] {
        world.prod.say(REVIEW, answer);
        let node = world.present_token("prod", &key.token(&claims())).await.unwrap();
        assert_eq!(node.appraisal().source, "cached keys");
        assert!(node.id().path().ends_with("/prod/node-uid-1"));
        let expected = [
            "k8s_psat:agent_node_name:node-1",
            "k8s_psat:agent_node_uid:node-uid-1",
            "k8s_psat:agent_ns:claviger",
            "k8s_psat:agent_pod_name:agent-1",
            "k8s_psat:agent_pod_uid:pod-uid-1",
            "k8s_psat:agent_sa:agent",
            "k8s_psat:cluster:prod",
        ];
        assert_eq!(selectors(&node), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn cached_keys_admit_nobody_else() {
    let (world, key) = offline_world().await;
    world.prod.say(REVIEW, Answer::Broken);
    let present = async |token: &str| {
        let error = world.present_token("prod", token).await.unwrap_err();
        (matches!(error, VerifyError::NotGenuine(_)), error.to_string())
    };
    let forged = SigningKey::rsa("key-1").token(&claims());
    assert!(present(&forged).await.0);
    let mut other = claims();
    other["iss"] = json!("https://kube.example.org/");
    assert!(present(&key.token(&other)).await.1.contains("another issuer"));
    other["iss"] = json!("https://kube.example.org");
    other["exp"] = json!(1_800_000_099);
    assert!(present(&key.token(&other)).await.1.contains("ended at"));
    // The identity of an agent is its node's, and an old cluster's token does not say which that is.
    let mut old = claims();
    old["kubernetes.io"].as_object_mut().unwrap().remove("node");
    assert!(present(&key.token(&old)).await.1.contains("nothing says which node"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_not_asked_when_the_api_server_says_no() {
    let (world, key) = offline_world().await;
    let gone = json!({"status": {"authenticated": false, "error": "pod is gone"}});
    world.prod.say(REVIEW, Answer::Json(201, gone));
    let error = world.present_token("prod", &key.token(&claims())).await.unwrap_err().to_string();
    assert!(error.contains("pod is gone"), "{error}");
    world.prod.say(REVIEW, status(403, "Forbidden"));
    let error = world.present_token("prod", &key.token(&claims())).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_never_fetched_or_are_too_old_admit_nobody() {
    let world = World::new("offline-keys = true");
    world.prod.say(REVIEW, Answer::Broken);
    let why = world.undecided().await;
    assert!(why.contains("away"), "{why}");

    let (world, key) = offline_world().await;
    for question in [REVIEW, DISCOVERY, KEYS] {
        world.prod.say(question, Answer::Broken);
    }
    let token = key.token(&claims());
    tokio::time::advance(Duration::from_hours(23)).await;
    assert_eq!(world.accepted(&token).await, "cached keys");
    tokio::time::advance(Duration::from_hours(2)).await;
    let error = world.present_token("prod", &token).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_found_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    let open = |yaml: Option<&str>| {
        if let Some(yaml) = yaml {
            std::fs::write(&path, yaml).unwrap();
        }
        let toml = format!(
            "[prod]\nservice-account-allow-list = ['a:b']\nkubeconfig = '{}'",
            path.display()
        );
        Verifier::open(&toml::from_str(&toml).unwrap())
    };
    let kubeconfig = |cluster: &str| {
        format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{{cluster}}}}}], users: [{{name: u, user: {{}}}}]}}"
        )
    };
    let text = |result: Result<Verifier, OpenClusterError>| {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("`prod`"), "{error}");
        std::error::Error::source(&error).unwrap().to_string()
    };
    assert!(text(open(None)).contains("no kubeconfig"));
    assert!(text(open(Some("nonsense: ["))).contains("no kubeconfig"));
    for insecure in
        ["server: 'http://kube'", "server: 'https://kube', insecure-skip-tls-verify: true"]
    {
        assert!(text(open(Some(&kubeconfig(insecure)))).contains("anybody could answer"));
    }
    open(Some(&kubeconfig("server: 'https://kube'"))).unwrap();
}
