//! `claviger audit checkpoint`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_core::audit::note::VerifierKey;
use serde::Serialize;

use super::signed::Signed;
use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::files;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Checkpoint {
    /// Writes the signed note into this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The newest that witnesses have signed, too, rather than one that is signed now
    #[arg(long)]
    witnessed: bool,

    #[command(flatten)]
    socket: AdminSocket,
}

/// `{"checkpoint":"note","key":"verifier key"}`.
#[derive(Debug, Serialize)]
struct Answer {
    checkpoint: String,
    key: VerifierKey,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nverifier key {}", self.checkpoint, self.key)
    }
}

impl Checkpoint {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let Signed { checkpoint, key } = Signed::ask(&server, self.witnessed, None).await?;
        let note = checkpoint.note().to_string();
        if let Some(path) = &self.file {
            files::replace(path, note.as_bytes(), files::PUBLIC)?;
            console::remark(format_args!("checkpoint in `{}`", path.display()));
        }
        console.answer(&Answer { checkpoint: note, key })
    }
}
