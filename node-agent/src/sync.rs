//! What the server says of entries, bundle and audit log, the moment it changes.
//!
//! | to find | look in |
//! |---|---|
//! | from messages to updates; no I/O | `pages` |
//! | the newest signed checkpoint, remembered on the server's behalf | `witness` |

mod pages;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use claviger_core::bundle::Bundle;
use claviger_core::time::Clock;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_proto::claviger::agent::v1::agent_sync_client::AgentSyncClient;
use claviger_runtime::health::{Part, State};
use claviger_runtime::place::ServerAddr;
use claviger_runtime::telemetry::Chain;
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{error, info, warn};

use crate::backoff::{Backoff, jitter};
use crate::credentials::cache::Known;
use crate::credentials::{Applied, Cursor, Update};
use crate::files::DataDir;
use crate::identity::{Standing, save_bundle};
use crate::metrics;
use crate::policies;
use crate::server::{Link, Server, is_rejection};
use crate::standings::{self, Standings};
use crate::tokens::Tokens;

use pages::{Pages, SyncError};
pub(crate) use witness::Witness;
pub use witness::{Alarm, LoadWitnessError};

/// The first pause after a lost connection is short, so that a restarted server is found at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// For the answer to the first message.
const DEADLINE: Duration = Duration::from_secs(10);

/// A stream that lasted so long has worked; a server that is left sooner must not be found again at once.
const STEADY: Duration = Duration::from_secs(1);

/// Updates on their way to the keeper. It takes them in faster than they come; when it does not,
/// the stream waits.
pub(crate) const UPDATES: usize = 16;

/// Follows the server.
#[derive(Debug)]
pub(crate) struct Sync {
    /// Which server.
    pub(crate) server: Server,
    /// The way to it.
    pub(crate) link: watch::Receiver<Option<Link>>,
    /// Who hears of changes.
    pub(crate) updates: mpsc::Sender<Update>,
    /// How far they have been applied.
    pub(crate) applied: watch::Receiver<Applied>,
    /// How identities stand.
    pub(crate) standings: Standings,
    /// Who takes in policies.
    pub(crate) policies: policies::Inbox,
    /// What the server's audit log must not fall behind.
    pub(crate) witness: Witness,
    /// Where it and the bundle are kept.
    pub(crate) dir: DataDir,
    /// The bundle in force, once the server has named it.
    pub(crate) believed: Option<Bundle>,
    /// What is served if the server does not answer, until it does for the first time.
    pub(crate) cached: Option<Known>,
    /// Whether that is what is served.
    pub(crate) falls_back: bool,
    /// Where JWT-SVIDs are remembered.
    pub(crate) tokens: Tokens,
    /// How the agent stands with the server.
    pub(crate) standing: Standing,
    /// Who is told whether the server is there.
    pub(crate) health: Part,
    /// The most entries in one update.
    pub(crate) max_entries: usize,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// The stream of one connection.
struct Subscription {
    requests: watch::Sender<wire::SubscribeRequest>,
    responses: Streaming<wire::SubscribeResponse>,
    pages: Pages,
    standings: standings::Pages,
    /// Whether anything came yet.
    answered: bool,
    /// Whether this connection has said how identities stand.
    stand: bool,
    /// The log that this connection tells of; unset before the first response.
    log_id: Option<Vec<u8>>,
}

/// Why the stream ended.
enum Ended {
    /// There is a new way to the server.
    NewLink,
    /// Somebody must try again.
    Failed(SyncError),
}

impl Sync {
    /// Follows the server until `stop` fires.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        stop.run_until_cancelled(self.follow_for_ever()).await;
        self.witness.save(&self.dir).await;
        Ok(())
    }

