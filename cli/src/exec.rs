//! A program with its routes around it: they are up before it begins, and end when it does.
//!
//! | to find | look in |
//! |---|---|
//! | what routes there are | [`routes`] |
//! | the program: signals, its end, those it leaves behind | [`program`] |
//!
//! Exit codes are those of env(1): 125 if there is no way for a route, 126 and 127 if the program
//! cannot be run or is not there; otherwise the program's own, and 128 and the signal's number if a
//! signal ended it.

pub(crate) mod program;
pub(crate) mod routes;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use claviger_runtime::tasks::{Drain, Tasks};
use claviger_runtime::telemetry::{LogConfig, LogLevel};
use claviger_shim::config::Config;
use claviger_shim::route::Callers;
use claviger_shim::run::Shim;
use tracing::warn;

use crate::failure::Failure;
use program::{Program, Signals};
use routes::Routes;

/// There is no way for a route, so nothing was run.
pub(crate) const NO_ROUTES: u8 = 125;

/// What everything may take beyond the grace of the connections.
const MARGIN: Duration = Duration::from_secs(1);

/// A program, and its routes.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    #[command(flatten)]
    routes: Routes,

    /// For how long to wait until the routes are open, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    wait: Duration,

    #[command(flatten)]
    program: Program,
}

impl Exec {
    /// The routes as they are written, with the program and what comes from it as their callers unless
    /// others are named.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let mut config = self.routes.read().map_err(|failure| failure.ending_with(NO_ROUTES))?;
        for route in &mut config.outbound {
            if route.callers == Callers::Known([].into()) {
                // The program is our child, and what it leaves behind is given to us.
                let us = NonZeroU32::new(std::process::id());
                route.callers = us.map_or(Callers::Known([].into()), Callers::Descendants);
            }
        }
        Ok(config)
    }

    /// Opens the routes with `start`, and then runs the program until it ends.
    pub(crate) async fn run(
        self,
        config: Config,
        start: impl AsyncFnOnce(Config, &Tasks) -> Result<Shim, Failure>,
    ) -> Result<(), Failure> {
        let unopened = |failure: Failure| failure.ending_with(NO_ROUTES);
        crate::run::log(LogConfig { level: LogLevel::Warn, ..config.log }).map_err(unopened)?;
        program::adopt_orphans().map_err(unopened)?;
        let mut signals = Signals::listen().map_err(unopened)?;
        let (tasks, grace) = (Tasks::default(), config.limits.grace);
        let opened = tokio::select! {
            opened = tokio::time::timeout(self.wait, start(config, &tasks)) => opened,
            signal = signals.next() => return Err(Failure::ended_by(signal.as_raw())),
        };
        let shim = match opened {
            Ok(shim) => shim.map_err(unopened)?,
            Err(_elapsed) => return Err(unopened(self.too_late())),
        };
        let variables = routes::variables(&shim.listeners).map_err(unopened)?;
        let ended = self.program.run(variables, &mut signals).await;
        // What it sent may still be on its way.
        tasks.stop();
        if let Drain::Forced { unfinished } = tasks.drained(grace.saturating_add(MARGIN)).await {
            warn!(unfinished, "connections were cut");
        }
        ended
    }

    fn too_late(&self) -> Failure {
        let secs = self.wait.as_secs();
        Failure::failed(format_args!("the routes were not open after {secs} s"))
            .try_this("is the agent running, has it an identity for this program and its policies?")
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const MOST: u64 = 3_600;
    match text.parse() {
        Ok(secs @ 1..=MOST) => Ok(Duration::from_secs(secs)),
        Ok(_) | Err(_) => Err(format!("write a number of seconds from 1 to {MOST}")),
    }
}
