//! JWT-SVIDs: made by the server when somebody asks for one, and kept here while they are fresh.
//!
//! | to find | look in |
//! |---|---|
//! | what is remembered, and how much of it | `cache` |
//! | one request on behalf of all who ask for the same | `pending` |
//! | what outlives a restart without the server | `remembered` |
//! | asking the server, and checking its answer | `request` |
//! | why there is no token, and what callers learn of it | `error` |
//!
//! A token is given out from the cache until half of its life is over. After that the server is
//! asked for a new one; if it cannot be reached, the old one does until it ends.

mod cache;
mod error;
mod pending;
mod remembered;
mod request;

use std::fmt;
use std::sync::Arc;

use claviger_core::entry::Entry;
use claviger_core::svid::jwt::Audience;
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::slots::{Slot, Slots};
use claviger_runtime::tasks::Tasks;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use zeroize::Zeroizing;

use crate::credentials::Snapshot;
use crate::metrics;
use crate::server::Link;
use crate::standings::Standings;

use cache::{Cache, Kept};
pub(crate) use error::NoToken;
use pending::Pending;
pub(crate) use remembered::Remembered;
use request::Request;

/// Calls that wait for the server: overall, and of one user. Each may hold a token of 16 KiB.
const WAITING: usize = 256;
const WAITING_PER_UID: usize = 64;

/// Gets JWT-SVIDs. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    link: watch::Receiver<Option<Link>>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    standings: Standings,
    clock: Arc<dyn Clock>,
    waiting: Slots<u32>,
    cache: Arc<Cache>,
    pending: Arc<Pending>,
    tasks: Tasks,
}

/// A JWT-SVID that has been checked.
pub(crate) struct Token {
    /// In the compact form.
    pub(crate) jwt: Zeroizing<String>,
    /// Which key signed it.
    pub(crate) key_id: String,
    /// When it ends.
    pub(crate) expires_at: UnixTime,
    /// When it was made, if it says so; otherwise the beginning of time.
    pub(crate) issued_at: UnixTime,
}

/// Which token: the very entry it is for, as it is now, and the audience.
#[derive(Clone, Debug)]
struct Key {
    entry: Arc<Entry>,
    audience: Audience,
}

