//! Starting a server: a table of contents.

mod abroad;
pub mod identity;

use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::fetch::RootsError;
use claviger_core::bundle::Bundle;
use claviger_core::time::Clock;
use claviger_proto::claviger::admin::v1::admin_server::AdminServer;
use claviger_proto::claviger::admin::v1::control_server::ControlServer;
use claviger_proto::claviger::admin::v1::revocation_server::RevocationServer;
use claviger_proto::claviger::agent::v1::agent_policy_server::AgentPolicyServer;
use claviger_proto::claviger::agent::v1::agent_psk_server::AgentPskServer;
use claviger_proto::claviger::agent::v1::agent_sync_server::AgentSyncServer;
use claviger_proto::spire::server::agent::v1::agent_server::AgentServer;
use claviger_proto::spire::server::bundle::v1::bundle_server::BundleServer;
use claviger_proto::spire::server::entry::v1::entry_server::EntryServer;
use claviger_proto::spire::server::svid::v1::svid_server::SvidServer;
use claviger_runtime::grpc;
use claviger_runtime::health::{self, Endpoint, Health, State};
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::{InitMetricsError, Metrics};
use claviger_runtime::tls::{
    self, BundleError, TlsIncoming, TrustBundle, mutual_web_server_config, server_config,
};
use claviger_runtime::unix;
use rustls_pki_types::CertificateDer;
use tonic::service::Routes;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;

use crate::api::issuance::Issuance;
use crate::api::psk::Issuer;
use crate::api::svid::Lifetimes;
use crate::api::{self, MAX_REQUEST, Shared};
use crate::audit::cosign;
use crate::audit::served::Served;
use crate::ca::revocation::{Revocations, RevokeError};
use crate::ca::rotation::{Rotation, RotationError};
use crate::config::Config;
use crate::control;
use crate::direct::Direct;
use crate::events;
use crate::keys;
use crate::load::{Doorkeeper, Load};
use crate::metrics;
use crate::policy::announce::{AnnounceError, Announcer};
use crate::policy::{Policies, Record, folder};
use crate::public::{self, PublicError, Shown};
use crate::registry::{self, Registry};
use crate::storage::{OpenError, Storage};
use crate::store::StoreError;
use crate::verifiers::{OpenVerifierError, Verifiers};
use abroad::Abroad;
use identity::{OwnIdentity, OwnIdentityError};

/// How often an idle connection is asked whether it is still there, and how long it may take.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Time for a request from the network to arrive and to be answered, or for a stream to begin. Nothing that is
/// done there waits for longer than ten seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server.
#[derive(Debug)]
pub struct Server;

/// A server that runs until its tasks stop.
#[derive(Clone, Debug)]
pub struct Running {
    /// Where agents connect, with the port that was chosen if 0 was asked for.
    pub address: SocketAddr,
    /// The operator's socket.
    pub admin_socket: PathBuf,
    /// Where strangers are told what they may know, with the port that was chosen if 0 was asked
    /// for; none if that is nowhere, or a socket.
    pub public: Option<SocketAddr>,
    /// Where gateways ask for decisions, with the port that was chosen if 0 was asked for; none if
    /// that is nowhere.
    pub control: Option<SocketAddr>,
    /// Where machines draw keys, with the port that was chosen if 0 was asked for; none if that is
    /// nowhere.
    pub keys: Option<SocketAddr>,
    /// The authorities of the moment, as PEM.
    pub bundle_pem: String,
    /// How it is.
    pub health: Health,
}

