//! The policies themselves, for agents that decide by them.

use std::pin::Pin;

use bytes::Bytes;
use claviger_proto::claviger::agent::v1::{
    FetchPoliciesRequest, PoliciesPiece, agent_policy_server,
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, async_trait};

use super::{Shared, caller};

/// The bytes in one message.
const PIECE: usize = 256 << 10;

/// Serves `claviger.agent.v1.AgentPolicy`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
}

#[async_trait]
impl agent_policy_server::AgentPolicy for Service {
    type FetchPoliciesStream = Pin<Box<dyn Stream<Item = Result<PoliciesPiece, Status>> + Send>>;

    async fn fetch_policies(
        &self,
        request: Request<FetchPoliciesRequest>,
    ) -> Result<Response<Self::FetchPoliciesStream>, Status> {
        caller::agent(&self.shared, &request).await?;
        let asked: [u8; 32] = request
            .into_inner()
            .sha256
            .try_into()
            .map_err(|_length| Status::invalid_argument("sha256: it must have 32 bytes"))?;
        let announced = self.shared.announcements.borrow().clone();
        if announced.says.sha256 != asked {
            return Err(Status::not_found("other policies are in force by now"));
        }
        let bytes = announced.bytes.clone();
        Ok(Response::new(Box::pin(stream::iter(pieces(bytes).map(Ok)))))
    }
}

/// The bytes in pieces, none of which is copied before it is sent.
fn pieces(bytes: Bytes) -> impl Iterator<Item = PoliciesPiece> {
    (0..bytes.len()).step_by(PIECE).map(move |start| {
        let end = bytes.len().min(start.saturating_add(PIECE));
        PoliciesPiece { bytes: bytes.slice(start..end) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_whole() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let whole = Bytes::from((0..=250).cycle().take(length).collect::<Vec<u8>>());
            let pieces: Vec<_> = pieces(whole.clone()).map(|piece| piece.bytes).collect();
            assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.len())));
            assert_eq!(pieces.concat(), whole);
        }
    }
}
