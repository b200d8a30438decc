//! `claviger demo`: the main job, end to end.

use clap::Args;

use super::dev::Level;
use crate::console::Console;
use crate::demo;
use crate::failure::Failure;
use crate::run;
use crate::socket::WorkloadSocket;

/// Shows the main job end to end, in a temporary directory
#[derive(Args, Debug)]
#[command(long_about = "Shows the main job end to end, in a temporary directory: a server and an \
    agent start, two programs prove what they are and meet over mutual TLS and then over TLS 1.3 \
    with a key that works once; every attempt to use the key again is refused, and so is a \
    stranger. The exit code is 0 only if every step did what it says.\n\n\
    Example:\n  claviger demo")]
pub(crate) struct Demo {
    /// The least important events that are still logged
    #[arg(long, alias = "logLevel", value_enum, value_name = "LEVEL", default_value = "error")]
    log_level: Level,
}

impl Demo {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        run::log(self.log_level.into())?;
        demo::run(console).await
    }
}

/// One of the demo's programs; the demo starts them itself.
#[derive(Args, Debug)]
pub(crate) struct Workload {
    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Workload {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        demo::workload::run(self.socket.path()).await
    }
}
