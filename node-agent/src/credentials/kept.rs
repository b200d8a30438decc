//! One SVID of one entry: whether it is there, and when to ask for the next. Time is an argument.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::svid::Validity;
use claviger_core::time::UnixTime;

use super::interest::Interest;

/// The pauses after failures: 1, 2, 4 … 60 seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How many failures in a row it takes until the interest in an SVID must be shown anew.
const PATIENCE: u32 = 8;

const SECOND: Duration = Duration::from_secs(1);

/// Something that lasts for a time.
pub(crate) trait Lasting {
    /// When it is valid.
    fn validity(&self) -> Validity;
}

/// Why there is no SVID for an entry. It has been logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum NotIssued {
    /// The server does not want to, or its answer is of no use.
    Refused(Arc<str>),
    /// The server did not answer.
    Unanswered,
}

/// An SVID, or how far we are with it.
#[derive(Debug)]
pub(super) struct Kept<S> {
    svid: Option<Arc<S>>,
    /// Who wants it, if it is made on demand only.
    interest: Option<Arc<Interest>>,
    /// When to ask for one.
    due: UnixTime,
    /// Whether one was asked for and did not come yet.
    asked: bool,
    failures: u32,
    /// Whether the last failure was that nobody answered.
    unanswered: bool,
    /// What the server said when it last refused one, until it gives one.
    refusal: Option<Arc<str>>,
}

impl<S: Lasting> Kept<S> {
    /// Nothing yet; it is asked for at once, or when there is `interest`.
    pub(super) fn new(interest: Option<Arc<Interest>>, now: UnixTime) -> Self {
        Self {
            svid: None,
            interest,
            due: now,
            asked: false,
            failures: 0,
            unanswered: false,
            refusal: None,
        }
    }

    pub(super) fn svid(&self) -> Option<&Arc<S>> {
        self.svid.as_ref()
    }

    pub(super) fn interest(&self) -> Option<&Arc<Interest>> {
        self.interest.as_ref()
    }

    pub(super) fn refusal(&self) -> Option<&Arc<str>> {
        self.refusal.as_ref()
    }

    /// The entry changed, and `fresh` takes over. If it means the `same` SVID and there is one, it
    /// stays, with all that is known about it; says whether that is so.
    pub(super) fn passes_to(&mut self, fresh: &mut Self, same: bool) -> bool {
        let stays = same && self.svid.is_some();
        if stays {
            std::mem::swap(self, fresh);
            // Who wants it, if anybody has to, is for the new entry to say. What was asked for
            // under the old one is not taken in any more.
            fresh.interest = match (fresh.interest.take(), self.interest.take()) {
                (Some(before), Some(_)) => Some(before),
                (_, now) => now,
            };
            fresh.asked = false;
        }
        stays
    }

    fn is_wanted(&self) -> bool {
        self.interest.as_ref().is_none_or(|interest| interest.is_there())
    }

    /// Whether to ask now. If so, it counts as asked for.
    pub(super) fn take_due(&mut self, now: UnixTime) -> bool {
        let due = !self.asked && self.due <= now && self.is_wanted();
        self.asked |= due;
        due
    }

    /// Takes in what came of asking; says whether that changes what can be given out.
    pub(super) fn settle(
        &mut self,
        answer: Result<S, NotIssued>,
        now: UnixTime,
        jitter: u16,
    ) -> bool {
        self.asked = false;
        self.unanswered = matches!(answer, Err(NotIssued::Unanswered));
        match answer {
            Ok(svid) => {
                self.failures = 0;
                self.refusal = None;
                // Should it be short-lived beyond reason, do not ask more than once a second.
                self.due = svid.validity().renew_at(jitter).max(now.after(FIRST_PAUSE));
                self.svid = Some(Arc::new(svid));
                self.forget_interest();
                true
            }
            Err(why) => {
                self.due = now.after(pause(self.failures));
                self.failures = self.failures.saturating_add(1);
                if PATIENCE <= self.failures {
                    self.forget_interest();
                }
                self.refused(why)
            }
        }
    }

    /// Whether the server says something else than before.
    fn refused(&mut self, why: NotIssued) -> bool {
        match why {
            NotIssued::Refused(said) if self.refusal.as_ref() != Some(&said) => {
                self.refusal = Some(said);
                true
            }
            NotIssued::Refused(_) | NotIssued::Unanswered => false,
        }
    }

