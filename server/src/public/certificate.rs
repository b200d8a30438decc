//! The certificate shown to strangers, read again when its files change.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{WebCertificate, WebCertificateError};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use zeroize::Zeroizing;

/// How often the files are looked at. Certificates are renewed weeks before they end.
const INTERVAL: Duration = Duration::from_secs(10);

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 256 << 10;

/// Where certificate and key are.
#[derive(Debug)]
pub(super) struct CertificateFiles {
    /// The certificates, leaf first.
    pub(super) certificate: PathBuf,
    /// The leaf's key.
    pub(super) key: PathBuf,
}

/// What tells one version of both files from another.
type Stamp = [(u64, u64, i64, i64, u64); 2];

impl CertificateFiles {
    pub(super) const fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key }
    }

    /// Reads both for the first time.
    pub(super) fn open(self) -> Result<(WebCertificate, Following), CertificateFileError> {
        let stamp = self.stamp()?;
        let [chain, key] = self.read()?;
        let certificate = WebCertificate::new(&chain, &key).map_err(|e| self.unusable(e))?;
        Ok((certificate.clone(), Following { files: self, certificate, seen: stamp }))
    }

    /// Both, as PEM: the certificates and the key.
    fn read(&self) -> Result<[Zeroizing<Vec<u8>>; 2], CertificateFileError> {
        const STRANGERS: u32 = 0o007;
        let mode = metadata(&self.key)?.mode() & 0o777;
        if mode & STRANGERS != 0 {
            return Err(CertificateFileError::Exposed { path: self.key.clone(), mode });
        }
        Ok([read(&self.certificate)?, read(&self.key)?])
    }

    fn stamp(&self) -> Result<Stamp, CertificateFileError> {
        let stamp = |path| {
            let file = metadata(path)?;
            Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
        };
        Ok([stamp(&self.certificate)?, stamp(&self.key)?])
    }

    fn unusable(&self, source: WebCertificateError) -> CertificateFileError {
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        CertificateFileError::Unusable { certificate, key, source }
    }
}

/// Keeps the certificate as its files are.
#[derive(Debug)]
pub(super) struct Following {
    files: CertificateFiles,
    certificate: WebCertificate,
    /// What was tried last.
    seen: Stamp,
}

impl Following {
    /// Looks at the files for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None: what cannot be used is said in the log, and the certificate stays as it is.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            match self.look() {
                Ok(false) => {}
                Ok(true) => info!("certificate for strangers replaced"),
                Err(error) => {
                    error!(error = %Chain(&error), "certificate for strangers not replaced");
                }
            }
        }
        Ok(())
    }

    /// Takes up what has changed; says whether something has. A pair that does not fit is tried
    /// again when one of the two changes: the other was replaced first.
    pub(super) fn look(&mut self) -> Result<bool, CertificateFileError> {
        let stamp = self.files.stamp()?;
        if stamp == self.seen {
            return Ok(false);
        }
        self.seen = stamp;
        let [chain, key] = self.files.read()?;
        self.certificate.replace(&chain, &key).map_err(|error| self.files.unusable(error))?;
        Ok(true)
    }
}

fn metadata(path: &Path) -> Result<Metadata, CertificateFileError> {
    fs::metadata(path).map_err(|source| CertificateFileError::Io { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateFileError> {
    let failed = |source| CertificateFileError::Io { path: path.to_owned(), source };
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    // The capacity is there from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES.saturating_add(1)));
    File::open(path).map_err(failed)?.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if MAX_BYTES < bytes.len() {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// The certificate for strangers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// The operating system refuses.
    #[error("cannot read `{path}` for `[public]`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Everybody can read the key.
    #[error("`{path}` has mode {mode:o}, so everybody can read the key; `chmod 600` it", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// They are no certificate and its key.
    #[error("`{certificate}` and `{key}` cannot be used for HTTPS", certificate = certificate.display(), key = key.display())]
    Unusable {
        /// The file of the certificates.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        source: WebCertificateError,
    },
}
