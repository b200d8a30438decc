//! Starting a shim: a table of contents.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_runtime::health::{BindEndpointError, Endpoint, Health, State};
use claviger_runtime::slots::Slots;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::{InitMetricsError, Metrics};
use claviger_runtime::unix::SocketPathError;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::access::Access;
use crate::backend::SetUpError;
use crate::broker::BrokerClient;
use crate::callers::CallerDesk;
use crate::config::Config;
use crate::desk::Desk;
use crate::enforcer::Enforcer;
use crate::inbound::WayIn;
pub use crate::listener::ListenError;
use crate::listener::{Doorway, Port};
use crate::outbound::WayOut;
use crate::relay::Buffers;
use crate::route::{Callers, Inbound, Outbound};
use crate::svid::Svids;
use crate::tunnels::Tunnels;

/// Between two looks at an SVID that has expired.
const RENEWAL: Duration = Duration::from_secs(1);

/// A shim that runs until its tasks stop.
#[derive(Clone, Debug)]
pub struct Shim {
    /// As whom it acts, if it knows.
    pub identity: Option<SpiffeId>,
    /// Where it listens.
    pub listeners: Vec<Listening>,
    /// How it is.
    pub health: Health,
}

/// Where a route listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listening {
    /// The route's name.
    pub route: String,
    /// The address, with the port that the operating system chose if 0 was asked for; none if it is a
    /// Unix socket.
    pub address: Option<SocketAddr>,
}

/// What a shim acts with.
#[derive(Clone, Debug)]
pub struct Means {
    /// As whom it acts. Without an agent that is not known: each key says it.
    pub identity: Option<SpiffeId>,
    /// How it gets out and lets in.
    pub tunnels: Tunnels,
    /// Who finds out who is at a door.
    pub callers: CallerDesk,
    /// Who decides about connections; nobody where there is no agent.
    pub enforcer: Option<Enforcer>,
}

impl Shim {
    /// Starts a shim beside the agent behind the socket `agent`. When this returns, every route is
    /// open: the agent has said who the shim is and what the policies are. It waits for the agent if
    /// that is away, and what connects meanwhile waits in the kernel; later, nothing is let through
    /// without it, and everything is as before when it is back.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way. What was started by then ends when `tasks` stop.
    pub async fn start(
        config: Config,
        agent: PathBuf,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let bound = Bound::bind(&config).await?;
        let health = Health::default();
        serve_health(&config, &health, tasks).await?;
        let part = health.part("agent");
        let means = Means::of_agent(&config, agent, &clock, tasks).await?;
        part.set(State::Ready);
        Ok(bound.open(config, means, health, clock, tasks))
    }

    /// Starts a shim that acts with `means`.
    ///
    /// # Errors
    ///
    /// [`StartError`], as above.
    pub async fn with(
        config: Config,
        means: Means,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let bound = Bound::bind(&config).await?;
        let health = Health::default();
        serve_health(&config, &health, tasks).await?;
        Ok(bound.open(config, means, health, clock, tasks))
    }
}

impl Means {
    /// What the agent behind the socket `agent` gives, as soon as it does.
    async fn of_agent(
        config: &Config,
        agent: PathBuf,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let Config { identity, profile, limits, .. } = config;
        let now = Arc::clone(clock);
        let svids = Svids::follow(agent.clone(), identity.clone(), *profile, now, tasks)?;
        let identity = who(&svids).await;
        let callers = CallerDesk::new(Some(agent.clone()))?;
        let broker = BrokerClient::new(agent.clone())?.acting_as(identity.clone());
        let domain = identity.trust_domain().clone();
        let now = Arc::clone(clock);
        let enforcer = Enforcer::follow(agent, domain, limits.connections, now, tasks)?;
        enforcer.ready().await;
        let broker = Arc::new(broker);
        let keys: Arc<BrokerClient> = Arc::clone(&broker);
        let tunnels = Tunnels::new(keys, *profile, Arc::clone(clock), tasks)?
            .redeeming(broker)
            .presenting(svids)
            .enforced_by(enforcer.clone());
        Ok(Self { identity: Some(identity), tunnels, callers, enforcer: Some(enforcer) })
    }
}