    fn forget_interest(&self) {
        if let Some(interest) = &self.interest {
            interest.forget();
        }
    }

    /// It must not be given out any more.
    pub(super) fn withdraw(&mut self, now: UnixTime) {
        self.svid = None;
        self.due = now;
    }

    /// Nothing of it is believed any more, nor what was asked for.
    pub(super) fn begin_anew(&mut self, now: UnixTime) {
        *self = Self::new(self.interest.take(), now);
    }

    /// What signed it is no longer secure.
    pub(super) fn renew(&mut self, now: UnixTime) {
        self.due = now;
    }

    /// The server answers again: what failed because it did not is tried at once.
    pub(super) fn server_is_back(&mut self, now: UnixTime) {
        if self.unanswered {
            self.due = now;
        }
    }

    /// When there is something to do next: to ask, or to drop what has ended.
    pub(super) fn next_event(&self) -> Option<UnixTime> {
        let ends = self.svid.as_ref().map(|svid| svid.validity().not_after.after(SECOND));
        let due = (!self.asked && self.is_wanted()).then_some(self.due);
        [due, ends].into_iter().flatten().min()
    }

    /// Drops it if it has ended: an expired SVID is never served. Says whether somebody misses it.
    pub(super) fn drop_ended(&mut self, now: UnixTime) -> Option<Ended> {
        self.svid.take_if(|svid| svid.validity().not_after < now)?;
        Some(if self.is_wanted() { Ended::Missed } else { Ended::Unwanted })
    }
}

/// An SVID ended before another came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// It ought to have been renewed.
    Missed,
    /// Nobody wanted it any more.
    Unwanted,
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(LAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::world::NOW;

    #[derive(Debug)]
    struct Hour(UnixTime);

    impl Lasting for Hour {
        fn validity(&self) -> Validity {
            Validity { not_before: self.0, not_after: self.0.after(Duration::from_secs(3_600)) }
        }
    }

    fn later(secs: u64) -> UnixTime {
        NOW.after(Duration::from_secs(secs))
    }

    fn on_demand() -> (Arc<Interest>, Kept<Hour>) {
        let interest = Arc::new(Interest::new(&Arc::new(Notify::new())));
        (Arc::clone(&interest), Kept::new(Some(interest), NOW))
    }

    #[test]
    fn what_nobody_wants_is_not_asked_for() {
        let (interest, mut kept) = on_demand();
        assert!(!kept.take_due(NOW));
        assert_eq!(kept.next_event(), None);
        interest.show();
        assert_eq!(kept.next_event(), Some(NOW));
        assert!(kept.take_due(NOW) && !kept.take_due(NOW));
    }

    #[test]
    fn what_is_looked_at_is_renewed_and_what_is_not_ends() {
        let (interest, mut kept) = on_demand();
        interest.show();
        for begins in [0, 1_800] {
            assert!(kept.take_due(later(begins)));
            assert!(kept.settle(Ok(Hour(later(begins))), later(begins), 0));
            // As a stream does.
            interest.show();
        }
        assert!(kept.take_due(later(3_600)));
        kept.settle(Ok(Hour(later(3_600))), later(3_600), 0);
        // The stream has closed.
        assert!(!kept.take_due(later(7_000)));
        assert_eq!(kept.next_event(), Some(later(7_201)));
        assert_eq!(kept.drop_ended(later(7_200)), None);
        assert_eq!(kept.drop_ended(later(7_201)), Some(Ended::Unwanted));
        assert_eq!(kept.next_event(), None);
        interest.show();
        assert!(kept.take_due(later(8_000)));
    }

    #[test]
    fn what_fails_for_long_must_be_wanted_anew() {
        let (interest, mut kept) = on_demand();
        interest.show();
        let mut now = NOW;
        let mut tries = 0;
        while let Some(next) = kept.next_event() {
            now = next;
            assert!(kept.take_due(now));
            kept.settle(Err(NotIssued::Unanswered), now, 0);
            tries += 1;
        }
        assert_eq!((tries, now.since(NOW).as_secs()), (PATIENCE, 123));
        interest.show();
        assert!(kept.next_event().is_some());
    }
}
