//! Attesting a node: evidence in, an agent's SVID out, and challenges between if the kind of evidence
//! needs them.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use claviger_attestors::{Challenged, MAX_EVIDENCE, NodeClaim, VerifyError};
use claviger_core::evidence::Binding;
use claviger_core::grant::Requester;
use claviger_proto::spire::server::agent::v1::{
    AttestAgentRequest, AttestAgentResponse, attest_agent_request, attest_agent_response,
};
use claviger_runtime::telemetry::Chain;
use futures_util::{Stream, StreamExt as _, future, stream};
use metrics::counter;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming, async_trait};
use tracing::{info, warn};

use super::super::issuance::{IssueError, to_wire};
use super::super::not_committed;
use super::Service;
use crate::ca::csr::Csr;
use crate::metrics as names;
use crate::registry::AdmitError;
use crate::registry::agents::Agent;

/// How long a stranger may take for each of its messages.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many challenges a node is sent at most: each kind needs two at most, and evidence may be
/// composite.
const MAX_CHALLENGES: usize = 16;

/// What a node is told: challenges, and at the end the outcome.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

/// Attests whoever sends `requests` from the address `caller`. It goes on while the answers are
/// read, and ends when nobody reads them any more.
pub(super) fn attest(
    service: Service,
    requests: Streaming<AttestAgentRequest>,
    caller: Option<IpAddr>,
    slot: impl Send + 'static,
) -> Answers {
    let (answers, mut challenges) = mpsc::channel(1);
    let outcome = async move {
        let mut node = Conversation { requests, answers, challenges: 0 };
        let attested = admit(&service, &mut node, caller).await;
        let outcome = if attested.is_ok() { "admitted" } else { "refused" };
        counter!(names::ATTESTATIONS, "outcome" => outcome).increment(1);
        drop(slot);
        Some(attested.map_err(Status::from))
    };
    // The outcome holds the sender of challenges, so it ends both.
    let outcome = stream::once(outcome).filter_map(future::ready);
    Box::pin(stream::select(stream::poll_fn(move |cx| challenges.poll_recv(cx)), outcome))
}

async fn admit(
    service: &Service,
    node: &mut Conversation,
    caller: Option<IpAddr>,
) -> Result<AttestAgentResponse, AttestError> {
    // What is said of it from now on, this evidence does not answer.
    let seen = service.shared.storage.standings.number();
    let Some(attest_agent_request::Step::Params(params)) = node.next().await? else {
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
    let verifier = service.verifiers.find(&data.r#type).ok_or(AttestError::UnknownKind)?;
    let claim = NodeClaim {
        evidence: &data.payload,
        key: &key,
        binding: &Binding::new(verifier.kind(), csr.spki(), registry.trust_domain()),
        trust_domain: registry.trust_domain(),
        caller,
        now: service.shared.now(),
    };
    let attested = verifier.verify(claim, node).await?;

    // Before anything is signed; and again, with the registry locked, when it is entered.
    registry.check_admissible(attested.id(), &key)?;
    let requester = Requester::Evidence {
        id: attested.id().clone(),
        kind: attested.kind().to_owned(),
        bond: attested.appraisal().bond,
        tier: attested.appraisal().tier(),
    };
    let (svid, known) = service.issue(attested.id(), csr, requester).await?;
    let agent = Agent {
        id: attested.id().clone(),
        kind: attested.kind().to_owned(),
        selectors: attested.selectors().clone(),
        reattestable: attested.reattestable(),
        banned: false,
        svid: known,
        next: None,
        appraised: None,
    };
    let agent = registry.admit(agent, attested.appraisal().clone(), seen).await?;
    let bond = attested.appraisal().bond.name();
    info!(id = %agent.id, kind = agent.kind, bond, "agent attested");
    let result = attest_agent_response::Result {
        svid: Some(to_wire(&agent.id, &svid)),
        reattestable: agent.reattestable,
    };
    Ok(AttestAgentResponse { step: Some(attest_agent_response::Step::Result(result)) })
}

/// A node that is being attested.
#[derive(Debug)]
struct Conversation {
    requests: Streaming<AttestAgentRequest>,
    answers: mpsc::Sender<Result<AttestAgentResponse, Status>>,
    challenges: usize,
}

impl Conversation {
    /// What the node says next.
    async fn next(&mut self) -> Result<Option<attest_agent_request::Step>, AttestError> {
        let next = timeout(PATIENCE, self.requests.message()).await;
        let next = next.map_err(|_late| AttestError::Late)?.map_err(AttestError::Stream)?;
        Ok(next.and_then(|request| request.step))
    }
}

#[async_trait]
impl Challenged for Conversation {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        self.challenges = self.challenges.saturating_add(1);
        if MAX_CHALLENGES < self.challenges {
            return Err(VerifyError::Silent);
        }
        let step = attest_agent_response::Step::Challenge(challenge);
        let sent = self.answers.send(Ok(AttestAgentResponse { step: Some(step) })).await;
        sent.map_err(|_gone| VerifyError::Silent)?;
        match self.next().await {
            Ok(Some(attest_agent_request::Step::ChallengeResponse(answer)))
                if answer.len() <= MAX_EVIDENCE =>
            {
                Ok(answer)
            }
            Ok(Some(_)) => Err(VerifyError::Malformed),
            Ok(None) | Err(_) => Err(VerifyError::Silent),
        }
    }
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
            | AttestError::Admit(AdmitError::Banned | AdmitError::Taken | AdmitError::Full(_)) => {
                Self::permission_denied("the evidence does not admit this node")
            }
        }
    }
}
