//! `claviger audit verify`.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use claviger_core::audit::note::{Note, VerifierKey};
use claviger_core::audit::{Head, TreeHash, Verifier};
use claviger_proto::claviger::admin::v1::ReadAuditRequest;
use serde::Serialize;

use super::record::Line;
use super::signed::{LastLine, Shown, Signed, read_note};
use crate::admin::Server;
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Checks this export instead of a running server's log
    #[arg(long, value_name = "EXPORT")]
    file: Option<PathBuf>,

    /// An older checkpoint, which the log has to continue; may be given several times
    #[arg(long, value_name = "CHECKPOINT")]
    since: Vec<PathBuf>,

    /// The key that signs the checkpoints, as `claviger audit checkpoint` shows it
    #[arg(long, value_name = "VERIFIER-KEY")]
    key: Option<VerifierKey>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Verify {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let (key, since) = (self.key.as_ref(), self.since.as_slice());
        let verified = match &self.file {
            Some(path) => verify_file(path, key, since)?,
            None => {
                let server = Server::connect(&self.socket, console).await?;
                let signed = Signed::now(&server, key).await?;
                verify_server(&server, signed, since, |_line| {}).await?
            }
        };
        if verified.checkpoint.is_none() && console.format() == Format::Pretty {
            console::remark(
                "this export has no checkpoint, as that of an interrupted one: nothing shows that \
                 nobody changed it",
            );
        }
        console.answer(&verified)
    }
}

/// `{"records":42,"root":"hex","checkpoint":{…}}`; the checkpoint is null if an export has none.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    /// How many records there are.
    pub(crate) records: u64,
    /// The root of their tree.
    root: TreeHash,
    checkpoint: Option<Shown>,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records, none missing", self.records)?;
        write!(f, "Merkle root {}", self.root)?;
        if let Some(Shown { epoch, size, key, .. }) = &self.checkpoint {
            write!(f, "\nsigned up to record {size} in epoch {epoch} by {key}")?;
        }
        Ok(())
    }
}

/// Checks a running server's whole log, and that it goes as far as the server signs it does. `each`
/// sees every record on the way.
#[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
pub(crate) async fn verify_online(
    server: &Server,
    each: impl FnMut(&str),
) -> Result<Verified, Failure> {
    verify_server(server, Signed::now(server, None).await?, &[], each).await
}

/// The same with a checkpoint that was asked for first: the log may grow meanwhile, but never shrink.
/// It has to continue the checkpoints in the files `since`.
async fn verify_server(
    server: &Server,
    signed: Signed,
    since: &[PathBuf],
    mut each: impl FnMut(&str),
) -> Result<Verified, Failure> {
    const DOING: &str = "read the audit log";

    let mut reading = Reading::since(since, Some(&signed))?;
    let request = ReadAuditRequest::default();
    let mut records = server.ask(DOING, server.admin().read_audit(request)).await?;
    loop {
        let next = records.message().await.map_err(|status| server.refused(DOING, &status))?;
        let Some(record) = next else { break };
        let line = Line::try_from(record)?;
        reading.take(&line)?;
        each(line.body.get());
    }
    reading.finish(Some(&signed))
}

/// Checks an export by itself.
fn verify_file(
    path: &Path,
    trusted: Option<&VerifierKey>,
    since: &[PathBuf],
) -> Result<Verified, Failure> {
    /// Far beyond the longest record.
    const MAX_LINE: u64 = 2 << 20;

    let shown = path.display();
    let unreadable = |error| Failure::usage(format_args!("cannot read `{shown}`: {error}"));
    let (mut signed, mut reading) = (None, Reading::since(since, None)?);
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut text).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        if signed.is_some() {
            return Err(broken(format_args!("`{shown}` goes on after its checkpoint")));
        }
        if let Ok(line) = serde_json::from_slice::<LastLine>(&text) {
            signed = Some(Signed::from_line(&line, trusted)?);
            continue;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| {
            broken(format_args!("line {number} of `{shown}` is no record: {error}"))
        })?;
        reading.take(&line)?;
    }
    reading.finish(signed.as_ref())
}

/// A log that is read, and the heads that it has to have had on the way.
#[derive(Debug)]
struct Reading {
    verifier: Verifier,
    /// The number of the last record.
    last: u64,
    old: Vec<(PathBuf, Note)>,
    wanted: Vec<Wanted>,
}

/// A head that somebody remembers.
#[derive(Debug)]
struct Wanted {
    whose: String,
    head: Head,
}

impl Reading {
    fn since(files: &[PathBuf], signed: Option<&Signed>) -> Result<Self, Failure> {
        let (mut old, mut wanted) = (Vec::new(), Vec::new());
        for path in files {
            let whose = format!("the checkpoint in `{}`", path.display());
            let (note, checkpoint) = read_note(path)?;
            old.push((path.clone(), note));
            wanted.push(Wanted { whose, head: checkpoint.head });
        }
        if let Some(signed) = signed {
            let head = signed.checkpoint.checkpoint().head;
            wanted.push(Wanted { whose: "the server's checkpoint".to_owned(), head });
        }
        let mut reading = Self { verifier: Verifier::default(), last: 0, old, wanted };
        reading.compare()?;
        Ok(reading)
    }

    fn take(&mut self, line: &Line) -> Result<(), Failure> {
        let pushed = self.verifier.push_hashed(line.seq, line.body.get().as_bytes(), line.hash);
        pushed.map_err(|error| broken(format_args!("{error}")))?;
        self.last = line.seq;
        self.compare()
    }

    /// Compares what was read with the heads of just this length.
    fn compare(&mut self) -> Result<(), Failure> {
        let last = self.last;
        for Wanted { whose, head } in self.wanted.iter().filter(|wanted| wanted.head.size == last) {
            self.verifier.check(head).map_err(|_changed| {
                broken(format_args!("the first {last} records are not those of {whose}"))
            })?;
        }
        self.wanted.retain(|wanted| wanted.head.size != last);
        Ok(())
    }

    fn finish(mut self, signed: Option<&Signed>) -> Result<Verified, Failure> {
        let Head { size: records, root } = self.verifier.head();
        if let Some(Signed { checkpoint, key }) = signed {
            for (path, note) in &self.old {
                note.verify(key).map_err(|error| {
                    let path = path.display();
                    Failure::failed(format_args!("the checkpoint in `{path}`: {error}"))
                })?;
            }
            let head = checkpoint.checkpoint().head;
            if head.size >= records {
                self.wanted.push(Wanted { whose: "its checkpoint".to_owned(), head });
            }
        }
        self.compare()?;
        if let Some(Wanted { whose, head }) = self.wanted.first() {
            let size = head.size;
            return Err(broken(format_args!(
                "{whose} has {size} records, but the log ends after record {records}"
            )));
        }
        Ok(Verified { records, root, checkpoint: signed.map(Signed::shown) })
    }
}

fn broken(what: fmt::Arguments<'_>) -> Failure {
    Failure::failed(format_args!("the audit log is not whole: {what}")).try_this(
        "keep the file and the server's store as they are, and compare with an earlier export",
    )
}

#[cfg(test)]
mod tests;
