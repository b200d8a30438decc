//! Starting an agent: a table of contents. Its sockets are opened in `doors`.

mod doors;

use std::path::PathBuf;
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_runtime::health::{BindEndpointError, Endpoint, Health};
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::{InitMetricsError, Metrics};
use claviger_runtime::unix::BindError;
use tokio::sync::{mpsc, watch};
use tonic_reflection::server as reflection;

use crate::attestation::{Attestation, OpenAttestorsError};
use crate::config::Config;
use crate::credentials::cache::{Cache, Known, Sources};
use crate::credentials::{Applied, Book, Keeper, Outputs, Snapshot};
use crate::files::{DataDir, DataDirError};
use crate::identity::{self, EstablishError, Renewal, Standing, StoredError, doubts};
use crate::policies::{self, Inbox, LoadPoliciesError, Policies};
use crate::relay::{self, OpenRelayError};
use crate::server::Link;
use crate::standings::{self, LoadStandingsError, Standings};
use crate::streams::Desk;
use crate::sync::{LoadWitnessError, Sync, UPDATES, Witness};
use crate::tokens::Tokens;

use doors::Doors;

/// An agent.
#[derive(Debug)]
pub struct Agent;

/// An agent that runs until its tasks stop.
#[derive(Clone, Debug)]
pub struct Running {
    /// Who it is.
    pub id: SpiffeId,
    /// Where workloads connect.
    pub socket: PathBuf,
    /// How it is.
    pub health: Health,
}

impl Agent {
    /// Starts an agent. When this returns, it has an identity. What it serves comes as soon as the
    /// server has told it, or what it knows from before as soon as the server does not answer; until
    /// then, it answers "unavailable". See [`Running::health`].
    ///
    /// If it has to attest and the server is away, it waits for the server.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way. What was started by then ends when `tasks` stop.
    pub async fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Running, StartError> {
        let clock = config.clock.in_clock(clock);
        let dir = DataDir::open(&config.data_dir)?;
        let witness = Witness::load(&dir).await?;
        let standings = Standings::load(&dir).await?;
        // All that can be in the way on this machine is found out before a token is spent.
        let health = Health::default();
        let standing = Standing::new(health.part("identity"), dir.clone());
        let (link, links) = watch::channel(None);
        let (snapshots, current) = watch::channel(None);
        let places = policies::Places { dir: dir.clone(), link: links.clone() };
        let (policies, inbox) =
            follow_policies(&config, places, &standings, &clock, &health, tasks).await?;
        serve_health(&config, &health, tasks).await?;
        let attestation = Attestation::open(&config, current.clone(), &clock, tasks).await?;
        let tokens = Tokens::new(&links, &current, &standings, &clock, tasks);
        let doors = Doors {
            desk: Desk::new(&config, attestation, current, &clock, tasks),
            link: links.clone(),
            tokens: tokens.clone(),
            standings: standings.clone(),
            policies,
            health: health.clone(),
            agent: Arc::default(),
        };
        let brokers = doors.open(&config, tasks)?;
        open_relay(&config, tasks)?;

        let agent = identity::Agent::establish(&config, &dir, &clock, &tasks.token()).await?;
        link.send_replace(Some(agent.server.link(Some(&agent.identity))));

        let watched = (snapshots.subscribe(), links.clone());
        let (cache, cached) = follow_credentials(&dir, watched, &tokens, &clock, tasks).await?;
        let (updates, incoming) = mpsc::channel(UPDATES);
        let (applied, cursor) = watch::channel(Applied::default());
        let keeper = Keeper {
            book: Book::new(config.limits.entries, standings.clone(), agent.id.clone()),
            updates: incoming,
            link: links.clone(),
            outputs: Outputs { snapshots, applied },
            clock: Arc::clone(&clock),
            banned: standing.banned().clone(),
            editions: standings.watch(),
        };
        let sync = Sync {
            server: agent.server.clone(),
            link: links,
            updates,
            applied: cursor,
            standings: standings.clone(),
            policies: inbox,
            witness,
            dir: dir.clone(),
            believed: None,
            cached,
            falls_back: false,
            tokens,
            standing: standing.clone(),
            health: health.part("server"),
            max_entries: config.limits.entries,
            clock: Arc::clone(&clock),
        };
        let (id, socket) = (agent.id.clone(), config.socket_path.clone());
        standing.set_reattestable(agent.reattestable);
        brokers.open(&agent.identity, agent.server.bundle(), tasks);
        drop(doors.agent.set(id.clone()));
        follow_standings(standings, &dir, (&id, &standing), tasks);
        let renewal = Renewal { agent, config, dir, cache, link, standing, clock };
        tasks.spawn("credentials", |stop| keeper.run(stop));
        tasks.spawn("sync", |stop| sync.run(stop));
        tasks.spawn("renewal", |stop| renewal.run(stop));
        Ok(Running { id, socket, health })
    }
}

