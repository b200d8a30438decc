//! `claviger audit export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use claviger_proto::claviger::admin::v1::ReadAuditRequest;
use serde::Serialize;

use super::ocsf;
use super::record::Line;
use super::signed::Signed;
use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Writes into this file, which must not be there yet; standard output if not given
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// What the lines are
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    socket: AdminSocket,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    /// Records as they are hashed, and a signed checkpoint: `claviger audit verify` reads it
    #[default]
    Jsonl,
    /// Events of the Open Cybersecurity Schema Framework 1.3, for other systems
    Ocsf,
}

impl Export {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        match &self.file {
            None => drop(copy(&server, self.format, io::stdout()).await?),
            Some(path) => {
                let file = File::create_new(path).map_err(|error| {
                    Failure::failed(format_args!("cannot create `{}`: {error}", path.display()))
                        .try_this("name a file that is not there yet")
                })?;
                let copied = copy(&server, self.format, &file).await;
                let count = match copied.and_then(|count| synced(&file, path).map(|()| count)) {
                    Ok(count) => count,
                    Err(failure) => {
                        // Half an export must not be taken for a whole one.
                        drop(std::fs::remove_file(path));
                        return Err(failure);
                    }
                };
                console::remark(format_args!("{count} records in `{}`", path.display()));
            }
        }
        Ok(())
    }
}

fn synced(file: &File, path: &Path) -> Result<(), Failure> {
    file.sync_all().map_err(|error| {
        Failure::failed(format_args!("cannot write `{}`: {error}", path.display()))
    })
}

/// Copies all records, and as JSON lines of ours a checkpoint over them; how many records there were.
async fn copy(server: &Server, format: Format, to: impl Write) -> Result<u64, Failure> {
    const DOING: &str = "export the audit log";

    let mut to = BufWriter::new(to);
    let signed = Signed::now(server, None).await?;
    let size = signed.checkpoint.checkpoint().head.size;
    let request = ReadAuditRequest { limit: size, ..ReadAuditRequest::default() };
    let mut records = server.ask(DOING, server.admin().read_audit(request)).await?;
    loop {
        let next = records.message().await.map_err(|status| server.refused(DOING, &status))?;
        let Some(record) = next else { break };
        let line = Line::try_from(record)?;
        match format {
            Format::Jsonl => write_line(&mut to, &line)?,
            Format::Ocsf => write_line(&mut to, &ocsf::event(&line))?,
        }
    }
    match format {
        Format::Jsonl => write_line(&mut to, &signed.to_line())?,
        // What is not an event has no place there.
        Format::Ocsf => {}
    }
    to.flush()?;
    Ok(size)
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}
