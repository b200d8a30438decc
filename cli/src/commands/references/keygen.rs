//! `claviger references keygen`.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use claviger_attestors::dsse::{self, SigningKey};
use serde::Serialize;

use crate::console::Console;
use crate::failure::Failure;
use crate::{files, pem};

#[derive(Args, Debug)]
pub(crate) struct Keygen {
    /// Where to put the private key; the public key goes beside it, as FILE.pub
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How the key signs
    #[arg(long, value_enum, value_name = "ALGORITHM", default_value = "ed25519")]
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    Ed25519,
    EcdsaP256,
}

impl Keygen {
    pub(super) fn run(self, console: Console) -> Result<(), Failure> {
        let algorithm = match self.algorithm {
            Algorithm::Ed25519 => dsse::Algorithm::Ed25519,
            Algorithm::EcdsaP256 => dsse::Algorithm::EcdsaP256,
        };
        let broken = |_unspecified| Failure::failed("cannot make a key: there is no randomness");
        let key = SigningKey::generate(algorithm).map_err(broken)?;
        let private = pem::private_key(&key.to_pkcs8().map_err(broken)?);
        let public = key.public_pem().map_err(broken)?;
        let beside = public_path(&self.file);
        create(&beside, public.as_bytes(), files::PUBLIC)?;
        if let Err(failure) = create(&self.file, private.as_bytes(), files::SECRET) {
            // A public key whose private key is nowhere would only confuse.
            drop(std::fs::remove_file(&beside));
            return Err(failure);
        }
        console.answer(&Made {
            private_key: self.file.display().to_string(),
            public_key: beside.display().to_string(),
            id: key.id().map_err(broken)?.to_string(),
        })
    }
}

fn public_path(private: &Path) -> PathBuf {
    let mut path = OsString::from(private);
    path.push(".pub");
    path.into()
}

/// Puts `bytes` into a new file with the permission bits `mode`.
fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let put = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    put().map_err(|error| {
        Failure::failed(format_args!("cannot create `{}`: {error}", path.display()))
            .try_this("name a file that is not there yet, in a directory that is")
    })
}

/// `{"private_key":"FILE","public_key":"FILE","id":"HEX"}`.
#[derive(Debug, Serialize)]
struct Made {
    private_key: String,
    public_key: String,
    id: String,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "private key: {} (for its owner only; no server needs it)", self.private_key)?;
        writeln!(f, "public key:  {} (for `reference-values.keys`)", self.public_key)?;
        write!(f, "key id:      {}", self.id)
    }
}
