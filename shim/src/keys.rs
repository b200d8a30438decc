//! Where one-time keys come from.

use std::fmt;

use async_trait::async_trait;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose};

use crate::broker::{BrokerClient, IssueError};
use crate::connector::Issued;

/// Whoever can have a key made for a connection: [`BrokerClient`], or the server itself for a CI job
/// that has no agent beside it.
#[async_trait]
pub trait Keys: fmt::Debug + Send + Sync + 'static {
    /// A key for one connection to `peer`.
    ///
    /// # Errors
    ///
    /// [`IssueError`] if the policy forbids it, or nobody could be asked.
    async fn issue(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        ttl: PskTtl,
    ) -> Result<Issued, IssueError>;
}

#[async_trait]
impl Keys for BrokerClient {
    async fn issue(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        ttl: PskTtl,
    ) -> Result<Issued, IssueError> {
        Self::issue(self, peer, purpose, ttl).await
    }
}
