//! `claviger audit`: what happened, and proof that nobody changed it.

mod checkpoint;
mod decisions;
mod export;
mod ocsf;
mod phrases;
mod prove;
mod record;
mod replay;
mod signed;
mod tail;
mod verify;
#[cfg(feature = "server")]
mod witness;

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
    /// Shows how far the log goes, in words that the server signs
    #[command(
        long_about = "Shows how far the log goes, in words that the server signs, and the key that it \
        signs with. Keep one now and then in a place that the server cannot reach: `claviger audit \
        verify --since` shows that the log of later continues it.\n\n\
        Example:\n  claviger audit checkpoint --file 2027-01-15.checkpoint"
    )]
    Checkpoint(checkpoint::Checkpoint),
    /// Writes a proof that a credential, or a record, is in the log
    #[command(
        long_about = "Writes a proof that a credential, or a record, is in the log: one file with the \
        record, a few hashes and the signed checkpoint, which anybody can check who has the key of the \
        log, without the log and without a server.\n\n\
        Example:\n  claviger audit prove --psk p1.BHDIgDvLz7HgDxN2WAnGlQ --file psk.tlog-proof"
    )]
    Prove(prove::Prove),
    /// Checks a proof that a record is in a log
    #[command(
        long_about = "Checks a proof that a record is in a log, without any server, and shows the \
        record. With --witness the checkpoint has to be signed by these witnesses, too.\n\n\
        Example:\n  claviger audit verify-proof psk.tlog-proof \
        --key example.org/audit+c99df49f+AU0+rnP3…"
    )]
    VerifyProof(prove::VerifyProof),
    /// Writes the whole log as JSON lines
    #[command(long_about = "Writes the whole log as JSON lines, each \
        {\"seq\":1,\"hash\":\"hex\",\"body\":{…}}, where the body is what is hashed, byte for byte, \
        and a last line with the signed checkpoint over all of them. With --format ocsf each record is \
        an event of the Open Cybersecurity Schema Framework 1.3 instead.\n\n\
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
    /// Runs a witness of logs
    #[cfg(feature = "server")]
    #[command(
        long_about = "Runs a witness of logs (C2SP tlog-witness): it signs that a log's checkpoint \
        continues every one that it has signed before, so that nobody is shown another history than \
        others. It belongs on another machine than the logs, with another owner. It speaks HTTP; let a \
        proxy in front of it speak HTTPS.\n\n\
        Example:\n  claviger audit witness --name witness.example.net/w1 --folder /var/lib/witness \
        --log example.org/audit+c99df49f+AU0+rnP3…"
    )]
    Witness(witness::Witness),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Verify(verify) => verify.run(console).await,
            Self::Tail(tail) => tail.run(console).await,
            Self::Export(export) => export.run(console).await,
            Self::Replay(replay) => replay.run(console).await,
            Self::Checkpoint(checkpoint) => checkpoint.run(console).await,
            Self::Prove(prove) => prove.run(console).await,
            Self::VerifyProof(verify) => verify.run(console),
            #[cfg(feature = "server")]
            Self::Witness(witness) => witness.run().await,
        }
    }
}

pub(crate) use decisions::{Decisions, Part};
#[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
pub(crate) use verify::{Verified, verify_online};