    async fn follow_for_ever(&mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        let mut lost: Option<Instant> = None;
        let mut round = self.server.places().round();
        let mut failed: Option<SyncError> = None;
        loop {
            let next = match failed.as_ref().is_some_and(SyncError::is_rejection) {
                true => None,
                false => round.next().await,
            };
            let Some(place) = next else {
                if let Some(error) = failed.take() {
                    self.give_up(&error, lost.map_or(Duration::ZERO, |since| since.elapsed()))
                        .await;
                }
                tokio::time::sleep(backoff.pause(jitter())).await;
                round = self.server.places().round();
                continue;
            };
            let began = Instant::now();
            match self.follow(&place, &mut backoff, &mut lost).await {
                Ended::NewLink => round = self.server.places().round(),
                Ended::Failed(error) => {
                    lost.get_or_insert_with(Instant::now);
                    metrics::subscribed("failed");
                    warn!(server = %place, error = error.said(), "server out of reach");
                    if STEADY <= began.elapsed() {
                        round.begin_anew();
                    }
                    failed = Some(error);
                }
            }
        }
    }

    /// No server answers, or the one that did does not know this agent.
    async fn give_up(&mut self, error: &SyncError, lost_for: Duration) {
        let accepted = self.report(error, lost_for).await;
        if accepted && let Some(Known { update, tokens }) = self.cached.take() {
            self.tokens.restore(tokens);
            // Who does not take it in any more is ending.
            drop(self.updates.send(update).await);
            self.falls_back = true;
            self.standing.unconfirmed();
        }
    }

    /// Follows one stream to its end.
    async fn follow(
        &mut self,
        place: &ServerAddr,
        backoff: &mut Backoff,
        lost: &mut Option<Instant>,
    ) -> Ended {
        let mut subscription = match self.subscribe(place).await {
            Ok(subscription) => subscription,
            Err(error) => return Ended::Failed(error),
        };
        let (places, earliest) = (self.server.places().clone(), Instant::now() + STEADY);
        loop {
            let moved = async {
                tokio::time::sleep_until(earliest).await;
                places.leave(place).await;
            };
            let response = tokio::select! {
                response = subscription.responses.message() => response,
                // A server that answers nobody else may keep its streams open.
                () = moved => return Ended::NewLink,
                changed = self.link.changed() => match changed {
                    Ok(()) => return Ended::NewLink,
                    Err(_stopping) => std::future::pending().await,
                },
                Ok(()) = self.applied.changed() => {
                    subscription.acknowledge(&self.applied.borrow_and_update());
                    self.health.set(State::Ready);
                    continue;
                }
                () = self.witness.due() => {
                    self.witness.save(&self.dir).await;
                    continue;
                }
            };
            let taken = match response {
                Ok(Some(response)) => self.take_in(&mut subscription, response).await,
                Ok(None) => Err(SyncError::Closed),
                Err(status) => Err(SyncError::Server(status)),
            };
            if let Err(error) = taken {
                return Ended::Failed(error);
            }
            if !subscription.answered {
                subscription.answered = true;
                self.server.places().choose(place);
            }
            if let Some(since) = lost.take() {
                info!(server = %place, after_ms = since.elapsed().as_millis(), "back");
            }
            backoff.reset();
        }
    }

