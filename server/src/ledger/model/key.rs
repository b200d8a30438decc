//! What may become of one key: a state machine that knows of no store, no server and no clock.
//!
//! Whoever asks may not be answered, so what is known of a key is its state and which attempts may have
//! redeemed it without anybody being told.

use std::collections::BTreeMap;

/// How far a key has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// It can be redeemed.
    Minted,
    /// This attempt has it, and may ask again.
    Redeemed { by: u8 },
    /// A later epoch of its series began before anybody was told that it was redeemed.
    Superseded,
    /// Its time is over.
    Expired,
    /// A quarantine of one of its ends has voided it.
    Revoked,
    /// A new epoch of the ledger has voided it.
    Void,
}

/// What an attempt can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expect {
    Yes,
    No,
    Either,
}

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) state: State,
    /// How often each attempt has asked without being answered.
    unanswered: BTreeMap<u8, usize>,
    /// Something has begun that may end its life.
    pub(crate) in_doubt: bool,
}

impl Key {
    pub(crate) const fn minted() -> Self {
        Self { state: State::Minted, unanswered: BTreeMap::new(), in_doubt: false }
    }

    /// What `attempt`, which proves possession of the key, can be told if it asks now.
    pub(crate) fn expects(&self, attempt: u8) -> Expect {
        let others = self.unanswered.keys().any(|other| *other != attempt);
        let own = self.unanswered.contains_key(&attempt);
        match self.state {
            State::Redeemed { by } if by != attempt => Expect::No,
            State::Redeemed { .. } if !self.in_doubt => Expect::Yes,
            State::Minted if !others && !self.in_doubt => Expect::Yes,
            State::Minted | State::Redeemed { .. } => Expect::Either,
            State::Superseded if own => Expect::Either,
            State::Superseded | State::Expired | State::Revoked | State::Void => Expect::No,
        }
    }

    /// `attempt` asks.
    pub(crate) fn asked(&mut self, attempt: u8) {
        *self.unanswered.entry(attempt).or_default() += 1;
    }

    /// `attempt` is told no, for good.
    pub(crate) fn refused(&mut self, attempt: u8) {
        if let Some(times) = self.unanswered.get_mut(&attempt) {
            *times -= 1;
        }
        self.unanswered.retain(|_, times| *times > 0);
    }

    /// `attempt` is told yes. Says whether that can be.
    pub(crate) fn redeemed(&mut self, attempt: u8) -> bool {
        self.refused(attempt);
        match self.state {
            State::Minted | State::Superseded => self.state = State::Redeemed { by: attempt },
            State::Redeemed { by } => return by == attempt,
            // It was told before it was over, and hears of it later.
            State::Expired | State::Revoked | State::Void => {}
        }
        true
    }

    /// A later epoch of its series begins.
    pub(crate) const fn superseded(&mut self) {
        if matches!(self.state, State::Minted) {
            self.state = State::Superseded;
        }
    }

    /// Its life is over: `State::Expired`, `State::Revoked` or `State::Void`.
    pub(crate) const fn over(&mut self, how: State) {
        if !matches!(self.state, State::Void) {
            self.state = how;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attempt_has_it_until_it_is_over() {
        let mut key = Key::minted();
        assert_eq!(key.expects(1), Expect::Yes);
        key.asked(1);
        assert_eq!((key.expects(1), key.expects(2)), (Expect::Yes, Expect::Either));
        assert!(key.redeemed(1));
        assert_eq!((key.expects(1), key.expects(2)), (Expect::Yes, Expect::No));
        assert!(!key.redeemed(2));
        key.superseded();
        assert_eq!(key.expects(1), Expect::Yes);
        key.over(State::Revoked);
        assert_eq!(key.expects(1), Expect::No);
    }

    #[test]
    fn what_is_superseded_belongs_at_most_to_who_was_not_answered() {
        let mut key = Key::minted();
        key.asked(1);
        key.superseded();
        assert_eq!((key.expects(1), key.expects(2)), (Expect::Either, Expect::No));
        key.refused(1);
        assert_eq!(key.expects(1), Expect::No);
    }
}
