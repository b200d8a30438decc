//! Where Intel's word about platforms comes from.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_core::time::UnixTime;

use super::collateral::Collateral;
use super::pck::Pck;
use super::{Ca, Tee};
use crate::files;

/// What collateral is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Wanted {
    /// What the quote is of.
    pub tee: Tee,
    /// The family of platforms.
    pub fmspc: [u8; 6],
    /// Who issued the platform's certificate.
    pub ca: Ca,
}

impl Wanted {
    /// What a quote of `tee` from the platform with the certificate `pck` is judged by.
    #[must_use]
    pub const fn by(tee: Tee, pck: &Pck) -> Self {
        Self { tee, fmspc: pck.fmspc, ca: pck.ca }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.tee, hex::encode(self.fmspc))
    }
}

/// A place where collateral is.
#[async_trait]
pub trait CollateralSource: fmt::Debug + Send + Sync + 'static {
    /// The collateral that is `wanted` at `now`; none if this is not the place for it. It may have
    /// expired, and nothing of it is verified.
    ///
    /// # Errors
    ///
    /// [`CollateralError`] if it should be here and can't be had.
    async fn collateral(
        &self,
        wanted: Wanted,
        now: UnixTime,
    ) -> Result<Option<Arc<Collateral>>, CollateralError>;
}

/// A folder with a file for each family of platforms, named after the kind of TEE and the FMSPC, such
/// as `tdx-b0c06f000000.json`. A file is read whenever it is needed, so that it can be replaced.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

#[async_trait]
impl CollateralSource for Folder {
    async fn collateral(
        &self,
        wanted: Wanted,
        _now: UnixTime,
    ) -> Result<Option<Arc<Collateral>>, CollateralError> {
        let path = self.0.join(format!("{wanted}.json"));
        let bytes = match files::read(&path, Collateral::MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CollateralError::Read { path, source }),
        };
        let collateral = Collateral::parse(&bytes)
            .map_err(|_malformed| CollateralError::Form { from: path.display().to_string() })?;
        Ok(Some(Arc::new(collateral)))
    }
}

/// Why there is no collateral.
#[derive(Debug, thiserror::Error)]
pub enum CollateralError {
    /// A file can't be read.
    #[error("cannot read the collateral in `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("what `{from}` has is no collateral")]
    Form {
        /// Where it came from.
        from: String,
    },
    /// The service did not answer.
    #[error("the service of collateral did not answer as it should")]
    Service(#[source] Arc<dyn Error + Send + Sync>),
    /// There is none.
    #[error(
        "there is no collateral for `{wanted}`: put it into the folder as `{wanted}.json`, or name a \
         service"
    )]
    None {
        /// For what.
        wanted: Wanted,
    },
}
