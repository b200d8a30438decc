//! One attestation: evidence and a certificate request for an SVID. The server may ask in between.

use std::time::Duration;

use claviger_attestors::{CollectError, MAX_EVIDENCE, NodeCollector};
use claviger_core::evidence::Binding;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::agent::v1::attest_agent_request::{self as asked, Params};
use claviger_proto::spire::server::agent::v1::attest_agent_response as answered;
use claviger_proto::spire::server::agent::v1::{AgentX509svidParams, AttestAgentRequest};
use claviger_proto::spire::types;
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use tracing::info;

use crate::keys::{Key, KeyError};
use crate::server::{Said, Server, is_refusal};

/// For all of it, with one server.
const DEADLINE: Duration = Duration::from_secs(30);

/// The most challenges: each kind of evidence needs two at most, and there may be several together.
const MAX_CHALLENGES: usize = 16;

/// What evidence earned.
#[derive(Debug)]
pub(super) struct Earned {
    /// The SVID's certificates, leaf first; not checked yet.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether the server takes the same evidence again, and wants it instead of a renewal.
    pub(super) reattestable: bool,
}

/// Shows the server what `collector` gathers, for an SVID with `key`; if there are several, one after the
/// other until one has decided. What works once works again for the same key.
pub(super) async fn attest(
    server: &Server,
    collector: &dyn NodeCollector,
    key: &Key,
) -> Result<Earned, AttestError> {
    let (mut round, mut failed) = (server.places().round(), AttestError::Late);
    while let Some(place) = round.next().await {
        info!(kind = collector.kind(), server = %place, "attesting");
        let channel = server.link(None).channel(&place);
        let talk = converse(server, channel, collector, key);
        match tokio::time::timeout(DEADLINE, talk).await.unwrap_or(Err(AttestError::Late)) {
            Ok(earned) => {
                server.places().choose(&place);
                return Ok(earned);
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn converse(
    server: &Server,
    channel: Channel,
    collector: &dyn NodeCollector,
    key: &Key,
) -> Result<Earned, AttestError> {
    let binding = Binding::new(collector.kind(), &key.spki()?, server.trust_domain());
    let mut presentation = collector.present(&binding).await?;
    let data = types::AttestationData {
        r#type: collector.kind().to_owned(),
        payload: bounded(presentation.evidence())?.to_vec(),
    };
    let params = AgentX509svidParams { csr: key.request()? };
    let params = Params { data: Some(data), params: Some(params) };

    let (say, said) = mpsc::channel(1);
    // Nobody is told that the call is over: the answer to the next question is.
    let send = async |step| drop(say.send(AttestAgentRequest { step: Some(step) }).await);
    send(asked::Step::Params(params)).await;
    let mut client = AgentClient::new(channel);
    let mut answers = client.attest_agent(ReceiverStream::new(said)).await?.into_inner();
    let mut challenges = 0..MAX_CHALLENGES;
    loop {
        match answers.message().await?.and_then(|answer| answer.step) {
            Some(answered::Step::Result(result)) => {
                let (chain, reattestable) = (chain_of(result.svid), result.reattestable);
                return Ok(Earned { chain, reattestable });
            }
            Some(answered::Step::Challenge(challenge)) => {
                challenges.next().ok_or(AttestError::TooManyChallenges)?;
                let answer = presentation.answer(bounded(&challenge)?).await?;
                send(asked::Step::ChallengeResponse(bounded(&answer)?.to_vec())).await;
            }
            None => return Err(AttestError::NoAnswer),
        }
    }
}

/// What the other end would refuse for its size is not sent, and what it may not send is not read.
fn bounded(bytes: &[u8]) -> Result<&[u8], AttestError> {
    let fits = bytes.len() <= MAX_EVIDENCE;
    fits.then_some(bytes).ok_or(AttestError::TooLarge(bytes.len()))
}

/// The certificates that a server sent, leaf first; none at all if it sent no SVID.
pub(super) fn chain_of(svid: Option<types::X509svid>) -> Vec<CertificateDer<'static>> {
    let chain = svid.map(|svid| svid.cert_chain).unwrap_or_default();
    chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

/// Why evidence earned nothing.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// There is no evidence, or no answer to a challenge.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A message is longer than any evidence may be.
    #[error("a message of {0} bytes is more than the {MAX_EVIDENCE} that evidence may have")]
    TooLarge(usize),
    /// The server asks and asks.
    #[error("the server sent more than {MAX_CHALLENGES} challenges")]
    TooManyChallenges,
    /// The server hung up.
    #[error("the server ended the call without an answer")]
    NoAnswer,
    /// It took too long.
    #[error("it took longer than {seconds} s", seconds = DEADLINE.as_secs())]
    Late,
    /// The server does not believe it, or can't be reached.
    #[error("{}", Said(.0))]
    Server(Status),
    /// No key.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
}

impl From<Status> for AttestError {
    fn from(status: Status) -> Self {
        Self::Server(status)
    }
}

impl AttestError {
    /// Whether it is of no use to try again with the same evidence.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Server(status) => is_refusal(status),
            Self::Collect(CollectError::Unexpected)
            | Self::TooLarge(_)
            | Self::TooManyChallenges
            | Self::Key(_) => true,
            Self::Collect(CollectError::Unavailable { .. }) | Self::NoAnswer | Self::Late => false,
        }
    }
}
