//! Checking a log record by record.

use super::tree::{Edge, Head, Sequence, TreeHash};

/// Checks a log record by record, from the first.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    edge: Edge,
}

impl Verifier {
    /// Takes in the next record, which is number `sequence` and has `body`. Returns its hash.
    ///
    /// # Errors
    ///
    /// [`BrokenLog::Gap`] if it is not the next.
    pub fn push(&mut self, sequence: Sequence, body: &[u8]) -> Result<TreeHash, BrokenLog> {
        let expected = self.edge.size().saturating_add(1);
        if sequence != expected {
            return Err(BrokenLog::Gap { expected, found: sequence });
        }
        let leaf = TreeHash::of_leaf(body);
        self.edge.push(leaf);
        Ok(leaf)
    }

    /// The same for a record whose hash is said to be `leaf`.
    ///
    /// # Errors
    ///
    /// [`BrokenLog::Hash`], too, if it is another; nothing is taken in.
    pub fn push_hashed(
        &mut self,
        sequence: Sequence,
        body: &[u8],
        leaf: TreeHash,
    ) -> Result<(), BrokenLog> {
        if TreeHash::of_leaf(body) != leaf {
            return Err(BrokenLog::Hash { sequence });
        }
        self.push(sequence, body).map(|_leaf| ())
    }

    /// How far the log goes, and its root, as far as it was taken in.
    #[must_use]
    pub fn head(&self) -> Head {
        self.edge.head()
    }

    /// Checks that the records so far are those over which somebody remembers `head`.
    ///
    /// # Errors
    ///
    /// [`BrokenLog::Root`] if they are others, or not as many.
    pub fn check(&self, head: &Head) -> Result<(), BrokenLog> {
        let same = self.edge.head() == *head;
        if same { Ok(()) } else { Err(BrokenLog::Root { size: head.size }) }
    }
}

/// How a log was changed after it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BrokenLog {
    /// A record is missing, repeated or moved.
    #[error("record {expected} is missing: the log continues with record {found}")]
    Gap {
        /// The number that should follow.
        expected: Sequence,
        /// The number that follows.
        found: Sequence,
    },
    /// A record was edited.
    #[error("record {sequence} does not match its hash: it was changed")]
    Hash {
        /// Which.
        sequence: Sequence,
    },
    /// The first records are not those that were there before.
    #[error("the first {size} records are not those whose tree was written down: one was changed")]
    Root {
        /// How many.
        size: Sequence,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `records` and compares with the log of "a", "b" and "c".
    fn verify(records: &[(Sequence, &str)]) -> Result<(), BrokenLog> {
        let whole = ["a", "b", "c"].map(|body| TreeHash::of_leaf(body.as_bytes()));
        let mut verifier = Verifier::default();
        for (sequence, body) in records {
            verifier.push(*sequence, body.as_bytes())?;
        }
        verifier.check(&whole.into_iter().collect::<Edge>().head())
    }

    #[test]
    fn every_change_is_found() {
        assert_eq!(verify(&[(1, "a"), (2, "b"), (3, "c")]), Ok(()));
        let changed = Err(BrokenLog::Root { size: 3 });
        assert_eq!(verify(&[(1, "a"), (2, "B"), (3, "c")]), changed);
        assert_eq!(verify(&[(1, "b"), (2, "a"), (3, "c")]), changed);
        assert_eq!(verify(&[(1, "a"), (2, "b")]), changed);
        assert_eq!(verify(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]), changed);
        let gap = |expected, found| Err(BrokenLog::Gap { expected, found });
        assert_eq!(verify(&[(1, "a"), (3, "c")]), gap(2, 3));
        assert_eq!(verify(&[(2, "b"), (1, "a"), (3, "c")]), gap(1, 2));
    }

    #[test]
    fn a_record_that_does_not_have_its_hash_is_not_taken_in() {
        let mut verifier = Verifier::default();
        let leaf = TreeHash::of_leaf(b"a");
        let edited = Err(BrokenLog::Hash { sequence: 1 });
        assert_eq!(verifier.push_hashed(1, b"b", leaf), edited);
        assert_eq!(verifier.head(), Head::default());
        assert_eq!(verifier.push_hashed(1, b"a", leaf), Ok(()));
        assert_eq!(verifier.head().root, leaf);
    }
}
