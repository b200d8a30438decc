//! Telling agents which policies are in force, in words that the server signs: at first, when they
//! change, and at half of the time for which the last words are good.
//!
//! Every announcement has a higher number than any before it, across restarts and, because the
//! number is no lower than the time, across restored backups, too. It is written down before it is
//! signed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use claviger_core::audit::Event;
use claviger_core::policies::{
    Announcement, AnnouncementError, MAX_BYTES, PoliciesContents, PolicyTtl, sha256,
};
use claviger_core::time::{Clock, UnixTime};
use claviger_policy::PolicySet;
use claviger_runtime::telemetry::Chain;
use metrics::counter;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Policies;
use crate::ca::{Authority, SignError};
use crate::journal::{Change, CommitError, Journal};
use crate::metrics as names;
use crate::store::{Space, StoreError, Write, meta};

/// The longest sleep: a clock that was set forward is noticed this late at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What agents are told, now and later.
pub type Announcements = watch::Receiver<Arc<Announced>>;

/// Policies, and what the server signed about them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announced {
    /// What was signed, in the compact form.
    pub token: String,
    /// What it says.
    pub says: Announcement,
    /// The policies that it names.
    pub bytes: Bytes,
}

/// Keeps agents supplied.
#[derive(Debug)]
pub struct Announcer {
    policies: watch::Receiver<Arc<PolicySet>>,
    authority: Authority,
    journal: Journal,
    clock: Arc<dyn Clock>,
    ttl: PolicyTtl,
    version: u64,
    announced: watch::Sender<Arc<Announced>>,
    /// Another server has announced what is in force there.
    abroad: Arc<Notify>,
}

impl Announcer {
    /// Announces what is in force, each time for as long as `ttl`.
    ///
    /// # Errors
    ///
    /// [`AnnounceError`] if the store, or the key that signs, stands in the way.
    pub async fn open(
        policies: &Policies,
        authority: Authority,
        journal: Journal,
        clock: Arc<dyn Clock>,
        ttl: PolicyTtl,
    ) -> Result<Self, AnnounceError> {
        let version = stored_version(&journal).await?;
        let mut policies = policies.watch();
        let set = Arc::clone(&policies.borrow_and_update());
        let signing = Signing { authority: &authority, journal: &journal, ttl };
        let first = signing.announce(&set, version, clock.now()).await?;
        let version = first.says.version;
        let announced = watch::Sender::new(Arc::new(first));
        let abroad = Arc::default();
        Ok(Self { policies, authority, journal, clock, ttl, version, announced, abroad })
    }

    /// Tells that another server has announced something.
    pub(crate) fn abroad(&self) -> Arc<Notify> {
        Arc::clone(&self.abroad)
    }

    /// What agents are told, now and later.
    #[must_use]
    pub fn announcements(&self) -> Announcements {
        self.announced.subscribe()
    }

