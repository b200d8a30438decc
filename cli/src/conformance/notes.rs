//! What was seen about each check, and what becomes of it.

use std::collections::BTreeMap;

use super::catalogue::{CATALOGUE, Check, Level, Sight};
use super::report::{Miss, Outcome, Verdict};

/// The most failures that are told of one check; more would say the same.
const MAX_FAILURES: usize = 8;
/// The longest that a peer's words are repeated, in characters.
const MAX_SEEN: usize = 300;

/// Everything seen.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<u8, Note>);

#[derive(Debug, Default)]
struct Note {
    looked_at: Vec<&'static str>,
    failures: Vec<Miss>,
    unseen: Vec<&'static str>,
}

/// `Ok`, or what was seen instead of what was expected.
pub(super) type Seen = Result<(), String>;

/// Turns a condition into what was seen.
pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Seen {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Notes {
    /// Something that must be so was looked at.
    pub(super) fn must(&mut self, check: u8, expected: &'static str, seen: Seen) {
        self.note(check, Level::Must, expected, seen);
    }

    /// Something that should be so was looked at.
    pub(super) fn should(&mut self, check: u8, expected: &'static str, seen: Seen) {
        self.note(check, Level::Should, expected, seen);
    }

    /// Something was looked at.
    pub(super) fn note(&mut self, check: u8, level: Level, expected: &'static str, seen: Seen) {
        let note = self.0.entry(check).or_default();
        if !note.looked_at.contains(&expected) {
            note.looked_at.push(expected);
        }
        if let Err(seen) = seen
            && note.failures.len() < MAX_FAILURES
        {
            let seen = seen.chars().take(MAX_SEEN).collect();
            note.failures.push(Miss { level, expected, seen });
        }
    }

    /// Something could not be looked at.
    pub(super) fn unseen(&mut self, check: u8, why: &'static str) {
        let note = self.0.entry(check).or_default();
        if !note.unseen.contains(&why) {
            note.unseen.push(why);
        }
    }

    /// None of these could be looked at.
    pub(super) fn all_unseen(&mut self, checks: impl IntoIterator<Item = u8>, why: &'static str) {
        for check in checks {
            self.unseen(check, why);
        }
    }

    /// A verdict on every check.
    pub(super) fn verdicts(mut self) -> Vec<Verdict> {
        CATALOGUE
            .iter()
            .map(|check| verdict(check, self.0.remove(&check.number).unwrap_or_default()))
            .collect()
    }
}

fn verdict(check: &Check, note: Note) -> Verdict {
    let outcome = match (note.failures.is_empty(), note.looked_at.is_empty()) {
        (false, _) => Outcome::Failed { failures: note.failures },
        (true, false) => Outcome::Passed,
        (true, true) => {
            let why = match (check.sight, note.unseen.first()) {
                (Sight::Never(why), _) => why,
                (Sight::Socket(_), Some(why)) => why,
                (Sight::Socket(_), None) => "nothing was received that would show it",
            };
            Outcome::NotObservable { why }
        }
    };
    Verdict {
        number: check.number,
        name: check.name,
        standard: check.standard(),
        level: check.level,
        how: match check.sight {
            Sight::Socket(how) => Some(how),
            Sight::Never(_) => None,
        },
        outcome,
        looked_at: note.looked_at,
        not_seen: note.unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(notes: Notes, number: u8) -> Outcome {
        let verdicts = notes.verdicts();
        verdicts.into_iter().find(|verdict| verdict.number == number).unwrap().outcome
    }

    #[test]
    fn what_nobody_looked_at_has_not_passed() {
        let verdicts = Notes::default().verdicts();
        assert_eq!(verdicts.len(), 66);
        for verdict in verdicts {
            assert!(matches!(verdict.outcome, Outcome::NotObservable { .. }), "{}", verdict.number);
        }
        let mut notes = Notes::default();
        notes.unseen(11, "too dark");
        assert_eq!(outcome(notes, 11), Outcome::NotObservable { why: "too dark" });
    }

    #[test]
    fn one_failure_outweighs_whatever_else_was_seen() {
        let mut notes = Notes::default();
        notes.must(11, "a", Ok(()));
        notes.should(11, "b", Err("c".repeat(1_000)));
        notes.must(11, "b", Ok(()));
        let Outcome::Failed { failures } = outcome(notes, 11) else { panic!("passed") };
        let seen = "c".repeat(MAX_SEEN);
        assert_eq!(failures, [Miss { level: Level::Should, expected: "b", seen }]);
    }

    #[test]
    fn a_part_that_was_seen_is_enough_and_the_other_is_told() {
        let mut notes = Notes::default();
        notes.must(11, "a", Ok(()));
        notes.unseen(11, "b");
        let verdict = notes.verdicts().into_iter().find(|verdict| verdict.number == 11).unwrap();
        assert_eq!(verdict.outcome, Outcome::Passed);
        assert_eq!((verdict.looked_at, verdict.not_seen), (vec!["a"], vec!["b"]));
    }
}
