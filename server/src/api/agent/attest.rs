//! Attesting a node: evidence in, an agent's SVID out.

use std::time::Duration;

use claviger_attestors::{NoConversation, NodeClaim, VerifyError};
use claviger_core::evidence::Binding;
use claviger_core::grant::Requester;
use claviger_proto::spire::server::agent::v1::{
    AttestAgentRequest, AttestAgentResponse, attest_agent_request, attest_agent_response,
};
use claviger_runtime::telemetry::Chain;
use metrics::counter;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::super::issuance::{IssueError, to_wire};
use super::super::not_committed;
use super::Service;
use crate::ca::csr::Csr;
use crate::metrics as names;
use crate::registry::AdmitError;
use crate::registry::agents::Agent;

/// How long a stranger may take to present its evidence.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most evidence of any kind of this version.
const MAX_EVIDENCE: usize = 64 << 10;

/// Attests whoever sends `requests`.
pub(super) async fn attest(
    service: &Service,
    requests: Streaming<AttestAgentRequest>,
) -> Result<AttestAgentResponse, Status> {
    let attested = admit(service, requests).await;
    let outcome = if attested.is_ok() { "admitted" } else { "refused" };
    counter!(names::ATTESTATIONS, "outcome" => outcome).increment(1);
    Ok(attested?)
}

async fn admit(
    service: &Service,
    mut requests: Streaming<AttestAgentRequest>,
) -> Result<AttestAgentResponse, AttestError> {
    let first = timeout(PATIENCE, requests.message()).await.map_err(|_late| AttestError::Late)?;
    let first = first.map_err(AttestError::Stream)?.and_then(|request| request.step);
    let Some(attest_agent_request::Step::Params(params)) = first else {
        return Err(AttestError::Missing("params"));
    };
    let data = params.data.ok_or(AttestError::Missing("params.data"))?;
    let csr = params.params.ok_or(AttestError::Missing("params.params"))?.csr;
    if MAX_EVIDENCE < data.payload.len() {
        return Err(AttestError::TooLarge(data.payload.len()));
    }

    let csr = Csr::parse(&csr).map_err(IssueError::Csr)?;
    let key = csr.key();
    let registry = &service.shared.registry;
    let verifier = service.verifiers.iter().find(|verifier| verifier.kind() == data.r#type);
    let binding = Binding::new(&data.r#type, csr.spki(), registry.trust_domain());
    let claim = NodeClaim {
        evidence: &data.payload,
        key: &key,
        binding: &binding,
        trust_domain: registry.trust_domain(),
        caller: None,
        now: service.shared.now(),
    };
    let verifier = verifier.ok_or(AttestError::UnknownKind)?;
    let attested = verifier.verify(claim, &mut NoConversation).await?;
    // Before anything is signed; and again, with the registry locked, when it is entered.
    registry.check_admissible(attested.id())?;
    let (svid, known) = service.issue(attested.id(), csr, Requester::Server).await?;
    let agent = Agent {
        id: attested.id().clone(),
        kind: attested.kind().to_owned(),
        selectors: attested.selectors().clone(),
        reattestable: attested.reattestable(),
        banned: false,
        svid: known,
        next: None,
    };
    let agent = registry.admit(agent).await?;
    info!(id = %agent.id, kind = agent.kind, "agent attested");
    let result = attest_agent_response::Result {
        svid: Some(to_wire(&agent.id, &svid)),
        reattestable: agent.reattestable,
    };
    Ok(AttestAgentResponse { step: Some(attest_agent_response::Step::Result(result)) })
}

/// Why a node was not admitted.
#[derive(Debug, thiserror::Error)]
enum AttestError {
    /// It said nothing in time.
    #[error("no evidence was presented in time")]
    Late,
    /// The stream broke.
    #[error("the stream ended")]
    Stream(#[source] Status),
    /// A field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The evidence is larger than any.
    #[error("evidence of {0} bytes; at most {max} are allowed", max = MAX_EVIDENCE)]
    TooLarge(usize),
    /// Nobody here can judge it.
    #[error("no verifier for this kind of evidence")]
    UnknownKind,
    /// It proves nothing.
    #[error("the evidence was refused")]
    Evidence(#[from] VerifyError),
    /// It is genuine, and the node is not wanted.
    #[error("the node is not admitted")]
    Admit(#[from] AdmitError),
    /// No SVID could be issued.
    #[error("no SVID was issued")]
    Issue(#[from] IssueError),
}

/// What a stranger may learn: whose turn it is to act, and not which check failed.
impl From<AttestError> for Status {
    fn from(error: AttestError) -> Self {
        warn!(error = %Chain(&error), "node refused");
        match error {
            AttestError::Late => Self::deadline_exceeded(error.to_string()),
            AttestError::Stream(status) => status,
            AttestError::Missing(_) | AttestError::TooLarge(_) => {
                Self::invalid_argument(error.to_string())
            }
            AttestError::Evidence(VerifyError::Unavailable(_)) => Self::unavailable("try again"),
            AttestError::Admit(AdmitError::Commit(error)) => not_committed(&error),
            AttestError::Issue(error) => error.into(),
            AttestError::UnknownKind
            | AttestError::Evidence(
                VerifyError::Malformed | VerifyError::NotGenuine(_) | VerifyError::Silent,
            )
            | AttestError::Admit(AdmitError::Banned | AdmitError::Full(_)) => {
                Self::permission_denied("the evidence does not admit this node")
            }
        }
    }
}
