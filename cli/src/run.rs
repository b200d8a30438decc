//! Long-running processes: started, told to stop, drained.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::time::SystemClock;
use claviger_runtime::memory;
use claviger_runtime::settings::Problems;
use claviger_runtime::tasks::{Drain, ShutdownSignals, Tasks};
use claviger_runtime::telemetry::{self, LogConfig};
use serde::Serialize;
use tracing::info;

use crate::console::Console;
use crate::failure::Failure;

/// How long requests that are under way may still take once the process is told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Runs the server that the file at `path` describes.
#[cfg(feature = "server")]
pub(crate) async fn server(path: &Path) -> Result<(), Failure> {
    use claviger_server::config::Config;
    use claviger_server::run::Server;

    let config = Config::load(path).map_err(|problems| misconfigured(path, &problems))?;
    log(config.log)?;
    confine(memory::close());
    for warning in &config.warnings {
        tracing::warn!(%warning, "configuration");
    }
    serve(async |tasks| {
        let clock = Arc::new(SystemClock);
        let running = Server::start(config, clock, tasks).await.map_err(|error| Failure::because(&error))?;
        info!(address = %running.address, admin_socket = %running.admin_socket.display(), "server started");
        Ok(())
    })
    .await
}

/// Runs the agent that the file at `path` describes.
#[cfg(feature = "agent")]
pub(crate) async fn agent(path: &Path) -> Result<(), Failure> {
    use claviger_node_agent::config::Config;
    use claviger_node_agent::run::Agent;

    let config = Config::load(path).map_err(|problems| misconfigured(path, &problems))?;
    log(config.log)?;
    confine(memory::close());
    serve(async |tasks| {
        let clock = Arc::new(SystemClock);
        let running =
            Agent::start(config, clock, tasks).await.map_err(|error| Failure::because(&error))?;
        info!(id = %running.id, socket = %running.socket.display(), "agent started");
        Ok(())
    })
    .await
}

/// Runs the shim that the file at `path` describes, beside the agent at `socket` unless the file names
/// another.
#[cfg(feature = "shim")]
pub(crate) async fn shim(
    path: &Path,
    socket: &crate::socket::WorkloadSocket,
) -> Result<(), Failure> {
    use claviger_shim::config::Config;
    use claviger_shim::run::Shim;

    let config = Config::load(path).map_err(|problems| misconfigured(path, &problems))?;
    log(config.log)?;
    // The agent has to be able to look at it.
    confine(memory::forbid_core_dumps());
    room_for(config.limits.connections);
    let socket = socket.path_or(config.socket.as_deref());
    serve(async |tasks| {
        let clock = Arc::new(SystemClock);
        let shim = Shim::start(config, socket, clock, tasks)
            .await
            .map_err(|error| Failure::because(&error))?;
        let listeners: Vec<_> = shim.listeners.iter().map(ToString::to_string).collect();
        let id = shim.identity.as_ref().map(tracing::field::display);
        info!(id, listeners = listeners.join(" "), "shim started");
        Ok(())
    })
    .await
}

/// Says so if what is in memory may get out of it: better so than no server.
#[cfg(any(feature = "server", feature = "agent", feature = "shim"))]
fn confine(confined: std::io::Result<()>) {
    if let Err(error) = confined {
        tracing::warn!(%error, "a core dump of this process would have its secrets in it");
    }
}

