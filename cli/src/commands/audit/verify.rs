//! `claviger audit verify`.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use clap::Args;
use claviger_core::audit::{Checkpoint, Head, Link, Verifier};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::admin::v1::{GetCheckpointRequest, ReadAuditRequest};
use claviger_proto::claviger::agent::v1::SignedCheckpoint;
use claviger_proto::spire::server::bundle::v1::GetBundleRequest;
use claviger_proto::spire::types::BundleMask;
use serde::Serialize;

use super::record::Line;
use crate::admin::Server;
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Checks this export instead of a running server's log
    #[arg(long, value_name = "EXPORT")]
    file: Option<PathBuf>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Verify {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let verified = match &self.file {
            Some(path) => verify_file(path)?,
            None => {
                let server = Server::connect(&self.socket, console).await?;
                verify_online(&server, |_line| {}).await?
            }
        };
        if verified.checkpoint.is_none() && console.format() == Format::Pretty {
            console::remark(
                "an export carries no checkpoint: that nothing is cut off at its end is shown by \
                 `claviger audit verify` without --file",
            );
        }
        console.answer(&verified)
    }
}

/// `{"records":42,"hash":"hex","checkpoint":{…}}`; the checkpoint is null for an export.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    /// How many records there are; each fits the one before.
    pub(crate) records: u64,
    /// The hash of the last.
    hash: Link,
    checkpoint: Option<Signed>,
}

/// A checkpoint whose signature is valid and whose hash is in the log.
#[derive(Debug, Serialize)]
struct Signed {
    epoch: u64,
    sequence: u64,
    /// Seconds since 1970.
    time: UnixTime,
    /// SHA-256 of the signing key's SubjectPublicKeyInfo, hexadecimal.
    key: String,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records, each fits the one before", self.records)?;
        write!(f, "last hash {}", self.hash)?;
        if let Some(checkpoint) = &self.checkpoint {
            let Signed { epoch, sequence, key, .. } = checkpoint;
            write!(f, "\nsigned up to record {sequence} in epoch {epoch} by key {key}")?;
        }
        Ok(())
    }
}

/// Checks a running server's whole log, and that it goes as far as the server signs it does.
/// `each` sees every record on the way.
pub(crate) async fn verify_online(
    server: &Server,
    mut each: impl FnMut(&str),
) -> Result<Verified, Failure> {
    const DOING: &str = "read the audit log";

    // Asked first: the log may grow meanwhile, but never shrink.
    let signed = checkpoint(server).await?;
    let request = ReadAuditRequest::default();
    let mut records = server.ask(DOING, server.admin().read_audit(request)).await?;
    let mut verifier = Verifier::default();
    let mut found = (signed.head.sequence == 0).then_some(Link::GENESIS);
    loop {
        let next = records.message().await.map_err(|status| server.refused(DOING, &status))?;
        let Some(record) = next else { break };
        let line = Line::try_from(record)?;
        push(&mut verifier, &line)?;
        if verifier.head().sequence == signed.head.sequence {
            found = Some(verifier.head().link);
        }
        each(line.body.get());
    }
    let Head { sequence, link } = verifier.head();
    match found {
        Some(link) if link == signed.head.link => {}
        Some(_other) => {
            return Err(broken(format_args!(
                "record {} is not the one that the server signed",
                signed.head.sequence
            )));
        }
        None => {
            return Err(broken(format_args!(
                "the server signed {} records, but the log ends after record {sequence}",
                signed.head.sequence
            )));
        }
    }
    Ok(Verified { records: sequence, hash: link, checkpoint: Some(signed.shown) })
}

/// Checks an export by itself.
fn verify_file(path: &Path) -> Result<Verified, Failure> {
    /// Far beyond the longest record.
    const MAX_LINE: u64 = 1 << 20;

    let shown = path.display();
    let unreadable = |error| Failure::usage(format_args!("cannot read `{shown}`: {error}"));
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut verifier = Verifier::default();
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut text).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| {
            broken(format_args!("line {number} of `{shown}` is no record: {error}"))
        })?;
        push(&mut verifier, &line)?;
    }
    let Head { sequence, link } = verifier.head();
    Ok(Verified { records: sequence, hash: link, checkpoint: None })
}

fn push(verifier: &mut Verifier, line: &Line) -> Result<(), Failure> {
    let before = verifier.head().link;
    verifier
        .push(line.seq, line.body.get().as_bytes(), line.hash)
        .map_err(|error| broken(format_args!("{error}")))?;
    if line.prev != before {
        return Err(broken(format_args!("record {} names another predecessor", line.seq)));
    }
    Ok(())
}

fn broken(what: fmt::Arguments<'_>) -> Failure {
    Failure::failed(format_args!("the audit log is not whole: {what}")).try_this(
        "keep the file and the server's store as they are, and compare with an earlier export",
    )
}

/// A checkpoint whose signature was checked.
struct Vouched {
    head: Head,
    shown: Signed,
}

