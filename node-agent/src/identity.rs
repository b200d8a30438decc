//! Who this agent is.
//!
//! | to find | look in |
//! |---|---|
//! | what is kept on disk: key, SVID, bundle | `stored` |
//! | evidence, and the conversation about it | `attest` |
//! | becoming somebody: evidence for an SVID | `enrol` |
//! | staying who one is: a new SVID at half life | `renew` |
//! | what to do when the server refuses, or doubts | `standing` |
//!
//! An agent that finds a valid SVID in its directory is whom it names. Otherwise it attests. If its
//! kind of evidence can be shown again, it attests instead of renewing, too, and again by itself
//! whenever the server no longer knows it: then it takes nobody to bring back a machine that slept
//! past every expiry.

mod attest;
mod enrol;
mod renew;
mod standing;
mod stored;

use std::path::PathBuf;
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{Identity, TrustBundle, verify_svid_by};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::files::{DataDir, DataDirError};
use crate::server::Server;

pub use attest::AttestError;
pub use enrol::{BadAnswer, EnrolError};
pub use stored::StoredError;

pub(crate) use renew::Renewal;
pub(crate) use standing::{Standing, doubts};
pub(crate) use stored::{load_key, save_bundle};

/// An agent that the server knows.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// Its name. It stays the same when the SVID is renewed.
    pub(crate) id: SpiffeId,
    /// Its SVID of the moment.
    pub(crate) identity: Identity,
    /// Its server.
    pub(crate) server: Server,
    /// Whether it can show its evidence again.
    pub(crate) reattestable: bool,
}

impl Agent {
    /// The agent whose identity is in `dir`, or a new one that attests.
    pub(crate) async fn establish(
        config: &Config,
        dir: &DataDir,
        clock: &Arc<dyn Clock>,
        stop: &CancellationToken,
    ) -> Result<Self, EstablishError> {
        if let Some(agent) = Self::restore(config, dir, clock).await? {
            return Ok(agent);
        }
        let bundle = stored::bootstrap_bundle(config, dir).await?;
        let server = Self::server(config, bundle, clock)?;
        let (svid, reattestable) = enrol::enrol(config, dir, &server, clock.as_ref(), stop).await?;
        let id = svid.leaf().id().clone();
        info!(agent = %id, reattestable, "attested");
        Ok(Self { id, identity: Identity::new(svid), server, reattestable })
    }

    /// Believes what is on disk if it is all there and still valid.
    async fn restore(
        config: &Config,
        dir: &DataDir,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>, EstablishError> {
        let Some(svid) = stored::load(dir).await?.svid else { return Ok(None) };
        let Some(bundle) = stored::load_bundle(dir, &config.trust_domain).await? else {
            warn!("an identity without a trust bundle is not used; attesting");
            return Ok(None);
        };
        match verify_svid_by(svid.chain(), &bundle, &**clock) {
            Ok(id) => {
                info!(agent = %id, "known from before");
                let server = Self::server(config, bundle, clock)?;
                let reattestable = stored::load_reattestable(dir).await?;
                Ok(Some(Self { id, identity: Identity::new(svid), server, reattestable }))
            }
            Err(error) => {
                warn!(error = %Chain(&error), "the identity from before is of no use; attesting");
                Ok(None)
            }
        }
    }

    fn server(
        config: &Config,
        bundle: TrustBundle,
        clock: &Arc<dyn Clock>,
    ) -> Result<Server, EstablishError> {
        let server = Server::new(config.servers.clone(), bundle, Arc::clone(clock));
        server.map_err(|_too_long| EstablishError::TrustDomainTooLong)
    }
}

/// Why an agent is nobody.
#[derive(Debug, thiserror::Error)]
pub enum EstablishError {
    /// What is on disk can't be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The server does not believe it.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// No server can have a name there.
    #[error("the name of the trust domain is too long")]
    TrustDomainTooLong,
}

/// A file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is damaged; {advice}", path = path.display())]
pub struct Damaged {
    path: PathBuf,
    advice: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl From<DataDirError> for EstablishError {
    fn from(error: DataDirError) -> Self {
        Self::Stored(error.into())
    }
}
