//! Whose signature counts, and for which region.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::config::Config;
use crate::cms::SignedData;
use crate::fetch::file;

/// The certificates that AWS publishes.
const PUBLISHED: &str = include_str!("regions.txt");

/// The largest file of an operator's. One certificate has about 1500 bytes.
const MAX_FILE: usize = 64 << 10;

/// The certificates that sign documents.
#[derive(Debug)]
pub(super) struct Regions(Vec<Pinned>);

/// A certificate that counts in one region.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) region: String,
    /// In DER.
    pub(super) certificate: Vec<u8>,
}

/// The lines of the published list.
fn published() -> impl Iterator<Item = (&'static str, &'static str)> {
    PUBLISHED.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '))
}

/// Whether AWS publishes a certificate for this region.
pub(super) fn is_public(region: &str) -> bool {
    published().any(|(name, _)| name == region)
}

impl Regions {
    /// The published certificates and those of the operator's.
    pub(super) fn open(config: &Config) -> Result<Self, OpenError> {
        let mut pinned = Vec::new();
        for (region, base64) in published() {
            let damaged = || OpenError::Published(region);
            let certificate = STANDARD.decode(base64).map_err(|_detail| damaged())?;
            check(&certificate).ok_or_else(damaged)?;
            pinned.push(Pinned { region: region.to_owned(), certificate });
        }
        for (region, path) in &config.certificates {
            for certificate in read(path)? {
                pinned.push(Pinned { region: region.clone(), certificate });
            }
        }
        Ok(Self(pinned))
    }

    /// The certificate that the signer of `document` names. No two have the same name.
    pub(super) fn signer_of(&self, document: &SignedData<'_>) -> Option<&Pinned> {
        self.0.iter().find(|pinned| {
            X509Certificate::from_der(&pinned.certificate)
                .is_ok_and(|(_, certificate)| document.names(&certificate))
        })
    }
}

/// The certificates in a file of the operator's; at least one.
fn read(path: &Path) -> Result<Vec<Vec<u8>>, OpenError> {
    let bytes = file::read(path, MAX_FILE)
        .map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
    let damaged = || OpenError::Certificates { path: path.to_owned() };
    let blocks = pem::parse_many(bytes.as_slice()).map_err(|_detail| damaged())?;
    let sound = blocks
        .iter()
        .all(|block| block.tag() == "CERTIFICATE" && check(block.contents()).is_some());
    if blocks.is_empty() || !sound {
        return Err(damaged());
    }
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}

/// Nothing, unless `der` is one certificate.
fn check(der: &[u8]) -> Option<()> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|_certificate| ())
}

/// Why it is not known whose signature counts.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This program was built wrong.
    #[error("the certificate of `{0}` that this program was built with is damaged")]
    Published(&'static str),
    /// A file can't be read.
    #[error("cannot read the certificates in `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{path}` does not hold certificates in PEM and nothing else", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
}
