//! `claviger audit`: what happened, and proof that nobody changed it.

mod decisions;
mod export;
mod phrases;
mod record;
mod replay;
mod signed;
mod tail;
mod verify;

use clap::Subcommand;

use crate::console::Console;
use crate::failure::Failure;

/// Reads the audit log, and proves that nobody changed it
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Proves that the log is whole and unchanged
    #[command(
        long_about = "Proves that the log is whole and unchanged: all its records together have the \
        Merkle root that the server signs in its checkpoint, and, with --since, the first of them that \
        of an older checkpoint. With --file an export is checked without any server. Name the key that \
        you trust with --key; otherwise the one is used that comes with the checkpoint.\n\n\
        Example:\n  claviger audit verify --since yesterday.checkpoint"
    )]
    Verify(verify::Verify),
    /// Shows the newest records
    #[command(
        long_about = "Shows the newest records, one per line; with --follow also new ones as \
        they are written.\n\n\
        Example:\n  claviger audit tail -f -n 20"
    )]
    Tail(tail::Tail),
    /// Writes the whole log as JSON lines
    #[command(long_about = "Writes the whole log as JSON lines, each \
        {\"seq\":1,\"hash\":\"hex\",\"body\":{…}}, where the body is what is hashed, byte for byte, \
        and a last line with the signed checkpoint over all of them.\n\n\
        Example:\n  claviger audit export --file audit.jsonl")]
    Export(export::Export),
    /// Decides again what was decided, and tells what differs
    #[command(
        long_about = "Decides again what the log says was decided, by the same policies, which the \
        server keeps by their digests: verdict, policies and obligations have to be the same, byte \
        for byte. With --against it tells instead which answers would change with the policies in a \
        folder.\n\n\
        Example:\n  claviger audit replay --last 10000"
    )]
    Replay(replay::Replay),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Verify(verify) => verify.run(console).await,
            Self::Tail(tail) => tail.run(console).await,
            Self::Export(export) => export.run(console).await,
            Self::Replay(replay) => replay.run(console).await,
        }
    }
}

pub(crate) use decisions::{Decisions, Part};
#[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
pub(crate) use verify::{Verified, verify_online};