/// Makes room for `connections`, each of which takes two file descriptors, or says that there is not
/// enough.
#[cfg(feature = "shim")]
fn room_for(connections: usize) {
    /// What else there is: listeners, the agent, files.
    const BESIDES: usize = 64;

    let wanted = connections.saturating_mul(2).saturating_add(BESIDES);
    match claviger_runtime::descriptors::raise_limit() {
        Ok(Some(allowed)) if usize::try_from(allowed).is_ok_and(|allowed| allowed < wanted) => {
            tracing::warn!(
                allowed,
                wanted,
                "the process may have fewer file descriptors than its connections need; raise the \
                 limit (`LimitNOFILE=` in systemd, `ulimit -Hn`) or lower `limits.connections`"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of file descriptors stays as it is"),
    }
}

/// Tells every problem of a shim's configuration file.
#[cfg(feature = "shim")]
pub(crate) fn validate_shim(path: &Path, console: Console) -> Result<(), Failure> {
    let config = claviger_shim::config::Config::load(path)
        .map_err(|problems| misconfigured(path, &problems))?;
    for warning in &config.warnings {
        crate::console::remark(format_args!("warning: {warning}"));
    }
    console.answer(&Valid::at(path))
}

/// A server's configuration, from the file at `path`.
#[cfg(feature = "server")]
pub(crate) fn server_config(path: &Path) -> Result<claviger_server::config::Config, Failure> {
    let config = claviger_server::config::Config::load(path);
    config.map_err(|problems| misconfigured(path, &problems))
}

/// Tells every problem of a server's configuration file.
#[cfg(feature = "server")]
pub(crate) fn validate_server(path: &Path, console: Console) -> Result<(), Failure> {
    let config = server_config(path)?;
    for warning in &config.warnings {
        crate::console::remark(format_args!("warning: {warning}"));
    }
    console.answer(&Valid::at(path))
}

/// Tells every problem of an agent's configuration file.
#[cfg(feature = "agent")]
pub(crate) fn validate_agent(path: &Path, console: Console) -> Result<(), Failure> {
    let config = claviger_node_agent::config::Config::load(path);
    drop(config.map_err(|problems| misconfigured(path, &problems))?);
    console.answer(&Valid::at(path))
}

/// `{"valid":true,"file":"…"}`.
#[derive(Debug, Serialize)]
struct Valid {
    valid: bool,
    file: String,
}

impl Valid {
    fn at(path: &Path) -> Self {
        Self { valid: true, file: path.display().to_string() }
    }
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is fine", self.file)
    }
}

pub(crate) fn misconfigured(path: &Path, Problems(problems): &Problems) -> Failure {
    let lines: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    Failure::usage(format_args!("`{}` cannot be used:{}", path.display(), lines.concat()))
}

/// Starts to log.
pub(crate) fn log(config: LogConfig) -> Result<(), Failure> {
    telemetry::init(config).map_err(|error| Failure::because(&error))
}

/// Starts something, and keeps it until a signal or a failure ends it.
async fn serve(start: impl AsyncFnOnce(&Tasks) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
    let tasks = Tasks::default();
    // A signal ends a start that takes long, too: an agent waits for its server.
    let started = tokio::select! {
        started = start(&tasks) => started,
        signal = signals.next() => {
            info!(%signal, "stopping before the start was complete");
            return drain(&mut signals, &tasks).await;
        }
    };
    if let Err(failure) = started {
        drop(drain(&mut signals, &tasks).await);
        return Err(failure);
    }
    let ended = until_stopped(&mut signals, &tasks).await;
    drain(&mut signals, &tasks).await.and(ended)
}

/// Waits for a signal; or for a task that fails, which is an error.
pub(crate) async fn until_stopped(
    signals: &mut ShutdownSignals,
    tasks: &Tasks,
) -> Result<(), Failure> {
    let failed = tasks.token();
    tokio::select! {
        signal = signals.next() => {
            info!(%signal, "stopping");
            Ok(())
        }
        () = failed.cancelled() => {
            Err(Failure::failed("a part of it failed").try_this("its log says which, and why"))
        }
    }
}

/// Lets everything come to its end, or until a second signal says that there is no time.
pub(crate) async fn drain(signals: &mut ShutdownSignals, tasks: &Tasks) -> Result<(), Failure> {
    tasks.stop();
    let drained = tokio::select! {
        drained = tasks.drained(GRACE) => drained,
        _ = signals.next() => return Err(Failure::failed("interrupted before everything had ended")),
    };
    match drained {
        Drain::Clean => Ok(()),
        Drain::Forced { unfinished } => Err(Failure::failed(format_args!(
            "{unfinished} tasks had not ended after {} s",
            GRACE.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[cfg(feature = "server")]
    #[test]
    fn every_problem_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, "trust-domain = \"Example.org\"\nlisten = \"8081\"\n").unwrap();
        let console = Console::new(crate::console::Format::Pretty);
        let told = validate_server(&path, console).unwrap_err().to_string();
        for part in ["server.toml", "trust-domain", "Example.org", "data-dir", "listen", "8081"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[tokio::test]
    async fn a_task_that_fails_ends_the_process_with_an_error() {
        let failure = serve(async |tasks| {
            tasks.spawn("doomed", |_stop| async { Err(anyhow::anyhow!("no disk")) });
            Ok(())
        });
        assert!(failure.await.unwrap_err().to_string().contains("a part of it failed"));
    }

    #[tokio::test]
    async fn a_start_that_fails_halfway_is_drained() {
        let ended = Arc::new(AtomicBool::new(false));
        let outcome = serve(async |tasks| {
            let ended = Arc::clone(&ended);
            tasks.spawn("half", |stop| async move {
                stop.cancelled().await;
                ended.store(true, Ordering::SeqCst);
                Ok(())
            });
            Err(Failure::failed("port taken"))
        });
        assert!(outcome.await.unwrap_err().to_string().contains("port taken"));
        assert!(ended.load(Ordering::SeqCst));
    }
}
