//! How much the server takes on: who asks too often, or when there is too much to do, is refused before
//! anything is done for them.
//!
//! Three things are counted, each with a bound of its own: how fast one caller asks (an agent, another
//! identity, or an address that has none), how fast credentials are made for one identity by whoever, and
//! how many requests there are at a time. Not every request is worth the same when not all can be served:
//!
//! | what | may use |
//! |---|---|
//! | redeeming a one-time PSK: a connection waits that was permitted already | everything |
//! | issuing: attestation, SVIDs, PSKs | three quarters |
//! | everything else: listings, entries, bundles | half |
//!
//! So the last quarter of the room, and of the rate at which all may ask, is for redemptions alone. Whoever
//! is refused learns at once, and how long to wait. The operator at the admin socket is not counted.
//!
//! | to find | look in |
//! |---|---|
//! | one token bucket, and one for each caller | `bucket` |
//! | what the gRPC services do about it | `doorkeeper` |

mod bucket;
mod doorkeeper;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_runtime::comeback::{Comeback, SHORTEST};
use metrics::counter;
use tokio::time::Instant;

use crate::config::Rates;
use crate::metrics as names;
use bucket::{Bucket, Buckets};
pub(crate) use doorkeeper::Doorkeeper;

/// What a request is worth when not all can be served.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Class {
    /// Everything else.
    Other,
    /// Credentials are made.
    Issuance,
    /// A connection waits.
    Redemption,
}

impl Class {
    /// How many quarters of everything have to stay for what is worth more.
    const fn leaves(self) -> u32 {
        match self {
            Self::Other => 2,
            Self::Issuance => 1,
            Self::Redemption => 0,
        }
    }

    /// The most requests at a time after which there may be one more of these, where `all` is the most
    /// of any.
    fn most(self, all: usize) -> usize {
        let left = all.saturating_mul(self.leaves().try_into().unwrap_or(0)) / 4;
        all.saturating_sub(left)
    }

    /// The turns of a bucket that have to stay in it.
    fn reserve(self) -> Duration {
        bucket::FULL / 4 * self.leaves()
    }

    /// The value of a metric's label.
    const fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Issuance => "issuance",
            Self::Redemption => "redemption",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Caller {
    /// Whoever showed an SVID.
    Identity(SpiffeId),
    /// Whoever did not, from there.
    Address(IpAddr),
    /// All who come through a proxy on this machine.
    Proxy,
}

/// What the server has taken on. Clones count together.
#[derive(Clone, Debug)]
pub struct Load(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rates: Rates,
    serving: AtomicUsize,
    all: Mutex<Bucket>,
    callers: Mutex<Buckets<Caller>>,
    identities: Mutex<Buckets<SpiffeId>>,
    comeback: Mutex<Comeback>,
}

/// Room for one request, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Room {
    inner: Arc<Inner>,
    since: Instant,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.inner.serving.fetch_sub(1, Ordering::Release);
        lock(&self.inner.comeback).served(self.since.elapsed());
    }
}

/// There is too much to do. Nothing was done, so it can be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{why}; try again in {} ms", .wait.as_millis())]
pub struct Overload {
    /// Of what there was too much.
    pub why: Why,
    /// How long it makes no sense to ask again.
    pub wait: Duration,
}

/// Of what there was too much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// One caller asks too often.
    Caller,
    /// Too many credentials for one identity.
    Identity,
    /// All callers together ask too often.
    All,
    /// There are too many requests at a time.
    Requests,
}

impl Overload {
    /// How long it makes no sense to ask again, in whole seconds (RFC 9110 §10.2.3).
    pub(crate) fn seconds(self) -> u64 {
        self.wait.as_secs().saturating_add(u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

impl Why {
    const fn label(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Identity => "identity",
            Self::All => "all",
            Self::Requests => "requests",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "the caller asks too often",
            Self::Identity => "too many credentials are asked for one identity",
            Self::All | Self::Requests => "the server is overloaded",
        })
    }
}

impl Load {
    /// Nothing so far.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let now = Instant::now();
        Self(Arc::new(Inner {
            rates,
            serving: AtomicUsize::new(0),
            all: Mutex::new(Bucket::full(now)),
            callers: Mutex::new(Buckets::new(rates.caller, now)),
            identities: Mutex::new(Buckets::new(rates.identity, now)),
            comeback: Mutex::new(Comeback::new(now)),
        }))
    }

    /// Room for a request of `class` by `caller`.
    ///
    /// # Errors
    ///
    /// [`Overload`] if it has to wait.
    pub(crate) fn admit(&self, caller: Caller, class: Class) -> Result<Room, Overload> {
        let Inner { rates, serving, all, callers, .. } = &*self.0;
        let now = Instant::now();
        // First whoever asks too often, so that they take nothing from the others.
        let turn = lock(callers).take(caller, class.reserve(), now);
        turn.map_err(|wait| refuse(Why::Caller, wait, class))?;
        let turn = lock(all).take(rates.all, class.reserve(), now);
        turn.map_err(|wait| refuse(Why::All, wait, class))?;
        let most = class.most(rates.requests);
        let one_more = |number| (number < most).then_some(number + 1);
        let before = serving.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        before.map_err(|_number| self.full(class))?;
        Ok(Room { inner: Arc::clone(&self.0), since: now })
    }

    /// There is no room for a request of `class`.
    fn full(&self, class: Class) -> Overload {
        let wait = match class {
            // A connection waits.
            Class::Redemption => SHORTEST,
            Class::Issuance | Class::Other => {
                lock(&self.0.comeback).refused(Instant::now(), self.0.rates.requests)
            }
        };
        refuse(Why::Requests, wait, class)
    }

    /// Counts a credential that is about to be made for `id`.
    ///
    /// # Errors
    ///
    /// [`Overload`] if it has to wait.
    pub(crate) fn credential(&self, id: &SpiffeId) -> Result<(), Overload> {
        let taken = lock(&self.0.identities).take(id.clone(), Duration::ZERO, Instant::now());
        taken.map_err(|wait| refuse(Why::Identity, wait, Class::Issuance))
    }
}

fn refuse(why: Why, wait: Duration, class: Class) -> Overload {
    counter!(names::OVERLOADED, "why" => why.label(), "class" => class.label()).increment(1);
    Overload { why, wait }
}

/// What is done under these locks is whole before anything can fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
