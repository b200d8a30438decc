//! `claviger references show`.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use claviger_attestors::dsse::{Envelope, Key};
use claviger_attestors::references::{Image, Manifest};
use claviger_core::evidence::KeyDigest;
use claviger_core::time::{Clock as _, SystemClock};
use serde::Serialize;

use super::{PAYLOAD_TYPE, check, read};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::times;

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The signed reference values
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// A public key of who may sign them; may be repeated
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
}

impl Show {
    pub(super) fn run(self, console: Console) -> Result<(), Failure> {
        let path = self.file.display();
        let keys = self.keys.iter().map(|path| key(path)).collect::<Result<Vec<_>, _>>()?;
        let within = |failure: Failure| failure.within(format_args!("`{path}`"));
        let envelope = Envelope::parse(&read(&self.file)?);
        let envelope = envelope.map_err(|error| within(Failure::because(&error)))?;
        let payload = envelope.unverified(PAYLOAD_TYPE);
        let payload = payload.map_err(|error| within(Failure::because(&error)))?;
        let manifest =
            Manifest::read(&payload).map_err(|error| within(Failure::because(&error)))?;
        let signer = envelope.open_with(PAYLOAD_TYPE, &keys).map(|(_payload, key)| key.id());
        let expired = manifest.has_expired(SystemClock.now());
        let shown = Shown::new(&manifest, &envelope, signer.as_ref().ok().copied(), expired);
        console.answer(&shown)?;
        if keys.is_empty() {
            console::remark(
                "nothing was verified; name the public keys that are trusted: --key FILE",
            );
            return Ok(());
        }
        signer.map_err(|error| within(Failure::because(&error)))?;
        check(&manifest).map_err(|error| within(Failure::because(&error)))?;
        if expired {
            return Err(within(Failure::failed("it has expired")));
        }
        Ok(())
    }
}

/// The public key in the file at `path`.
fn key(path: &Path) -> Result<Key, Failure> {
    let pem = read(path)?;
    Key::from_pem(&pem).map_err(|error| Failure::because(&error).within(path.display()))
}

/// `{"kind","expires_at","expired","signed_by","key_ids","images"}`.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    kind: String,
    /// Seconds since 1970.
    expires_at: i64,
    expired: bool,
    /// The id of the first trusted key that signed it; none if none did, or none was named.
    signed_by: Option<String>,
    /// The ids of the keys that signed it, as the envelope says and nobody verified.
    key_ids: Vec<String>,
    images: Vec<Image>,
}

impl Shown {
    pub(super) fn new(
        manifest: &Manifest,
        envelope: &Envelope,
        signer: Option<KeyDigest>,
        expired: bool,
    ) -> Self {
        let ids = envelope.signatures.iter().filter_map(|signature| signature.keyid.clone());
        Self {
            kind: manifest.kind.clone(),
            expires_at: manifest.expires.as_second(),
            expired,
            signed_by: signer.map(|id| id.to_string()),
            key_ids: ids.collect(),
            images: manifest.images.clone(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expired = if self.expired { " (EXPIRED)" } else { "" };
        writeln!(f, "kind:       {}", self.kind.escape_debug())?;
        writeln!(f, "ends:       {}{expired}", times::show(self.expires_at))?;
        writeln!(f, "signed by:  {}", self.signed_by.as_deref().unwrap_or("NOT VERIFIED"))?;
        let row = |image: &Image| {
            // Nobody may have verified it yet.
            let plain = |text: &str| text.escape_debug().to_string();
            let registers = image.registers.iter();
            let registers = registers.map(|(name, value)| plain(&format!("{name} {value}")));
            let version = plain(image.version.as_deref().unwrap_or_default());
            [plain(&image.name), version, registers.collect::<Vec<_>>().join("\n")]
        };
        let rows = self.images.iter().map(row).collect();
        write!(f, "\n{}", console::table(["IMAGE", "VERSION", "REGISTERS"], rows))
    }
}
