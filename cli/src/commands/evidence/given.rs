//! What a document is held against, as it is typed.

use std::path::{Path, PathBuf};

use clap::Args;
use claviger_attestors::inspect::encoding::{Encoding, readings};
use claviger_attestors::inspect::{self, Given, Kind};
use claviger_attestors::references;
use claviger_core::time::{Clock as _, SystemClock, UnixTime};

use crate::failure::Failure;
use crate::files;

/// The largest certificate file, and the largest file of collateral, in bytes.
const MAX_CERTIFICATES: u64 = 64 << 10;
const MAX_COLLATERAL: u64 = 1 << 20;

#[derive(Args, Debug)]
pub(super) struct Conditions {
    /// Judges it at this time (RFC 3339); now, if not given
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "document_time")]
    at: Option<UnixTime>,

    /// Judges it at the time that it says it was made: for audits, which don't ask whether it is fresh
    #[arg(long)]
    document_time: bool,

    /// The nonce that it has to carry, in hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = Hex::parse)]
    nonce: Option<Hex>,

    /// What it has to be bound to, in hexadecimal digits: its `user_data`, `report_data` or the like
    #[arg(long, value_name = "HEX", value_parser = Hex::parse)]
    binding: Option<Hex>,

    /// Certificates that come beside it, such as a VCEK, an EK's or a chain, and public keys, such as
    /// an AK; PEM or DER, may be repeated
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,

    /// Trusts these roots instead of the vendor's; PEM or DER, may be repeated
    #[arg(long = "root", value_name = "FILE")]
    roots: Vec<PathBuf>,

    /// What else comes beside it: the collateral of a quote, the keys of a token's issuer
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,

    /// What its software has to be: signed reference values
    #[arg(long, value_name = "FILE", requires = "references_keys")]
    references: Option<PathBuf>,

    /// The public key of those who may sign the reference values; may be repeated
    #[arg(long = "references-key", value_name = "FILE", requires = "references")]
    references_keys: Vec<PathBuf>,

    /// Takes a machine in debug mode, whose operator can read its memory
    #[arg(long)]
    allow_debug: bool,
}

impl Conditions {
    /// Reads all files but the reference values, which their rule reads.
    pub(super) fn read(&self) -> Result<Given, Failure> {
        let now = || self.at.unwrap_or_else(|| SystemClock.now());
        let all = |paths: &[PathBuf]| {
            let ders = paths.iter().map(|path| ders(path)).collect::<Result<Vec<_>, _>>();
            ders.map(|ders| ders.concat())
        };
        let config = |path: &PathBuf| references::Config {
            path: path.clone(),
            keys: self.references_keys.clone(),
        };
        let collateral = |path: &PathBuf| files::read(path, MAX_COLLATERAL);
        Ok(Given {
            at: (!self.document_time).then(now),
            nonce: self.nonce.clone().map(|Hex(bytes)| bytes),
            binding: self.binding.clone().map(|Hex(bytes)| bytes),
            certificates: all(&self.certificates)?,
            roots: all(&self.roots)?,
            collateral: self.collateral.as_ref().map(collateral).transpose()?,
            references: self.references.as_ref().map(config),
            allow_debug: self.allow_debug,
        })
    }
}

/// The certificates and public keys in the file at `path`, each as DER.
fn ders(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let file = files::read(path, MAX_CERTIFICATES)?;
    let none = || {
        let shown = path.display();
        Failure::usage(format_args!("`{shown}` holds no certificate and no public key"))
            .try_this("PEM and DER are understood")
    };
    // What is in base64 may be in it twice: some put PEM into it. What a frame says that it holds is
    // looked at below.
    let readings = readings(&file).into_iter().filter(|(encoding, _)| *encoding != Encoding::Pem);
    let text = readings.map(|(_encoding, bytes)| bytes);
    let found = text.into_iter().find_map(|bytes| match &*bytes {
        pem if pem.starts_with(b"-----") => pem_blocks(pem),
        der if der.first() == Some(&0x30) => Some(vec![der.to_vec()]),
        _other => None,
    });
    found.ok_or_else(none)
}

fn pem_blocks(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let blocks = pem::parse_many(text).ok()?.into_iter();
    let wanted = blocks.filter(|block| matches!(block.tag(), "CERTIFICATE" | "PUBLIC KEY"));
    let ders: Vec<_> = wanted.map(pem::Pem::into_contents).collect();
    (!ders.is_empty()).then_some(ders)
}

/// The kind of this name.
pub(super) fn kind(name: &str) -> Result<&'static Kind, String> {
    inspect::kind(name).ok_or_else(|| {
        let names: Vec<_> = inspect::KINDS.iter().map(|kind| kind.name).collect();
        format!("the kinds are {}", names.join(", "))
    })
}

/// Bytes in hexadecimal digits.
#[derive(Clone, Debug)]
struct Hex(Vec<u8>);

impl Hex {
    fn parse(text: &str) -> Result<Self, String> {
        match hex::decode(text.strip_prefix("0x").unwrap_or(text)) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err("write two hexadecimal digits for each byte".to_owned()),
        }
    }
}

/// A point in time, as RFC 3339 has it.
fn time(text: &str) -> Result<UnixTime, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_other_format| "write it as 2026-03-01T00:00:00Z".to_owned())?;
    let seconds =
        u64::try_from(time.as_second()).map_err(|_past| "it is before 1970".to_owned())?;
    Ok(UnixTime::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parsed_or_explained() {
        assert_eq!(time("2026-03-01T00:00:00Z").unwrap().as_secs(), 1_772_323_200);
        assert!(time("yesterday").unwrap_err().contains("2026-03-01T00:00:00Z"));
        assert!(time("1969-12-31T23:59:59Z").unwrap_err().contains("1970"));
        assert_eq!(Hex::parse("0x00ff").unwrap().0, [0, 255]);
        for wrong in ["", "0x", "0", "xyz"] {
            Hex::parse(wrong).unwrap_err();
        }
        assert!(kind("nothing").unwrap_err().contains("jwt"));
        assert_eq!(kind("x509").unwrap().name, "x509");
    }

    #[test]
    fn certificates_are_read_however_they_are_written() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let der = vec![0x30, 3, 2, 1, 1];
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()));
        let twice = pem.clone() + &pem::encode(&pem::Pem::new("PUBLIC KEY", der.clone()));
        for (bytes, count) in [
            (der.clone(), 1),
            (pem.clone().into_bytes(), 1),
            (twice.into_bytes(), 2),
            (STANDARD.encode(&pem).into_bytes(), 1),
            (hex::encode(&der).into_bytes(), 1),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(ders(&path).unwrap(), vec![der.clone(); count]);
        }
        let key = pem::encode(&pem::Pem::new("PRIVATE KEY", der));
        for wrong in [key.as_bytes(), b"", b"garbage", b"\0\0"] {
            std::fs::write(&path, wrong).unwrap();
            let told = ders(&path).unwrap_err().to_string();
            assert!(told.contains("holds no certificate"), "{told}");
        }
    }
}
