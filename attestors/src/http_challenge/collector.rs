//! The node's side: serves the server's nonce, for as long as it takes.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;
use zeroize::Zeroizing;

use super::host::{HostName, is_agent_name};
use super::wire::{Challenge, Evidence};
use super::{KIND, path};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// The settings of the collector. Their names and defaults are SPIRE's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The name that this host has in the DNS; none for what the host calls itself.
    pub hostname: Option<String>,
    /// The name of this agent among those of this host.
    pub agentname: String,
    /// The address to listen on.
    pub address: IpAddr,
    /// The port to listen on; 0 for any.
    pub port: u16,
    /// The port that the server is to ask at, if something forwards that to the other.
    pub advertised_port: Option<u16>,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            hostname: None,
            agentname: "default".into(),
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
            advertised_port: None,
        }
    }
}

impl CollectorConfig {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: &str, advice: &str| {
            problems.push(ConfigProblem::new(key, Some(value), advice));
        };
        if let Some(name) = &self.hostname
            && HostName::parse(name).is_none()
        {
            problem("hostname", name, "write this host's name in the DNS, in lower case");
        }
        if !is_agent_name(&self.agentname) {
            let advice = "write a letter and up to 31 letters, digits and `-`";
            problem("agentname", &self.agentname, advice);
        }
        if self.advertised_port == Some(0) {
            problem("advertised-port", "0", "write a port from 1 on, or leave it out");
        }
        problems
    }
}

/// Serves challenges.
#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    hostname: HostName,
}

impl Collector {
    /// A collector with these settings.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if the settings have [`problems`](CollectorConfig::problems), or the
    /// host calls itself something that no server would look up.
    pub fn open(config: CollectorConfig) -> Result<Self, OpenCollectorError> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(OpenCollectorError::Config { key: problem.key, advice: problem.advice });
        }
        let name = config
            .hostname
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        match HostName::parse(&name) {
            Some(hostname) => Ok(Self { config, hostname }),
            None => Err(OpenCollectorError::Host(name)),
        }
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let address = SocketAddr::new(self.config.address, self.config.port);
        let failed = |source: io::Error| CollectError::Unavailable {
            what: format!("cannot listen on {address} for the server's challenge"),
            source: Some(source.into()),
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let evidence = Evidence {
            hostname: self.hostname.to_string(),
            agentname: self.config.agentname.clone(),
            port: self.config.advertised_port.unwrap_or(port),
            binding: true,
        };
        let evidence = serde_json::to_vec(&evidence).map_err(|error| {
            let what = "cannot write the evidence down".into();
            CollectError::Unavailable { what, source: Some(error.into()) }
        })?;
        let (path, binding) = (path(&self.config.agentname), binding.clone());
        let (listener, serving) = (Some(listener), JoinSet::new());
        Ok(Box::new(Host { evidence, path, binding, listener, serving }))
    }
}

/// A host that serves, until this is dropped.
#[derive(Debug)]
struct Host {
    evidence: Vec<u8>,
    path: String,
    binding: Binding,
    /// Until there is something to serve.
    listener: Option<TcpListener>,
    serving: JoinSet<()>,
}

#[async_trait]
impl Presentation for Host {
    fn evidence(&self) -> &[u8] {
        &self.evidence
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let challenge = Challenge::parse(challenge).ok_or(CollectError::Unexpected)?;
        let listener = self.listener.take().ok_or(CollectError::Unexpected)?;
        let body = challenge.served(&self.binding);
        let page = Arc::new(Page { path: self.path.clone(), body });
        self.serving.spawn(serve(listener, page));
        Ok(Zeroizing::new(b"{}".to_vec()))
    }
}

/// All that there is to be read.
#[derive(Debug)]
struct Page {
    path: String,
    body: String,
}

/// The most connections at once: one is the server's, and the others are a stranger's.
const MAX_CONNECTIONS: usize = 16;

/// Time for one connection.
const DEADLINE: Duration = Duration::from_secs(10);

async fn serve(listener: TcpListener, page: Arc<Page>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(timeout(DEADLINE, serve_one(stream, Arc::clone(&page))));
            }
            Ok((_refused, _)) => {}
            Err(error) => {
                debug!(%error, "a connection for the challenge was not accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(|request| {
        let response = page.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_buf_size(8_192)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a request for the challenge was not answered");
    }
}

impl Page {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_ours = request.method() == Method::GET && request.uri().path() == self.path;
        let (status, body) = if is_ours {
            (StatusCode::OK, self.body.as_str())
        } else {
            (StatusCode::NOT_FOUND, "")
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
        *response.status_mut() = status;
        response
    }
}

/// Why no challenge can be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenCollectorError {
    /// A setting makes no sense.
    #[error("`{key}`: {advice}")]
    Config {
        /// The setting.
        key: String,
        /// What to write.
        advice: String,
    },
    /// What the host calls itself is not a name that a server would look up.
    #[error("this host calls itself `{0}`; set `hostname` to its name in the DNS, in lower case")]
    Host(String),
}
