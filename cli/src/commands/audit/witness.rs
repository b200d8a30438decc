//! `claviger audit witness`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use claviger_core::audit::note::VerifierKey;
use claviger_core::time::SystemClock;
use claviger_runtime::tasks::{Drain, ShutdownSignals, Tasks};
use claviger_server::witness::{Settings, start};

use crate::console;
use crate::failure::Failure;

/// How long answers that are on their way may take when it is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(crate) struct Witness {
    /// The name in its signatures: an address without a scheme
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Where its key and what it has signed are kept; made if it does not exist
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,

    /// Where it listens, for HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8446")]
    listen: SocketAddr,

    /// The key of a log that it signs for, as `claviger audit checkpoint` shows it; may be given
    /// several times
    #[arg(long, value_name = "VERIFIER-KEY", required = true)]
    log: Vec<VerifierKey>,
}

impl Witness {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
        let Self { name, folder, listen, log: logs } = self;
        let tasks = Tasks::default();
        let settings = Settings { name, folder, listen, logs };
        let running = start(settings, Arc::new(SystemClock), &tasks).await;
        let running = running.map_err(|error| Failure::because(&error))?;
        console::line(format_args!("listening on {}", running.address))?;
        console::line(format_args!("verifier key {}", running.key))?;
        let _signal = signals.next().await;
        tasks.stop();
        if tasks.drained(DRAIN).await == Drain::Clean {
            return Ok(());
        }
        Err(Failure::failed(format_args!("it did not stop within {} s", DRAIN.as_secs())))
    }
}
