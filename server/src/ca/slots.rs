//! Which authority signs, and when the next one is made: a pure schedule.
//!
//! There are two slots. While one authority signs, its successor is made and published at half life
//! ([`Validity::prepare_at`]), so that everyone has heard of it before it signs, and takes over when
//! a sixth is left ([`Validity::activate_at`]). Who has been replaced stays in the bundle until its
//! own end, for what it signed.

//!
//! The schedule is the same for certificates and for tokens; what an authority shows of itself, `A`,
//! is not.

use claviger_core::evidence::KeyDigest;
use claviger_core::svid::Validity;
use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

/// Every authority of one profile that the trust domain believes, as it is stored.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Slots<A> {
    /// Rises with every change to the set of authorities (SPIFFE bundle §4.1.1).
    sequence: u64,
    /// Oldest first.
    authorities: Vec<Slot<A>>,
}

impl<A> Default for Slots<A> {
    fn default() -> Self {
        Self { sequence: 0, authorities: Vec::new() }
    }
}

/// One authority.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Slot<A> {
    /// The digest of its public key.
    pub key: KeyDigest,
    /// What it shows of itself.
    #[serde(flatten)]
    pub public: A,
    /// When it is valid.
    pub validity: Validity,
    /// How far it has come.
    pub state: State,
}

impl<A> Slot<A> {
    /// Names its key file.
    #[must_use]
    pub fn id(&self) -> String {
        self.key.to_string()
    }
}

/// How far an authority has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Published, and does not sign yet.
    Prepared,
    /// It signs.
    Active,
    /// It does not sign any more; what it signed is still valid.
    Retired,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Drop the authorities that have expired.
    Prune,
    /// Make and publish the next authority.
    Prepare,
    /// Let the prepared authority sign.
    Activate,
}

impl<A> Slots<A> {
    /// What is due at `now`, if anything.
    #[must_use]
    pub fn due(&self, now: UnixTime) -> Option<Step> {
        if self.authorities.iter().any(|slot| slot.validity.not_after < now) {
            return Some(Step::Prune);
        }
        match (self.active(), self.prepared()) {
            (None, None) => Some(Step::Prepare),
            (None, Some(_)) => Some(Step::Activate),
            (Some(active), None) if active.validity.prepare_at() <= now => Some(Step::Prepare),
            (Some(active), Some(_)) if active.validity.activate_at() <= now => Some(Step::Activate),
            (Some(_), None | Some(_)) => None,
        }
    }

    /// When [`Self::due`] will next say something, at the latest; the end of time if never.
    #[must_use]
    pub fn next_due(&self) -> UnixTime {
        let ends = self.authorities.iter().map(|slot| after_second(slot.validity.not_after));
        let turn = self.active().map(|active| match self.prepared() {
            None => active.validity.prepare_at(),
            Some(_) => active.validity.activate_at(),
        });
        ends.chain(turn).min().unwrap_or(UnixTime::MAX)
    }

    /// Who signs.
    #[must_use]
    pub fn active(&self) -> Option<&Slot<A>> {
        self.in_state(State::Active)
    }

    /// Who will sign next.
    #[must_use]
    pub fn prepared(&self) -> Option<&Slot<A>> {
        self.in_state(State::Prepared)
    }

    fn in_state(&self, state: State) -> Option<&Slot<A>> {
        self.authorities.iter().find(|slot| slot.state == state)
    }

    /// Every authority, oldest first.
    #[must_use]
    pub fn authorities(&self) -> &[Slot<A>] {
        &self.authorities
    }

    /// The number of this set of authorities.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// With one authority more.
    #[must_use]
    pub fn with_prepared(mut self, slot: Slot<A>) -> Self {
        self.authorities.push(slot);
        self.sequence = self.sequence.saturating_add(1);
        self
    }

    /// With the prepared authority signing in place of the active one.
    #[must_use]
    pub fn with_activated(mut self) -> Self {
        for slot in &mut self.authorities {
            slot.state = match slot.state {
                State::Active | State::Retired => State::Retired,
                State::Prepared => State::Active,
            };
        }
        self
    }

    /// Without those that have expired at `now`.
    #[must_use]
    pub fn without_expired(mut self, now: UnixTime) -> Self {
        self.authorities.retain(|slot| now <= slot.validity.not_after);
        self.sequence = self.sequence.saturating_add(1);
        self
    }
}

