//! `claviger dev`: server and agent together, to try things out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use claviger_core::id::TrustDomain;
use claviger_runtime::telemetry::{LogConfig, LogFormat, LogLevel};

use crate::console::Console;
use crate::dev;
use crate::failure::Failure;
use crate::run;

/// Runs a server and an agent together, to try things out
#[derive(Args, Debug)]
#[command(long_about = "Runs a server and an agent together in one process, to try things out. \
    When it prints `ready`, DIR/agent.sock serves the Workload API, and DIR/server.sock and \
    DIR/agent-admin.sock the operator. Unless --policy names other policies, everything within the \
    trust domain is permitted. It runs until SIGINT or SIGTERM, and then removes all that it made.\n\n\
    Example:\n  claviger dev --dir /tmp/claviger\n\n\
    and, in another shell, what it prints and then:\n  \
    claviger entry create --spiffe-id spiffe://example.org/me --selector unix:uid:$(id -u) --wait\n  \
    claviger svid fetch")]
pub(crate) struct Dev {
    /// Where sockets and state are; made if missing. Keep it short: a socket's path has 107 bytes
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// The trust domain
    #[arg(long, alias = "trustDomain", value_name = "NAME", default_value = "example.org")]
    trust_domain: TrustDomain,

    /// A folder of policies (docs/policy.md); what changes there is in force at once
    #[arg(long, value_name = "DIR", value_parser = folder)]
    policy: Option<PathBuf>,

    /// The least important events that are still logged
    #[arg(long, alias = "logLevel", value_enum, value_name = "LEVEL", default_value = "warn")]
    log_level: Level,
}

impl Dev {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        run::log(self.log_level.into())?;
        dev::run(&self.dir, self.trust_domain, self.policy, console).await
    }
}

/// A folder that is there, wherever it is looked at from.
fn folder(path: &str) -> Result<PathBuf, String> {
    let folder = std::fs::canonicalize(path).map_err(|error| error.to_string())?;
    if folder.is_dir() { Ok(folder) } else { Err("it is no folder".to_owned()) }
}

/// How important an event must be to be logged
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for LogConfig {
    fn from(level: Level) -> Self {
        let level = match level {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
            Level::Trace => LogLevel::Trace,
        };
        Self { format: LogFormat::Text, level }
    }
}
