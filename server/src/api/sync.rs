//! Pushing to agents what concerns them, the moment it changes.

mod pages;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::audit::note::{Note, VerifierKey};
use claviger_core::audit::{Head, SignedCheckpoint};
use claviger_core::bundle::Bundle;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1::{
    self as wire, Cursor, PolicyAnnouncement, RevocationLists, SubscribeRequest, SubscribeResponse,
    agent_sync_server, subscribe_request::Step,
};
use claviger_proto::spire::types;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tracing::{error, info, warn};

use super::{Shared, caller};
use crate::audit::Verdict;
use crate::ca::revocation::Lists;
use crate::policy::announce::Announcements;
use crate::registry::agents::Agent;
use crate::registry::federation::Federated;
use crate::registry::subscribers::{Subscription, Update};

/// How long an agent may take to say hello.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often agents are given a checkpoint while records are written.
const CHECKPOINTS: Duration = Duration::from_secs(60);

/// An SVID is valid until the end of its last second.
const SECOND: Duration = Duration::from_secs(1);

/// Serves `claviger.agent.v1.AgentSync`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
    /// Their end ends all streams.
    pub tasks: Tasks,
}

#[async_trait]
impl agent_sync_server::AgentSync for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (agent, until) = caller::agent_until(&self.shared, &request).await?;
        if let Err(refused) = caller::check_standing(&self.shared, &agent) {
            return Ok(Response::new(self.farewell(&agent, refused)));
        }
        let session = self.open(agent, until, request.into_inner()).await?;
        let responses = try_unfold(session, |mut session| async move {
            Ok(session.next().await?.map(|response| (response, session)))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Service {
    async fn open(
        &self,
        agent: Arc<Agent>,
        until: UnixTime,
        mut requests: Streaming<SubscribeRequest>,
    ) -> Result<Session, Status> {
        let first = timeout(PATIENCE, requests.message()).await;
        let first = first.map_err(|_late| Status::deadline_exceeded("no Hello came in time"))??;
        let Some(Step::Hello(hello)) = first.and_then(|request| request.step) else {
            return Err(Status::invalid_argument("the first request must be a Hello"));
        };
        if let Some(checkpoint) = hello.checkpoint {
            self.weigh(&agent, checkpoint).await?;
        }
        let log_id = self.shared.registry.log_id();
        let cursor = hello.cursor.filter(|cursor| cursor.log_id == log_id);
        let subscription =
            self.shared.registry.subscribe(&agent.id, cursor.map(|cursor| cursor.sequence));
        let subscription =
            subscription.map_err(|error| Status::permission_denied(error.to_string()))?;
        info!(id = %agent.id, "agent subscribed");

        let mut checkpoints = interval(CHECKPOINTS);
        checkpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Session {
            requests,
            subscription,
            bundle: self.shared.issuance.authority.bundle(),
            federated: self.shared.registry.federated(),
            told: Arc::default(),
            revoked: self.shared.revocations.lists(),
            policies: self.shared.announcements.clone(),
            standings: self.shared.storage.standings.version(),
            stands: None,
            last_word: None,
            head: self.shared.storage.journal.head(),
            pages: VecDeque::new(),
            checkpoints,
            expiry: Box::pin(tokio::time::sleep(
                until.since(self.shared.now()).saturating_add(SECOND),
            )),
            log_id: log_id.to_vec(),
            shared: self.shared.clone(),
            stop: self.tasks.token(),
            began: false,
            agent,
        })
    }

    /// What an agent is told that may not act as it stands: how that is, and no more.
    fn farewell(
        &self,
        agent: &Agent,
        refused: Status,
    ) -> <Self as agent_sync_server::AgentSync>::SubscribeStream {
        let record = self.shared.storage.standings.record(&agent.id);
        let standings = record.map(|record| wire::Standings {
            upserts: vec![pages::standing(&record)],
            version: record.standing.version,
            ..wire::Standings::default()
        });
        let first = SubscribeResponse { standings, ..SubscribeResponse::default() };
        Box::pin(futures_util::stream::iter([Ok(first), Err(refused)]))
    }

    /// Compares what the agent remembers of our log with the log. If the agent knows more, this
    /// server was restored from a backup: everything that was to happen once begins anew.
    async fn weigh(&self, agent: &Agent, presented: wire::SignedCheckpoint) -> Result<(), Status> {
        let malformed = |error| Status::invalid_argument(format!("checkpoint: {error}"));
        presented.note.parse::<Note>().map_err(malformed)?;
        let storage = &self.shared.storage;
        let verdict = storage.checkpoints.judge(&presented.note).await.map_err(|error| {
            error!(error = %Chain(&error), "cannot compare a checkpoint with the log");
            Status::unavailable("try again")
        })?;
        match verdict {
            Verdict::Fine => Ok(()),
            Verdict::NotOurs => {
                warn!(id = %agent.id, "the agent's checkpoint was not signed by this server");
                Ok(())
            }
            Verdict::Behind { epoch, doubt } => {
                error!(id = %agent.id, %doubt, "this server lacks records that it once wrote");
                let epochs = storage.epochs.clone();
                let fence = async move { epochs.fence(epoch, &doubt).await };
                match self.tasks.see_through("fence", fence).await {
                    Some(Ok(_epoch)) => Ok(()),
                    Some(Err(error)) => {
                        error!(error = %Chain(&error), "cannot begin a new epoch");
                        Err(Status::unavailable("try again"))
                    }
                    None => Err(Status::unavailable("the server is stopping")),
                }
            }
        }
    }
}

/// One agent's stream.
struct Session {
    requests: Streaming<SubscribeRequest>,
    subscription: Subscription,
    bundle: watch::Receiver<Arc<Bundle>>,
    federated: watch::Receiver<Arc<Federated>>,
    /// What the agent was told of them.
    told: Arc<Federated>,
    revoked: watch::Receiver<Lists>,
    policies: Announcements,
    standings: watch::Receiver<u64>,
    /// Up to which change the agent was told how identities stand, if it was.
    stands: Option<u64>,
    /// Why the stream ends once the agent has been told what waits for it.
    last_word: Option<Status>,
    head: watch::Receiver<Head>,
    /// The rest of an update that is larger than one response.
    pages: VecDeque<SubscribeResponse>,
    checkpoints: Interval,
    /// When the SVID by which the agent was let in is over.
    expiry: Pin<Box<Sleep>>,
    log_id: Vec<u8>,
    shared: Shared,
    stop: CancellationToken,
    began: bool,
    agent: Arc<Agent>,
}

/// What a session has to react to.
enum Happened {
    Update(Option<Update>),
    Request(Result<Option<SubscribeRequest>, Status>),
    NewBundle,
    OtherBundles,
    Revoked,
    Policies,
    Standings,
    CheckpointDue,
    Expired,
    Stopping,
}

impl Session {
    /// The next response; `None` when either side ends the stream.
    async fn next(&mut self) -> Result<Option<SubscribeResponse>, Status> {
        if let Some(page) = self.pages.pop_front() {
            return Ok(Some(page));
        }
        if let Some(last_word) = self.last_word.take() {
            return Err(last_word);
        }
        loop {
            match self.wait().await {
                Happened::Update(Some(update)) => return Ok(Some(self.update(update))),
                Happened::Update(None) => {
                    return Err(Status::aborted("the subscription has ended; subscribe again"));
                }
                Happened::Request(Ok(Some(request))) => self.take_in(&request)?,
                Happened::Request(Ok(None) | Err(_)) => return Ok(None),
                Happened::NewBundle => {
                    let bundle = Some(self.bundle());
                    return Ok(Some(SubscribeResponse { bundle, ..self.nothing() }));
                }
                Happened::Revoked => {
                    let revoked = Some(self.revoked());
                    return Ok(Some(SubscribeResponse { revoked, ..self.nothing() }));
                }
                Happened::Policies => {
                    let policy = Some(self.policy());
                    return Ok(Some(SubscribeResponse { policy, ..self.nothing() }));
                }
                Happened::Standings => {
                    let empty = self.nothing();
                    self.pages = self.standings(&empty);
                    return Ok(self.pages.pop_front());
                }
                Happened::OtherBundles => {
                    let empty = self.nothing();
                    let mut pages = pages::of_bundles(self.other_bundles(false), &empty);
                    pages::close(&mut pages);
                    let first = pages.pop_front();
                    self.pages = pages;
                    if first.is_some() {
                        return Ok(first);
                    }
                }
                Happened::CheckpointDue => return Ok(Some(self.nothing())),
                Happened::Expired => return Err(caller::expired()),
                Happened::Stopping => return Err(Status::unavailable("the server is stopping")),
            }
        }
    }

    async fn wait(&mut self) -> Happened {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Happened::Stopping,
                () = &mut self.expiry => return Happened::Expired,
                Ok(()) = self.standings.changed(), if self.began => return Happened::Standings,
                update = self.subscription.next() => return Happened::Update(update),
                request = self.requests.message() => return Happened::Request(request),
                Ok(()) = self.bundle.changed(), if self.began => return Happened::NewBundle,
                Ok(()) = self.federated.changed(), if self.began => {
                    return Happened::OtherBundles;
                }
                Ok(()) = self.revoked.changed(), if self.began => return Happened::Revoked,
                Ok(()) = self.policies.changed(), if self.began => return Happened::Policies,
                _ = self.checkpoints.tick(), if self.began => {
                    if self.head.has_changed().unwrap_or(false) {
                        return Happened::CheckpointDue;
                    }
                }
            }
        }
    }

    fn take_in(&mut self, request: &SubscribeRequest) -> Result<(), Status> {
        match &request.step {
            Some(Step::Ack(ack)) => {
                self.subscription.ack(ack.sequence);
                self.subscription.ack_standings(ack.standings);
                Ok(())
            }
            Some(Step::Hello(_)) | None => {
                Err(Status::invalid_argument("every request after the first must be an Ack"))
            }
        }
    }

    /// The first page of an update; the others follow.
    fn update(&mut self, update: Update) -> SubscribeResponse {
        let empty = SubscribeResponse { snapshot: update.snapshot, ..self.nothing() };
        let mut pages = pages::of_entries(update, &empty);
        let is_first = !std::mem::replace(&mut self.began, true);
        if is_first {
            let bundles = pages::of_bundles(self.other_bundles(true), &empty);
            pages::append(&mut pages, bundles);
            let standings = self.standings(&empty);
            pages::append(&mut pages, standings);
        }
        pages::close(&mut pages);
        let mut first = pages.pop_front().unwrap_or(empty);
        if is_first {
            first.bundle = Some(self.bundle());
            first.revoked = Some(self.revoked());
            first.policy = Some(self.policy());
        }
        self.pages = pages;
        first
    }

    /// What the agent does not know yet of other trust domains; all of it for a snapshot.
    fn other_bundles(&mut self, snapshot: bool) -> pages::Others {
        let now = Arc::clone(&self.federated.borrow_and_update());
        let difference = now.since(&self.told);
        self.told = now;
        pages::Others { snapshot, difference }
    }

    /// What the agent does not know yet of how identities stand; all of it at first. If it may not act any
    /// more as it stands itself, that is the last that it is told.
    fn standings(&mut self, empty: &SubscribeResponse) -> pages::Pages {
        self.standings.mark_unchanged();
        let told = self.stands;
        let (records, version) = self.shared.storage.standings.since(told.unwrap_or_default());
        self.stands = Some(version);
        self.subscription.tell_standings(version);
        let agent = self.shared.registry.agent(&self.agent.id);
        let agent = agent.as_ref().unwrap_or(&self.agent);
        self.last_word = caller::check_standing(&self.shared, agent).err();
        pages::of_standings(&records, version, told.is_none(), empty)
    }

    /// A response that carries the agent's place, a checkpoint and no news.
    fn nothing(&mut self) -> SubscribeResponse {
        self.head.mark_unchanged();
        let checkpoints = &self.shared.storage.checkpoints;
        let (log_id, sequence) = (self.log_id.clone(), self.subscription.cursor());
        SubscribeResponse {
            cursor: Some(Cursor { log_id, sequence }),
            checkpoint: Some(to_wire(&checkpoints.sign_now(), checkpoints.key())),
            ..SubscribeResponse::default()
        }
    }

    fn revoked(&mut self) -> RevocationLists {
        RevocationLists { lists: self.revoked.borrow_and_update().to_vec() }
    }

    fn policy(&mut self) -> PolicyAnnouncement {
        PolicyAnnouncement { token: self.policies.borrow_and_update().token.clone() }
    }

    fn bundle(&mut self) -> types::Bundle {
        types::Bundle::from(&**self.bundle.borrow_and_update())
    }
}

/// A checkpoint as the wire has it.
pub(super) fn to_wire(signed: &SignedCheckpoint, key: &VerifierKey) -> wire::SignedCheckpoint {
    wire::SignedCheckpoint { note: signed.note().to_string(), verifier_key: key.to_string() }
}
