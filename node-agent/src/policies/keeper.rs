//! The one task that takes policies in, and lets go of them.

use std::future::pending;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::TrustDomain;
use claviger_core::policies::{Announcement, AnnouncementError, Untimely};
use claviger_core::time::{Clock, UnixTime};
use claviger_policy::Local;
use claviger_policy::local::{NotAdopted, Signed, SignedError};
use claviger_runtime::health::{Part, State};
use claviger_runtime::telemetry::Chain;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::fetch::{FetchPoliciesError, fetch};
use super::kept::{Kept, LoadPoliciesError};
use super::{Candidate, Heard, InForce, Inbox, Policies};
use crate::backoff::{Backoff, jitter};
use crate::files::DataDir;
use crate::metrics;
use crate::server::Link;
use crate::standings::Standings;

/// Between two tries to have what was announced.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// The longest sleep: a clock that was set forward is noticed this late at most. Whoever decides
/// looks at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Where policies come from.
#[derive(Debug)]
pub(crate) struct Places {
    /// What was kept of them.
    pub(crate) dir: DataDir,
    /// The way to the server, which has the others.
    pub(crate) link: watch::Receiver<Option<Link>>,
}

/// Takes in what the server announces.
#[derive(Debug)]
pub(crate) struct Keeper {
    heard: watch::Receiver<Heard>,
    link: watch::Receiver<Option<Link>>,
    local: Local,
    in_force: watch::Sender<Option<Arc<InForce>>>,
    dir: DataDir,
    /// What the file in it says: the highest number, and that of the policies, if there are any.
    kept: (u64, Option<u64>),
    clock: Arc<dyn Clock>,
    health: Part,
}

impl Keeper {
    /// Begins with what was kept: policies for `trust_domain`.
    pub(crate) async fn open(
        places: Places,
        trust_domain: TrustDomain,
        standings: Standings,
        clock: Arc<dyn Clock>,
        health: Part,
    ) -> Result<(Self, Policies, Inbox), LoadPoliciesError> {
        let Places { dir, link } = places;
        let kept = Kept::load(&dir).await?;
        let version = kept.version;
        let local = Local::new(trust_domain.clone(), version, Arc::new(standings));
        let (inbox, in_force) = (Inbox::default(), watch::Sender::default());
        let policies = Policies { local: local.clone(), in_force: in_force.subscribe() };
        let heard = inbox.0.subscribe();
        // An agent whose server announces nothing is well; it only decides nothing.
        health.set(State::Ready);
        let kept_now = (version, None);
        let mut keeper = Self { heard, link, local, in_force, dir, kept: kept_now, clock, health };
        match spawn_blocking(move || kept.open(&trust_domain)).await {
            Ok(Some(Ok(candidate))) => {
                if let Err(error) = keeper.adopt(candidate) {
                    keeper.report(&error.into());
                }
            }
            Ok(Some(Err(error))) => keeper.report(&error.into()),
            Ok(None) => {}
            Err(_stopping) => keeper.report(&TakeInError::Stopping),
        }
        keeper.kept.1 = keeper.current().map(|in_force| in_force.version());
        Ok((keeper, policies, inbox))
    }

    /// Does so until `stop` fires. What has changed is written down first, whatever happens: nothing but
    /// the end of the process breaks that off.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut heard = self.heard.clone();
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        loop {
            let taken = stop.run_until_cancelled(self.follow(&mut heard)).await;
            self.keep().await;
            let pause = match taken {
                None => return Ok(()),
                Some(Ok(())) => {
                    backoff.reset();
                    None
                }
                Some(Err(error)) => {
                    self.report(&error);
                    error.may_pass().then(|| backoff.pause(jitter()))
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                Ok(()) = heard.changed() => {}
                () = until(pause) => {}
                () = until(self.left()) => {}
            }
        }
    }

    /// Lets go of what has ended, and takes in what was announced last.
    async fn follow(&self, heard: &mut watch::Receiver<Heard>) -> Result<(), TakeInError> {
        loop {
            let now_heard = heard.borrow_and_update().clone();
            self.let_go(&now_heard);
            tokio::select! {
                biased;
                Ok(()) = heard.changed() => {}
                taken = self.take_in(&now_heard) => return taken,
            }
        }
    }

    fn current(&self) -> Option<Arc<InForce>> {
        self.in_force.borrow().clone()
    }

    /// How long to sleep until the policies in force expire.
    fn left(&self) -> Option<Duration> {
        let left = self.current()?.expires_at().since(self.clock.now());
        Some(left.clamp(Duration::from_secs(1), LONGEST_SLEEP))
    }

