//! The main job, shown end to end with real processes: nothing here is played.
//!
//! | to find | look in |
//! |---|---|
//! | what is printed of each step | [`stage`] |
//! | what the node attests by, and who vouches for it | [`platform`] |
//! | the programs: made, registered, started | [`cast`], [`program`] |
//! | what a program does, and how it is told to | [`workload`], [`orders`] |
//! | mutual TLS between SVIDs | [`mutual`] |
//! | one-time keys: a handshake, and every attempt to use a key again | [`once`] |
//! | a program that nobody registered | [`stranger`] |
//! | programs without TLS, a forbidden pair, a quarantine | [`shims`] |
//! | the audit log | [`accounts`] |

mod accounts;
mod cast;
mod mutual;
mod once;
mod orders;
mod platform;
mod program;
mod shims;
mod stage;
mod stranger;
pub(crate) mod workload;

use std::path::{Path, PathBuf};

use claviger_core::id::TrustDomain;
use claviger_policy::source;
use claviger_runtime::tasks::{ShutdownSignals, Tasks};
use tempfile::TempDir;

use crate::admin::Server;
use crate::console::Console;
use crate::dev::{self, Directory};
use crate::failure::Failure;
use crate::run::drain;
use cast::Cast;
use platform::Platform;
pub(crate) use platform::{Attestor, RealCluster};
use stage::Stage;

/// Where it plays.
const TRUST_DOMAIN: &str = "example.org";

/// What is shown.
#[derive(Debug)]
pub(crate) struct Scene {
    /// By what the node attests.
    pub(crate) attestor: Attestor,
    /// The cluster that is asked, if it is not played.
    pub(crate) cluster: Option<RealCluster>,
    /// A document of a Nitro enclave that is to be judged first.
    pub(crate) document: Option<PathBuf>,
}

/// Shows it, and succeeds only if every step did what it says.
pub(crate) async fn run(scene: Scene, console: Console) -> Result<(), Failure> {
    let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
    let tasks = Tasks::default();
    let folder = temporary()?;
    let place = Directory::claim(&folder.path().join("broker"))?;
    let mut stage = Stage::new(console);
    let shown = tokio::select! {
        shown = Box::pin(show(&mut stage, folder.path(), &place, scene, &tasks)) => shown,
        signal = signals.next() => Err(Failure::failed(format_args!("ended by {signal}"))),
    };
    drain(&mut signals, &tasks).await.and(stage.close(shown))
}

fn temporary() -> Result<TempDir, Failure> {
    let folder = tempfile::Builder::new().prefix("claviger-").tempdir();
    folder.map_err(|error| {
        Failure::failed(format_args!("cannot make a temporary directory: {error}"))
            .try_this("set TMPDIR to a directory that this user may write to")
    })
}

/// The whole story.
async fn show(
    stage: &mut Stage,
    folder: &Path,
    place: &Directory,
    Scene { attestor, cluster, document }: Scene,
    tasks: &Tasks,
) -> Result<(), Failure> {
    if let Some(document) = document {
        let judge = async { Ok(((), platform::judge_recorded(&document)?)) };
        stage.step("a recorded document is judged", judge).await?;
    }
    let platform = attestor.platform(stage, folder, cluster.as_ref(), tasks).await?;
    let server = Box::pin(open(stage, place, attestor, platform, tasks)).await?;
    let Cast { mut frontend, mut backend, mut stranger } =
        Box::pin(cast::assemble(stage, folder, place, &server)).await?;

    mutual::meet(stage, &mut frontend, &mut backend).await?;
    let key = once::meet(stage, &mut frontend, &mut backend).await?;
    once::again(stage, &mut frontend, &mut backend).await?;
    once::replay(stage, &mut frontend, &mut backend).await?;
    stranger::refuse(stage, &mut stranger).await?;
    let shims = shims::start(stage, folder, &mut frontend, &mut backend).await?;
    shims.meet(stage, &mut frontend, &mut backend).await?;
    shims.keep_apart(stage, &mut backend, &mut stranger).await?;
    shims.quarantine(stage, &server, &mut frontend, &mut backend).await?;
    accounts::settle(stage, folder, &server, (attestor, &key), &mut frontend).await
}

/// Server and agent start.
async fn open(
    stage: &mut Stage,
    place: &Directory,
    attestor: Attestor,
    Platform { server: attestors, agent }: Platform,
    tasks: &Tasks,
) -> Result<Server, Failure> {
    let console = stage.console();
    let trust_domain: TrustDomain =
        TRUST_DOMAIN.parse().map_err(|error| Failure::because(&error))?;
    let start = async {
        let policy = place.write_policy(&[source::DEV, shims::POLICY].join("\n"))?;
        let domain = trust_domain.clone();
        let server = dev::start_server(place, domain, Some(policy), attestors, tasks).await?;
        Ok((server, format!("server started for {trust_domain}, with its own store and authority")))
    };
    let server = stage.step("server starts", Box::pin(start)).await?;
    let start = async {
        dev::start_agent(place, trust_domain.clone(), &server, agent, console, tasks).await?;
        Ok(((), format!("agent attested with {}, and serves its socket", attestor.words())))
    };
    stage.step("agent attests", Box::pin(start)).await?;
    Server::at(&place.server_socket(), console).await
}
