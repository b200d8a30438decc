//! A Kubernetes cluster: a stand-in for its API server that knows one pod on one node, or a real one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_attestors::k8s_psat::{self, Claims};
use claviger_core::time::{Clock as _, SystemClock};
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{WebCertificate, web_server_config};
use claviger_server::config::AttestorsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::signer::Signer;
use super::{Platform, RealCluster, quoted, settings, tables, web};
use crate::failure::Failure;
use crate::files;

const AUDIENCE: &str = "claviger-demo";
const NAMESPACE: &str = "claviger";
const ACCOUNT: &str = "claviger-agent";
const POD: &str = "claviger-agent-demo";
const NODE: &str = "node-1";

/// The most bytes of a token that is read.
const MAX_TOKEN: u64 = 16 << 10;

/// Starts the stand-in, and leaves in `folder` what a cluster would give to server and agent.
pub(super) async fn start(folder: &Path, tasks: &Tasks) -> Result<(Platform, String), Failure> {
    let (listener, address) = web::bind().await?;
    let certificate = Certificate::new()?;
    let url = format!("https://{address}");
    let objects = Objects::new();
    let token = Signer::new()?.token(&objects.claims(&url))?;
    let path = folder.join("pod-token");
    files::replace(&path, token.as_bytes(), files::SECRET)?;
    let kubeconfig = folder.join("kubeconfig");
    let contents = kubeconfig_of(&url, &certificate.authority);
    files::replace(&kubeconfig, contents.to_string().as_bytes(), files::SECRET)?;

    let answers: web::Answers =
        Arc::new(move |question, body| objects.answer(question, body, &token));
    web::serve(listener, Some(certificate.acceptor), answers, tasks);
    let account = format!("{NAMESPACE}:{ACCOUNT}");
    let platform = platform(&kubeconfig, &path, &account, &[AUDIENCE.to_owned()])?;
    Ok((
        platform,
        format!("stand-in for a Kubernetes API server at {address}: no cluster is asked"),
    ))
}

/// Reads the token of a pod of a real cluster: what the server has to believe stands in it.
pub(super) async fn real(cluster: &RealCluster) -> Result<(Platform, String), Failure> {
    let RealCluster { kubeconfig, token } = cluster;
    let [kubeconfig, path] = [kubeconfig, token].map(|path| absolute(path));
    let (kubeconfig, path) = (kubeconfig?, path?);
    let token = String::from_utf8(files::read(&path, MAX_TOKEN)?).unwrap_or_default();
    let claims = Claims::read(token.trim_end())
        .map_err(|error| Failure::because(&error).within(path.display()))?;
    let account = claims.account.to_string();
    let platform = platform(&kubeconfig, &path, &account, &claims.audiences)?;
    Ok((platform, format!("token of the pod {}, of {account}, read", claims.pod.name)))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::because(&error).within(path.display()))
}

fn platform(
    kubeconfig: &Path,
    token: &Path,
    account: &str,
    audience: &[String],
) -> Result<Platform, Failure> {
    let config: k8s_psat::Config = settings(json!({"demo": {
        "kubeconfig": kubeconfig,
        "service-account-allow-list": [account],
        "audience": audience,
    }}))?;
    let server = AttestorsConfig { k8s_psat: Some(config), ..AttestorsConfig::default() };
    let agent = tables(&format!(
        "[attestor.k8s_psat]\ncluster = \"demo\"\ntoken-path = {}\n",
        quoted(token)
    ))?;
    Ok(Platform { server, agent: Some(agent) })
}

/// How to reach the stand-in.
fn kubeconfig_of(url: &str, authority: &str) -> Value {
    let authority = STANDARD.encode(authority);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "demo",
            "cluster": {"server": url, "certificate-authority-data": authority},
        }],
        "users": [{"name": "demo", "user": {}}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
        "current-context": "demo",
    })
}

/// The uids of all that the stand-in knows.
struct Objects {
    account: Uuid,
    pod: Uuid,
    node: Uuid,
}

impl Objects {
    fn new() -> Self {
        let [account, pod, node] = [(); 3].map(|()| Uuid::new_v4());
        Self { account, pod, node }
    }

    /// The claims of the pod's token, as an API server at `issuer` would make them.
    fn claims(&self, issuer: &str) -> Value {
        let now = SystemClock.now().as_secs();
        json!({
            "iss": issuer,
            "sub": user(),
            "aud": [AUDIENCE],
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(600),
            "jti": Uuid::new_v4(),
            "kubernetes.io": {
                "namespace": NAMESPACE,
                "serviceaccount": {"name": ACCOUNT, "uid": self.account},
                "pod": {"name": POD, "uid": self.pod},
                "node": {"name": NODE, "uid": self.node},
            },
        })
    }

    /// The answer to `question`; genuine is `token` and no other.
    fn answer(&self, question: &str, body: &Value, token: &str) -> Option<Value> {
        let pod = format!("GET /api/v1/namespaces/{NAMESPACE}/pods/{POD}");
        let node = format!("GET /api/v1/nodes/{NODE}");
        if question == "POST /apis/authentication.k8s.io/v1/tokenreviews" {
            let is_genuine = body.pointer("/spec/token").and_then(Value::as_str) == Some(token);
            Some(self.review(is_genuine))
        } else if question == pod {
            Some(json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": POD, "namespace": NAMESPACE, "uid": self.pod},
                "spec": {"serviceAccountName": ACCOUNT, "nodeName": NODE, "containers": []},
                "status": {"phase": "Running", "hostIP": "127.0.0.1"},
            }))
        } else if question == node {
            let metadata = json!({"name": NODE, "uid": self.node});
            Some(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}))
        } else {
            None
        }
    }

    fn review(&self, is_genuine: bool) -> Value {
        let status = if is_genuine {
            let extra = json!({
                "authentication.kubernetes.io/pod-name": [POD],
                "authentication.kubernetes.io/pod-uid": [self.pod],
            });
            let user = json!({"username": user(), "uid": self.account, "extra": extra});
            json!({"authenticated": true, "audiences": [AUDIENCE], "user": user})
        } else {
            json!({"authenticated": false, "error": "another token than the demo's"})
        };
        let (group, kind) = ("authentication.k8s.io/v1", "TokenReview");
        json!({"apiVersion": group, "kind": kind, "metadata": {}, "spec": {}, "status": status})
    }
}

fn user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
}

/// What the stand-in shows over TLS, and whom to believe about it.
struct Certificate {
    authority: String,
    acceptor: TlsAcceptor,
}

impl Certificate {
    fn new() -> Result<Self, Failure> {
        let failed = |error: rcgen::Error| Failure::because(&error);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(failed)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(failed)?;
        let own = own.signed_by(&key, &authority).map_err(failed)?;
        let shown = WebCertificate::new(own.pem().as_bytes(), key.serialize_pem().as_bytes())
            .map_err(|error| Failure::because(&error))?;
        let acceptor = TlsAcceptor::from(web_server_config(&shown));
        Ok(Self { authority: authority.pem(), acceptor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_vouches_for_its_own_token_only() {
        let objects = Objects::new();
        let review = |token: &str| {
            let body = json!({"spec": {"token": token}});
            let question = "POST /apis/authentication.k8s.io/v1/tokenreviews";
            let answer = objects.answer(question, &body, "own").unwrap();
            answer.pointer("/status/authenticated").and_then(Value::as_bool).unwrap()
        };
        assert!(review("own"));
        assert!(!review("other"));
        assert_eq!(objects.answer("GET /api/v1/nodes/node-2", &Value::Null, "own"), None);
    }
}
