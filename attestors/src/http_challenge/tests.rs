use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Bond};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::host::HostName;
use super::verifier::{Network, Resolve};
use super::*;
use crate::fixture::{World, reason};
use crate::{Challenged, NoConversation, NodeCollector, VerifyError};

/// Names that lead somewhere, and how often they were looked up.
struct Names(BTreeMap<&'static str, Vec<IpAddr>>, Arc<AtomicUsize>);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(host.as_str()).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A verifier in a world where `host.example.org` is this machine.
fn verifier(edit: impl FnOnce(&mut Config)) -> (Verifier, Arc<AtomicUsize>) {
    let lookups = Arc::new(AtomicUsize::new(0));
    let names = [("host.example.org", vec!["127.0.0.1".parse().unwrap()])];
    let resolver = Box::new(Names(names.into(), Arc::clone(&lookups)));
    let network = Network { resolver, check: |_, _| Ok(()) };
    let allowed_dns_patterns = vec![r"[a-z]+\.example\.org".to_owned()];
    let mut config = Config { allowed_dns_patterns, ..Config::default() };
    edit(&mut config);
    (Verifier::within(network, config).unwrap(), lookups)
}

fn collector(edit: impl FnOnce(&mut CollectorConfig)) -> Collector {
    let hostname = Some("host.example.org".into());
    let address = "127.0.0.1".parse().unwrap();
    let mut config = CollectorConfig { hostname, address, ..CollectorConfig::default() };
    edit(&mut config);
    Collector::open(config).unwrap()
}

#[tokio::test]
async fn a_host_that_answers_for_its_name_earns_an_identity() {
    let (verifier, lookups) = verifier(|config| config.require_binding = true);
    let node = World::default().attest(&verifier, &collector(|_| {})).await.unwrap();
    assert_eq!(node.id().path(), "/spire/agent/http_challenge/host.example.org");
    assert_eq!((node.appraisal().bond, node.reattestable()), (Bond::Key, false));
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    assert_eq!(selectors, ["http_challenge:hostname:host.example.org"]);
    assert_eq!(lookups.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_a_presentation_serves_ends_with_it() {
    let world = World::default();
    let mut presentation = collector(|_| {}).present(&world.binding(KIND)).await.unwrap();
    let evidence = Evidence::parse(presentation.evidence()).unwrap();
    let question = br#"{"nonce":"AAAA"}"#;
    presentation.answer(question).await.unwrap();
    let (verifier, _) = verifier(|_| {});
    let host = HostName::parse("host.example.org").unwrap();
    let local: [IpAddr; 1] = ["127.0.0.1".parse().unwrap()];
    let ask = async |agent: &str| visit::visit(&host, &local, evidence.port, &path(agent)).await;
    // As a stock server expects it.
    assert_eq!(ask("default").await.unwrap(), b"AAAA");
    assert!(matches!(ask("other").await, Err(visit::VisitError::Status(_))));
    // It serves one challenge.
    presentation.answer(question).await.unwrap_err();
    drop(presentation);
    tokio::task::yield_now().await;
    ask("default").await.unwrap_err();
    drop(verifier);
}

#[tokio::test]
async fn a_nonce_is_what_a_node_serves_and_nothing_else() {
    let world = World::default();
    for bad in ["", "<script>", "a b", "a\nb", &"a".repeat(65)] {
        let mut presentation = collector(|_| {}).present(&world.binding(KIND)).await.unwrap();
        let question = serde_json::to_vec(&serde_json::json!({ "nonce": bad })).unwrap();
        presentation.answer(&question).await.unwrap_err();
    }
}

/// A host that answers each request with `response`, in which `{}` is the nonce that it was sent.
struct Page {
    nonce: Arc<Mutex<String>>,
    evidence: serde_json::Value,
    _serving: JoinSet<()>,
}

impl Page {
    async fn open(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let nonce = Arc::new(Mutex::new(String::new()));
        let (served, mut serving) = (Arc::clone(&nonce), JoinSet::new());
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                let _length = stream.read(&mut request).await.unwrap();
                let text = response.replace("{}", &served.lock().unwrap().clone());
                // The other end may not want all of it.
                let _sent = stream.write_all(text.as_bytes()).await;
            }
        });
        let evidence = serde_json::json!({
            "hostname": "host.example.org", "agentname": "default", "port": port
        });
        Self { nonce, evidence, _serving: serving }
    }

    async fn judge(&mut self, verifier: &Verifier) -> Result<AttestedNode, VerifyError> {
        let evidence = self.evidence.to_string();
        World::default().judge(verifier, evidence.as_bytes(), self).await
    }
}

#[async_trait]
impl Challenged for Page {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        *self.nonce.lock().unwrap() = Challenge::parse(&challenge).unwrap().nonce;
        Ok(b"\n".to_vec())
    }
}

const STOCK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\n{}\n";

#[tokio::test]
async fn a_stock_agent_is_a_bearer_and_can_be_refused() {
    let mut page = Page::open(STOCK).await;
    let node = page.judge(&verifier(|_| {}).0).await.unwrap();
    assert_eq!(node.appraisal().bond, Bond::Bearer);
    let reason = reason(page.judge(&verifier(|config| config.require_binding = true).0).await);
    assert!(reason.contains("not bound"), "{reason}");
}

#[tokio::test]
async fn a_node_that_promises_a_bond_has_to_keep_it() {
    let mut page = Page::open(STOCK).await;
    page.evidence["binding"] = true.into();
    let reason = reason(page.judge(&verifier(|_| {}).0).await);
    assert!(reason.contains("does not serve the challenge"), "{reason}");
}

