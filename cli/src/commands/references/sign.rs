//! `claviger references sign`.

use std::path::{Path, PathBuf};

use clap::Args;
use claviger_attestors::dsse::{Envelope, SigningKey};
use claviger_attestors::references::Manifest;
use claviger_core::time::{Clock as _, SystemClock};
use zeroize::Zeroizing;

use super::show::Shown;
use super::{MOST, PAYLOAD_TYPE, check, read};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::files;

#[derive(Args, Debug)]
pub(crate) struct Sign {
    /// The reference values, as JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The private key (PEM, PKCS #8) of who vouches for them; may be repeated
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,

    /// Writes them into this file, in one piece, so that a server can be using it; standard output if
    /// not given
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Sign {
    pub(super) fn run(self, console: Console) -> Result<(), Failure> {
        let payload = read(&self.file)?;
        let shown = self.file.display();
        let manifest = Manifest::read(&payload);
        let manifest = manifest.and_then(|manifest| check(&manifest).map(|()| manifest));
        let manifest = manifest.map_err(|error| Failure::because(&error).within(&shown))?;
        if manifest.has_expired(SystemClock.now()) {
            let ended = format_args!("`{shown}` ended at {}", manifest.expires);
            return Err(Failure::failed(ended).try_this("set `expires` to a time to come"));
        }
        let keys = self.keys.iter().map(|path| key(path)).collect::<Result<Vec<_>, _>>()?;
        let sealed = Envelope::seal(PAYLOAD_TYPE, &payload, &keys);
        let sealed = sealed.map_err(|_unspecified| Failure::failed("cannot sign"))?;
        let json =
            serde_json::to_string_pretty(&sealed).map_err(|error| Failure::because(&error))?;
        if MOST < u64::try_from(json.len()).unwrap_or(u64::MAX) {
            let large = format_args!("`{shown}` is larger than {MOST} bytes when it is signed");
            return Err(Failure::failed(large).try_this("split it, or leave out old images"));
        }
        let Some(path) = self.write else { return console::line(json) };
        files::replace(&path, format!("{json}\n").as_bytes(), files::PUBLIC)?;
        let signer = keys.first().and_then(|key| key.id().ok());
        console.answer(&Shown::new(&manifest, &sealed, signer, false))
    }
}

/// The private key in the file at `path`.
fn key(path: &Path) -> Result<SigningKey, Failure> {
    let pem = Zeroizing::new(read(path)?);
    SigningKey::from_pem(&pem).map_err(|error| {
        Failure::because(&error)
            .within(path.display())
            .try_this("`claviger references keygen FILE` makes one")
    })
}
