//! `claviger shim`: TLS in front of programs that were never changed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;

/// Puts TLS with one-time keys, or with SVIDs, in front of programs that know neither
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a shim until SIGINT or SIGTERM
    #[command(
        long_about = "Runs a shim until SIGINT or SIGTERM. Programs of this machine connect to \
        its doors in plain text and get out by TLS 1.3 to whoever has to be there; strangers \
        connect to its ports and get to a program if they prove who they are and the policies \
        permit it. Both ends are known by their identities, and so is the program at the door.\n\n\
        A client's machine, /etc/claviger/shim.toml:\n  \
          [[outbound]]\n  \
          name = \"db\"\n  \
          listen = \"127.0.0.1:5432\"             # psql -h 127.0.0.1\n  \
          to = \"db.internal:8443\"\n  \
          peer = \"spiffe://example.org/db\"\n  \
          mode = \"psk\"\n  \
          purpose = \"query\"\n\n\
        The server's machine:\n  \
          [[inbound]]\n  \
          name = \"db\"\n  \
          listen = \"0.0.0.0:8443\"\n  \
          to = \"unix:/run/postgresql/.s.PGSQL.5432\"\n  \
          mode = \"psk\"\n  \
          purpose = \"query\"\n  \
          peers = [\"spiffe://example.org/web\"]\n\n\
        Example:\n  claviger shim run --config /etc/claviger/shim.toml"
    )]
    Run(Run),
    /// Checks a configuration file, and tells every problem at once
    #[command(
        long_about = "Checks a configuration file, and tells every problem at once. Nothing \
        is started.\n\n\
        Example:\n  claviger shim validate --config /etc/claviger/shim.toml"
    )]
    Validate(ConfigFile),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Run(Run { file, socket }) => {
                Box::pin(crate::run::shim(&file.config, &socket)).await
            }
            Self::Validate(file) => crate::run::validate_shim(&file.config, console),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    file: ConfigFile,

    #[command(flatten)]
    socket: WorkloadSocket,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE", default_value = "/etc/claviger/shim.toml")]
    config: PathBuf,
}
