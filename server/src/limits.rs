//! How often something may be done: at most so many times in so many seconds, for each principal,
//! action, resource and purpose.
//!
//! A sliding window: what was done counts until it is as many seconds ago as the limit says, so that no
//! span of that length ever holds more. It counts by the second, and of windows longer than a minute by
//! the sixtieth part: then a turn comes free up to that much later, never sooner.
//!
//! A turn is taken when the decision is made, under one lock, so that fifty who ask at once get as many
//! turns as there are; and given back if what was decided then fails.
//!
//! | to find | look in |
//! |---|---|
//! | the arithmetic of one window | `window` |
//!
//! What is counted lies in memory: a server that starts anew has counted nothing.

mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use claviger_core::decision::{Action, Question, Rate, Resource};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::UnixTime;
use metrics::counter;

use crate::metrics as names;
use window::Window;

/// The most windows at a time. Each takes some 300 bytes, and 16 more for each second, or sixtieth part,
/// in which something was done: at worst 130 MB together.
const MAX_WINDOWS: usize = 100_000;

/// Counts what is done. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Limits(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    windows: HashMap<Counter, Window>,
    /// Our own time, in seconds: it passes as the clock does, and stands still when that is set back.
    now: u64,
    /// What the clock showed last.
    shown: UnixTime,
    /// When the windows in which nothing counts any more were dropped last.
    swept: u64,
}

/// What is counted together.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Counter {
    principal: SpiffeId,
    action: Action,
    resource: String,
    purpose: Option<Purpose>,
}

impl Counter {
    fn of(question: &Question) -> Self {
        Self {
            principal: question.principal.id.clone(),
            action: question.action.clone(),
            resource: match &question.resource {
                Resource::TrustDomain(name) => name.to_string(),
                Resource::Identity(party) => party.id.to_string(),
                Resource::Tool(name) => name.to_string(),
            },
            purpose: question.context.purpose.clone(),
        }
    }
}

/// It was done as often as it may be, or there are too many who do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exceeded;

/// A turn that was taken. It is given back on drop, unless what it is for was done.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    limits: Limits,
    counter: Counter,
    stamp: u64,
    done: bool,
}

impl Limits {
    /// Takes a turn for what `question` asks, at the time that it says, if less than `rate` was done:
    /// fewer the greater the risk of the principal, or of the resource.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] if there is no turn; it counts for nothing.
    pub fn take(&self, question: &Question, rate: Rate) -> Result<Turn, Exceeded> {
        let most = question.risk().shrink(rate.times);
        let (counter, clock) = (Counter::of(question), question.context.time);
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = counted.pass(clock);
        if !counted.windows.contains_key(&counter) && !counted.has_room() {
            counter!(names::LIMITS_FULL).increment(1);
            return Err(Exceeded);
        }
        let window = counted.windows.entry(counter.clone()).or_default();
        let stamp = window.take(now, most, rate.seconds).ok_or(Exceeded)?;
        Ok(Turn { limits: self.clone(), counter, stamp, done: false })
    }
}

impl Counted {
    /// Our time, when the clock shows `clock`. Whoever sets it back gains nothing by it, and loses no
    /// more than the seconds until it is looked at next.
    fn pass(&mut self, clock: UnixTime) -> u64 {
        let passed = clock.as_secs().saturating_sub(self.shown.as_secs());
        self.shown = clock;
        self.now = self.now.saturating_add(passed);
        self.now
    }

    /// Whether there may be one more window. Once a second at most, those that are over are dropped.
    fn has_room(&mut self) -> bool {
        if self.windows.len() < MAX_WINDOWS {
            return true;
        }
        if self.swept < self.now {
            let now = self.now;
            self.swept = now;
            self.windows.retain(|_counter, window| !window.is_over(now));
        }
        self.windows.len() < MAX_WINDOWS
    }
}

impl Turn {
    /// What it was taken for was done: it counts.
    pub fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut counted = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = counted.windows.get_mut(&self.counter) {
            window.give_back(self.stamp);
        }
    }
}

#[cfg(test)]
mod tests;
