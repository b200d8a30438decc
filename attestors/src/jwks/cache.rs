//! Keeping an issuer's keys.
//!
//! A request that finds the keys old asks for new ones while the others go on with the old; one that
//! finds no key of the name it needs waits for new ones, and so does everybody who needs it. At most
//! one question is in flight, and the next one is not asked before its time, whatever tokens
//! strangers present. An issuer that does not answer is asked less and less often; its old keys are
//! good for a day.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::Instant;
use tracing::{info, warn};

use super::set::KeySet;
use super::source::{KeySource, SourceError};

/// How old keys may be before they are asked for again. A key that its issuer withdraws is believed
/// for so long.
const FRESH: Duration = Duration::from_mins(10);

/// How old keys may be, if the issuer does not answer.
pub const MAX_AGE: Duration = Duration::from_hours(24);

/// How long no other question is asked after one that was answered.
const PAUSE: Duration = Duration::from_secs(30);

/// How long after the first question that was not answered; doubled after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How often that is doubled: up to four minutes.
const MAX_DOUBLINGS: u32 = 8;

/// The keys of an issuer, as far as they are known.
#[derive(Debug)]
pub(super) struct Cache {
    source: Arc<dyn KeySource>,
    known: Mutex<Known>,
    /// Whose turn it is to ask.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Instant)>,
    /// No question is asked before.
    not_before: Option<Instant>,
    /// Questions that were not answered since the last one that was.
    failures: u32,
    /// Why the last question was not.
    problem: Option<Arc<SourceError>>,
}

/// Keys to check a token with.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) keys: Arc<KeySet>,
    /// Whether they should have been asked for again, and could not be.
    pub(super) stale: bool,
}

/// What is known about a key of some name.
enum Knowledge {
    Fresh(Arc<KeySet>),
    Old(Arc<KeySet>),
    Nothing,
}

impl Cache {
    pub(super) fn new(source: Arc<dyn KeySource>) -> Self {
        Self { source, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The keys, among which the one named `key_id` should be, if there is one.
    pub(super) async fn find(&self, key_id: &str) -> Result<Found, Unavailable> {
        match self.look_up(key_id) {
            Knowledge::Fresh(keys) => return Ok(Found { keys, stale: false }),
            // One request takes it upon itself to ask; the others don't wait.
            Knowledge::Old(_) => {
                if let Ok(_turn) = self.turn.try_lock() {
                    self.ask_if_due().await;
                }
            }
            // Everybody waits for the one that asks.
            Knowledge::Nothing => {
                let _turn = self.turn.lock().await;
                if matches!(self.look_up(key_id), Knowledge::Nothing) {
                    self.ask_if_due().await;
                }
            }
        }
        self.conclude(key_id)
    }

    fn look_up(&self, key_id: &str) -> Knowledge {
        match &self.known().keys {
            Some((keys, since)) if keys.names(key_id) => match since.elapsed() {
                age if age <= FRESH => Knowledge::Fresh(Arc::clone(keys)),
                age if age <= MAX_AGE => Knowledge::Old(Arc::clone(keys)),
                _ => Knowledge::Nothing,
            },
            _ => Knowledge::Nothing,
        }
    }

    /// What there is to say after asking, if it was time to ask.
    fn conclude(&self, key_id: &str) -> Result<Found, Unavailable> {
        match self.look_up(key_id) {
            Knowledge::Fresh(keys) => Ok(Found { keys, stale: false }),
            Knowledge::Old(keys) => Ok(Found { keys, stale: true }),
            Knowledge::Nothing => {
                let known = self.known();
                match (&known.keys, &known.problem) {
                    // The issuer was asked, not long ago: there is no such key.
                    (Some((keys, since)), None) if since.elapsed() <= FRESH => {
                        Ok(Found { keys: Arc::clone(keys), stale: false })
                    }
                    (_, problem) => Err(Unavailable {
                        issuer: self.source.to_string(),
                        problem: problem.clone(),
                    }),
                }
            }
        }
    }

    /// Asks the source, unless it is too early. The caller has the turn.
    async fn ask_if_due(&self) {
        {
            let mut known = self.known();
            let now = Instant::now();
            if known.not_before.is_some_and(|not_before| now < not_before) {
                return;
            }
            // Should the request go away while it asks, that was a question too.
            known.not_before = Some(now + known.retry_after());
        }
        let answer = self.source.fetch().await;
        let answer = answer.and_then(|document| Ok(KeySet::parse(&document)?));
        let now = Instant::now();
        let mut known = self.known();
        match answer {
            Ok(keys) => {
                if known.keys.as_ref().is_none_or(|(old, _)| **old != keys) {
                    info!(issuer = %self.source, keys = keys.len(), "keys of an issuer of tokens");
                }
                let keys = Some((Arc::new(keys), now));
                let not_before = Some(now + PAUSE);
                *known = Known { keys, not_before, failures: 0, problem: None };
            }
            Err(problem) => {
                let retry = known.retry_after();
                let problem = Arc::new(problem);
                warn!(
                    issuer = %self.source,
                    error = %describe(&*problem),
                    retry_after = ?retry,
                    known = known.keys.is_some(),
                    "cannot learn the keys of an issuer of tokens"
                );
                known.not_before = Some(now + retry);
                known.failures = known.failures.saturating_add(1);
                known.problem = Some(problem);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// How long to wait after another failure, give or take a quarter: many servers should not ask
    /// at the same time.
    fn retry_after(&self) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        let mut random = [0];
        if rand::fill(&mut random).is_err() {
            return doubled;
        }
        doubled.mul_f64(0.75 + f64::from(random[0]) / 510.0)
    }
}

/// An error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The keys of an issuer can't be had right now.
#[derive(Debug, thiserror::Error)]
#[error("the keys of {issuer} cannot be had now")]
pub struct Unavailable {
    /// Whose.
    issuer: String,
    /// Why, if somebody could ask.
    #[source]
    problem: Option<Arc<SourceError>>,
}

#[cfg(test)]
mod tests;
