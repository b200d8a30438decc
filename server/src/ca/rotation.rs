//! Making, publishing and replacing authorities as time goes by: one task for all of them, and one
//! bundle that shows them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use claviger_core::bundle::Bundle;
use claviger_core::svid::Profile;
use claviger_core::time::Clock;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Authority;
use super::keys::{KeyFileError, KeyFolder};
use super::succession::{Craft, Succession, Workshop};
use super::token::Tokens;
use super::x509::{SignError, X509};
use crate::config::Config;
use crate::journal::{CommitError, Journal};
use crate::storage::secret_file;
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
    /// Other servers have changed theirs.
    abroad: Arc<Notify>,
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
        let name = if journal.store().is_shared() { Some(own_name(&keys)?) } else { None };
        let places = Places { keys, ttl: config.ca.ttl, journal, name };
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
        let (bundle, receiver) = watch::channel(Arc::new(bundle));
        let abroad = Arc::<Notify>::default();
        let authority = Authority {
            x509: x509.signer(),
            jwt: jwt.signer(),
            wit: wit.signer(),
            bundle: receiver,
            abroad: Arc::clone(&abroad),
        };
        let rotation = Self { x509, jwt, wit, clock, bundle, abroad };
        rotation.publish();
        Ok((rotation, authority))
    }

    /// Puts all authorities there are into the bundle.
    fn publish(&self) {
        self.bundle.send_modify(|bundle| {
            let bundle = Arc::make_mut(bundle);
            // Each of the three rises by one with a change, and so does their sum.
            let all = [self.x509.sequence(), self.jwt.sequence(), self.wit.sequence()];
            bundle.sequence = bundle.sequence.max(all.iter().sum());
            self.x509.publish(bundle);
            self.jwt.publish(bundle);
            self.wit.publish(bundle);
        });
    }

    /// Puts into the bundle what other servers have changed.
    async fn look_around(&mut self) -> Result<(), RotationError> {
        let now = self.clock.now();
        self.x509.look_around(now).await?;
        self.jwt.look_around(now).await?;
        self.wit.look_around(now).await?;
        self.publish();
        Ok(())
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
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(sleep.max(Duration::from_secs(1))) => {}
                () = self.abroad.notified() => {
                    let looked = self.look_around().await;
                    if let Err(error) = &looked {
                        let error = claviger_runtime::telemetry::Chain(error);
                        error!(%error, "cannot take in the authorities of other servers");
                    }
                    if looked.is_err() {
                        self.abroad.notify_one();
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
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
    name: Option<String>,
}

impl Places {
    fn workshop<C: Craft>(&self, craft: C) -> Workshop<C> {
        let keys = KeyFolder::new(self.keys.clone(), craft.profile());
        let (journal, name) = (self.journal.clone(), self.name.clone());
        Workshop { craft, keys, ttl: self.ttl, journal, name }
    }
}

/// The name that sets this server apart from others of its trust domain: random, and kept in the folder
/// `keys` with the keys that it names.
pub(crate) fn own_name(keys: &Path) -> Result<String, RotationError> {
    let path = keys.join("server-name");
    if let Some(name) = secret_file::read(&path, 32).map_err(RotationError::Name)? {
        let name = std::str::from_utf8(&name).ok().filter(|name| name.len() == 32);
        return name
            .map(str::to_owned)
            .ok_or_else(|| RotationError::Name(ErrorKind::InvalidData.into()));
    }
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_unspecified| KeyFileError::Generate)?;
    let name = hex::encode(random);
    secret_file::write(&path, name.as_bytes()).map_err(RotationError::Name)?;
    Ok(name)
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
    /// The file that names this server can't be used.
    #[error(
        "cannot use the file `keys/server-name` in the data directory; remove it for a new name"
    )]
    Name(#[source] io::Error),
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
