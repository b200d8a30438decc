//! `claviger ci exec`.

use std::sync::Arc;

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_core::time::SystemClock;
use claviger_runtime::tasks::Tasks;
use claviger_shim::CallerDesk;
use claviger_shim::config::Config;
use claviger_shim::route::{Callers, Mode, Outbound, Profile};
use claviger_shim::run::{Means, Shim};
use claviger_shim::tunnels::Tunnels;

use super::Calling;
use crate::ci::keys::JobKeys;
use crate::exec;
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    calling: Calling,

    /// Which identity is to be the client, if the token earns several
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    #[command(flatten)]
    exec: exec::Exec,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { calling, spiffe_id, exec } = self;
        let (server, tokens) = (calling.server.open()?, calling.token.open()?);
        let mut config = exec.config()?;
        require_keys(&config)?;
        for route in &mut config.outbound {
            // A job may have one token, for one key.
            route.prefetch = 0;
        }
        let identity = spiffe_id.clone().or(config.identity.clone());
        let keys = JobKeys { server, tokens, patience: calling.patience, identity };
        exec.run(config, async |config, tasks| {
            let clock = Arc::new(SystemClock);
            let means = means(keys, config.profile, tasks)?;
            let shim = Shim::with(config, means, clock, tasks).await;
            shim.map_err(|error| Failure::because(&error))
        })
        .await
    }
}

/// What a job has: keys, and nobody else to ask.
fn means(keys: JobKeys, profile: Profile, tasks: &Tasks) -> Result<Means, Failure> {
    let (identity, clock) = (keys.identity.clone(), Arc::new(SystemClock));
    let tunnels = Tunnels::new(Arc::new(keys), profile, clock, tasks);
    let tunnels = tunnels.map_err(|error| Failure::because(&error))?;
    let callers = CallerDesk::new(None).map_err(|error| Failure::because(&error))?;
    Ok(Means { identity, tunnels, callers, enforcer: None })
}

/// Refuses what takes an agent.
fn require_keys(config: &Config) -> Result<(), Failure> {
    let needs = |route: &str, what: &str| {
        Failure::usage(format_args!("the route `{route}` {what}, which takes an agent"))
            .try_this("a job has one-time keys and nothing else: write `mode=psk`")
            .ending_with(exec::NO_ROUTES)
    };
    if let Some(route) = config.inbound.first() {
        return Err(needs(&route.name, "is a way in"));
    }
    for Outbound { name, mode, callers, .. } in &config.outbound {
        match (mode, callers) {
            (Mode::Mtls | Mode::Observe, _) => {
                return Err(needs(name, "has another mode than `psk`"));
            }
            (Mode::Psk, Callers::Known(_)) => return Err(needs(name, "has callers by identity")),
            (Mode::Psk, Callers::Descendants(_) | Callers::Anybody) => {}
        }
    }
    Ok(())
}
