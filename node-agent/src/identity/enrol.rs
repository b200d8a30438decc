//! Becoming somebody: evidence in, SVID out.

use std::time::Duration;

use claviger_attestors::join_token::{Collector, ReadTokenError};
use claviger_core::time::Clock;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, attest_agent_request, attest_agent_response,
};
use claviger_proto::spire::types;
use claviger_runtime::tls::{Svid, SvidError, SvidKeyError, TrustBundle, verify_svid};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::stored;
use crate::backoff::{Backoff, jitter};
use crate::config::Config;
use crate::files::{DataDir, DataDirError};
use crate::keys::{Key, KeyError};
use crate::server::{Said, Server, is_refusal};

/// For one attempt.
const DEADLINE: Duration = Duration::from_secs(30);

/// Attests until the server answers, and remembers the identity that is earned.
pub(super) async fn enrol(
    config: &Config,
    dir: &DataDir,
    server: &Server,
    clock: &dyn Clock,
    stop: &CancellationToken,
) -> Result<Svid, EnrolError> {
    let token = config.join_token.as_ref().ok_or(EnrolError::NoToken)?;
    let evidence = token.collect()?;
    let key = prepare_key(dir).await?;
    let csr = key.request()?;
    let channel = server.channel(None);
    let chain = stop
        .run_until_cancelled(attest_until_answered(server, channel, &evidence, &csr))
        .await
        .ok_or(EnrolError::Stopped)??;
    let svid = check(chain, &key, server.bundle(), clock)?;
    stored::save_svid(dir, &key, svid.chain()).await?;
    Ok(svid)
}

/// The key of an attempt that did not end, or a new one. A token works for one key only.
async fn prepare_key(dir: &DataDir) -> Result<Key, EnrolError> {
    if let Some(key) = stored::load(dir).await.ok().and_then(|stored| stored.unused_key) {
        return Ok(key);
    }
    let key = Key::generate()?;
    stored::save_key(dir, &key).await?;
    Ok(key)
}

async fn attest_until_answered(
    server: &Server,
    channel: Channel,
    evidence: &Collector,
    csr: &[u8],
) -> Result<Vec<CertificateDer<'static>>, EnrolError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
    loop {
        let attempt = attest(channel.clone(), evidence, csr);
        let status = match tokio::time::timeout(DEADLINE, attempt).await {
            Ok(Ok(chain)) => return Ok(chain),
            Ok(Err(status)) => status,
            Err(_elapsed) => Status::deadline_exceeded("the server did not answer in time"),
        };
        if is_refusal(&status) {
            return Err(EnrolError::Refused { server: server.address().to_string(), status });
        }
        let pause = backoff.pause(jitter());
        warn!(
            server = %server.address(),
            error = %Said(&status),
            pause_ms = pause.as_millis(),
            "cannot attest yet"
        );
        tokio::time::sleep(pause).await;
    }
}

async fn attest(
    channel: Channel,
    evidence: &Collector,
    csr: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Status> {
    let data = types::AttestationData {
        r#type: Collector::KIND.to_owned(),
        payload: evidence.evidence().to_vec(),
    };
    let params = AgentX509svidParams { csr: csr.to_vec() };
    let params = attest_agent_request::Params { data: Some(data), params: Some(params) };
    let request = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };

    info!("attesting");
    let requests = tokio_stream::once(request);
    let mut responses = AgentClient::new(channel).attest_agent(requests).await?.into_inner();
    let response = responses.message().await?.and_then(|response| response.step);
    match response {
        Some(attest_agent_response::Step::Result(result)) => Ok(chain_of(result.svid)),
        Some(attest_agent_response::Step::Challenge(_)) => {
            Err(Status::failed_precondition("the server sent a challenge to a join token"))
        }
        None => Err(Status::unavailable("the server ended the call without an answer")),
    }
}

/// The certificates that a server sent, leaf first; none at all if it sent no SVID.
pub(super) fn chain_of(svid: Option<types::X509svid>) -> Vec<CertificateDer<'static>> {
    let chain = svid.map(|svid| svid.cert_chain).unwrap_or_default();
    chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

/// Whether what the server sent makes this agent somebody: an SVID for `key` that names an agent,
/// and that the trust domain's authorities vouch for.
pub(super) fn check(
    chain: Vec<CertificateDer<'static>>,
    key: &Key,
    bundle: &TrustBundle,
    clock: &dyn Clock,
) -> Result<Svid, BadAnswer> {
    let svid = Svid::new(chain, key.pkcs8())?;
    let id = verify_svid(svid.chain(), bundle, clock.now())?;
    if !id.path().starts_with("/spire/agent/") {
        return Err(BadAnswer::NotAnAgent(id.to_string()));
    }
    Ok(svid)
}

/// Why an agent did not become somebody.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is nothing to attest with.
    #[error(
        "this agent has no valid identity and nothing to attest with; run `claviger token generate` \
         on the server, and set `join-token-file` or `join-token`"
    )]
    NoToken,
    /// The token is in a file that can't be read.
    #[error(transparent)]
    ReadToken(#[from] ReadTokenError),
    /// The server does not believe us.
    #[error(
        "the server at {server} refuses this agent; a join token works once and not for long, so \
         run `claviger token generate` on the server and try with a new one"
    )]
    Refused {
        /// Where the server is.
        server: String,
        /// What it says.
        #[source]
        status: Status,
    },
    /// What the server sent can't be used.
    #[error(transparent)]
    BadAnswer(#[from] BadAnswer),
    /// No key.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    /// The key or the identity can't be kept.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The process is ending.
    #[error("stopped before the server answered")]
    Stopped,
}

/// What the server sent is not an agent's SVID.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// It is no SVID, or not for our key.
    #[error("the server sent an SVID that is not for this agent's key")]
    Svid(#[from] SvidKeyError),
    /// Nobody vouches for it.
    #[error("the server sent an SVID that its trust domain does not vouch for")]
    Untrusted(#[from] SvidError),
    /// It names something else.
    #[error("the server sent an SVID for `{0}`, which is no agent")]
    NotAnAgent(String),
}