/// Enclaves prove by themselves who they are; they do not wait until this machine has.
fn open_relay(config: &Config, tasks: &Tasks) -> Result<(), OpenRelayError> {
    let relay = config.relay.as_ref();
    relay.map_or(Ok(()), |relay| relay::open(relay, &config.servers, tasks))
}

/// Keeps what is served for a start without a server; what was kept before.
async fn follow_credentials(
    dir: &DataDir,
    (snapshots, links): (watch::Receiver<Option<Arc<Snapshot>>>, watch::Receiver<Option<Link>>),
    tokens: &Tokens,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<(Cache, Option<Known>), StoredError> {
    let (tokens, clock) = (tokens.clone(), Arc::clone(clock));
    let cache = Cache::new(dir.clone());
    let (cached, kept) = (cache.load().await?, cache.clone());
    tasks.spawn("cache", |stop| kept.keep(Sources { snapshots, tokens, links, clock }, stop));
    Ok((cache, cached))
}

/// Keeps how identities stand, and does what that asks for, of the agent itself too.
fn follow_standings(
    standings: Standings,
    dir: &DataDir,
    (agent, standing): (&SpiffeId, &Standing),
    tasks: &Tasks,
) {
    let doubts = doubts(standings.clone(), agent.clone(), standing.clone());
    let kept = standings::keep(standings, dir.clone(), tasks.token());
    tasks.spawn("standings", |_stop| async move {
        kept.await;
        Ok(())
    });
    tasks.spawn("doubts", |stop| async move {
        stop.run_until_cancelled_owned(doubts).await;
        Ok(())
    });
}

/// What is decided by, and where the server's word on that is put.
async fn follow_policies(
    config: &Config,
    places: policies::Places,
    standings: &Standings,
    clock: &Arc<dyn Clock>,
    health: &Health,
    tasks: &Tasks,
) -> Result<(Policies, Inbox), StartError> {
    let (trust_domain, clock) = (config.trust_domain.clone(), Arc::clone(clock));
    let health = health.part("policies");
    let opened =
        policies::Keeper::open(places, trust_domain, standings.clone(), clock, health).await?;
    let (keeper, policies, inbox) = opened;
    tasks.spawn("policies", |stop| keeper.run(stop));
    Ok((policies, inbox))
}

async fn serve_health(config: &Config, health: &Health, tasks: &Tasks) -> Result<(), StartError> {
    if let Some(addr) = config.health {
        let endpoint = Endpoint::bind(addr).await?;
        endpoint.serve(tasks, health.clone(), Metrics::init(tasks)?);
    }
    Ok(())
}

/// An agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory can't be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its socket can't be made.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// Its relay can't listen.
    #[error(transparent)]
    Relay(#[from] OpenRelayError),
    /// It has no identity, and gets none.
    #[error(transparent)]
    Identity(#[from] EstablishError),
    /// What it remembers of the server is damaged.
    #[error(transparent)]
    Witness(#[from] LoadWitnessError),
    /// What it remembers of who is in quarantine is damaged.
    #[error(transparent)]
    Standings(#[from] LoadStandingsError),
    /// What it remembers of itself can't be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// What it remembers of policies is damaged.
    #[error(transparent)]
    Policies(#[from] LoadPoliciesError),
    /// It can't find out about workloads.
    #[error(transparent)]
    Workload(#[from] OpenAttestorsError),
    /// The health endpoint's address is taken or not ours.
    #[error(transparent)]
    Health(#[from] BindEndpointError),
    /// Metrics can't be recorded.
    #[error(transparent)]
    Metrics(#[from] InitMetricsError),
    /// The descriptors of the Workload API can't be served.
    #[error("the descriptors of the Workload API are damaged; build anew")]
    Descriptors(#[from] reflection::Error),
}

#[cfg(test)]
mod tests;
