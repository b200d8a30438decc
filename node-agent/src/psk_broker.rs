//! One-time PSKs for local processes.
//!
//! The server hands out a base; the key is derived here, from what this agent knows of the two ends.
//! If the server, or anyone in between, sees them differently, the two ends have different keys.

mod issue;
mod queue;
mod redeem;

use std::sync::Arc;
use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::PskBase;
use claviger_core::secret::Secret;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_proto::claviger::psk::v1::psk_broker_server::PskBroker as Service;
use claviger_proto::claviger::psk::v1::{
    IssueRequest, IssueResponse, RedeemRequest, RedeemResponse,
};
use claviger_proto::pushback;
use claviger_runtime::tasks::Tasks;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, async_trait};
use tracing::debug;
use zeroize::Zeroizing;

use crate::attestation::peer;
use crate::metrics::counted;
use crate::server::Link;
use crate::standings::Standings;
use crate::streams::Desk;
use crate::workload_api::require_header;
use queue::{Crowded, Place, Queue};

/// For the server's answer: a connection waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long an answer may take before there are fewer calls at a time. When there is too much to do,
/// issuing gives way first: whoever redeems has a connection that was permitted already.
const ISSUED_SOON: Duration = Duration::from_millis(250);
const REDEEMED_SOON: Duration = Duration::from_secs(1);

/// The broker.
#[derive(Clone, Debug)]
pub(crate) struct PskBroker {
    /// Where its callers are served.
    desk: Desk,
    /// The way to the server.
    link: watch::Receiver<Option<Link>>,
    /// How identities stand.
    standings: Standings,
    /// Whoever wants more and more keys keeps no connection from being answered.
    issuing: Queue,
    redeeming: Queue,
    tasks: Tasks,
}

#[async_trait]
impl Service for PskBroker {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        require_header(request.metadata())?;
        let (peer, asked) = (peer(&request)?, request.into_inner());
        let place = self.issuing.enter(peer.uid()).map_err(busy)?;
        let broker = self.clone();
        let issuing = async move { issue::issue(&broker, &peer, asked).await.map_err(Into::into) };
        counted("Issue", self.see_through(place, issuing).await)
    }

    async fn redeem(
        &self,
        request: Request<RedeemRequest>,
    ) -> Result<Response<RedeemResponse>, Status> {
        require_header(request.metadata())?;
        let (peer, asked) = (peer(&request)?, request.into_inner());
        let place = self.redeeming.enter(peer.uid()).map_err(busy)?;
        let broker = self.clone();
        let redeeming =
            async move { redeem::redeem(&broker, &peer, asked).await.map_err(Into::into) };
        counted("Redeem", self.see_through(place, redeeming).await)
    }
}

/// Nothing was done, and it may be tried again.
fn busy(crowded: Crowded) -> Status {
    debug!(%crowded, "a call for a PSK refused");
    let mut status = Status::unavailable("too many calls are waiting for the server; try again");
    pushback::set(&mut status, crowded.wait);
    status
}

impl PskBroker {
    /// A broker for the callers at `desk`.
    pub(crate) fn new(
        desk: Desk,
        link: watch::Receiver<Option<Link>>,
        standings: Standings,
        tasks: &Tasks,
    ) -> Self {
        let (issuing, redeeming) = (Queue::new(ISSUED_SOON), Queue::new(REDEEMED_SOON));
        Self { desk, link, standings, issuing, redeeming, tasks: tasks.clone() }
    }

    /// Waits for `call`, which goes on and keeps its `place` if nobody waits any more: whoever asks and hangs up
    /// asks no more of the server than whoever waits.
    async fn see_through<A: Send + 'static>(
        &self,
        place: Place,
        call: impl Future<Output = Result<A, Status>> + Send + 'static,
    ) -> Result<A, Status> {
        let call = async move {
            let answer = call.await;
            drop(place);
            answer
        };
        let answer = self.tasks.see_through("psk", call).await;
        answer.unwrap_or_else(|| Err(Status::unavailable("the agent is stopping; try again")))
    }

    /// Whether one of these is in quarantine: whatever the server says, nothing passes between them.
    fn is_quarantined(&self, ids: &[SpiffeId]) -> bool {
        ids.iter().any(|id| self.standings.of(id).quarantined)
    }

    /// Asks the server, and gives up soon: whoever asks is holding a connection. If it has too much to do, fewer
    /// wait in `queue` from then on.
    async fn ask<A, F>(
        &self,
        queue: &Queue,
        call: impl Fn(AgentPskClient<Channel>) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let away = || Status::unavailable("the server cannot be reached; try again");
        let link = self.link.borrow().clone().ok_or_else(away)?;
        let asked = link.ask(DEADLINE, |channel| call(AgentPskClient::new(channel)));
        let answer = asked.await;
        if answer.as_ref().is_err_and(pushback::is_crowded) {
            queue.shorten();
        }
        answer.map(Response::into_inner)
    }
}

/// The identity to act as: the one named, or the first.
fn choose(identities: &[Arc<Entry>], named: Option<&SpiffeId>) -> Option<SpiffeId> {
    let fits = |entry: &&Arc<Entry>| named.is_none_or(|named| entry.spiffe_id == *named);
    identities.iter().find(fits).map(|entry| entry.spiffe_id.clone())
}

/// The base in a message; the message's own copy is wiped.
fn base(bytes: Vec<u8>) -> Option<PskBase> {
    Secret::copy_from(&Zeroizing::new(bytes)).map(PskBase)
}

#[cfg(test)]
mod tests;
