//! `claviger demo`: the main job, end to end.

use std::path::PathBuf;

use clap::Args;

use super::dev::Level;
use crate::console::Console;
use crate::demo::{self, Attestor, RealCluster, Scene};
use crate::failure::Failure;
use crate::run;
use crate::socket::WorkloadSocket;

/// Shows the main job end to end, in a temporary directory
#[derive(Args, Debug)]
#[command(long_about = "Shows the main job end to end, in a temporary directory: a server and an \
    agent start, two programs prove what they are and meet over mutual TLS and then over TLS 1.3 \
    with a key that works once; every attempt to use the key again is refused, and so is a \
    stranger. The exit code is 0 only if every step did what it says.\n\n\
    With --attestor, the agent's machine has something better to show than a join token. Who \
    vouches for it is played by the demo, and says so, unless --kubeconfig names a real \
    cluster.\n\n\
    Example:\n  claviger demo\n  claviger demo --attestor oidc\n  \
    claviger demo --attestor k8s --kubeconfig ~/.kube/config --token-path pod-token\n  \
    claviger demo --attestor nitro --document attestation.bin")]
pub(crate) struct Demo {
    /// By what the agent attests
    #[arg(long, value_enum, value_name = "KIND", default_value = "join-token")]
    attestor: Attestor,

    /// A cluster to ask, for `--attestor k8s`; it needs the rights in docs/attestors/k8s_psat.md
    #[arg(long, value_name = "FILE", requires = "token_path")]
    kubeconfig: Option<PathBuf>,

    /// A token that is bound to a pod of that cluster, such as `kubectl create token
    /// --bound-object-kind Pod` prints
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    token_path: Option<PathBuf>,

    /// A document that a real Nitro enclave showed, for `--attestor nitro`: it is judged, by AWS' root,
    /// at the time that it names itself
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,

    /// The least important events that are still logged
    #[arg(long, alias = "logLevel", value_enum, value_name = "LEVEL", default_value = "error")]
    log_level: Level,
}

impl Demo {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        run::log(self.log_level.into())?;
        let cluster = self.kubeconfig.zip(self.token_path);
        let cluster = cluster.map(|(kubeconfig, token)| RealCluster { kubeconfig, token });
        if cluster.is_some() && self.attestor != Attestor::K8s {
            return Err(Failure::usage("--kubeconfig is for --attestor k8s"));
        }
        if self.document.is_some() && self.attestor != Attestor::Nitro {
            return Err(Failure::usage("--document is for --attestor nitro"));
        }
        let scene = Scene { attestor: self.attestor, cluster, document: self.document };
        demo::run(scene, console).await
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
