//! Asking the server for policies.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use claviger_core::policies::MAX_BYTES;
use claviger_proto::claviger::agent::v1::FetchPoliciesRequest;
use claviger_proto::claviger::agent::v1::agent_policy_client::AgentPolicyClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::server::Link;

/// For all of them.
const DEADLINE: Duration = Duration::from_secs(30);

/// The policies whose bytes have the hash `sha256`: at most [`MAX_BYTES`] of them. Whether they are
/// is for the caller to find out.
pub(super) async fn fetch(
    link: Option<Link>,
    sha256: [u8; 32],
) -> Result<Bytes, FetchPoliciesError> {
    let link = link.ok_or(FetchPoliciesError::NoLink)?;
    let all = link.ask(DEADLINE, |channel| all_of(channel, sha256)).await.map_err(refused)?;
    all.ok_or(FetchPoliciesError::TooLarge)
}

/// All pieces; `None` if they are too many.
async fn all_of(channel: Channel, sha256: [u8; 32]) -> Result<Option<Bytes>, Status> {
    let request = FetchPoliciesRequest { sha256: sha256.to_vec() };
    let answer = AgentPolicyClient::new(channel).fetch_policies(request).await;
    let mut pieces = answer?.into_inner();
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.message().await? {
        if MAX_BYTES < bytes.len().saturating_add(piece.bytes.len()) {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece.bytes);
    }
    Ok(Some(bytes.freeze()))
}

fn refused(status: Status) -> FetchPoliciesError {
    if status.code() == Code::NotFound {
        FetchPoliciesError::Replaced
    } else {
        FetchPoliciesError::Server(status)
    }
}

/// Why policies did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchPoliciesError {
    #[error("there is no way to the server")]
    NoLink,
    #[error("other policies are in force by now; waiting for their announcement")]
    Replaced,
    #[error("the server sends more than {MAX_BYTES} bytes of policies")]
    TooLarge,
    #[error("the policies did not come")]
    Server(#[source] Status),
}
