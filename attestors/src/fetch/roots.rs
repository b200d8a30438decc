//! Who vouches for servers.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use tracing::warn;

/// The largest file of authorities that is read, in bytes; the one that Debian ships has 220,000.
const MAX_FILE: usize = 4 << 20;

/// The authorities in `ca_file`, or this machine's.
pub(super) fn read(ca_file: Option<&Path>) -> Result<RootCertStore, RootsError> {
    match ca_file {
        Some(path) => from_file(path),
        None => Ok(of_machine()),
    }
}

fn from_file(path: &Path) -> Result<RootCertStore, RootsError> {
    let failed = |source| RootsError::Read { path: path.to_owned(), source };
    let pem = crate::files::read(path, MAX_FILE).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|source| RootsError::Pem { path: path.to_owned(), source })?;
        roots
            .add(certificate)
            .map_err(|source| RootsError::Certificate { path: path.to_owned(), source })?;
    }
    if roots.is_empty() { Err(RootsError::Empty { path: path.to_owned() }) } else { Ok(roots) }
}

/// Those that can't be used are left out, as everybody does: one odd certificate among a hundred is
/// no reason to trust nobody.
fn of_machine() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        warn!(
            "no certificate authorities on this machine, so no https server is believed; install \
             them (ca-certificates) or set `ca-file`"
        );
    }
    roots
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file can't be read.
    #[error("cannot read the certificate authorities in `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no PEM.
    #[error("`{path}` is not a list of certificates in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A certificate in the file is none.
    #[error("`{path}` holds a certificate that cannot be an authority")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The file has nobody in it.
    #[error("`{path}` holds no certificate; write the issuer's authority there, in PEM")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There can be no client.
    #[error("cannot set up TLS")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
}