fn after_second(time: UnixTime) -> UnixTime {
    time.after(std::time::Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::ca::x509::Certificate;

    type Slots = super::Slots<Certificate>;

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    fn slot(number: u8, now: u64) -> Slot<Certificate> {
        Slot {
            key: KeyDigest::of_spki(&[number]),
            public: Certificate { certificate: vec![number].into() },
            validity: Validity { not_before: at(now), not_after: at(now + 600) },
            state: State::Prepared,
        }
    }

    fn states(slots: &Slots) -> Vec<State> {
        slots.authorities.iter().map(|slot| slot.state).collect()
    }

    #[test]
    fn one_authority_follows_the_other() {
        let slots = Slots::default();
        assert_eq!(slots.due(at(1_000)), Some(Step::Prepare));
        let slots = slots.with_prepared(slot(1, 1_000));
        assert_eq!(slots.due(at(1_000)), Some(Step::Activate), "nobody signs: no time to lose");
        let slots = slots.with_activated();
        assert_eq!((slots.due(at(1_299)), slots.next_due()), (None, at(1_300)));
        assert_eq!(slots.due(at(1_300)), Some(Step::Prepare));
        let slots = slots.with_prepared(slot(2, 1_300));
        assert_eq!(states(&slots), [State::Active, State::Prepared]);
        assert_eq!((slots.due(at(1_499)), slots.next_due()), (None, at(1_500)));
        assert_eq!(slots.due(at(1_500)), Some(Step::Activate));
        let slots = slots.with_activated();
        assert_eq!(states(&slots), [State::Retired, State::Active]);
        assert_eq!((slots.due(at(1_599)), slots.next_due()), (None, at(1_600)));
        assert_eq!(slots.due(at(1_600)), Some(Step::Prepare));
        let slots = slots.with_prepared(slot(3, 1_600));
        assert_eq!((slots.due(at(1_600)), slots.next_due()), (None, at(1_601)));
        assert_eq!(slots.due(at(1_601)), Some(Step::Prune));
        let slots = slots.without_expired(at(1_601));
        assert_eq!(states(&slots), [State::Active, State::Prepared]);
        assert_eq!(slots.sequence(), 4);
    }

    #[test]
    fn after_a_long_absence_only_what_is_valid_counts() {
        let slots =
            Slots::default().with_prepared(slot(1, 0)).with_activated().with_prepared(slot(2, 300));
        assert_eq!(slots.due(at(700)), Some(Step::Prune));
        let slots = slots.without_expired(at(700));
        assert_eq!(slots.due(at(700)), Some(Step::Activate));
        let slots = slots.with_activated().without_expired(at(5_000));
        assert_eq!(slots.due(at(5_000)), Some(Step::Prepare));
    }

    /// As the first version wrote them, which knew certificates only.
    #[test]
    fn slots_are_stored_as_they_always_were() {
        let json = format!(
            r#"{{"sequence":1,"authorities":[{{"key":"{}","certificate":"AQ==","#,
            KeyDigest::of_spki(&[1])
        ) + r#""validity":{"not_before":0,"not_after":600},"state":"active"}]}"#;
        let slots: Slots = serde_json::from_str(&json).unwrap();
        assert_eq!(slots.active().unwrap().public, slot(1, 0).public);
        assert_eq!(serde_json::to_string(&slots).unwrap(), json);
        let made = Slots::default().with_prepared(slot(1, 0)).with_activated();
        assert_eq!(serde_json::to_string(&made).unwrap(), json);
    }

    proptest! {
        /// However the clock jumps, doing what is due ends with a valid authority that signs, and
        /// a few of them in all.
        #[test]
        fn somebody_always_signs(jumps in prop::collection::vec(0..2_000_u64, 1..40)) {
            let (mut slots, mut now) = (Slots::default(), 1_000);
            for jump in jumps {
                now += jump;
                let mut steps = 0;
                while let Some(step) = slots.due(at(now)) {
                    slots = match step {
                        Step::Prune => slots.without_expired(at(now)),
                        Step::Prepare => slots.with_prepared(slot(0, now)),
                        Step::Activate => slots.with_activated(),
                    };
                    steps += 1;
                    prop_assert!(steps < 6, "does not come to rest");
                }
                let active = slots.active().unwrap();
                prop_assert!(active.validity.contains(at(now)));
                prop_assert!(slots.authorities().len() <= 3);
                prop_assert!(slots.next_due() > at(now));
                prop_assert!(at(now) < active.validity.activate_at().after(Duration::from_secs(600)));
            }
        }
    }
}