/// Who the agent says that we are, once it does.
async fn who(svids: &Svids) -> SpiffeId {
    loop {
        svids.ready().await;
        match svids.current().await {
            Ok(own) => return own.id().clone(),
            // Its SVID expired just now; another one is under way.
            Err(_over) => tokio::time::sleep(RENEWAL).await,
        }
    }
}

/// Every listener of a shim: all of them, or there is no shim.
struct Bound {
    outbound: Vec<Doorway>,
    inbound: Vec<Port>,
}

impl Bound {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut bound = Self { outbound: Vec::new(), inbound: Vec::new() };
        let failed = |route: &str| {
            let route = route.to_owned();
            move |source| StartError::Listen { route, source }
        };
        let most = config.limits.connections;
        for Outbound { name, door, callers, .. } in &config.outbound {
            let listener = Doorway::bind(door, callers, most).await.map_err(failed(name))?;
            bound.outbound.push(listener);
        }
        for Inbound { name, listen, .. } in &config.inbound {
            bound.inbound.push(Port::bind(*listen).await.map_err(failed(name))?);
        }
        Ok(bound)
    }

    /// Opens every route.
    fn open(
        self,
        config: Config,
        means: Means,
        health: Health,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Shim {
        for warning in &config.warnings {
            warn!(%warning, "configuration");
        }
        let Means { identity, tunnels, callers, enforcer } = means;
        let Config { outbound, inbound, limits, access, .. } = config;
        let desk = Desk {
            tunnels,
            callers,
            identity: identity.clone(),
            enforcer,
            access: Access::open(access, tasks),
            buffers: Buffers::default(),
            limits,
            room: Arc::new(Semaphore::new(limits.connections)),
            clock,
        };
        let mut listeners = Vec::new();
        let mut listening = |route: &str, address: Option<SocketAddr>| {
            listeners.push(Listening { route: route.to_owned(), address });
        };
        for (mut route, listener) in outbound.into_iter().zip(self.outbound) {
            listening(&route.name, listener.address());
            if let Callers::Known(ids) = &mut route.callers
                && ids.is_empty()
            {
                ids.extend(identity.clone());
            }
            let way = Arc::new(WayOut::new(route, desk.clone()));
            let connections = tasks.clone();
            tasks.spawn("listener", |stop| async move {
                way.run(listener, connections, stop).await;
                Ok(())
            });
        }
        let handshakes = Slots::new(limits.handshakes, limits.handshakes_per_address);
        for (route, listener) in inbound.into_iter().zip(self.inbound) {
            listening(&route.name, listener.address());
            let way = Arc::new(WayIn::new(route, desk.clone(), handshakes.clone()));
            let connections = tasks.clone();
            tasks.spawn("listener", |stop| async move {
                way.run(listener, connections, stop).await;
                Ok(())
            });
        }
        health.part("routes").set(State::Ready);
        Shim { identity, listeners, health }
    }
}

async fn serve_health(config: &Config, health: &Health, tasks: &Tasks) -> Result<(), StartError> {
    if let Some(addr) = config.health {
        let endpoint = Endpoint::bind(addr).await?;
        endpoint.serve(tasks, health.clone(), Metrics::init(tasks)?);
    }
    Ok(())
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, address } = self;
        match address {
            Some(address) => write!(f, "{route}={address}"),
            None => f.write_str(route),
        }
    }
}

/// A shim could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A route cannot listen.
    #[error("route `{route}` cannot be opened")]
    Listen {
        /// Which route.
        route: String,
        /// What is in the way.
        source: ListenError,
    },
    /// No agent can be at this path.
    #[error(transparent)]
    Agent(#[from] SocketPathError),
    /// The TLS stack lacks what we need.
    #[error(transparent)]
    Tls(#[from] SetUpError),
    /// The health endpoint's address is taken or not ours.
    #[error(transparent)]
    Health(#[from] BindEndpointError),
    /// Metrics can't be recorded.
    #[error(transparent)]
    Metrics(#[from] InitMetricsError),
}

#[cfg(test)]
mod tests;
