//! What stands out of each principal's decisions.
//!
//! Each is held against its own past and nobody else's, so that the noise of others hides nothing.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::mem;
use std::sync::{Mutex, PoisonError};

use claviger_core::anomaly::Anomaly;
use claviger_core::id::SpiffeId;
use claviger_core::time::UnixTime;

/// The most principals that are watched at a time. Each takes some 200 bytes.
const MAX_SOURCES: usize = 16_384;

/// How many paths are remembered at least, if there are more.
const MAX_PATHS: usize = 32_768;

/// So many decisions are looked back on, and of them so many may be denials.
const LAST: u32 = 100;
const MAX_DENIED: u32 = 10;

/// So many minutes are looked back on, of those with any decision; and so many are too few to know
/// what is usual.
const MINUTES: usize = 10;
const MIN_MINUTES: usize = 3;

/// So many times as often as usual stands out, unless it is less than [`MIN_TIMES`] a minute: of a
/// principal that asks once a minute, four in one are nothing.
const FACTOR: u32 = 3;
const MIN_TIMES: u32 = 30;

/// One decision, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Who asked.
    pub(super) source: &'a SpiffeId,
    /// For whom, if it was to reach somebody.
    pub(super) target: Option<&'a SpiffeId>,
    /// What came of it.
    pub(super) outcome: Outcome,
    /// When.
    pub(super) now: UnixTime,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// It was permitted.
    Permitted,
    /// It was let through because policies only observe.
    Observed,
    /// Policies denied it.
    Denied,
    /// It was denied for another reason, such as quarantine.
    Withheld,
}

/// What is known of principals' pasts.
#[derive(Debug, Default)]
pub(super) struct Anomalies(Mutex<Pasts>);

#[derive(Debug, Default)]
struct Pasts {
    sources: HashMap<SpiffeId, Past>,
    paths: Paths,
}

impl Anomalies {
    /// What stands out with this decision. `registered` tells whether both ends are.
    pub(super) fn look(&self, seen: Seen<'_>, registered: impl FnOnce() -> bool) -> Vec<Anomaly> {
        let mut pasts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = pasts.is_unexpected(seen) && registered();
        let past = pasts.of(seen.source, seen.now);
        let rate = past.count(seen.now.as_secs() / 60);
        let denials = past.denials(seen);
        path.then_some(Anomaly::UnexpectedPath).into_iter().chain(rate).chain(denials).collect()
    }
}

impl Pasts {
    fn is_unexpected(&mut self, seen: Seen<'_>) -> bool {
        let Some(target) = seen.target else { return false };
        match seen.outcome {
            Outcome::Permitted => {
                self.paths.add(seen.source, target);
                false
            }
            Outcome::Observed | Outcome::Denied => !self.paths.contains(seen.source, target),
            Outcome::Withheld => false,
        }
    }

    fn of(&mut self, source: &SpiffeId, now: UnixTime) -> &mut Past {
        if MAX_SOURCES <= self.sources.len() && !self.sources.contains_key(source) {
            self.forget();
        }
        let past = self.sources.entry(source.clone()).or_default();
        past.last = now;
        past
    }

    /// Forgets an eighth of the principals: those first that were denied nothing, of them those first
    /// that were silent the longest.
    fn forget(&mut self) {
        let mut all: Vec<_> = self
            .sources
            .iter()
            .map(|(id, past)| (past.denied.count_ones(), past.last, id.clone()))
            .collect();
        all.sort_unstable();
        for (_, _, id) in all.into_iter().take(MAX_SOURCES / 8) {
            drop(self.sources.remove(&id));
        }
    }
}

/// What one principal did.
#[derive(Debug, Default)]
struct Past {
    /// The last decisions, the newest in the lowest bit: 1 for a denial.
    denied: u128,
    /// The minute in which it was last told that many were.
    told_denials: Option<u64>,
    minute: u64,
    /// How often in that minute.
    times: u32,
    told_rate: bool,
    /// How often in the minutes before.
    before: VecDeque<u32>,
    last: UnixTime,
}

impl Past {
    /// Counts a decision, and tells once a minute that there are too many.
    fn count(&mut self, minute: u64) -> Option<Anomaly> {
        if self.minute != minute {
            self.turn(minute);
        }
        self.times = self.times.saturating_add(1);
        let usual = self.usual()?;
        let most = usual.saturating_mul(FACTOR).max(MIN_TIMES);
        if self.told_rate || self.times <= most {
            return None;
        }
        self.told_rate = true;
        Some(Anomaly::Rate { times: self.times, usual })
    }

    fn turn(&mut self, minute: u64) {
        if 0 < self.times {
            // What stands out does not become usual at once.
            let most = self.usual().map_or(u32::MAX, |usual| usual.saturating_mul(FACTOR).max(1));
            if self.before.len() == MINUTES {
                self.before.pop_front();
            }
            self.before.push_back(self.times.min(most));
        }
        (self.minute, self.times, self.told_rate) = (minute, 0, false);
    }

    /// How often in a minute it asks, rounded up; `None` if that is not known yet.
    fn usual(&self) -> Option<u32> {
        if self.before.len() < MIN_MINUTES {
            return None;
        }
        let sum: u64 = self.before.iter().copied().map(u64::from).sum();
        let mean = sum.div_ceil(u64::try_from(self.before.len()).unwrap_or(1));
        Some(u32::try_from(mean).unwrap_or(u32::MAX))
    }

    /// Tells, once a minute and only when one more is denied, that too many of the last are.
    fn denials(&mut self, seen: Seen<'_>) -> Option<Anomaly> {
        let is_denial = match seen.outcome {
            Outcome::Denied | Outcome::Withheld => true,
            Outcome::Permitted | Outcome::Observed => false,
        };
        let window = (1_u128 << LAST) - 1;
        self.denied = (self.denied << 1 | u128::from(is_denial)) & window;
        let denied = self.denied.count_ones();
        let minute = Some(seen.now.as_secs() / 60);
        if !is_denial || denied <= MAX_DENIED || self.told_denials == minute {
            return None;
        }
        self.told_denials = minute;
        Some(Anomaly::RepeatedDenials { denied })
    }
}

/// The paths that policies permitted, in two generations: when the newer is full, the older is
/// forgotten.
#[derive(Debug, Default)]
struct Paths {
    hasher: RandomState,
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl Paths {
    fn add(&mut self, from: &SpiffeId, to: &SpiffeId) {
        let path = self.hasher.hash_one((from, to));
        if self.newer.insert(path) && MAX_PATHS <= self.newer.len() {
            self.older = mem::take(&mut self.newer);
        }
    }

    fn contains(&self, from: &SpiffeId, to: &SpiffeId) -> bool {
        let path = self.hasher.hash_one((from, to));
        self.newer.contains(&path) || self.older.contains(&path)
    }
}

#[cfg(test)]
mod tests;
