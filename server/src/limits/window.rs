//! One sliding window.

use std::collections::VecDeque;

/// Into how many parts a window is divided, if it is not counted by the second anyway.
const PARTS: u64 = 60;

/// What was done lately.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The last second of each part in which something was done, and how often; the oldest first.
    done: VecDeque<(u64, u32)>,
    /// How long what was done counts, in seconds; as the limit said last.
    seconds: u64,
}

impl Window {
    /// Takes a turn at second `now` if fewer than `most` were taken in the last `seconds`, and names it.
    pub(super) fn take(&mut self, now: u64, most: u32, seconds: u32) -> Option<u64> {
        self.seconds = seconds.into();
        while self.done.front().is_some_and(|(stamp, _)| self.is_long_ago(*stamp, now)) {
            self.done.pop_front();
        }
        let taken: u64 = self.done.iter().map(|(_, times)| u64::from(*times)).sum();
        if u64::from(most) <= taken {
            return None;
        }
        let part = self.seconds.div_ceil(PARTS).max(1);
        let stamp = now.saturating_sub(now % part).saturating_add(part.saturating_sub(1));
        match self.done.back_mut() {
            Some((last, times)) if stamp <= *last => {
                *times = times.saturating_add(1);
                Some(*last)
            }
            Some(_) | None => {
                self.done.push_back((stamp, 1));
                Some(stamp)
            }
        }
    }

    /// The turn named `stamp` was not used.
    pub(super) fn give_back(&mut self, stamp: u64) {
        if let Some((_, times)) = self.done.iter_mut().find(|(last, _)| *last == stamp) {
            *times = times.saturating_sub(1);
        }
        self.done.retain(|(_, times)| *times > 0);
    }

    /// Whether nothing counts any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.done.iter().all(|(stamp, _)| self.is_long_ago(*stamp, now))
    }

    const fn is_long_ago(&self, stamp: u64, now: u64) -> bool {
        stamp.saturating_add(self.seconds) <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_turn_comes_free_when_the_window_has_passed() {
        let mut window = Window::default();
        for now in [0, 10, 20] {
            assert_eq!(window.take(now, 3, 60), Some(now));
        }
        assert_eq!(window.take(59, 3, 60), None);
        assert_eq!(window.take(60, 3, 60), Some(60));
        assert_eq!(window.take(69, 3, 60), None);
        assert_eq!(window.take(70, 3, 60), Some(70));
    }

    #[test]
    fn a_turn_that_is_given_back_is_there_again() {
        let mut window = Window::default();
        let turn = window.take(5, 1, 60).unwrap();
        assert_eq!(window.take(5, 1, 60), None);
        window.give_back(turn);
        assert!(window.is_over(5));
        assert_eq!(window.take(5, 1, 60), Some(5));
        window.give_back(77);
        assert_eq!(window.take(6, 1, 60), None, "nobody took that turn");
    }

    #[test]
    fn another_limit_counts_what_was_done_under_the_last() {
        let mut window = Window::default();
        assert_eq!(window.take(100, 5, 60), Some(100));
        assert_eq!(window.take(101, 1, 3_600), None);
        assert_eq!(window.take(101, 2, 3_600), Some(119), "by the minute");
        assert_eq!(window.take(102, 3, 60), Some(119), "time does not go back");
        assert_eq!(window.take(103, 0, 60), None);
    }

    proptest! {
        /// However turns are asked for, no span of the window's length holds more than the limit, and
        /// the window stays small.
        #[test]
        fn no_span_holds_more(
            steps in prop::collection::vec((0..40_u64, any::<bool>()), 1..400),
            most in 0..8_u32,
            seconds in 1..600_u32,
        ) {
            let (mut window, mut now, mut taken) = (Window::default(), 0, Vec::new());
            for (wait, gives_back) in steps {
                now += wait;
                match window.take(now, most, seconds) {
                    Some(turn) if gives_back => window.give_back(turn),
                    Some(_) => taken.push(now),
                    None => {}
                }
                prop_assert!(window.done.len() <= 61);
            }
            for first in &taken {
                let span = *first..first + u64::from(seconds);
                let held = taken.iter().filter(|at| span.contains(at)).count();
                prop_assert!(held <= usize::try_from(most).unwrap(), "{held} in {span:?}");
            }
        }
    }
}