    async fn subscribe(&mut self, place: &ServerAddr) -> Result<Subscription, SyncError> {
        let link = self.link.borrow_and_update().clone().ok_or(SyncError::NoLink)?;
        let channel = link.channel(place);
        // Where our state ends is where the keeper's does.
        let cursor = self.applied.borrow_and_update().cursor.clone();
        let hello = wire::Hello {
            cursor: cursor.map(|Cursor { log_id, sequence }| wire::Cursor { log_id, sequence }),
            checkpoint: self.witness.newest(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let hello =
            wire::SubscribeRequest { step: Some(wire::subscribe_request::Step::Hello(hello)) };
        let (requests, sent) = watch::channel(hello);
        let mut client = AgentSyncClient::new(channel);
        let asked = client.subscribe(WatchStream::new(sent));
        let patience = self.server.places().patience(DEADLINE);
        let responses = match tokio::time::timeout(patience, asked).await {
            Ok(answer) => answer.map_err(SyncError::Server)?.into_inner(),
            Err(_elapsed) => return Err(SyncError::Late),
        };
        metrics::subscribed("ok");
        Ok(Subscription {
            requests,
            responses,
            pages: Pages::new(self.max_entries),
            standings: standings::Pages::default(),
            answered: false,
            stand: false,
            log_id: None,
        })
    }

    /// Takes in one response: remember the checkpoint, believe the bundle, hand on the changes.
    async fn take_in(
        &mut self,
        subscription: &mut Subscription,
        mut response: wire::SubscribeResponse,
    ) -> Result<(), SyncError> {
        if let Some(checkpoint) = response.checkpoint.take() {
            self.witness.see(&checkpoint, self.server.trust_domain());
        }
        if let Some(page) = response.standings.take() {
            self.take_in_standings(subscription, page)?;
        }
        if let Some(announcement) = response.policy.take() {
            self.policies.announce(announcement.token);
        }
        // Whatever the server says now, it says everything.
        self.cached = None;
        let Some(update) = subscription.pages.push(response, self.server.trust_domain())? else {
            return Ok(());
        };
        if let Some(bundle) = &update.bundle {
            self.believe(bundle).await?;
        }
        let mut first = false;
        if let Some(cursor) = &update.cursor {
            first = subscription.log_id.replace(cursor.log_id.clone()).is_none();
        } else if update.says_nothing() {
            return Ok(()); // Only a checkpoint.
        }
        self.updates.send(update).await.map_err(|_stopping| SyncError::Closed)?;
        if first {
            self.standing.accepted().await;
            let applied = self.applied.borrow();
            subscription.acknowledge(&applied);
            // Otherwise, there is nothing to serve before the first update has been applied.
            if applied.cursor.is_some() {
                self.health.set(State::Ready);
            }
        }
        Ok(())
    }

    /// Who stands otherwise is known to everybody here at once; the rest follows from that.
    fn take_in_standings(
        &self,
        subscription: &mut Subscription,
        page: wire::Standings,
    ) -> Result<(), SyncError> {
        if let Some(update) = subscription.standings.push(page)? {
            self.standings.apply(update)?;
            subscription.stand = true;
            // Nothing may have changed, and then nobody else brings the server to know it.
            subscription.acknowledge(&self.applied.borrow());
        }
        Ok(())
    }

    async fn believe(&mut self, bundle: &Bundle) -> Result<(), SyncError> {
        if self.believed.as_ref() == Some(bundle) {
            return Ok(());
        }
        let ders: Vec<_> =
            bundle.x509_authorities.iter().map(|a| CertificateDer::from(a.der.to_vec())).collect();
        self.server.bundle().replace(&ders).map_err(SyncError::Bundle)?;
        // It is believed even if it can't be kept; a restart then begins with an older one.
        if let Err(error) = save_bundle(&self.dir, &ders).await {
            error!(error = %Chain(&error), "cannot keep the trust bundle");
        }
        self.policies.believe(&bundle.jwt_authorities);
        self.believed = Some(bundle.clone());
        Ok(())
    }

    /// Says that the server is away. Returns whether it still knows this agent, as far as anybody can tell.
    async fn report(&self, error: &SyncError, lost_for: Duration) -> bool {
        if let SyncError::Server(status) = error
            && is_rejection(status)
        {
            self.standing.refused(status).await;
            let why = "the server refuses this agent; serving what is still valid".to_owned();
            self.health.set(State::Degraded(why));
            return false;
        }
        let why = error.said();
        let since = self.clock.now().before(lost_for);
        let serves = self.falls_back || self.cached.is_some();
        let state = if serves || self.applied.borrow().cursor.is_some() {
            State::Degraded(format!(
                "server unreachable since {since} (Unix time); serving cached SVIDs: {why}"
            ))
        } else {
            State::Failed(format!("server not reached since {since} (Unix time): {why}"))
        };
        self.health.set(state);
        true
    }
}

impl Subscription {
    /// Tells the server how far what it says has been taken in, as far as this connection has said it.
    fn acknowledge(&self, applied: &Applied) {
        let Some(log_id) = &self.log_id else { return };
        let cursor = applied.cursor.as_ref().filter(|cursor| cursor.log_id == *log_id);
        let ack = wire::Ack {
            sequence: cursor.map_or(0, |cursor| cursor.sequence),
            standings: if self.stand { applied.standings } else { 0 },
        };
        let step = Some(wire::subscribe_request::Step::Ack(ack));
        self.requests.send_replace(wire::SubscribeRequest { step });
    }
}
