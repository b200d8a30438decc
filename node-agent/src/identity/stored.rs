//! What an agent keeps on disk about who it is.
//!
//! | file | holds |
//! |---|---|
//! | `identity.pem` | the private key, and behind it the SVID; the key alone while the agent attests |
//! | `bundle.pem` | the authorities that the server last named |
//! | `reattestable` | nothing; it is there if the server wants evidence again instead of renewing |

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use claviger_core::id::TrustDomain;
use claviger_runtime::tls::{BundleError, Svid, TrustBundle};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::Damaged;
use crate::config::Config;
use crate::files::{DataDir, DataDirError};
use crate::keys::Key;
use crate::pem::{self, PemError};

const IDENTITY: &str = "identity.pem";
const BUNDLE: &str = "bundle.pem";
const REATTESTABLE: &str = "reattestable";

/// The largest file that is read as a trust bundle, in bytes.
const MAX_BUNDLE: u64 = 1 << 20;

/// What is known from before.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// The key of an attestation that did not end.
    pub(super) unused_key: Option<Key>,
    /// The identity.
    pub(super) svid: Option<Svid>,
}

/// What is known from before.
pub(super) async fn load(dir: &DataDir) -> Result<Stored, StoredError> {
    let Some(text) = dir.read(IDENTITY).await? else { return Ok(Stored::default()) };
    let damaged = |source| Damaged {
        path: dir.path(IDENTITY),
        advice: "remove it to attest anew, which takes a new join token where one is used",
        source,
    };
    let contents = pem::read(&text).map_err(|error| damaged(error.into()))?;
    let key = contents.key.ok_or_else(|| damaged("it holds no private key".into()))?;
    if contents.certificates.is_empty() {
        let key = Key::from_pkcs8(&key).map_err(|error| damaged(error.into()))?;
        return Ok(Stored { unused_key: Some(key), svid: None });
    }
    let svid = Svid::new(contents.certificates, &key).map_err(|error| damaged(error.into()))?;
    Ok(Stored { unused_key: None, svid: Some(svid) })
}

/// The private key in force, PKCS#8 DER, if there is an identity.
pub(crate) async fn load_key(dir: &DataDir) -> Result<Option<Zeroizing<Vec<u8>>>, StoredError> {
    let Some(text) = dir.read(IDENTITY).await? else { return Ok(None) };
    let advice = "remove it to attest anew, which takes a new join token where one is used";
    let damaged = |error: PemError| {
        let source = error.into();
        Damaged { path: dir.path(IDENTITY), advice, source }
    };
    let contents = pem::read(&text).map_err(damaged)?;
    Ok(contents.key.filter(|_| !contents.certificates.is_empty()))
}

/// Remembers a key before a token is spent for it: should we crash right after, only this key can
/// still use the token.
pub(super) async fn save_key(dir: &DataDir, key: &Key) -> Result<(), DataDirError> {
    dir.write(IDENTITY, pem::write(Some(key.pkcs8()), &[])).await
}

/// Remembers an identity.
pub(super) async fn save_svid(
    dir: &DataDir,
    key: &Key,
    chain: &[CertificateDer<'_>],
) -> Result<(), DataDirError> {
    dir.write(IDENTITY, pem::write(Some(key.pkcs8()), chain)).await
}

/// Remembers whether the evidence for the identity can be shown again.
pub(super) async fn save_reattestable(
    dir: &DataDir,
    reattestable: bool,
) -> Result<(), DataDirError> {
    if reattestable {
        dir.write(REATTESTABLE, Zeroizing::default()).await
    } else {
        dir.remove(REATTESTABLE).await
    }
}

/// Whether it can, if that is known.
pub(super) async fn load_reattestable(dir: &DataDir) -> Result<bool, DataDirError> {
    Ok(dir.read(REATTESTABLE).await?.is_some())
}

/// Forgets the identity.
pub(super) async fn forget(dir: &DataDir) -> Result<(), DataDirError> {
    dir.remove(IDENTITY).await
}

/// Remembers the authorities that the server names.
pub(crate) async fn save_bundle(
    dir: &DataDir,
    authorities: &[CertificateDer<'_>],
) -> Result<(), DataDirError> {
    dir.write(BUNDLE, pem::write(None, authorities)).await
}

/// The authorities that the server last named.
pub(super) async fn load_bundle(
    dir: &DataDir,
    trust_domain: &TrustDomain,
) -> Result<Option<TrustBundle>, StoredError> {
    let authorities = load_authorities(dir).await?;
    let bundle = authorities.map(|ders| TrustBundle::new(trust_domain.clone(), &ders));
    let damaged = |error: BundleError| damaged_bundle(dir, error.into());
    Ok(bundle.transpose().map_err(damaged)?)
}

async fn load_authorities(
    dir: &DataDir,
) -> Result<Option<Vec<CertificateDer<'static>>>, StoredError> {
    let Some(text) = dir.read(BUNDLE).await? else { return Ok(None) };
    let contents = pem::read(&text).map_err(|error| damaged_bundle(dir, error.into()))?;
    Ok(Some(contents.certificates))
}

fn damaged_bundle(dir: &DataDir, source: Box<dyn std::error::Error + Send + Sync>) -> Damaged {
    let advice = "remove it to begin with `trust-bundle-path` again";
    Damaged { path: dir.path(BUNDLE), advice, source }
}

/// By whom an agent without a valid identity recognizes its server: whom the operator names, and
/// whom the server named when the agent was somebody. Each may be older than the other: a machine
/// may have been off for long, and the operator's file may date from its installation.
pub(super) async fn bootstrap_bundle(
    config: &Config,
    dir: &DataDir,
) -> Result<TrustBundle, StoredError> {
    let path = &config.trust_bundle_path;
    let mut authorities = read_bundle_file(path)?;
    for known in load_authorities(dir).await?.unwrap_or_default() {
        if !authorities.contains(&known) {
            authorities.push(known);
        }
    }
    TrustBundle::new(config.trust_domain.clone(), &authorities)
        .map_err(|error| StoredError::BundleFile { path: path.clone(), source: error.into() })
}

/// The authorities that the operator names.
fn read_bundle_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, StoredError> {
    let text = read_small(path)
        .map_err(|source| StoredError::ReadBundle { path: path.to_owned(), source })?;
    let bad = |source| StoredError::BundleFile { path: path.to_owned(), source };
    let contents = pem::read(&text).map_err(|error| bad(error.into()))?;
    if contents.key.is_some() {
        return Err(bad("it holds a private key, which belongs nowhere near an agent".into()));
    }
    if contents.certificates.is_empty() {
        return Err(bad("it holds no certificate".into()));
    }
    Ok(contents.certificates)
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BUNDLE).read_to_end(&mut text)?;
    Ok(text)
}

/// What an agent needs to know is not to be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The directory can't be used.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// A file in it is not what we wrote.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The operator's bundle can't be read.
    #[error("cannot read the trust bundle `{path}`; `claviger bundle show` on the server prints it", path = path.display())]
    ReadBundle {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operator's bundle is none.
    #[error("`{path}` is not a trust bundle; `claviger bundle show` on the server prints it", path = path.display())]
    BundleFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