impl Server {
    /// Starts a server. When this returns, it serves.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way. What was started by then ends when `tasks` stop.
    pub async fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Running, StartError> {
        let trust_domain = config.trust_domain.clone();
        let storage = Box::pin(open(&config, Arc::clone(&clock), tasks)).await?;
        tell_others(&config, &storage, tasks)?;
        let policy_dir = config.policy_dir.as_deref();
        let (set, opened) = folder::open(policy_dir, &storage.journal, clock.now()).await?;

        let (keys, journal) = (storage.directory.keys(), storage.journal.clone());
        let (rotation, authority) =
            Rotation::open(keys, &config, journal.clone(), Arc::clone(&clock)).await?;
        let registry =
            Registry::open(trust_domain, config.limits, journal.clone(), Arc::clone(&clock), tasks)
                .await?;
        let stands = storage.standings.clone();
        let known = Arc::new(registry.clone());
        let domain = registry.trust_domain().clone();
        let record = Record::start(journal.clone(), tasks);
        let policy = Policies::new(set, domain, known, stands.clone(), Arc::clone(&clock), record);
        let loaded = policy.approvals().load(&storage.journal, &storage.epochs).await;
        loaded.map_err(StartError::Approvals)?;
        let following = opened.with(policy.clone(), journal.clone(), Arc::clone(&clock));
        let folder = following.folder.clone();
        let load = Load::new(config.limits.rates);
        let issuance = {
            let (policy, standings, load) = (policy.clone(), stands.clone(), load.clone());
            Issuance { policy, journal, authority, standings, load, clock: Arc::clone(&clock) }
        };
        let announcer = {
            let (authority, journal) = (issuance.authority.clone(), storage.journal.clone());
            let clock = Arc::clone(&clock);
            Announcer::open(&policy, authority, journal, clock, config.policy_ttl).await?
        };
        let (announcements, announcing) = (announcer.announcements(), announcer.abroad());
        let own = OwnIdentity::issue(issuance.clone(), config.x509_svid_ttl).await?;
        let revocations = Revocations::open(
            storage.directory.keys(),
            storage.journal.clone(),
            Arc::clone(&clock),
            issuance.authority.bundle(),
        )
        .await?;
        let (revoking, withdrawing) = (revocations.clone(), revocations.clone());
        let seen = revocations.catch_up(&stands, 0).await?;
        let admin_ids = Arc::new(config.admin_ids.clone());
        let bundle = issuance.authority.bundle();
        let verifiers = Verifiers::open(&config.attestors, &storage.ledger, bundle)?;
        let shared = Shared {
            registry,
            storage,
            policy,
            folder,
            announcements,
            issuance,
            revocations,
            admin_ids,
            load,
            clock,
        };

        tasks.spawn("other servers", |stop| Abroad::new(shared.clone(), announcing).run(stop));
        let health = Health::default();
        let serving = serve(&config, shared.clone(), verifiers, &own, &health, tasks);
        let serving = Box::pin(serving).await?;
        tasks.spawn("authorities", |stop| rotation.run(stop));
        tasks.spawn("revocations", |stop| revoking.run(stop));
        tasks.spawn("withdrawals", move |stop| withdrawing.follow(stands, seen, stop));
        tasks.spawn("policy folder", |stop| following.run(stop));
        tasks.spawn("announcer", |stop| announcer.run(stop));
        tasks.spawn("own identity", |stop| own.run(stop));
        tasks.spawn("pruner", |stop| shared.registry.clone().prune(stop));
        Ok(Running { bundle_pem: shared.bundle_pem(), health, ..serving })
    }
}