    /// Announces whatever comes into force, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None so far: what fails is tried again a second later, and said in the log.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut bundle = self.authority.bundle();
        loop {
            let pause = self.pause();
            let mut due = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.policies.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    true
                }
                // Agents must be able to check it for as long as it lasts.
                Ok(()) = bundle.changed() => !self.is_believed(),
                () = tokio::time::sleep(pause) => self.is_due(self.clock.now()),
                () = self.abroad.notified() => {
                    if let Err(error) = self.keep_up().await {
                        error!(error = %Chain(&error), "cannot keep up with what others announce");
                        self.abroad.notify_one();
                        tokio::time::sleep(AGAIN).await;
                    }
                    false
                }
            };
            while due {
                let announced = self.announce().await;
                due = announced.is_err();
                if let Err(error) = announced {
                    error!(error = %Chain(&error), "cannot announce the policies in force");
                    let again = tokio::time::sleep(AGAIN);
                    if stop.run_until_cancelled(again).await.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn announce(&mut self) -> Result<(), AnnounceError> {
        let set = Arc::clone(&self.policies.borrow_and_update());
        let signing = Signing { authority: &self.authority, journal: &self.journal, ttl: self.ttl };
        let stored = stored_version(&self.journal).await?;
        let announced = signing.announce(&set, self.version.max(stored), self.clock.now()).await?;
        self.version = announced.says.version;
        self.announced.send_replace(Arc::new(announced));
        Ok(())
    }

    /// Says what is in force here under the number of what another server has announced, so that agents
    /// take it in which come from there. Nobody has to be told of that in turn.
    async fn keep_up(&mut self) -> Result<(), AnnounceError> {
        let stored = stored_version(&self.journal).await?;
        if stored <= self.version {
            return Ok(());
        }
        let set = Arc::clone(&self.policies.borrow());
        let signing = Signing { authority: &self.authority, journal: &self.journal, ttl: self.ttl };
        let announced = signing.say(&set, (stored, Vec::new()), self.clock.now()).await?;
        self.version = stored;
        self.announced.send_replace(Arc::new(announced));
        Ok(())
    }

    /// Whether the key that signed the last announcement is still one of ours, and secure.
    fn is_believed(&self) -> bool {
        let (announced, bundle) = (self.announced.borrow(), self.authority.bundle());
        let bundle = bundle.borrow();
        let secure: Vec<_> =
            bundle.jwt_authorities.iter().filter(|key| !key.tainted).cloned().collect();
        Announcement::verify(&announced.token, &bundle.trust_domain, &secure).is_ok()
    }

    /// Whether half of its time is over, or the clock was set back to before it.
    fn is_due(&self, now: UnixTime) -> bool {
        let announced = self.announced.borrow();
        now < announced.says.issued_at || half_life(&announced.says) <= now
    }

    fn pause(&self) -> Duration {
        let due = half_life(&self.announced.borrow().says).since(self.clock.now());
        due.clamp(AGAIN, LONGEST_SLEEP)
    }
}

fn half_life(says: &Announcement) -> UnixTime {
    let life = says.expires_at.since(says.issued_at);
    says.issued_at.after(life.checked_div(2).unwrap_or(life))
}

/// The number of the newest announcement.
async fn stored_version(journal: &Journal) -> Result<u64, AnnounceError> {
    match journal.store().get(Space::Meta, meta::POLICIES).await? {
        Some(number) => {
            number.try_into().map(u64::from_be_bytes).map_err(|_length| AnnounceError::Damaged)
        }
        None => Ok(0),
    }
}

/// What it takes to sign.
struct Signing<'a> {
    authority: &'a Authority,
    journal: &'a Journal,
    ttl: PolicyTtl,
}

impl Signing<'_> {
    /// Announces `set` under a higher number than `last`: writes it down, and signs.
    async fn announce(
        &self,
        set: &PolicySet,
        last: u64,
        now: UnixTime,
    ) -> Result<Announced, AnnounceError> {
        // A store from a backup has forgotten numbers; the time has not.
        let version = last.saturating_add(1).max(now.as_secs());
        let writes = vec![Write::put(Space::Meta, meta::POLICIES, version.to_be_bytes())];
        self.say(set, (version, writes), now).await
    }

    /// Writes down and signs that `set` is in force, under the number `version`.
    async fn say(
        &self,
        set: &PolicySet,
        (version, writes): (u64, Vec<Write>),
        now: UnixTime,
    ) -> Result<Announced, AnnounceError> {
        let bytes = Bytes::from(set.source().to_bytes());
        if MAX_BYTES < bytes.len() {
            return Err(AnnounceError::TooLarge(bytes.len()));
        }
        let trust_domain = self.authority.trust_domain();
        let (sha256, policy, ttl) = (sha256(&bytes), set.digest(), self.ttl);
        let contents = PoliciesContents { trust_domain, version, sha256, policy, ttl };
        let expires_at = now.after(ttl.duration());
        let change = Change {
            writes,
            events: vec![Event::PoliciesSigned { policy, version, expires_at }],
            ..Change::default()
        };
        let recorded = self.journal.record_policies(contents, change).await?;
        let token = self.authority.sign_policies(recorded, now)?.token;
        let bundle = self.authority.bundle();
        let bundle = Arc::clone(&bundle.borrow());
        let says = Announcement::verify(&token, &bundle.trust_domain, &bundle.jwt_authorities)?;
        counter!(names::POLICIES_ANNOUNCED).increment(1);
        info!(%policy, version, expires_at = %says.expires_at, "policies announced");
        Ok(Announced { token, says, bytes })
    }
}

/// Why agents are not told.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored is no number.
    #[error("the stored number of the last announcement of policies is damaged")]
    Damaged,
    /// Nobody would take them in.
    #[error("the policies have {0} bytes as JSON, of which agents take {MAX_BYTES}; shorten them")]
    TooLarge(usize),
    /// It cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It cannot be signed.
    #[error("cannot sign the policies")]
    Sign(#[from] SignError),
    /// No agent would believe it.
    #[error("agents would not believe what was signed about the policies")]
    Unbelievable(#[from] AnnouncementError),
}

#[cfg(test)]
mod tests;