#[tokio::test]
async fn only_the_nonce_itself_is_an_answer() {
    for (response, why) in [
        ("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", "status 302"),
        ("HTTP/1.1 307 T\r\nLocation: /{}\r\nContent-Length: 44\r\n\r\n{}", "status 307"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n{}", "status 404"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nAAAA", "does not serve"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "does not serve"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n{} x", "does not serve"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n{}", "not a short text"),
        ("nonsense\r\n\r\n", "no answer"),
    ] {
        let outcome = Page::open(response).await.judge(&verifier(|_| {}).0).await;
        let reason = reason(outcome);
        assert!(reason.contains(why), "{why}: {reason}");
    }
}

#[tokio::test]
async fn a_host_that_stalls_is_given_up() {
    let mut page = Page::open("").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    page.evidence["port"] = listener.local_addr().unwrap().port().into();
    let (verifier, _) = verifier(|_| {});
    let judged = page.judge(&verifier);
    tokio::time::pause();
    let reason = reason(judged.await);
    assert!(reason.contains("did not answer within"), "{reason}");
}

/// What becomes of evidence that names this place, before anything is connected to.
async fn judge(edit: impl FnOnce(&mut Config), name: &str, agent: &str, port: i64) -> String {
    let (verifier, lookups) = verifier(edit);
    let evidence =
        serde_json::json!({ "hostname": name, "agentname": agent, "port": port }).to_string();
    let outcome = World::default().judge(&verifier, evidence.as_bytes(), &mut NoConversation).await;
    assert_eq!(lookups.load(Ordering::Relaxed), 0);
    reason(outcome)
}

#[tokio::test]
async fn a_stranger_does_not_choose_where_the_server_goes() {
    for name in ["127.0.0.1", "localhost", "[::1]", "a@host.example.org", "host.example.org.", ""] {
        let reason = judge(|_| {}, name, "default", 80).await;
        assert!(reason.contains("is not the name of a host"), "{name}: {reason}");
    }
    for name in ["evil.com", "host.example.org.evil.com", "x.host.example.org"] {
        let reason = judge(|_| {}, name, "default", 80).await;
        assert!(reason.contains("allowed-dns-patterns"), "{name}: {reason}");
    }
    for agent in ["../../../latest/meta-data", "a/b", "a?b", "a%2f", "."] {
        let reason = judge(|_| {}, "host.example.org", agent, 80).await;
        assert_eq!(reason, "the evidence is malformed", "{agent}");
    }
    for port in [-1, 65_536] {
        let reason = judge(|_| {}, "host.example.org", "default", port).await;
        assert_eq!(reason, "the evidence is malformed", "{port}");
    }
}

#[tokio::test]
async fn ports_are_for_the_operator_to_allow() {
    let required = |config: &mut Config| config.required_port = Some(80);
    let root = |config: &mut Config| config.allow_non_root_ports = false;
    for reason in [
        judge(|_| {}, "host.example.org", "default", 0).await,
        judge(required, "host.example.org", "default", 81).await,
        judge(root, "host.example.org", "default", 1_024).await,
    ] {
        assert!(reason.contains("forbids port"), "{reason}");
    }
    // Allowed so far: the node is asked, and has nothing to say.
    for reason in [
        judge(required, "host.example.org", "default", 80).await,
        judge(root, "host.example.org", "default", 1_023).await,
    ] {
        assert_eq!(reason, "the node did not answer a challenge");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_where_no_node_is_is_not_followed() {
    let names = [
        ("metadata.example.org", vec!["169.254.169.254".parse().unwrap()]),
        ("self.example.org", vec!["::1".parse().unwrap()]),
        ("private.example.org", vec!["10.0.0.1".parse().unwrap()]),
        // One address that is fine, for whoever looks at the first only.
        ("mixed.example.org", vec!["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()]),
    ];
    let resolver = Box::new(Names(names.clone().into(), Arc::default()));
    let network = Network { resolver, check: addresses::check };
    let allowed_dns_patterns = vec![".*".to_owned()];
    let config = Config { allowed_dns_patterns, ..Config::default() };
    let verifier = Verifier::within(network, config).unwrap();
    for (name, _) in names {
        let mut page = Page::open(STOCK).await;
        page.evidence["hostname"] = name.into();
        let reason = reason(page.judge(&verifier).await);
        assert!(reason.contains("no node is asked"), "{name}: {reason}");
    }
    let mut page = Page::open(STOCK).await;
    page.evidence["hostname"] = "nowhere.example.org".into();
    let reason = reason(page.judge(&verifier).await);
    assert!(reason.contains("cannot be looked up"), "{reason}");
}

#[tokio::test]
async fn trust_can_be_for_more_than_the_first_use_where_root_answers() {
    // Decided by configuration alone: nobody here may listen on a port below 1024.
    let config = Config {
        allowed_dns_patterns: vec!["a".into()],
        allow_non_root_ports: false,
        tofu: false,
        ..Config::default()
    };
    assert!(config.problems().is_empty());
    let error = Verifier::open(&Config { tofu: false, ..Config::default() }).unwrap_err();
    assert!(error.to_string().contains("allowed-dns-patterns"), "{error}");
}

#[test]
fn a_collector_says_what_is_wrong_with_its_settings() {
    let keys = |text: &str| -> Vec<String> {
        let config: CollectorConfig = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect()
    };
    assert!(keys("").is_empty());
    assert_eq!(keys("hostname = 'Host'"), ["hostname"]);
    assert_eq!(keys("agentname = '../x'"), ["agentname"]);
    assert_eq!(keys("advertised-port = 0"), ["advertised-port"]);
}
