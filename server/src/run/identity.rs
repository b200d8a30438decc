//! The server's own SVID, which agents verify: issued as any other, and recorded.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::grant::{IssueX509, Requester};
use claviger_core::svid::{SvidTtl, Validity, X509SvidContents};
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{Identity, Svid, SvidKeyError};
use rcgen::{KeyPair, PublicKeyData as _};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use zeroize::Zeroizing;

use crate::api::issuance::{Issuance, IssueError};
use crate::ca::fresh_serial;
use crate::registry::server_id;

/// The longest sleep: a clock that was set forward is noticed this late at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Keeps the server supplied with an SVID.
#[derive(Debug)]
pub struct OwnIdentity {
    issuance: Issuance,
    ttl: SvidTtl,
    identity: Identity,
    renew_at: UnixTime,
}

/// The server has no SVID.
#[derive(Debug, thiserror::Error)]
pub enum OwnIdentityError {
    /// No key could be made.
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
    /// It was not issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// It does not fit its key.
    #[error(transparent)]
    Svid(#[from] SvidKeyError),
}

impl OwnIdentity {
    /// Issues the first SVID.
    ///
    /// # Errors
    ///
    /// [`OwnIdentityError`]; a server without an SVID cannot be verified by anybody.
    pub async fn issue(issuance: Issuance, ttl: SvidTtl) -> Result<Self, OwnIdentityError> {
        let (svid, validity) = issue(&issuance, ttl).await?;
        let (identity, renew_at) = (Identity::new(svid), renew_at(validity));
        Ok(Self { issuance, ttl, identity, renew_at })
    }

    /// What connections are shown.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Renews the SVID at half life, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None: what fails is tried again.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.issuance.clock);
        loop {
            let sleep =
                self.renew_at.since(clock.now()).clamp(Duration::from_secs(1), LONGEST_SLEEP);
            if stop.run_until_cancelled(tokio::time::sleep(sleep)).await.is_none() {
                return Ok(());
            }
            if clock.now() < self.renew_at {
                continue;
            }
            match issue(&self.issuance, self.ttl).await {
                Ok((svid, validity)) => {
                    self.identity.replace(svid);
                    self.renew_at = renew_at(validity);
                    info!(not_after = %validity.not_after, "own SVID renewed");
                }
                Err(error) => {
                    error!(error = %Chain(&error), "cannot renew the server's own SVID");
                }
            }
        }
    }
}

/// There is one server, so it needs no jitter.
fn renew_at(validity: Validity) -> UnixTime {
    validity.renew_at(u16::MAX / 2)
}

async fn issue(issuance: &Issuance, ttl: SvidTtl) -> Result<(Svid, Validity), OwnIdentityError> {
    let key = KeyPair::generate()?;
    let act = IssueX509 {
        contents: X509SvidContents {
            subject: server_id(&issuance.authority.trust_domain()),
            dns_names: Vec::new(),
            ttl,
        },
        serial: fresh_serial().map_err(IssueError::Sign)?,
        public_key: key.subject_public_key_info(),
        requester: Requester::Server,
        entry: None,
    };
    let signed = issuance.issue(act).await?;
    let pkcs8 = Zeroizing::new(key.serialize_der());
    Ok((Svid::new(signed.chain, &pkcs8)?, signed.validity))
}
