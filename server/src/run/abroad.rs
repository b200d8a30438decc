//! Taking in what other servers of the same store write, in the order in which they did.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::Shared;
use crate::journal::Listener;
use crate::store::{Group, Space, Write, meta};

/// Whoever keeps in memory what lies in the store.
#[derive(Debug)]
pub(super) struct Abroad {
    listener: Listener,
    shared: Shared,
    announcer: Arc<Notify>,
}

impl Abroad {
    pub(super) fn new(shared: Shared, announcer: Arc<Notify>) -> Self {
        let listener = shared.storage.journal.listen();
        Self { listener, shared, announcer }
    }

    /// Takes in whatever comes, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// If something can't be taken in: what this server has in memory is not what is true any more.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while let Some(group) = stop.run_until_cancelled(self.listener.next()).await {
            let Some(group) = group? else { return Ok(()) };
            self.take_in(&group).await.context("cannot take in what another server wrote")?;
            self.listener.taken_in();
        }
        Ok(())
    }

    async fn take_in(&self, group: &Group) -> anyhow::Result<()> {
        let Shared { storage, registry, policy, issuance, revocations, .. } = &self.shared;
        storage.take_in(group).await?;
        registry.take_in(group).await?;
        policy.approvals().take_in(group, &storage.epochs)?;
        if touches(group, Space::Authorities, b"slots") {
            issuance.authority.look_around();
        }
        if touches(group, Space::Authorities, b"revoked")
            || touches(group, Space::Authorities, b"crl/")
        {
            revocations.look_around().await?;
        }
        if touches(group, Space::Meta, meta::POLICIES) {
            self.announcer.notify_one();
        }
        Ok(())
    }
}

/// Whether `group` sets something in `space` whose key begins with `prefix`.
fn touches(group: &[Write], space: Space, prefix: &[u8]) -> bool {
    group.iter().any(|write| match write {
        Write::Put { space: at, key, .. } => *at == space && key.starts_with(prefix),
        Write::Delete { .. } | Write::DeleteBelow { .. } => false,
    })
}
