//! Things that may happen once: redeeming a PSK, spending a join token.
//!
//! A [`State`] is stored beside each such thing. [`State::present`] is the whole rule; a ledger
//! only has to apply its answer atomically. The first claim wins for good. The same claim may come
//! again, so that an answer lost on the way does not lose the connection; any other claim is a
//! replay.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::bytes::Parts;

/// Who wants it, and in which attempt: a digest over everything that must stay the same for a
/// repetition to count as the same attempt.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim(#[serde(with = "hex::serde")] [u8; 32]);

impl Claim {
    /// The claim made by `parts`, for the use that `label` names.
    #[must_use]
    pub fn new(label: &str, parts: &[&[u8]]) -> Self {
        let bytes = parts.iter().fold(Parts::new(label), |all, part| all.part(part)).finish();
        let mut claim = [0; 32];
        claim.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Self(claim)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({})", hex::encode(self.0))
    }
}

/// How far a thing that may happen once has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody has claimed it.
    Unused,
    /// It belongs to this claim for ever.
    Spent {
        /// The first claim.
        by: Claim,
        /// Whether a replay was already written to the audit log. One record per thing: an
        /// attacker who replays for an hour must not fill the log.
        alarmed: bool,
    },
}

/// What to do about a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Store this state durably, then say yes.
    First(State),
    /// Say yes again; nothing changes.
    Repeat,
    /// Say no. If there is a state, store it together with an audit record.
    Replay(Option<State>),
}

impl State {
    /// Decides about `claim`.
    #[must_use]
    pub fn present(self, claim: Claim) -> Answer {
        match self {
            Self::Unused => Answer::First(Self::Spent { by: claim, alarmed: false }),
            Self::Spent { by, .. } if by == claim => Answer::Repeat,
            Self::Spent { by, alarmed: false } => {
                Answer::Replay(Some(Self::Spent { by, alarmed: true }))
            }
            Self::Spent { alarmed: true, .. } => Answer::Replay(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(byte: u8) -> Claim {
        Claim([byte; 32])
    }

    #[test]
    fn the_first_claim_wins_and_may_repeat() {
        let Answer::First(spent) = State::Unused.present(claim(1)) else { panic!("refused") };
        assert_eq!(spent.present(claim(1)), Answer::Repeat);
        assert!(matches!(spent.present(claim(2)), Answer::Replay(Some(_))));
    }

    #[test]
    fn only_the_first_replay_asks_for_a_record() {
        let spent = State::Spent { by: claim(1), alarmed: false };
        let Answer::Replay(Some(alarmed)) = spent.present(claim(2)) else { panic!("no alarm") };
        assert_eq!(alarmed.present(claim(3)), Answer::Replay(None));
        assert_eq!(alarmed.present(claim(1)), Answer::Repeat);
    }

    #[test]
    fn every_part_makes_another_claim() {
        let one = Claim::new("x", &[b"a", b"b"]);
        assert_eq!(one, Claim::new("x", &[b"a", b"b"]));
        for other in [Claim::new("y", &[b"a", b"b"]), Claim::new("x", &[b"ab", b""])] {
            assert_ne!(one, other);
        }
    }

    proptest! {
        /// Whatever the order of the claims, exactly one of them is ever told yes.
        #[test]
        fn one_winner(claims in prop::collection::vec(0..5_u8, 1..100)) {
            let mut state = State::Unused;
            let mut winner = None;
            for byte in claims {
                match state.present(claim(byte)) {
                    Answer::First(next) => {
                        prop_assert_eq!(winner.replace(byte), None);
                        state = next;
                    }
                    Answer::Repeat => prop_assert_eq!(winner, Some(byte)),
                    Answer::Replay(next) => {
                        prop_assert_ne!(winner, Some(byte));
                        state = next.unwrap_or(state);
                    }
                }
            }
        }
    }
}
