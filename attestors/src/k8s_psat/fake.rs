//! An API server that answers what a test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::{Body, ClientBuilder, DynBody};
use serde_json::{Value, json};
use tower::util::BoxService;
use tower::{BoxError, service_fn};

use super::api::ApiServer;

pub(super) const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
pub(super) const POD: &str = "GET /api/v1/namespaces/claviger/pods/agent-1";
pub(super) const NODE: &str = "GET /api/v1/nodes/node-1";
pub(super) const DISCOVERY: &str = "GET /.well-known/openid-configuration";
pub(super) const TOKEN: &str = "POST /api/v1/namespaces/claviger/serviceaccounts/agent/token";
pub(super) const KEYS: &str = "GET /openid/v1/jwks";

/// How long one question takes to travel and to be answered.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(10);

/// What an API server says to one question.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A status and an object.
    Json(u16, Value),
    /// As much as this of nothing in particular.
    Flood(usize),
    /// Nothing, ever.
    Silence,
    /// The connection breaks.
    Broken,
}

/// The API server of a cluster with the pod `agent-1` on the node `node-1`.
#[derive(Debug)]
pub(super) struct FakeApi {
    answers: Mutex<BTreeMap<&'static str, Answer>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl FakeApi {
    pub(super) fn new() -> Arc<Self> {
        let answers = BTreeMap::from([
            (REVIEW, Answer::Json(201, json!({"status": reviewed(&["spire-server"])}))),
            (POD, Answer::Json(200, pod())),
            (NODE, Answer::Json(200, node())),
        ]);
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    /// Answers `question` with `answer` from now on.
    pub(super) fn say(&self, question: &'static str, answer: Answer) {
        self.answers.lock().unwrap().insert(question, answer);
    }

    /// The questions since this was called last.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let mut asked: Vec<_> = asked.into_iter().map(|(question, _body)| question).collect();
        asked.sort();
        asked
    }

    /// The last question, and what came with it.
    pub(super) fn last_request(&self) -> (String, Value) {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }

    /// A client of it.
    pub(super) fn client(self: &Arc<Self>) -> ApiServer {
        let fake = Arc::clone(self);
        let service = service_fn(move |request: Request<Body>| {
            let fake = Arc::clone(&fake);
            async move { fake.answer(request).await }
        });
        ApiServer::over(ClientBuilder::new(BoxService::new(service), "default"))
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Box<DynBody>>, BoxError> {
        let question = format!("{} {}", request.method(), request.uri().path());
        let answer = self.answers.lock().unwrap().get(question.as_str()).cloned();
        let body = request.into_body().collect_bytes().await?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        self.asked.lock().unwrap().push((question, body));
        tokio::time::sleep(ROUND_TRIP).await;
        let missing = json!({"kind": "Status", "reason": "NotFound", "code": 404});
        let (status, body) = match answer.unwrap_or(Answer::Json(404, missing)) {
            Answer::Json(status, value) => (status, value.to_string().into_bytes()),
            Answer::Flood(size) => (200, vec![b' '; size]),
            Answer::Silence => std::future::pending().await,
            Answer::Broken => return Err("connection reset".into()),
        };
        let body: Box<DynBody> = Box::new(Full::new(body.into()).map_err(BoxError::from));
        Ok(Response::builder().status(status).body(body)?)
    }
}

/// A refusal of the API server's own making.
pub(super) fn status(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code,
        "message": "no"});
    Answer::Json(code, status)
}

/// The claims of a token for the pod.
pub(super) fn claims() -> Value {
    json!({
        "aud": ["spire-server"],
        "exp": 1_800_000_600_u64,
        "iat": 1_800_000_000_u64,
        "iss": "https://kube.example.org",
        "jti": "0d1f9b6e-6c9f-4d0a-9a57-3a1a4a1e8c11",
        "kubernetes.io": {
            "namespace": "claviger",
            "node": {"name": "node-1", "uid": "node-uid-1"},
            "pod": {"name": "agent-1", "uid": "pod-uid-1"},
            "serviceaccount": {"name": "agent", "uid": "account-uid-1"},
        },
        "nbf": 1_800_000_000_u64,
        "sub": "system:serviceaccount:claviger:agent",
    })
}

/// A token with these `claims`, which nobody signed.
pub(super) fn unsigned(claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","kid":"key"}"#);
    format!("{header}.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A review that vouches for the pod's token, as one for `audiences`.
pub(super) fn reviewed(audiences: &[&str]) -> Value {
    json!({
        "authenticated": true,
        "audiences": audiences,
        "user": {
            "username": "system:serviceaccount:claviger:agent",
            "uid": "account-uid-1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:claviger"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["agent-1"],
                "authentication.kubernetes.io/pod-uid": ["pod-uid-1"],
            },
        },
    })
}

/// The pod.
pub(super) fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "agent-1",
            "namespace": "claviger",
            "uid": "pod-uid-1",
            "labels": {"app": "agent", "secret": "x"},
        },
        "spec": {"serviceAccountName": "agent", "nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "hostIP": "192.0.2.7"},
    })
}

/// Its node.
pub(super) fn node() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "node-1",
            "uid": "node-uid-1",
            "labels": {"topology.kubernetes.io/zone": "a", "other": "y"},
        },
    })
}