impl Tokens {
    pub(crate) fn new(
        link: &watch::Receiver<Option<Link>>,
        snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
        standings: &Standings,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Self {
        let (link, snapshots) = (link.clone(), snapshots.clone());
        let (standings, clock) = (standings.clone(), Arc::clone(clock));
        let waiting = Slots::new(WAITING, WAITING_PER_UID);
        let (cache, pending) = (Arc::default(), Arc::default());
        let tasks = tasks.clone();
        Self { link, snapshots, standings, clock, waiting, cache, pending, tasks }
    }

    /// The JWT-SVIDs of `entries` for `audience`, in their order, for a process of the user `uid`.
    /// An entry that the server refuses is left out, as long as there is another.
    ///
    /// # Errors
    ///
    /// If one cannot be had now, or the server refuses them all.
    pub(crate) async fn jwt_svids(
        &self,
        uid: u32,
        entries: &[Arc<Entry>],
        audience: &Audience,
    ) -> Result<Vec<(Arc<Entry>, Arc<Token>)>, Status> {
        let each = entries.iter().map(|entry| {
            let key = Key { entry: Arc::clone(entry), audience: audience.clone() };
            self.while_it_stands(uid, key).map(move |answer| (entry, answer))
        });
        let mut tokens = Vec::new();
        let mut refusal = NoToken::Nobody;
        for (entry, answer) in join_all(each).await {
            match answer {
                Ok(token) => tokens.push((Arc::clone(entry), token)),
                Err(refused @ (NoToken::Refused { .. } | NoToken::Nobody)) => refusal = refused,
                Err(not_now) => return Err(not_now.into()),
            }
        }
        if tokens.is_empty() { Err(refusal.into()) } else { Ok(tokens) }
    }

    /// A token for an identity that stands as before when the token is there, and not in quarantine.
    async fn while_it_stands(&self, uid: u32, key: Key) -> Result<Arc<Token>, NoToken> {
        let id = key.entry.spiffe_id.clone();
        let before = self.standings.of(&id);
        if before.quarantined {
            return Err(NoToken::Nobody);
        }
        let token = self.one(uid, key).await?;
        let after = self.standings.of(&id);
        if after == before {
            return Ok(token);
        }
        // A token made since then is to be had by asking again.
        Err(if after.quarantined { NoToken::Nobody } else { NoToken::Unreachable })
    }

    /// Forgets the tokens of identities that stand otherwise, as soon as they do, until `stop` fires.
    pub(crate) async fn forget_doubted(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut editions = self.standings.watch();
        let mut seen = *editions.borrow_and_update();
        while let Some(Ok(())) = stop.run_until_cancelled(editions.changed()).await {
            let changes = self.standings.since(Some(seen));
            seen = changes.edition;
            self.cache.forget_all(&changes.records.into_iter().map(|(id, _)| id).collect());
        }
        Ok(())
    }

    async fn one(&self, uid: u32, key: Key) -> Result<Arc<Token>, NoToken> {
        if key.entry.jwt_jti {
            // Each has a name of its own, so nobody gets another's.
            let slot = self.waiting.take(uid)?;
            return self.see_through(slot, self.request(key).send()).await;
        }
        let kept = self.cached(&key);
        match kept {
            Some(Kept { token, ask_again }) if self.clock.now() < ask_again => {
                metrics::jwt_svid("cache");
                Ok(token)
            }
            Some(Kept { token, .. }) => match self.ask(uid, &key).await {
                Err(NoToken::Unreachable | NoToken::Useless | NoToken::Busy) => {
                    self.cache.put_off(&key, self.clock.now());
                    metrics::jwt_svid("cache");
                    Ok(token)
                }
                answer => answer,
            },
            None => self.ask(uid, &key).await,
        }
    }

    /// What is remembered, unless its time is over or its key is not to be relied on any more.
    fn cached(&self, key: &Key) -> Option<Kept> {
        let kept = self.cache.find(key)?;
        let snapshot = self.snapshots.borrow();
        let authorities = &snapshot.as_ref()?.bundle().bundle.jwt_authorities;
        let relied_on =
            authorities.iter().any(|one| one.key_id == kept.token.key_id && !one.tainted);
        (relied_on && self.clock.now() < kept.token.expires_at).then_some(kept)
    }

    /// Asks the server, together with whoever is asking for the same.
    async fn ask(&self, uid: u32, key: &Key) -> Result<Arc<Token>, NoToken> {
        let slot = self.waiting.take(uid)?;
        let request = self.request(key.clone());
        let (cache, clock) = (Arc::clone(&self.cache), Arc::clone(&self.clock));
        let asked = self.pending.join(key, || {
            let key = key.clone();
            let kept = async move {
                let answer = request.send().await;
                match &answer {
                    Ok(token) => cache.keep(key, Arc::clone(token), clock.now()),
                    Err(NoToken::Refused { .. } | NoToken::Nobody) => cache.forget(&key),
                    Err(NoToken::Unreachable | NoToken::Useless | NoToken::Busy) => {}
                }
                answer
            };
            kept.boxed()
        });
        self.see_through(slot, asked).await
    }

    /// Waits for the server's answer. Whoever hangs up asks no less of it, and keeps their slot until it is there.
    async fn see_through(
        &self,
        slot: Slot<u32>,
        answer: impl Future<Output = Result<Arc<Token>, NoToken>> + Send + 'static,
    ) -> Result<Arc<Token>, NoToken> {
        let answer = async move {
            let answer = answer.await;
            drop(slot);
            answer
        };
        self.tasks.see_through("token", answer).await.unwrap_or(Err(NoToken::Unreachable))
    }

    fn request(&self, key: Key) -> Request {
        Request {
            link: self.link.borrow().clone(),
            snapshots: self.snapshots.clone(),
            clock: Arc::clone(&self.clock),
            key,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jwt: _, key_id, expires_at, issued_at: _ } = self;
        f.debug_struct("Token")
            .field("key_id", key_id)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}
