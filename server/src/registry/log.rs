//! The newest changes, in order and without a gap, so that an agent that was away catches up.

use std::collections::VecDeque;

use claviger_core::entry::EntryId;

use super::entries::Key;

/// How many changes are remembered: about 2 MB. An agent that missed more receives a snapshot.
const REMEMBERED: usize = 16_384;

/// One change to what agents may serve.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// An entry came, changed or went.
    Entry {
        /// Which.
        id: EntryId,
        /// What it was under.
        before: Option<Key>,
        /// What it is under.
        after: Option<Key>,
        /// Others hang under it, or it is a node alias: more changes for an agent than this entry.
        structural: bool,
    },
    /// An agent has other selectors than before.
    Agent(Key),
}

/// The newest changes.
#[derive(Debug)]
pub(super) struct Log {
    /// The number of the newest change, remembered or not.
    head: u64,
    /// The changes with the numbers up to `head`, oldest first.
    changes: VecDeque<Change>,
}

impl Log {
    /// A log that goes on after change number `head`, which it does not remember.
    pub(super) fn after(head: u64) -> Self {
        Self { head, changes: VecDeque::new() }
    }

    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Appends a change and gives its number.
    pub(super) fn push(&mut self, change: Change) -> u64 {
        if self.changes.len() == REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.head = self.head.saturating_add(1);
        self.head
    }

    /// The changes up to number `sequence` were made, whichever they were: if they are not all here, none
    /// is remembered.
    pub(super) fn go_on_after(&mut self, sequence: u64) {
        if self.head != sequence {
            *self = Self::after(self.head.max(sequence));
        }
    }

    /// Every change after number `sequence`; `None` if not all of them are remembered, or if the
    /// number was never given out.
    pub(super) fn since(&self, sequence: u64) -> Option<impl Iterator<Item = &Change>> {
        let missed = usize::try_from(self.head.checked_sub(sequence)?).ok()?;
        let skipped = self.changes.len().checked_sub(missed)?;
        Some(self.changes.iter().skip(skipped))
    }

    /// The newest change to the entry `id` that is remembered.
    pub(super) fn newest(&self, id: &EntryId) -> Option<&Change> {
        let is_it = |change: &&Change| matches!(change, Change::Entry { id: of, .. } if of == id);
        self.changes.iter().rev().find(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::id;
    use super::*;

    fn change(number: usize) -> Change {
        Change::Entry {
            id: format!("e{number}").parse().unwrap(),
            before: None,
            after: Some(Key::of_id(&id("/a"))),
            structural: false,
        }
    }

    fn ids(log: &Log, sequence: u64) -> Option<Vec<String>> {
        let id = |change: &Change| match change {
            Change::Entry { id, .. } => id.to_string(),
            Change::Agent(_) => panic!("no agents here"),
        };
        log.since(sequence).map(|changes| changes.map(id).collect())
    }

    #[test]
    fn whoever_missed_little_catches_up() {
        let mut log = Log::after(10);
        assert_eq!((log.push(change(11)), log.push(change(12))), (11, 12));
        assert_eq!(ids(&log, 10), Some(vec!["e11".into(), "e12".into()]));
        assert_eq!(ids(&log, 11), Some(vec!["e12".into()]));
        assert_eq!(ids(&log, 12), Some(vec![]));
        assert_eq!(ids(&log, 9), None, "from before a restart");
        assert_eq!(ids(&log, 13), None, "from a future that was undone");
        assert!(log.newest(&"e11".parse().unwrap()).is_some());
        assert!(log.newest(&"e10".parse().unwrap()).is_none());
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut log = Log::after(0);
        for number in 1..=REMEMBERED + 1 {
            log.push(change(number));
        }
        assert_eq!(log.changes.len(), REMEMBERED);
        assert_eq!(ids(&log, 0), None);
        assert_eq!(ids(&log, 1).map(|ids| ids.len()), Some(REMEMBERED));
    }
}
