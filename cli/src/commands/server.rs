//! `claviger server`: runs one, and moves its store.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use claviger_server::storage::transfer::{self, Moved, TransferError};
use serde::Serialize;

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
    /// Writes a stopped server's whole store to a file, to be imported into PostgreSQL
    #[command(
        long_about = "Writes everything in the store of a stopped server's data directory to a new \
        file, after checking the audit log from its first record on. No server goes on with that store \
        afterwards: it goes on where the file is imported. The file holds no key, but all that is \
        registered and the audit log.\n\n\
        Example:\n  claviger server export --config /etc/claviger/server.toml /var/tmp/claviger.export"
    )]
    Export(Transfer),
    /// Reads an exported store into the empty database of the configuration
    #[command(long_about = "Reads what `claviger server export` wrote into the database that \
        `store.postgres` names, which must be empty, and checks it there. Do it where the store was \
        exported, with the same data directory: its keys stay in use, and nothing that was issued is \
        void.\n\n\
        Example:\n  claviger server import --config /etc/claviger/server.toml /var/tmp/claviger.export")]
    Import(Transfer),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Run(file) => Box::pin(crate::run::server(&file.config)).await,
            Self::Validate(file) => crate::run::validate_server(&file.config, console),
            Self::Export(transfer) => {
                let config = crate::run::server_config(&transfer.config.config)?;
                let export = transfer::export(&config, &transfer.file);
                let moved = Box::pin(console.watch("exporting", export)).await;
                console.answer(&Answer::of(moved, &transfer.file)?)
            }
            Self::Import(transfer) => {
                let config = crate::run::server_config(&transfer.config.config)?;
                let import = transfer::import(&config, &transfer.file);
                let moved = Box::pin(console.watch("importing", import)).await;
                console.answer(&Answer::of(moved, &transfer.file)?)
            }
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Transfer {
    #[command(flatten)]
    config: ConfigFile,
    /// The file with what is moved
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `{"file":"…","moved":{"entries":N,…}}`.
#[derive(Debug, Serialize)]
struct Answer {
    file: String,
    moved: BTreeMap<&'static str, u64>,
}

impl Answer {
    fn of(moved: Result<Moved, TransferError>, file: &Path) -> Result<Self, Failure> {
        let moved = moved.map_err(|error| Failure::because(&error))?;
        Ok(Self { file: file.display().to_string(), moved: moved.pairs })
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moved and checked, with `{}`:", self.file)?;
        self.moved.iter().try_for_each(|(name, count)| write!(f, "\n  {count:>10} {name}"))
    }
}

#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE", default_value = "/etc/claviger/server.toml")]
    config: PathBuf,
}
