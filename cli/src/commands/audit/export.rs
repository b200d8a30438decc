//! `claviger audit export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use claviger_proto::claviger::admin::v1::ReadAuditRequest;
use serde::Serialize;

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

    #[command(flatten)]
    socket: AdminSocket,
}

impl Export {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        match &self.file {
            None => drop(copy(&server, io::stdout()).await?),
            Some(path) => {
                let file = File::create_new(path).map_err(|error| {
                    Failure::failed(format_args!("cannot create `{}`: {error}", path.display()))
                        .try_this("name a file that is not there yet")
                })?;
                let copied = copy(&server, &file).await;
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

/// Copies all records and a checkpoint over them; how many there were.
async fn copy(server: &Server, to: impl Write) -> Result<u64, Failure> {
    const DOING: &str = "export the audit log";

    let mut to = BufWriter::new(to);
    let signed = Signed::now(server, None).await?;
    let size = signed.checkpoint.checkpoint().head.size;
    let request = ReadAuditRequest { limit: size, ..ReadAuditRequest::default() };
    let mut records = server.ask(DOING, server.admin().read_audit(request)).await?;
    loop {
        let next = records.message().await.map_err(|status| server.refused(DOING, &status))?;
        let Some(record) = next else { break };
        write_line(&mut to, &Line::try_from(record)?)?;
    }
    write_line(&mut to, &signed.to_line())?;
    to.flush()?;
    Ok(size)
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}