    /// Lets go of policies that have expired, or whose key is believed no more.
    fn let_go(&self, heard: &Heard) {
        let Some(current) = self.current() else { return };
        let says = current.signed.announcement();
        if let Err(Untimely::Expired(at)) = says.check(self.clock.now()) {
            error!(version = says.version, %at, "the policies have expired: nothing is permitted");
            metrics::policies("expired");
            self.health.set(State::Degraded(format!(
                "the policies have expired at {at} (Unix time); nothing is permitted until the \
                 server announces others"
            )));
            self.in_force.send_replace(None);
            return;
        }
        let Some(keys) = &heard.keys else { return };
        if let Err(error) = Announcement::verify(&current.token, self.local.trust_domain(), keys) {
            error!(version = says.version, %error, "the policies in force are believed no more");
            metrics::policies("withdrawn");
            let why = "the key that signed the policies is believed no more; nothing is permitted";
            self.health.set(State::Degraded(why.to_owned()));
            self.local.withdraw();
            self.in_force.send_replace(None);
        }
    }

    /// Puts in force what was announced, if it is not yet.
    async fn take_in(&self, heard: &Heard) -> Result<(), TakeInError> {
        let (Some(token), Some(keys)) = (&heard.token, &heard.keys) else { return Ok(()) };
        let current = self.current();
        if current.as_ref().is_some_and(|current| current.token == *token) {
            return Ok(());
        }
        let trust_domain = self.local.trust_domain();
        let says = Announcement::verify(token, trust_domain, keys)?;
        says.check(self.clock.now())?;
        let known = self.local.version();
        if says.version < known {
            return Err(NotAdopted::Older { offered: says.version, known }.into());
        }
        let signer =
            |key: &&_| Announcement::verify(token, trust_domain, slice::from_ref(*key)).is_ok();
        let key = keys.iter().find(signer).ok_or(AnnouncementError::UnknownKey)?.clone();
        let renewed = current.and_then(|current| {
            Some((current.signed.renewed(says.clone())?, current.bytes.clone()))
        });
        let (signed, bytes) = match renewed {
            Some(renewed) => renewed,
            None => {
                let link = self.link.borrow().clone();
                let bytes = fetch(link, says.sha256).await?;
                let compiled = bytes.clone();
                let compiling = spawn_blocking(move || Signed::compile(says, &compiled));
                (compiling.await.map_err(|_stopping| TakeInError::Stopping)??, bytes)
            }
        };
        self.adopt(Candidate { signed, token: token.clone(), key, bytes })?;
        Ok(())
    }

    fn adopt(&self, candidate: Candidate) -> Result<(), NotAdopted> {
        let Candidate { signed, token, key, bytes } = candidate;
        let signed = self.local.adopt(signed)?;
        let says = signed.announcement();
        let (version, policy, expires_at) = (says.version, says.policy, says.expires_at);
        info!(version, %policy, %expires_at, "policies in force");
        metrics::policies("adopted");
        self.health.set(State::Ready);
        self.in_force.send_replace(Some(Arc::new(InForce { signed, token, key, bytes })));
        Ok(())
    }

    /// Writes down what is in force, if that has changed. It is in force even if it can't be kept.
    async fn keep(&mut self) {
        let current = self.current();
        let kept = (self.local.version(), current.as_ref().map(|current| current.version()));
        if self.kept == kept {
            return;
        }
        self.kept = kept;
        if let Err(error) = Kept::of(kept.0, current.as_deref()).save(&self.dir).await {
            error!(error = %Chain(&error), "cannot keep the policies for the next start");
        }
    }

    fn report(&self, error: &TakeInError) {
        metrics::policies("refused");
        let why = Chain(error).to_string();
        if error.may_pass() {
            warn!(error = why, "policies not taken in yet");
        } else {
            error!(error = why, "policies not taken in");
        }
        self.health.set(State::Degraded(format!("policies not taken in: {why}")));
    }
}

impl InForce {
    fn version(&self) -> u64 {
        self.signed.announcement().version
    }

    fn expires_at(&self) -> UnixTime {
        self.signed.announcement().expires_at
    }
}

async fn until(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => pending().await,
    }
}

/// Why policies do not come into force. What is in force stays.
#[derive(Debug, thiserror::Error)]
enum TakeInError {
    #[error("the announcement of policies is not believed")]
    Announcement(#[from] AnnouncementError),
    #[error(transparent)]
    Untimely(#[from] Untimely),
    #[error(transparent)]
    NotAdopted(#[from] NotAdopted),
    #[error(transparent)]
    Fetch(#[from] FetchPoliciesError),
    #[error(transparent)]
    Signed(#[from] SignedError),
    #[error("shutting down")]
    Stopping,
}

impl TakeInError {
    /// Whether it may go another way if it is tried again.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Untimely(Untimely::NotYet(_)) | Self::Signed(SignedError::OtherBytes) => true,
            Self::Fetch(error) => match error {
                FetchPoliciesError::NoLink | FetchPoliciesError::Server(_) => true,
                FetchPoliciesError::Replaced | FetchPoliciesError::TooLarge => false,
            },
            Self::Announcement(_)
            | Self::Untimely(Untimely::Expired(_))
            | Self::NotAdopted(_)
            | Self::Signed(
                SignedError::Announcement(_)
                | SignedError::OtherDigest { .. }
                | SignedError::Malformed(_)
                | SignedError::Load(_),
            )
            | Self::Stopping => false,
        }
    }
}
