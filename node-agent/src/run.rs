//! Starting an agent: a table of contents.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::unix::Attestor;
use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_proto::claviger::psk::v1::psk_broker_server::PskBrokerServer;
use claviger_proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use claviger_proto::workload::FILE_DESCRIPTOR_SET;
use claviger_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use claviger_runtime::health::{BindEndpointError, Endpoint, Health};
use claviger_runtime::slots::Slots;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::{InitMetricsError, Metrics};
use claviger_runtime::unix::{BindError, Listener};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use tonic::transport::server::{Router, Server as Grpc};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server as reflection;

use crate::attestation::Attestation;
use crate::config::Config;
use crate::credentials::{Book, Keeper, Outputs, Snapshot};
use crate::files::{DataDir, DataDirError};
use crate::grpc_health::GrpcHealth;
use crate::identity::{self, EstablishError, Renewal, Standing};
use crate::psk_broker::PskBroker;
use crate::sds::Sds;
use crate::streams::Desk;
use crate::sync::{LoadWitnessError, Sync, UPDATES, Witness};
use crate::tokens::Tokens;
use crate::workload_api::WorkloadApi;

/// Everybody on the machine may ask; what they get depends on who they are.
const SOCKET_MODE: u32 = 0o777;

/// The most bytes of one request. The largest one names two identities and a digest or two.
const MAX_REQUEST: usize = 64 << 10;

/// The same of an Envoy's. Its first one lists every extension that it was built with.
const MAX_SDS_REQUEST: usize = 1 << 20;

/// The most bytes of a request's headers.
const MAX_HEADERS: u32 = 16 << 10;

/// Calls at a time on one connection. A workload needs two streams and a key now and then.
const MAX_STREAMS: u32 = 256;

/// How often an idle connection is asked whether it is still there, and how long it may take.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
    /// server has told it; until then, it answers "unavailable". See [`Running::health`].
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
        let dir = DataDir::open(&config.data_dir)?;
        let witness = Witness::load(&dir).await?;
        // All that can be in the way on this machine is found out before a token is spent.
        let health = Health::default();
        let standing = Standing::new(health.part("identity"), dir.clone());
        let (link, links) = watch::channel(None);
        let (snapshots, current) = watch::channel(None);
        serve_health(&config, &health, tasks).await?;
        let door = Door { snapshots: current, link: links.clone(), health: health.clone() };
        door.open(&config, &clock, tasks)?;

        let stop = tasks.token();
        let agent = identity::Agent::establish(&config, &dir, &clock, &stop).await?;
        link.send_replace(Some(agent.server.channel(Some(&agent.identity))));

        let (updates, incoming) = mpsc::channel(UPDATES);
        let (applied, cursor) = watch::channel(None);
        let keeper = Keeper {
            book: Book::new(config.limits.entries),
            updates: incoming,
            link: links.clone(),
            outputs: Outputs { snapshots, applied },
            clock: Arc::clone(&clock),
            banned: standing.banned().clone(),
        };
        let sync = Sync {
            server: agent.server.clone(),
            link: links,
            updates,
            applied: cursor,
            witness,
            dir: dir.clone(),
            believed: None,
            standing: standing.clone(),
            health: health.part("server"),
            max_entries: config.limits.entries,
            clock: Arc::clone(&clock),
        };
        let id = agent.id.clone();
        let renewal = Renewal { agent, dir, link, standing, clock };
        tasks.spawn("credentials", |stop| keeper.run(stop));
        tasks.spawn("sync", |stop| sync.run(stop));
        tasks.spawn("renewal", |stop| renewal.run(stop));
        Ok(Running { id, socket: config.socket_path, health })
    }
}

async fn serve_health(config: &Config, health: &Health, tasks: &Tasks) -> Result<(), StartError> {
    if let Some(addr) = config.health {
        let endpoint = Endpoint::bind(addr).await?;
        endpoint.serve(tasks, health.clone(), Metrics::init(tasks)?);
    }
    Ok(())
}

/// The socket, and what answers behind it.
struct Door {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    link: watch::Receiver<Option<Channel>>,
    health: Health,
}

impl Door {
    fn open(
        self,
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<(), StartError> {
        let listener = Listener::bind(&config.socket_path, SOCKET_MODE, config.limits.connections)?;
        let router = self.router(config, clock, tasks)?;
        tasks.spawn("workload api", |stop| async move {
            let incoming = listener.incoming();
            Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled()).await?)
        });
        Ok(())
    }

    fn router(
        self,
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Router, StartError> {
        let attestation = Attestation::new(Attestor::new(config.unix, Arc::clone(clock)));
        let desk = Desk {
            attestation,
            snapshots: self.snapshots,
            slots: Slots::new(config.limits.streams, config.limits.streams_per_uid),
            clock: Arc::clone(clock),
            stop: tasks.token(),
        };
        let sds = config.sds.enabled.then(|| {
            let sds = Sds { desk: desk.clone(), config: Arc::new(config.sds.clone()) };
            SecretDiscoveryServiceServer::new(sds).max_decoding_message_size(MAX_SDS_REQUEST)
        });
        let tokens = Tokens::new(self.link.clone(), desk.snapshots.clone(), Arc::clone(clock));
        let workload_api = WorkloadApi { desk: desk.clone(), tokens };
        let broker = PskBroker { desk, link: self.link };
        let health = GrpcHealth { health: self.health, stop: tasks.token() };
        // Of the Workload API alone: it must not look extended (SPIFFE Workload Endpoint §7).
        let reflection = || {
            reflection::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        };
        Ok(Grpc::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(MAX_HEADERS)
            .add_service(
                SpiffeWorkloadApiServer::new(workload_api).max_decoding_message_size(MAX_REQUEST),
            )
            .add_optional_service(sds)
            .add_service(PskBrokerServer::new(broker).max_decoding_message_size(MAX_REQUEST))
            .add_service(HealthServer::new(health).max_decoding_message_size(MAX_REQUEST))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?))
    }
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
    /// It has no identity, and gets none.
    #[error(transparent)]
    Identity(#[from] EstablishError),
    /// What it remembers of the server is damaged.
    #[error(transparent)]
    Witness(#[from] LoadWitnessError),
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
