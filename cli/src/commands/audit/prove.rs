//! `claviger audit prove` and `verify-proof`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args};
use claviger_core::audit::note::{Kind, VerifierKey};
use claviger_core::audit::receipt::Receipt;
use claviger_core::audit::{Body, Event, TreeHash};
use claviger_core::psk::identity::WireIdentity;
use claviger_proto::claviger::admin::v1::{ProveRecordRequest, ReadAuditRequest};
use claviger_proto::claviger::agent::v1 as wire;
use claviger_runtime::telemetry::Chain;
use serde::Serialize;

use super::record::Line;
use super::signed::{Shown, Signed};
use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::files;
use crate::socket::AdminSocket;

/// The longest proof that is read, in bytes.
const MAX_PROOF: u64 = 4 << 20;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("record").required(true))]
pub(crate) struct Prove {
    /// That an X.509-SVID with this serial number (hexadecimal) was issued
    #[arg(long, value_name = "HEX", group = "record")]
    serial: Option<Serial>,

    /// That a one-time key with this wire identity was issued
    #[arg(long, value_name = "IDENTITY", group = "record")]
    psk: Option<WireIdentity>,

    /// That the record with this number is in the log
    #[arg(long, value_name = "RECORD", group = "record")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,

    /// Where to write the proof; standard output if not given
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    socket: AdminSocket,
}

/// A serial number as our certificates have them, in the spelling of the log. Tools write them with
/// colons, or in capitals.
#[derive(Clone, Debug)]
struct Serial(String);

impl FromStr for Serial {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.replace(':', "").to_ascii_lowercase();
        let is_serial = hex::decode(&digits).is_ok_and(|bytes| bytes.len() == 16);
        if is_serial { Ok(Self(digits)) } else { Err("a serial number has 32 hexadecimal digits") }
    }
}

/// A record as it is looked for.
enum Sought<'a> {
    Serial(&'a Serial),
    Psk(String),
}

impl Sought<'_> {
    /// Whether `event` is what is looked for.
    fn is(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Serial(wanted), Event::X509SvidIssued { serial: Some(serial), .. }) => {
                wanted.0 == serial.to_string()
            }
            (Self::Psk(wanted), Event::PskIssued { identity, .. }) => wanted == identity,
            _ => false,
        }
    }

    /// What the record of it has to contain, so that others need not be read.
    fn text(&self) -> String {
        match self {
            Self::Serial(serial) => serial.0.clone(),
            Self::Psk(identity) => identity.clone(),
        }
    }
}

impl fmt::Display for Sought<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "an X.509-SVID with the serial number {}", serial.0),
            Self::Psk(identity) => write!(f, "a one-time key `{identity}`"),
        }
    }
}

impl Prove {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let sought = self.serial.as_ref().map(Sought::Serial);
        let psk = || self.psk.as_ref().map(|identity| Sought::Psk(identity.to_string()));
        let sequence = match (self.number, sought.or_else(psk)) {
            (None, Some(sought)) => find(&server, &sought).await?,
            (number, _) => number.unwrap_or_default(),
        };
        let receipt = fetch(&server, sequence).await?;
        match &self.file {
            None => console::line(receipt.to_string().trim_end()),
            Some(path) => {
                files::replace(path, receipt.to_string().as_bytes(), files::PUBLIC)?;
                let (path, line) = (path.display(), proved(&receipt)?);
                console::remark(format_args!("proof of record {} in `{path}`", line.seq));
                Ok(())
            }
        }
    }
}

/// The number of the record that is `sought`.
async fn find(server: &Server, sought: &Sought<'_>) -> Result<u64, Failure> {
    const DOING: &str = "read the audit log";

    let text = sought.text();
    let request = ReadAuditRequest::default();
    let mut records = server.ask(DOING, server.admin().read_audit(request)).await?;
    loop {
        let next = records.message().await.map_err(|status| server.refused(DOING, &status))?;
        let Some(record) = next else {
            return Err(Failure::failed(format_args!(
                "the log does not say that {sought} was issued"
            ))
            .try_this("look for it: `claviger audit export`"));
        };
        let body = String::from_utf8_lossy(&record.body);
        if body.contains(&text)
            && serde_json::from_str::<Body>(&body).is_ok_and(|body| sought.is(&body.event))
        {
            return Ok(record.sequence);
        }
    }
}

