//! The agent's sockets.

use std::sync::{Arc, OnceLock};

use claviger_core::id::SpiffeId;
use claviger_proto::claviger::caller::v1::callers_server::CallersServer;
use claviger_proto::claviger::policy::v1::policy_desk_server::PolicyDeskServer;
use claviger_proto::claviger::psk::v1::psk_broker_server::PskBrokerServer;
use claviger_proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use claviger_proto::workload::FILE_DESCRIPTOR_SET;
use claviger_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use claviger_runtime::grpc::{self, Bound};
use claviger_runtime::health::Health;
use claviger_runtime::slots::Slots;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{Identity, TrustBundle};
use claviger_runtime::unix::Listener;
use tokio::sync::watch;
use tonic::transport::server::Router;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server as reflection;

use super::StartError;
use crate::admin::{self, NodeAdmin};
use crate::broker::Broker;
use crate::callers::Callers;
use crate::config::Config;
use crate::delegated::Delegates;
use crate::grpc_health::GrpcHealth;
use crate::policies::Policies;
use crate::policy_desk::PolicyDesk;
use crate::psk_broker::PskBroker;
use crate::sds::Sds;
use crate::server::Link;
use crate::standings::Standings;
use crate::streams::Desk;
use crate::tokens::Tokens;
use crate::workload_api::WorkloadApi;

/// Everybody on the machine may ask; what they get depends on who they are.
const SOCKET_MODE: u32 = 0o777;

/// The most bytes of one request. The largest one names two identities and a digest or two.
const MAX_REQUEST: usize = 64 << 10;

/// The same of an Envoy's. Its first one lists every extension that it was built with.
const MAX_SDS_REQUEST: usize = 1 << 20;

/// What answers behind the sockets.
pub(super) struct Doors {
    /// Where callers are served.
    pub(super) desk: Desk,
    /// The way to the server.
    pub(super) link: watch::Receiver<Option<Link>>,
    /// Who gets JWT-SVIDs.
    pub(super) tokens: Tokens,
    /// How identities stand.
    pub(super) standings: Standings,
    /// What is decided by.
    pub(super) policies: Policies,
    /// How the agent is.
    pub(super) health: Health,
    /// Who it is, once it is somebody.
    pub(super) agent: Arc<OnceLock<SpiffeId>>,
}

impl Doors {
    /// Opens all that the configuration names. Brokers are served when the agent can prove to them
    /// who it is.
    pub(super) fn open(&self, config: &Config, tasks: &Tasks) -> Result<BrokerDoor, StartError> {
        let (desk, tokens) = (&self.desk, self.tokens.clone());
        let doubted = tokens.clone();
        tasks.spawn("tokens", |stop| doubted.forget_doubted(stop));
        let limits = config.limits.connections;
        let listener = Listener::bind(&config.socket_path, SOCKET_MODE, limits)?;
        let router = self.router(config, tokens.clone(), tasks)?;
        if let Some(socket) = &config.admin {
            let admin = NodeAdmin { desk: desk.clone(), agent: Arc::clone(&self.agent) };
            let authorized = Arc::new(socket.delegates.clone());
            let tokens = tokens.clone();
            let delegates = Delegates { desk: desk.clone(), tokens, authorized };
            admin::open(socket, limits, admin::Services { admin, delegates }, tasks)?;
        }
        tasks.spawn("workload api", |stop| async move {
            let incoming = listener.incoming();
            Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled()).await?)
        });
        let Some(socket) = &config.broker else { return Ok(BrokerDoor(None)) };
        let listener = Listener::bind(&socket.path, SOCKET_MODE, limits)?;
        let brokers = Arc::new(socket.brokers.clone());
        Ok(BrokerDoor(Some((listener, Broker { desk: desk.clone(), tokens, brokers }))))
    }

    fn router(
        &self,
        config: &Config,
        tokens: Tokens,
        tasks: &Tasks,
    ) -> Result<Router<Bound>, StartError> {
        let desk = &self.desk;
        let calls = Slots::new(config.limits.streams, config.limits.streams_per_uid);
        let sds = config.sds.enabled.then(|| {
            let sds = Sds { desk: desk.clone(), config: Arc::new(config.sds.clone()) };
            SecretDiscoveryServiceServer::new(sds).max_decoding_message_size(MAX_SDS_REQUEST)
        });
        let workload_api = WorkloadApi { desk: desk.clone(), tokens };
        let (link, standings) = (self.link.clone(), self.standings.clone());
        let (policies, same) = (self.policies.clone(), standings.clone());
        let policy_desk = PolicyDesk { desk: desk.clone(), policies, standings: same };
        let callers = Callers { desk: desk.clone(), standings: standings.clone() };
        let broker = PskBroker::new(desk.clone(), link, standings, tasks);
        let health = GrpcHealth { health: self.health.clone(), stop: desk.stop.clone() };
        // Of the Workload API alone: it must not look extended (SPIFFE Workload Endpoint §7).
        let reflection = || {
            reflection::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        };
        Ok(grpc::bounded_server(calls, tasks)
            .add_service(
                SpiffeWorkloadApiServer::new(workload_api).max_decoding_message_size(MAX_REQUEST),
            )
            .add_optional_service(sds)
            .add_service(PskBrokerServer::new(broker).max_decoding_message_size(MAX_REQUEST))
            .add_service(PolicyDeskServer::new(policy_desk).max_decoding_message_size(MAX_REQUEST))
            .add_service(CallersServer::new(callers).max_decoding_message_size(MAX_REQUEST))
            .add_service(HealthServer::new(health).max_decoding_message_size(MAX_REQUEST))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?))
    }
}

/// The socket for brokers, if there is one: bound, and not served yet.
pub(super) struct BrokerDoor(Option<(Listener, Broker)>);

impl BrokerDoor {
    /// Serves those for whom `bundle` vouches, as `identity`.
    pub(super) fn open(self, identity: &Identity, bundle: &TrustBundle, tasks: &Tasks) {
        if let Some((listener, broker)) = self.0 {
            broker.serve(listener, identity, bundle, tasks);
        }
    }
}
