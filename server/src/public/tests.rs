use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger_core::bundle::TokenAuthority;
use claviger_core::jose::PublicKey;
use claviger_core::time::UnixTime;
use claviger_runtime::health::State;
use claviger_runtime::http::{DEADLINE, MAX_HEAD};
use claviger_runtime::tasks::Drain;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::Svid;
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::IssuerUrl;

struct World {
    dir: tempfile::TempDir,
    bundle: watch::Sender<Arc<Bundle>>,
    health: Health,
    tasks: Tasks,
}

fn key(name: &str) -> TokenAuthority {
    let spki = KeyPair::generate().unwrap().subject_public_key_info();
    TokenAuthority {
        key_id: name.to_owned(),
        public_key: PublicKey::from_spki(&spki).unwrap(),
        expires_at: Some(UnixTime::from_secs(1_800_000_000)),
        tainted: false,
    }
}

fn shown(bundle: watch::Receiver<Arc<Bundle>>, ahead: u64, health: Health) -> Shown {
    Shown { ahead: Duration::from_secs(ahead), bundle, health, direct: None, log: None }
}

/// The server's own SVID, which nobody verifies here.
fn own() -> Identity {
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
    let id = "spiffe://example.org/spire/server".try_into().unwrap();
    params.subject_alt_names = vec![SanType::URI(id)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let chain = vec![params.self_signed(&key).unwrap().der().clone()];
    Identity::new(Svid::new(chain, &key.serialize_der()).unwrap())
}

impl World {
    /// Serves on a Unix socket.
    async fn start(issuer: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle {
            jwt_authorities: vec![key("j")],
            wit_authorities: vec![key("w")],
            sequence: 7,
            ..Bundle::empty("example.org".parse().unwrap())
        };
        let (bundle, receiver) = watch::channel(Arc::new(bundle));
        let config = PublicConfig {
            door: Door::Socket(dir.path().join("public.sock")),
            issuer: issuer.map(|issuer| IssuerUrl::parse(issuer).unwrap()),
            hosts: vec!["oidc.example.org".to_owned()],
            direct: false,
        };
        let (health, tasks) = (Health::default(), Tasks::default());
        let shown = shown(receiver, 3_600, health.clone());
        let addr = serve(&config, shown, &own(), &tasks).await.unwrap();
        assert_eq!(addr, None);
        Self { dir, bundle, health, tasks }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("public.sock")).await.unwrap()
    }

    /// Everything that is answered before the connection is closed.
    async fn send(&self, request: &str) -> String {
        exchange(self.connect().await, request).await
    }

    async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nhost: oidc.example.org\r\n\r\n");
        self.send(&head).await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert!(answer.contains("cache-control: public, max-age=300\r\n"), "{answer}");
        serde_json::from_str(body(&answer)).unwrap()
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer that hangs up without a farewell has said all the same what it said.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

const ISSUER: &str = "https://oidc.example.org";

#[tokio::test]
async fn relying_parties_find_the_keys() {
    let world = World::start(Some(ISSUER)).await;
    let document = world.json("/.well-known/openid-configuration").await;
    let expected = serde_json::json!({
        "issuer": ISSUER,
        "jwks_uri": "https://oidc.example.org/keys",
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    assert_eq!(document, expected);
    let keys = world.json("/keys").await;
    let [only] = keys["keys"].as_array().unwrap().as_slice() else { panic!("{keys}") };
    let shown = ["kid", "use", "alg", "kty", "crv"].map(|name| only[name].as_str().unwrap());
    assert_eq!(shown, ["j", "sig", "ES256", "EC", "P-256"]);

    world.bundle.send_modify(|bundle| Arc::make_mut(bundle).jwt_authorities.push(key("next")));
    assert_eq!(world.json("/keys").await["keys"][1]["kid"], "next", "at once");
}

#[tokio::test]
async fn other_trust_domains_find_the_bundle() {
    let world = World::start(None).await;
    let bundle = world.json("/bundle").await;
    assert_eq!(bundle["spiffe_sequence"], 7);
    let uses: Vec<_> =
        bundle["keys"].as_array().unwrap().iter().map(|key| key["use"].clone()).collect();
    assert_eq!(uses, ["jwt-svid", "wit-svid"]);
    for path in ["/keys", "/.well-known/openid-configuration"] {
        let answer = world.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "without an issuer: {answer}");
    }
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_documents_below_it() {
    let world = World::start(Some("https://oidc.example.org/td")).await;
    let document = world.json("/td/.well-known/openid-configuration").await;
    assert_eq!(document["jwks_uri"], "https://oidc.example.org/td/keys");
    world.json("/td/keys").await;
    world.json("/bundle").await;
    for path in ["/keys", "/.well-known/openid-configuration", "/td", "/tdx/keys", "/td/bundle"] {
        let answer = world.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn only_the_hosts_that_are_named_are_served() {
    let world = World::start(Some(ISSUER)).await;
    for (host, status) in [
        ("host: OIDC.example.org:8443\r\n", 200),
        ("host: example.org\r\n", 421),
        ("host: oidc.example.org.evil.org\r\n", 421),
        ("host: \r\n", 400),
        ("", 400),
        ("host: oidc.example.org\r\nhost: oidc.example.org\r\n", 400),
    ] {
        let answer = world.send(&format!("GET /keys HTTP/1.1\r\n{host}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    let absolute = |host| format!("GET http://{host}/keys HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = world.send(&absolute("oidc.example.org")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = world.send(&absolute("evil.org")).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
}

#[tokio::test]
async fn what_is_not_asked_properly_is_refused() {
    let world = World::start(Some(ISSUER)).await;
    let host = "host: oidc.example.org\r\n";
    let post = world.send(&format!("POST /keys HTTP/1.1\r\n{host}content-length: 9\r\n\r\n")).await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
    for path in ["/", "/keys/", "/Keys", "/.well-known/", "//keys", "/keys/../bundle"] {
        let answer = world.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert_eq!(body(&answer), "");
    }
    let long = world.send(&format!("GET /{} HTTP/1.1\r\n{host}", "a".repeat(MAX_HEAD))).await;
    assert!(long.starts_with("HTTP/1.1 414 ") || long.starts_with("HTTP/1.1 431 "), "{long}");
}

#[tokio::test]
async fn a_head_says_what_a_get_would_give() {
    let world = World::start(Some(ISSUER)).await;
    let get = world.get("/keys").await;
    let head = world.send("HEAD /keys HTTP/1.1\r\nhost: oidc.example.org\r\n\r\n").await;
    assert_eq!(body(&head), "");
    let length = format!("content-length: {}\r\n", body(&get).len());
    assert!(get.contains(&length) && head.contains(&length), "{head}");
}

#[tokio::test]
async fn a_supervisor_asks_under_any_name() {
    let world = World::start(None).await;
    let ask = async |path| world.send(&format!("GET {path} HTTP/1.1\r\nhost: [::1]\r\n\r\n")).await;
    let server = world.health.part("server");
    assert!(ask("/live").await.starts_with("HTTP/1.1 200 "));
    let ready = ask("/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && !ready.contains("server"), "{ready}");
    server.set(State::Ready);
    assert!(ask("/ready").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_silent_caller_does_not_hold_up_the_drain() {
    let world = World::start(None).await;
    let _silent = world.connect().await;
    world.json("/bundle").await;
    world.tasks.stop();
    assert_eq!(world.tasks.drained(DEADLINE).await, Drain::Clean);
}

#[tokio::test]
async fn the_same_is_served_over_https() {
    let dir = tempfile::tempdir().unwrap();
    let CertificateFiles { certificate, key } = write_pair(dir.path());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
    let config = PublicConfig {
        door: Door::Https { listen: ([127, 0, 0, 1], 0).into(), certificate, key },
        issuer: Some(IssuerUrl::parse(ISSUER).unwrap()),
        hosts: vec!["oidc.example.org".to_owned()],
        direct: false,
    };
    let (_bundle, receiver) =
        watch::channel(Arc::new(Bundle::empty("example.org".parse().unwrap())));
    let tasks = Tasks::default();
    let shown = shown(receiver, 60, Health::default());
    let addr = serve(&config, shown, &own(), &tasks).await.unwrap();

    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(addr.unwrap()).await.unwrap();
    let name = ServerName::try_from("oidc.example.org").unwrap();
    let tls = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.unwrap();
    let head = "GET /keys HTTP/1.1\r\nhost: oidc.example.org\r\n\r\n";
    let answer = exchange(tls, head).await;
    assert!(answer.contains("cache-control: public, max-age=60\r\n"), "{answer}");
    assert_eq!(body(&answer), r#"{"keys":[]}"#);
}

/// A certificate for the Web, in files of `dir`.
fn write_pair(dir: &Path) -> CertificateFiles {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["oidc.example.org".to_owned()]).unwrap();
    let (certificate_file, key_file) = (dir.join("web.pem"), dir.join("web.key"));
    std::fs::write(&certificate_file, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).unwrap();
    CertificateFiles::new(certificate_file, key_file)
}

#[tokio::test]
async fn a_new_certificate_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let (_certificate, mut following) = write_pair(dir.path()).open().unwrap();
    assert!(!following.look().unwrap());
    drop(write_pair(dir.path()));
    assert!(following.look().unwrap());
    assert!(!following.look().unwrap());

    // Half of a pair is no pair; the other half makes it one.
    let other = tempfile::tempdir().unwrap();
    drop(write_pair(other.path()));
    std::fs::copy(other.path().join("web.pem"), dir.path().join("web.pem")).unwrap();
    let error = Chain(&following.look().unwrap_err()).to_string();
    assert!(error.contains("does not belong to the first certificate"), "{error}");
    assert!(!following.look().unwrap(), "said once");
    std::fs::copy(other.path().join("web.key"), dir.path().join("web.key")).unwrap();
    assert!(following.look().unwrap());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let absent = CertificateFiles::new(dir.path().join("a.pem"), dir.path().join("a.key"));
    let error = absent.open().unwrap_err().to_string();
    assert!(error.contains("a.pem"), "{error}");
    let files = write_pair(dir.path());
    let exposed = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("web.key"), exposed).unwrap();
    let error = files.open().unwrap_err().to_string();
    assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
    let files = write_pair(dir.path());
    std::fs::write(dir.path().join("web.pem"), vec![b'a'; 300 << 10]).unwrap();
    let error = Chain(&files.open().unwrap_err()).to_string();
    assert!(error.contains("web.pem") && error.contains("too large"), "{error}");
}
