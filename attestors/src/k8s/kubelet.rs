//! The pods of this node, as its kubelet tells of them: for agents that may not ask the API server.
//!
//! It is asked only when a look-up misses, by one look-up for all that miss, and not twice within
//! half a second.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::OpenError;
use super::config::KubeletConfig;
use super::index::Index;
use crate::files;
use crate::http::{self, BodyError, read_body};
use crate::workload::FactsError;

/// The most bytes of a list of pods: 1,024 of 16 kB.
const MAX_LIST: usize = 16 << 20;

/// The least time between two questions.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The most bytes of a token.
const MAX_TOKEN: u64 = 16 << 10;

/// Asks the kubelet of this node.
#[derive(Debug)]
pub(super) struct Kubelet {
    client: Client,
    pods: Url,
    token_path: Option<PathBuf>,
    /// When it may be asked next. Whoever holds it is asking.
    next: Mutex<Instant>,
}

impl Kubelet {
    pub(super) fn open(config: &KubeletConfig) -> Result<Self, OpenError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Kubelet(error);
        let pods = Url::parse(&config.address)
            .and_then(|url| url.join("/pods"))
            .map_err(|error| failed(error.into()))?;
        let client = http::client(tls(config)?, DEADLINE).build();
        let client = client.map_err(|error| failed(error.into()))?;
        let token_path = config.token_path.clone();
        Ok(Self { client, pods, token_path, next: Mutex::new(Instant::now()) })
    }

    /// Asks for all pods, unless somebody else has since `index` was at the version `seen`.
    pub(super) async fn refresh(&self, index: &Index, seen: u64) -> Result<(), FactsError> {
        let mut next = self.next.lock().await;
        if *index.changes().borrow() != seen {
            return Ok(());
        }
        sleep_until(*next).await;
        *next = Instant::now() + INTERVAL;
        let list = self.ask().await?;
        let pods = read_pod_list(&list).map_err(|error| {
            let what = format!("the kubelet's answer from {} is no list of pods", self.pods);
            FactsError::unavailable(what, error)
        })?;
        index.replace(&pods);
        Ok(())
    }

    async fn ask(&self) -> Result<Vec<u8>, FactsError> {
        let failed = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
            FactsError::unavailable(format!("the kubelet at {} {what}", self.pods), error)
        };
        let mut request = self.client.get(self.pods.clone());
        if let Some(path) = &self.token_path {
            let bearer = bearer(path).await;
            let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
                let what = format!("cannot read the kubelet's `token-path` {}", path.display());
                FactsError::unavailable(what, error)
            };
            request = request.header(AUTHORIZATION, bearer.map_err(unreadable)?);
        }
        let answer = request.send().await;
        let answer =
            answer.map_err(|error| failed("does not answer", error.without_url().into()))?;
        let status = answer.status();
        if !status.is_success() {
            let what = format!(
                "the kubelet at {} answered {status}; the agent needs the right to get nodes/proxy",
                self.pods
            );
            return Err(FactsError::Unavailable { what, source: None });
        }
        read_body(answer, MAX_LIST).await.map_err(|error| match error {
            BodyError::TooLong(_) => failed("told of more than is read", error.into()),
            BodyError::Broken(_) => failed("broke off its answer", error.into()),
        })
    }
}

/// The pods in a kubelet's answer.
///
/// # Errors
///
/// What is wrong with the JSON, if it is no list of pods.
pub fn read_pod_list(json: &[u8]) -> Result<Vec<Pod>, serde_json::Error> {
    serde_json::from_slice::<List<Pod>>(json).map(|list| list.items)
}

async fn bearer(path: &Path) -> Result<HeaderValue, Box<dyn std::error::Error + Send + Sync>> {
    use tokio::io::AsyncReadExt;

    let mut token = Zeroizing::new(String::with_capacity(4_096));
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_TOKEN).read_to_string(&mut token).await?;
    let line = Zeroizing::new(format!("Bearer {}", token.trim_ascii()));
    let mut value = HeaderValue::try_from(line.as_str()).map_err(|_unfit| "it holds no token")?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(config: &KubeletConfig) -> Result<ClientConfig, OpenError> {
    let failed = |error: rustls::Error| OpenError::Kubelet(error.into());
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_path {
        for der in certificates("ca-path", path)? {
            roots.add(der).map_err(|error| unusable("ca-path", path, error))?;
        }
    }
    let builder = http::tls(roots).map_err(failed)?;
    let (Some(certificate), Some(key)) = (&config.client_certificate_path, &config.client_key_path)
    else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("client-certificate-path", certificate)?;
    let pem = files::read_secret(key, MAX_FILE)
        .map_err(|error| unusable("client-key-path", key, error))?;
    let der = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| unusable("client-key-path", key, error))?;
    builder.with_client_auth_cert(chain, der).map_err(failed)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let pem = read(key, path)?;
    let found = CertificateDer::pem_reader_iter(BufReader::new(pem.as_slice()));
    let found: Vec<_> =
        found.collect::<Result<_, _>>().map_err(|error| unusable(key, path, error))?;
    if found.is_empty() {
        return Err(unusable(key, path, "it holds no certificate in PEM"));
    }
    Ok(found)
}

/// The largest file that is read, in bytes.
const MAX_FILE: usize = 1 << 20;

fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    files::read(path, MAX_FILE).map_err(|error| unusable(key, path, error))
}

fn unusable(
    key: &'static str,
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> OpenError {
    OpenError::File { key, path: path.display().to_string(), source: source.into() }
}