async fn checkpoint(server: &Server) -> Result<Vouched, Failure> {
    let request = GetCheckpointRequest {};
    let wire = server.ask("get a checkpoint", server.admin().get_checkpoint(request)).await?;
    let request = GetBundleRequest { output_mask: Some(BundleMask::default()) };
    let bundle = server.ask("get the bundle", server.bundles().get_bundle(request)).await?;
    let trust_domain = bundle.trust_domain.parse().map_err(|error| {
        Failure::failed(format_args!(
            "the server's trust domain `{}`: {error}",
            bundle.trust_domain
        ))
    })?;
    vouched(wire, trust_domain)
}

fn vouched(wire: SignedCheckpoint, trust_domain: TrustDomain) -> Result<Vouched, Failure> {
    let hash = wire
        .hash
        .try_into()
        .map_err(|_length| broken(format_args!("its checkpoint has no hash")))?;
    let head = Head { sequence: wire.sequence, link: Link::from_bytes(hash) };
    let time = UnixTime::from_secs(wire.time);
    let checkpoint = Checkpoint { trust_domain, epoch: wire.epoch, head, time };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &wire.public_key)
        .verify(&checkpoint.to_signed_bytes(), &wire.signature)
        .map_err(|_unspecified| {
            broken(format_args!("the signature of its checkpoint is not valid"))
        })?;
    let key = hex::encode(digest(&SHA256, &wire.public_key));
    let shown = Signed { epoch: wire.epoch, sequence: wire.sequence, time, key };
    Ok(Vouched { head, shown })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;

    const BODIES: [&str; 3] = [
        r#"{"time":1,"event":"server_started","epoch":1}"#,
        r#"{"time":2,"event":"epoch_fenced","epoch":2,"reason":"a restored backup"}"#,
        r#"{"time":3,"event":"server_started","epoch":2}"#,
    ];

    /// The lines of an export.
    fn export() -> Vec<String> {
        let mut head = Head::default();
        let mut lines = Vec::new();
        for body in BODIES {
            let next = head.append(body.as_bytes());
            let (seq, prev, hash) = (next.sequence, head.link, next.link);
            lines.push(format!(r#"{{"seq":{seq},"prev":"{prev}","hash":"{hash}","body":{body}}}"#));
            head = next;
        }
        lines
    }

    fn verify(lines: &[String]) -> Result<Verified, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        verify_file(&path).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_whole_export_verifies() {
        let verified = verify(&export()).unwrap();
        assert_eq!(verified.records, 3);
        assert!(
            verified.to_string().starts_with("3 records, each fits the one before\nlast hash ")
        );
        let json = serde_json::to_value(&verified).unwrap();
        assert_eq!((&json["records"], &json["checkpoint"]), (&3.into(), &serde_json::Value::Null));
    }

    #[test]
    fn an_edited_export_is_found_out() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Vec<String>), message: &str) {
            let mut lines = export();
            change(&mut lines);
            let told = verify(&lines).unwrap_err();
            assert!(told.contains(message), "{told}");
        }
        check(
            |lines| lines[1] = lines[1].replace("restored", "RESTORED"),
            "record 2 does not match",
        );
        check(
            |lines| lines[1] = lines[1].replace("\"time\":2", "\"time\": 2"),
            "record 2 does not",
        );
        check(|lines| drop(lines.remove(1)), "record 2 is missing");
        check(|lines| lines.swap(0, 1), "record 1 is missing");
        check(|lines| lines[2] = "{}".into(), "line 3");
        let head = Head::default().append(BODIES[0].as_bytes()).link.to_string();
        check(
            |lines| lines[1] = lines[1].replacen(&head, &"0".repeat(64), 1),
            "another predecessor",
        );
    }

    /// A checkpoint over three records of `example.org`, with its signature.
    fn signed() -> SignedCheckpoint {
        let head = BODIES.iter().fold(Head::default(), |head, body| head.append(body.as_bytes()));
        let checkpoint = Checkpoint {
            trust_domain: "example.org".parse().unwrap(),
            epoch: 2,
            head,
            time: UnixTime::from_secs(4),
        };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let signature = key.sign(&SystemRandom::new(), &checkpoint.to_signed_bytes()).unwrap();
        SignedCheckpoint {
            epoch: 2,
            sequence: head.sequence,
            hash: head.link.as_bytes().to_vec(),
            time: 4,
            signature: signature.as_ref().to_vec(),
            public_key: key.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    #[test]
    fn only_what_was_signed_is_vouched_for() {
        let domain = || "example.org".parse::<TrustDomain>().unwrap();
        assert_eq!(vouched(signed(), domain()).unwrap().head.sequence, 3);
        let changes: [fn(&mut SignedCheckpoint); 5] = [
            |wire| wire.epoch = 3,
            |wire| wire.sequence = 2,
            |wire| wire.hash[0] ^= 1,
            |wire| wire.time = 5,
            |wire| wire.signature.truncate(8),
        ];
        for change in changes {
            let mut wire = signed();
            change(&mut wire);
            assert!(vouched(wire, domain()).is_err());
        }
        assert!(vouched(signed(), "example.com".parse().unwrap()).is_err());
    }
}
