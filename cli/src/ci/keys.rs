//! One-time keys for the routes of a job.

use std::time::Duration;

use async_trait::async_trait;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskBinding, PskTtl, Purpose};
use claviger_shim::broker::IssueError;
use claviger_shim::connector::Issued;
use claviger_shim::keys::Keys;
use tonic::Status;

use super::key::{Key, Wanted};
use super::server::Server;
use super::token::Tokens;

/// Asks the server for each key, with a token of the job's.
#[derive(Debug)]
pub(crate) struct JobKeys {
    pub(crate) server: Server,
    pub(crate) tokens: Tokens,
    /// For how long the server may be away.
    pub(crate) patience: Duration,
    /// Which of the job's identities dials.
    pub(crate) identity: Option<SpiffeId>,
}

#[async_trait]
impl Keys for JobKeys {
    async fn issue(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        ttl: PskTtl,
    ) -> Result<Issued, IssueError> {
        let wanted = Wanted { peer, purpose, ttl_seconds: ttl, spiffe_id: self.identity.as_ref() };
        let key = wanted.get(&self.server, &self.tokens, self.patience).await;
        let Key { identity, psk, binding } =
            key.map_err(|failure| IssueError::Broker(Status::unavailable(failure.problem())))?;
        let PskBinding { client, server, purpose, not_after, run, .. } = binding;
        Ok(Issued { identity, psk, client, server, purpose, not_after, run })
    }
}