/// The proof of record `sequence`, checked with the key that the server names.
async fn fetch(server: &Server, sequence: u64) -> Result<Receipt, Failure> {
    let mut admin = server.admin();
    let asked = admin.prove_record(ProveRecordRequest { sequence });
    let answer = server.ask("prove a record", asked).await?;
    let damaged = || Failure::failed("the server sent a proof that shows nothing");
    let wire::SignedCheckpoint { note, verifier_key } = answer.checkpoint.ok_or_else(damaged)?;
    let hash = |bytes: Vec<u8>| bytes.try_into().map(TreeHash::from_bytes);
    let path: Result<Vec<_>, _> = answer.path.into_iter().map(hash).collect();
    let receipt = Receipt {
        body: answer.body,
        sequence,
        path: path.map_err(|_length| damaged())?,
        checkpoint: note.parse().map_err(|_no_note| damaged())?,
    };
    let key = verifier_key.parse().map_err(|_no_key| damaged())?;
    receipt.verify(&key, &[]).map_err(|error| {
        Failure::failed(format_args!("the server's proof shows nothing: {}", Chain(&error)))
            .try_this("see what is wrong with the log: `claviger audit verify`")
    })?;
    Ok(receipt)
}

/// The record in a proof.
fn proved(receipt: &Receipt) -> Result<Line, Failure> {
    let (sequence, body) = (receipt.sequence, receipt.body.clone());
    Line::try_from(claviger_proto::claviger::admin::v1::AuditRecord { sequence, body })
}

#[derive(Args, Debug)]
pub(crate) struct VerifyProof {
    /// The proof; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The key of the log, as `claviger audit checkpoint` shows it
    #[arg(long, value_name = "VERIFIER-KEY")]
    key: VerifierKey,

    /// The key of a witness that has to have signed, too; may be given several times
    #[arg(long, value_name = "VERIFIER-KEY")]
    witness: Vec<VerifierKey>,
}

/// `{"record":{…},"checkpoint":{…},"witnesses":["name"]}`.
#[derive(Debug, Serialize)]
struct Proved {
    record: Line,
    checkpoint: Shown,
    /// Names of those that were asked for and have signed.
    witnesses: Vec<String>,
}

impl fmt::Display for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.record)?;
        let Shown { size, epoch, key, .. } = &self.checkpoint;
        write!(f, "is among the {size} records that were signed in epoch {epoch} by {key}")?;
        self.witnesses.iter().try_for_each(|name| write!(f, "\nwitnessed by {name}"))
    }
}

impl VerifyProof {
    pub(super) fn run(self, console: Console) -> Result<(), Failure> {
        if let Some(key) = self.witness.iter().find(|key| key.kind() != Kind::Witness) {
            return Err(Failure::usage(format_args!("`{key}` is not the key of a witness"))
                .try_this("name the key that `claviger audit witness` shows when it starts"));
        }
        let text = String::from_utf8(files::read(&self.file, MAX_PROOF)?);
        let refused = |why: fmt::Arguments<'_>| {
            Failure::failed(format_args!("`{}` proves nothing: {why}", self.file.display()))
        };
        let text = text.map_err(|_not_utf8| refused(format_args!("it is no text")))?;
        let receipt: Receipt =
            text.parse().map_err(|error| refused(format_args!("{}", Chain(&error))))?;
        let checkpoint = receipt
            .verify(&self.key, &self.witness)
            .map_err(|error| refused(format_args!("{}", Chain(&error))))?;
        let signed = Signed { checkpoint, key: self.key };
        let witnesses = self.witness.iter().map(|key| key.name().to_owned()).collect();
        let (record, checkpoint) = (proved(&receipt)?, signed.shown());
        console.answer(&Proved { record, checkpoint, witnesses })
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::grant::{PolicyDigest, Requester};

    use super::*;

    #[test]
    fn serial_numbers_are_read_as_tools_write_them() {
        let colons = "4F:".repeat(15) + "4f";
        let serial: Serial = colons.parse().unwrap();
        assert_eq!(serial.0, "4f".repeat(16));
        for wrong in ["", "4f", &"4g".repeat(16), &"4f".repeat(17)] {
            wrong.parse::<Serial>().unwrap_err();
        }
    }

    #[test]
    fn only_the_record_of_issuing_is_what_is_sought() {
        let body = |event: &str| {
            let policy = PolicyDigest::of(b"p");
            let requester = serde_json::to_string(&Requester::Server).unwrap();
            let json = format!(
                r#"{{"time":7,"event":"{event}","identity":"p1.x","client":"spiffe://x/a","server":"spiffe://x/b","purpose":"p","not_after":9,"hash":"sha256","binder_verified":true,"requester":{requester},"policy":"{policy}"}}"#
            );
            serde_json::from_str::<Body>(&json).unwrap().event
        };
        let sought = Sought::Psk("p1.x".to_owned());
        assert!(sought.is(&body("psk_issued")));
        assert!(!sought.is(&body("psk_redeemed")));
        assert!(!Sought::Psk("p1.y".to_owned()).is(&body("psk_issued")));
    }
}
