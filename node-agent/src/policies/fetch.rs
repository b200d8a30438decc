//! Asking the server for policies.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use claviger_core::policies::MAX_BYTES;
use claviger_proto::claviger::agent::v1::FetchPoliciesRequest;
use claviger_proto::claviger::agent::v1::agent_policy_client::AgentPolicyClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// For all of them.
const DEADLINE: Duration = Duration::from_secs(30);

/// The policies whose bytes have the hash `sha256`: at most [`MAX_BYTES`] of them. Whether they are
/// is for the caller to find out.
pub(super) async fn fetch(
    channel: Option<Channel>,
    sha256: [u8; 32],
) -> Result<Bytes, FetchPoliciesError> {
    let channel = channel.ok_or(FetchPoliciesError::NoLink)?;
    let all = tokio::time::timeout(DEADLINE, all_of(channel, sha256));
    all.await.unwrap_or(Err(FetchPoliciesError::Late))
}

async fn all_of(channel: Channel, sha256: [u8; 32]) -> Result<Bytes, FetchPoliciesError> {
    let request = FetchPoliciesRequest { sha256: sha256.to_vec() };
    let answer = AgentPolicyClient::new(channel).fetch_policies(request).await;
    let mut pieces = answer.map_err(refused)?.into_inner();
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        if MAX_BYTES < bytes.len().saturating_add(piece.bytes.len()) {
            return Err(FetchPoliciesError::TooLarge);
        }
        bytes.extend_from_slice(&piece.bytes);
    }
    Ok(bytes.freeze())
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
    #[error("the policies did not come in time")]
    Late,
    #[error("other policies are in force by now; waiting for their announcement")]
    Replaced,
    #[error("the server sends more than {MAX_BYTES} bytes of policies")]
    TooLarge,
    #[error("the policies did not come")]
    Server(#[source] Status),
}