/// Opens what the server remembers, wherever that is.
async fn open(config: &Config, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Storage, OpenError> {
    let (path, domain) = (&config.data_dir, &config.trust_domain);
    match &config.store {
        None => Storage::open(path, clock, domain, tasks).await,
        Some(database) => Storage::open_shared(path, database, clock, domain, tasks).await,
    }
}

/// Begins to tell other systems of events, and witnesses of the log.
fn tell_others(config: &Config, storage: &Storage, tasks: &Tasks) -> Result<(), StartError> {
    let Storage { journal, checkpoints, .. } = storage;
    events::start(&config.events, journal, tasks).map_err(StartError::Events)?;
    cosign::start(&config.audit, checkpoints, journal, tasks).map_err(StartError::Witnesses)
}

/// Binds every door, and opens them together.
async fn serve(
    config: &Config,
    shared: Shared,
    verifiers: Verifiers,
    own: &OwnIdentity,
    health: &Health,
    tasks: &Tasks,
) -> Result<Running, StartError> {
    let bundle = follow_bundle(&shared, tasks)?;
    let tls = server_config(own.identity(), &bundle, Arc::clone(&shared.clock));
    let agents = TlsIncoming::bind(config.listen, tls, config.limits.connections, tasks).await?;
    let address = agents.addr();
    make_parent(&config.admin_socket)?;
    let admin = unix::Listener::bind(&config.admin_socket, 0o600, unix::Limits::default())?;
    if let Some(addr) = config.health {
        let metrics = Metrics::init(tasks)?;
        metrics::describe();
        Endpoint::bind(addr).await?.serve(tasks, health.clone(), metrics);
    }
    let psks = Issuer::new(shared.clone());
    let public = match &config.public {
        Some(public) => {
            let direct = || {
                let lifetimes = Lifetimes::of(config);
                Direct::new(shared.clone(), verifiers.clone(), lifetimes, psks.clone())
            };
            let shown = Shown {
                ahead: config.ca.publication(),
                bundle: shared.issuance.authority.bundle(),
                health: health.clone(),
                direct: public.direct.then(direct),
                log: config.audit.public.then(|| Served::of(&shared.storage)),
            };
            public::serve(public, shown, own.identity(), tasks).await?
        }
        None => None,
    };

    let control = match config.control {
        Some(listen) => Some(serve_gateways(listen, &shared, own, &bundle, tasks).await?),
        None => None,
    };
    let keys = match &config.keys {
        Some(config) => {
            let clock = Arc::clone(&shared.clock);
            let tls = mutual_web_server_config(own.identity(), &bundle, clock);
            Some(keys::serve(config, tls, psks.clone(), tasks).await?)
        }
        None => None,
    };
    let streams = config.limits.streams_per_connection;
    let (reporter, grpc_health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let services = Services::new(config, &shared, verifiers, psks, tasks);
    let doorkeeper = Doorkeeper::new(shared.load.clone(), config.limits.rates.requests);
    let remote = services.for_agents().add_service(grpc_health.clone());
    let remote = grpc::server(streams, KEEPALIVE, tasks)
        .timeout(DEADLINE)
        .add_routes(doorkeeper.before(remote));
    let local = services.for_operator(tasks).add_service(grpc_health);
    tasks.spawn("agent api", |stop| async move {
        Ok(remote.serve_with_incoming_shutdown(agents, stop.cancelled()).await?)
    });
    tasks.spawn("admin api", |stop| async move {
        Ok(local.serve_with_incoming_shutdown(admin.incoming(), stop.cancelled()).await?)
    });
    health.part("server").set(State::Ready);
    Ok(Running {
        address,
        admin_socket: config.admin_socket.clone(),
        public,
        control,
        keys,
        bundle_pem: String::new(),
        health: health.clone(),
    })
}

async fn serve_gateways(
    listen: SocketAddr,
    shared: &Shared,
    own: &OwnIdentity,
    bundle: &TrustBundle,
    tasks: &Tasks,
) -> Result<SocketAddr, tls::BindError> {
    let tls = mutual_web_server_config(own.identity(), bundle, Arc::clone(&shared.clock));
    control::serve(listen, tls, shared.clone(), tasks).await
}

/// The admin socket's directory is often on a file system that is empty after a restart.
fn make_parent(socket: &Path) -> Result<(), StartError> {
    let Some(parent) = socket.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
    made.map_err(|source| StartError::SocketDirectory { path: parent.to_owned(), source })
}

/// The authorities that vouch for agents, kept up to date.
fn follow_bundle(shared: &Shared, tasks: &Tasks) -> Result<TrustBundle, StartError> {
    let mut bundle = shared.issuance.authority.bundle();
    let certificates = |bundle: &Bundle| -> Vec<_> {
        bundle.x509_authorities.iter().map(|a| CertificateDer::from(a.der.to_vec())).collect()
    };
    let first = certificates(&bundle.borrow_and_update());
    let trusted = TrustBundle::new(shared.registry.trust_domain().clone(), &first)?;
    let following = trusted.clone();
    tasks.spawn("own bundle", |stop| async move {
        while let Some(Ok(())) = stop.run_until_cancelled(bundle.changed()).await {
            let now = certificates(&bundle.borrow_and_update());
            following.replace(&now)?;
        }
        Ok(())
    });
    Ok(trusted)
}

/// Every service, ready to be put behind a door.
struct Services {
    agent: AgentServer<api::agent::Service>,
    entry: EntryServer<api::entry::Service>,
    bundle: BundleServer<api::bundle::Service>,
    svid: SvidServer<api::svid::Service>,
    sync: AgentSyncServer<api::sync::Service>,
    psk: AgentPskServer<api::psk::Service>,
    policy: AgentPolicyServer<api::policies::Service>,
    admin: AdminServer<api::admin::Service>,
    revocation: RevocationServer<api::revocation::Service>,
    control: ControlServer<api::control::Service>,
}

impl Services {
    fn new(
        config: &Config,
        shared: &Shared,
        verifiers: Verifiers,
        psks: Issuer,
        tasks: &Tasks,
    ) -> Self {
        let agent = api::agent::Service::new(shared.clone(), verifiers, config.agent_svid_ttl);
        let svid = api::svid::Service { shared: shared.clone(), lifetimes: Lifetimes::of(config) };
        let sync = api::sync::Service { shared: shared.clone(), tasks: tasks.clone() };
        let admin = api::admin::Service { shared: shared.clone(), stop: tasks.token() };
        let revocations = shared.revocations.clone();
        let revocation = api::revocation::Service { revocations, tasks: tasks.clone() };
        let control = api::control::Service { shared: shared.clone(), tasks: tasks.clone() };
        Self {
            agent: AgentServer::new(agent).max_decoding_message_size(MAX_REQUEST),
            entry: EntryServer::new(api::entry::Service { shared: shared.clone() })
                .max_decoding_message_size(MAX_REQUEST),
            bundle: BundleServer::new(api::bundle::Service { shared: shared.clone() })
                .max_decoding_message_size(MAX_REQUEST),
            svid: SvidServer::new(svid).max_decoding_message_size(MAX_REQUEST),
            sync: AgentSyncServer::new(sync).max_decoding_message_size(MAX_SMALL),
            psk: AgentPskServer::new(api::psk::Service::new(psks))
                .max_decoding_message_size(MAX_SMALL),
            policy: AgentPolicyServer::new(api::policies::Service { shared: shared.clone() })
                .max_decoding_message_size(MAX_SMALL),
            admin: AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST),
            revocation: RevocationServer::new(revocation).max_decoding_message_size(MAX_SMALL),
            control: ControlServer::new(control).max_decoding_message_size(MAX_SMALL),
        }
    }

    /// Over the network. What only the operator may do is there too, and refused: SPIRE's services
    /// are defined whole.
    fn for_agents(&self) -> Routes {
        Routes::new(self.agent.clone().max_decoding_message_size(MAX_EVIDENCE))
            .add_service(self.entry.clone())
            .add_service(self.bundle.clone())
            .add_service(self.svid.clone())
            .add_service(self.sync.clone())
            .add_service(self.psk.clone())
            .add_service(self.policy.clone())
    }

    /// On the admin socket.
    fn for_operator(&self, tasks: &Tasks) -> Router<grpc::Served> {
        grpc::local_server(tasks)
            .add_service(self.agent.clone())
            .add_service(self.entry.clone())
            .add_service(self.bundle.clone())
            .add_service(self.svid.clone())
            .add_service(self.admin.clone())
            .add_service(self.revocation.clone())
            .add_service(self.control.clone())
    }
}

/// The most bytes of a request that carries names and digests only.
const MAX_SMALL: usize = 256 << 10;

/// The most bytes of a stranger's request: evidence and a certificate request.
const MAX_EVIDENCE: usize = 128 << 10;

/// A server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it remembers can't be opened.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// Nobody can vouch for the collector of events.
    #[error("cannot send events to the collector in `events.otlp`")]
    Events(#[source] RootsError),
    /// Nobody can vouch for the witnesses of the audit log.
    #[error("cannot reach the witnesses in `audit.witnesses`")]
    Witnesses(#[source] RootsError),
    /// The policies are wrong.
    #[error(transparent)]
    Policy(#[from] folder::OpenError),
    /// What was approved of can't be loaded.
    #[error("cannot take up what was approved of")]
    Approvals(#[source] StoreError),
    /// The signing authorities are not usable.
    #[error(transparent)]
    Authority(#[from] RotationError),
    /// Agents can't be told which policies are in force.
    #[error("cannot announce the policies")]
    Announce(#[from] AnnounceError),
    /// What is revoked can't be loaded.
    #[error("cannot take up what is revoked")]
    Revocations(#[from] RevokeError),
    /// Entries or agents can't be loaded.
    #[error("cannot load entries and agents")]
    Registry(#[from] registry::OpenError),
    /// A kind of evidence can't be judged as the configuration wants.
    #[error(transparent)]
    Verifier(#[from] OpenVerifierError),
    /// The server has no identity of its own.
    #[error("cannot issue the server's own SVID")]
    Own(#[from] OwnIdentityError),
    /// The authorities are not such.
    #[error("the server's own authorities are not usable")]
    Bundle(#[from] BundleError),
    /// The agents' address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] tls::BindError),
    /// The admin socket can't be made.
    #[error(transparent)]
    AdminSocket(#[from] unix::BindError),
    /// The health endpoint's address is taken or not ours.
    #[error(transparent)]
    Health(#[from] health::BindEndpointError),
    /// The door to strangers can't be opened.
    #[error(transparent)]
    Public(#[from] PublicError),
    /// Metrics can't be recorded.
    #[error(transparent)]
    Metrics(#[from] InitMetricsError),
    /// The admin socket's directory can't be made.
    #[error("cannot make `{path}` for the admin socket; make it, or choose another `admin-socket`", path = path.display())]
    SocketDirectory {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}
