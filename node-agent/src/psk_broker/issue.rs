//! A key for one connection.

use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::psk::identity::{ParseIdentityError, WireIdentity};
use claviger_core::psk::series::ParseSeriesEpochError;
use claviger_core::psk::{
    ParsePurposeError, PskBinding, PskHash, PskTtl, PskTtlError, Purpose, SeriesEpoch,
};
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1 as server;
use claviger_proto::claviger::psk::v1::{IssueRequest, IssueResponse};
use claviger_proto::{NEWEST_EPOCH, pushback};
use claviger_runtime::unix::Peer;
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use super::{PskBroker, base, choose};
use crate::attestation::NO_IDENTITY;
use crate::server::Said;

/// What a caller learns of a decision against it, whoever made it.
const NOT_PERMITTED: &str = "the policy does not permit this connection";

/// What a process asks for.
struct Asked {
    peer: SpiffeId,
    purpose: Purpose,
    ttl: PskTtl,
    named: Option<SpiffeId>,
    series: Option<SeriesEpoch>,
}

pub(super) async fn issue(
    broker: &PskBroker,
    peer: &Peer,
    request: IssueRequest,
) -> Result<IssueResponse, IssueError> {
    let asked = Asked::try_from(request)?;
    let identities = broker.desk.identities(peer).await.map_err(IssueError::Caller)?;
    let client = choose(&identities, asked.named.as_ref()).ok_or(IssueError::NotYours)?;
    let parties = [client.clone(), asked.peer.clone()];
    if broker.is_quarantined(&parties) {
        return Err(IssueError::Quarantined);
    }
    let (series, epoch) = SeriesEpoch::to_wire(asked.series.as_ref());
    let request = server::IssuePskRequest {
        client_id: client.to_string(),
        server_id: asked.peer.to_string(),
        purpose: asked.purpose.to_string(),
        ttl_seconds: asked.ttl.into(),
        series,
        epoch,
    };

    let answer = broker
        .ask(&broker.issuing, |mut server| {
            let request = request.clone();
            async move { server.issue_psk(request).await }
        })
        .await
        .map_err(IssueError::Server)?;

    if peer.has_changed() {
        return Err(IssueError::Caller(Status::permission_denied(NO_IDENTITY)));
    }
    // It may have come while the server was asked.
    if broker.is_quarantined(&parties) {
        return Err(IssueError::Quarantined);
    }
    derive(asked, client, answer)
}

/// The key, bound to what this agent was asked for and not to what the server may say.
fn derive(
    asked: Asked,
    client: SpiffeId,
    answer: server::IssuePskResponse,
) -> Result<IssueResponse, IssueError> {
    let server::IssuePskResponse { identity, base: bytes, not_after } = answer;
    let base = base(bytes).ok_or(IssueError::BadBase)?;
    let identity: WireIdentity = identity.parse()?;
    let binding = PskBinding {
        client,
        server: asked.peer,
        purpose: asked.purpose,
        not_after: UnixTime::from_secs(not_after),
        hash: PskHash::Sha256,
        run: None,
        series: asked.series,
        bits: None,
    };
    let psk = base.psk(&binding);
    info!(client = %binding.client, server = %binding.server, purpose = %binding.purpose, "PSK issued");
    Ok(IssueResponse {
        identity: identity.to_string(),
        key: psk.0.expose().to_vec(),
        client_id: binding.client.to_string(),
        server_id: binding.server.to_string(),
        purpose: binding.purpose.to_string(),
        not_after,
    })
}

impl TryFrom<IssueRequest> for Asked {
    type Error = IssueError;

    fn try_from(request: IssueRequest) -> Result<Self, IssueError> {
        let IssueRequest { peer, purpose, ttl_seconds, spiffe_id, series, epoch } = request;
        let named = match spiffe_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|source| IssueError::Id { field: "spiffe_id", source })?),
        };
        Ok(Self {
            peer: peer.parse().map_err(|source| IssueError::Id { field: "peer", source })?,
            purpose: purpose.parse()?,
            ttl: if ttl_seconds == 0 { PskTtl::default() } else { ttl_seconds.try_into()? },
            named,
            series: SeriesEpoch::from_wire(&series, epoch)?,
        })
    }
}

/// Why no key is issued.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    #[error("{field}: {source}")]
    Id { field: &'static str, source: ParseIdError },
    #[error("purpose: {0}")]
    Purpose(#[from] ParsePurposeError),
    #[error("ttl_seconds: {0}")]
    Ttl(#[from] PskTtlError),
    #[error("{field}: {0}", field = .0.field())]
    Series(#[from] ParseSeriesEpochError),
    #[error("the caller has no such identity")]
    NotYours,
    #[error("one of the two is in quarantine")]
    Quarantined,
    #[error("the caller is not known")]
    Caller(#[source] Status),
    #[error("the server does not issue the key")]
    Server(#[source] Status),
    #[error("the server sent a base that is none")]
    BadBase,
    #[error("the server sent an identity that is none")]
    BadIdentity(#[from] ParseIdentityError),
}

impl From<IssueError> for Status {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Id { .. }
            | IssueError::Purpose(_)
            | IssueError::Ttl(_)
            | IssueError::Series(_) => Self::invalid_argument(error.to_string()),
            IssueError::NotYours => Self::permission_denied(NO_IDENTITY),
            IssueError::Quarantined => {
                warn!(%error, "PSK not issued");
                Self::permission_denied(NOT_PERMITTED)
            }
            IssueError::Caller(status) => status,
            IssueError::Server(status) => said_by_server(&status),
            IssueError::BadBase | IssueError::BadIdentity(_) => {
                warn!(%error, "PSK not issued");
                Self::unavailable("the server's answer is of no use")
            }
        }
    }
}

/// What the caller learns of a server's refusal: whose turn it is to act.
fn said_by_server(status: &Status) -> Status {
    if status.code() == Code::ResourceExhausted {
        // Of these there may be very many, and the server counts them.
        debug!(error = %Said(status), "the server issues no PSK for now");
    } else {
        warn!(code = %status.code(), error = %Said(status), "the server issues no PSK");
    }
    match status.code() {
        Code::InvalidArgument => Status::invalid_argument(status.message()),
        Code::PermissionDenied | Code::Unauthenticated | Code::NotFound => {
            Status::permission_denied(NOT_PERMITTED)
        }
        Code::ResourceExhausted => with(status, Code::ResourceExhausted, pushback::KEY),
        // A later epoch of the series has begun, and which.
        Code::FailedPrecondition => with(status, Code::FailedPrecondition, NEWEST_EPOCH),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Status::unavailable("the server cannot be reached; try again"),
    }
}

/// What the server says, with what `key` has in its metadata.
fn with(status: &Status, code: Code, key: &'static str) -> Status {
    let mut said = Status::new(code, status.message());
    if let Some(value) = status.metadata().get(key) {
        said.metadata_mut().insert(key, value.clone());
    }
    said
}
