//! One open stream.

use std::sync::Arc;

use claviger_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use claviger_runtime::slots::Slot;
use claviger_runtime::unix::Peer;
use tonic::{Status, Streaming};

use super::Sds;
use super::exchange::Exchange;
use super::resource::Resource;
use super::wanted::{Selection, Wanted};
use crate::config;
use crate::streams::Watcher;

/// Tells one Envoy what it asks for, and what changes of that.
///
/// While an Envoy does not read what it was sent, nothing more is read or made for it, so that one
/// that never does takes little memory.
pub(super) struct Conversation {
    config: Arc<config::Sds>,
    requests: Streaming<DiscoveryRequest>,
    exchange: Exchange,
    /// Whether there may be something to say.
    is_due: bool,
    watcher: Watcher<Peer, Vec<Resource>, Selection>,
}

impl Conversation {
    pub(super) fn new(
        sds: &Sds,
        peer: Peer,
        slot: Slot<u32>,
        requests: Streaming<DiscoveryRequest>,
    ) -> Self {
        let everything = Wanted::default().compose(&sds.config);
        Self {
            config: Arc::clone(&sds.config),
            requests,
            exchange: Exchange::new(&sds.config),
            is_due: false,
            watcher: Watcher::new(&sds.desk, slot, peer, everything),
        }
    }

    /// The next response; none when the Envoy has no more to say.
    pub(super) async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        loop {
            // Meanwhile no request is read, so that no flood of them keeps the answer away.
            if std::mem::take(&mut self.is_due)
                && let Some(resources) = self.watcher.look().await?
            {
                return self.exchange.respond(&resources).map(Some);
            }
            let is_asked = self.exchange.is_asked();
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => {
                        if let Some(wanted) = self.exchange.take(request)? {
                            self.watcher.ask(wanted.compose(&self.config));
                            self.is_due = true;
                        }
                    }
                    None => return Ok(None),
                },
                changed = self.watcher.change(), if is_asked => {
                    changed?;
                    self.is_due = true;
                }
            }
        }
    }
}
