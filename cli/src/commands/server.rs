//! `claviger server`: runs one.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::failure::Failure;

/// Runs the server
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a server until SIGINT or SIGTERM
    #[command(
        long_about = "Runs a server until SIGINT or SIGTERM: it judges evidence and policy, \
        writes down what it is about to do, and signs.\n\n\
        Example:\n  claviger server run --config /etc/claviger/server.toml"
    )]
    Run(ConfigFile),
    /// Checks a configuration file, and tells every problem at once
    #[command(long_about = "Checks a configuration file, and tells every problem at once. \
        Nothing is started.\n\n\
        Example:\n  claviger server validate --config /etc/claviger/server.toml")]
    Validate(ConfigFile),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Run(file) => Box::pin(crate::run::server(&file.config)).await,
            Self::Validate(file) => crate::run::validate_server(&file.config, console),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE", default_value = "/etc/claviger/server.toml")]
    config: PathBuf,
}
