//! Making, publishing and replacing authorities as time goes by: one task for all of them, and one
//! bundle that shows them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::bundle::Bundle;
use claviger_core::svid::Profile;
use claviger_core::time::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Authority;
use super::keys::{KeyFileError, KeyFolder};
use super::succession::{Craft, Succession, Workshop};
use super::token::Tokens;
use super::x509::{SignError, X509};
use crate::config::Config;
use crate::journal::{CommitError, Journal};
use crate::store::StoreError;

/// The longest sleep: a clock that was set forward is noticed this late at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long SVIDs' holders may go without asking for the bundle (SPIFFE bundle §4.1.2). Our agents
/// are told of changes at once; this is for everyone else.
const REFRESH_HINT: Duration = Duration::from_secs(300);

/// Keeps the trust domain supplied with authorities.
#[derive(Debug)]
pub struct Rotation {
    x509: Succession<X509>,
    jwt: Succession<Tokens>,
    wit: Succession<Tokens>,
    clock: Arc<dyn Clock>,
    bundle: watch::Sender<Arc<Bundle>>,
}

impl Rotation {
    /// Takes up the authorities that are stored, with their keys in the folder `keys`, and makes
    /// what is missing, so that there is one of each profile that signs.
    ///
    /// # Errors
    ///
    /// [`RotationError`] if the store, a key file or the clock stands in the way.
    pub async fn open(
        keys: PathBuf,
        config: &Config,
        journal: Journal,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Authority), RotationError> {
        let now = clock.now();
        let places = Places { keys, ttl: config.ca.ttl, journal };
        let trust_domain = config.trust_domain.clone();
        let names = config.ca.clone();
        let x509 = X509 { trust_domain: trust_domain.clone(), names };
        let jwt = Tokens { profile: Profile::Jwt, issuer: config.jwt_issuer.clone() };
        let wit = Tokens { profile: Profile::Wit, issuer: config.wit_issuer.clone() };
        let x509 = Succession::open(places.workshop(x509), now).await?;
        let jwt = Succession::open(places.workshop(jwt), now).await?;
        let wit = Succession::open(places.workshop(wit), now).await?;

        let mut bundle = Bundle::empty(trust_domain);
        bundle.refresh_hint = Some(REFRESH_HINT);
        // Each of the three rises by one with a change, and so does their sum.
        bundle.sequence = [x509.sequence(), jwt.sequence(), wit.sequence()].iter().sum();
        x509.publish(&mut bundle);
        jwt.publish(&mut bundle);
        wit.publish(&mut bundle);
        let (bundle, receiver) = watch::channel(Arc::new(bundle));
        let authority = Authority {
            x509: x509.signer(),
            jwt: jwt.signer(),
            wit: wit.signer(),
            bundle: receiver,
        };
        Ok((Self { x509, jwt, wit, clock, bundle }, authority))
    }

    /// Does what is due, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None so far: what fails is tried again a minute later, and said in the log.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            if let Err(error) = self.advance().await {
                let error = claviger_runtime::telemetry::Chain(&error);
                error!(%error, "cannot rotate a signing authority; trying again in a minute");
            }
            let due = self.x509.next_due().min(self.jwt.next_due()).min(self.wit.next_due());
            let sleep = due.since(self.clock.now()).min(LONGEST_SLEEP);
            let sleep = tokio::time::sleep(sleep.max(Duration::from_secs(1)));
            if stop.run_until_cancelled(sleep).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Does everything that is due now. Trouble with one profile does not hold up the others.
    async fn advance(&mut self) -> Result<(), RotationError> {
        let now = self.clock.now();
        let outcomes = [
            self.x509.advance(now, &self.bundle).await,
            self.jwt.advance(now, &self.bundle).await,
            self.wit.advance(now, &self.bundle).await,
        ];
        outcomes.into_iter().collect()
    }
}

/// Where authorities are kept, and how long they last: the same for all profiles.
struct Places {
    keys: PathBuf,
    ttl: Duration,
    journal: Journal,
}

impl Places {
    fn workshop<C: Craft>(&self, craft: C) -> Workshop<C> {
        let keys = KeyFolder::new(self.keys.clone(), craft.profile());
        Workshop { craft, keys, ttl: self.ttl, journal: self.journal.clone() }
    }
}

/// Why there is no authority to sign with.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A key file is the matter.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key file holds another key than the store says.
    #[error("key file `{path}` holds another authority's key; restore it from a backup", path = .0.display())]
    OtherKey(PathBuf),
    /// A certificate cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// What is stored cannot be read.
    #[error("the stored signing authorities are damaged")]
    Damaged(#[source] serde_json::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A step cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nobody signs, which the schedule does not allow.
    #[error("there is no active signing authority")]
    NoAuthority,
}

#[cfg(test)]
mod tests;
