//! The signed policies, and how identities stand: at first, and whenever it changes.

use std::collections::VecDeque;

use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::policy::v1::{SignedPolicies, WatchResponse};
use claviger_runtime::unix::Peer;
use tokio::sync::watch;
use tonic::Status;

use super::PolicyDesk;
use crate::credentials::Snapshot;
use crate::policies::InForce;
use crate::standings::{Edition, Standings};
use crate::streams::{Answer, Compose, Responses, Watcher, stopping};

/// Opens a stream for the process `peer`, which ends when it has no identity any more.
pub(super) async fn open(
    desk: &PolicyDesk,
    peer: Peer,
) -> Result<Responses<WatchResponse>, Status> {
    let slot = desk.desk.slot(peer.uid())?;
    let mut entitled = Watcher::new(&desk.desk, slot, peer, entitled);
    entitled.next().await?;
    let session = Session {
        entitled,
        policies: desk.policies.in_force.clone(),
        standings: desk.standings.clone(),
        editions: desk.standings.watch(),
        seen: None,
        pages: VecDeque::new(),
        began: false,
    };
    Ok(Box::pin(futures_util::stream::try_unfold(session, |mut session| async move {
        Ok(Some((session.next().await?, session)))
    })))
}

/// Whether somebody may know. There is nothing else to say of it.
fn entitled(snapshot: &Snapshot, facts: &Selectors, now: UnixTime) -> Answer<()> {
    if snapshot.admitted(facts, now).is_empty() { Answer::Nobody } else { Answer::Message(()) }
}

/// One stream.
struct Session<C> {
    entitled: Watcher<Peer, (), C>,
    policies: watch::Receiver<Option<std::sync::Arc<InForce>>>,
    standings: Standings,
    editions: watch::Receiver<Edition>,
    /// Up to where it was told how identities stand.
    seen: Option<Edition>,
    /// What is still to be told of that.
    pages: VecDeque<WatchResponse>,
    began: bool,
}

impl<C: Compose<Selectors, ()>> Session<C> {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        if !std::mem::replace(&mut self.began, true) {
            self.stand();
            let mut first = self.pages.pop_front().unwrap_or_default();
            first.policies = self.policies();
            return Ok(first);
        }
        loop {
            if let Some(page) = self.pages.pop_front() {
                return Ok(page);
            }
            tokio::select! {
                biased;
                // It says something only if there is nobody to tell any more.
                ended = self.entitled.next() => ended?,
                changed = self.policies.changed() => {
                    changed.map_err(|_stopping| stopping())?;
                    // What has expired expires there as well.
                    if let Some(policies) = self.policies() {
                        let policies = Some(policies);
                        return Ok(WatchResponse { policies, ..WatchResponse::default() });
                    }
                }
                changed = self.editions.changed() => {
                    changed.map_err(|_stopping| stopping())?;
                    self.stand();
                }
            }
        }
    }

    fn policies(&mut self) -> Option<SignedPolicies> {
        let in_force = self.policies.borrow_and_update().clone()?;
        Some(SignedPolicies { token: in_force.token.clone(), policies: in_force.bytes.clone() })
    }

    /// Puts up what is new about how identities stand.
    fn stand(&mut self) {
        self.editions.mark_unchanged();
        let changes = self.standings.since(self.seen);
        self.seen = Some(changes.edition);
        let response =
            |standings| WatchResponse { standings: Some(standings), ..WatchResponse::default() };
        self.pages.extend(changes.into_pages().into_iter().map(response));
    }
}
