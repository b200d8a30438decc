//! The parts of a table that expire together.
//!
//! Keys of what expires begin with when it does. All that expires within one span lies in one partition,
//! and when the span is over, the partition is dropped: that costs the same whatever is in it.

use std::collections::BTreeSet;

use super::{schema, table};
use crate::store::Space;

/// One partition.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Partition {
    /// The least key in it.
    pub(super) least: Vec<u8>,
    /// The least key after it; none if it is the last that there can be.
    above: Option<Vec<u8>>,
    space: Space,
}

/// How many bytes of a key of `space` are a time, in which unit, and how long a span is.
const fn span(space: Space) -> Option<(usize, u64)> {
    match space {
        // Minutes; keys live for five, so there are two or three partitions.
        Space::Psks => Some((4, 10)),
        // Seconds; what is remembered lives for a day at most.
        Space::Once => Some((8, 3_600)),
        // Seconds; SVIDs live for an hour or for weeks.
        Space::Issued => Some((8, 6 * 3_600)),
        Space::Meta
        | Space::Entries
        | Space::Agents
        | Space::Tokens
        | Space::Audit
        | Space::Tiles
        | Space::Authorities
        | Space::Standings
        | Space::Approvals
        | Space::Policies
        | Space::Series => None,
    }
}

/// The spaces that are kept in partitions.
pub(super) fn spaces() -> impl Iterator<Item = Space> {
    Space::ALL.into_iter().filter(|space| span(*space).is_some())
}

/// The partition in which `key` of `space` lies; `None` if that has none, or the key begins with no time.
pub(super) fn of(space: Space, key: &[u8]) -> Option<Partition> {
    let (width, span) = span(space)?;
    let time = key.get(..width)?.iter().try_fold(0_u64, |time, byte| {
        time.checked_mul(256).map(|time| time.saturating_add(u64::from(*byte)))
    })?;
    let least = time.checked_sub(time.checked_rem(span)?)?;
    let bytes =
        |time: u64| time.to_be_bytes().get(8_usize.saturating_sub(width)..).map(<[u8]>::to_vec);
    let above = least.checked_add(span).filter(|above| width == 8 || *above <= u64::from(u32::MAX));
    Some(Partition { least: bytes(least)?, above: above.and_then(bytes), space })
}

impl Partition {
    /// Its table's name, by which it is found again: names sort as the partitions do.
    pub(super) fn name(&self) -> String {
        format!("{}_{}", self.space.name(), hex::encode(&self.least))
    }

    /// The partition of `space` whose table is called `name`.
    pub(super) fn named(space: Space, name: &str) -> Option<Self> {
        let hex = name.strip_prefix(space.name())?.strip_prefix('_')?;
        of(space, &hex::decode(hex).ok()?).filter(|partition| partition.name() == name)
    }

    /// Whether all that can be in it is less than `key`.
    pub(super) fn is_below(&self, key: &[u8]) -> bool {
        self.above.as_deref().is_some_and(|above| above <= key)
    }

    /// The statement that makes it.
    pub(super) fn create(&self) -> String {
        let to = self
            .above
            .as_ref()
            .map_or_else(|| "MAXVALUE".to_owned(), |above| format!("'\\x{}'", hex::encode(above)));
        format!(
            "CREATE TABLE IF NOT EXISTS {}.{} PARTITION OF {} FOR VALUES FROM ('\\x{}') TO ({to})",
            schema::NAME,
            self.name(),
            table(self.space),
            hex::encode(&self.least),
        )
    }

    /// The statement that drops it.
    pub(super) fn drop(&self) -> String {
        format!("DROP TABLE IF EXISTS {}.{}", schema::NAME, self.name())
    }

    /// Those of `known` that hold nothing but keys of `space` below `key`.
    pub(super) fn below(known: &BTreeSet<Self>, space: Space, key: &[u8]) -> Vec<Self> {
        let ends = |partition: &&Self| partition.space == space && partition.is_below(key);
        known.iter().filter(ends).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::psk::identity::Serial;
    use claviger_core::time::UnixTime;

    use super::*;

    #[test]
    fn what_expires_together_lies_together() {
        let key = |secs| Serial::new(UnixTime::from_secs(secs), [7; 12]).to_key();
        let first = of(Space::Psks, &key(600_000)).unwrap();
        assert_eq!(of(Space::Psks, &key(600_599)).unwrap(), first);
        let second = of(Space::Psks, &key(600_600)).unwrap();
        assert_ne!(second, first);
        assert!(first.name() < second.name());
        assert!(first.is_below(&key(600_600)));
        assert!(first.is_below(&second.least));
        assert!(!first.is_below(&key(600_599)));
        assert_eq!(Partition::named(Space::Psks, &first.name()), Some(first));
        assert_eq!(Partition::named(Space::Psks, "psks_rest"), None);
    }

    #[test]
    fn what_begins_with_no_time_has_no_partition_and_the_last_has_no_end() {
        assert_eq!(of(Space::Psks, b"abc"), None);
        assert_eq!(of(Space::Entries, b"abcdefgh"), None);
        for space in spaces() {
            let last = of(space, &[0xff; 8]).unwrap();
            assert!(!last.is_below(&[0xff; 32]), "{space:?}");
            assert!(last.create().ends_with("TO (MAXVALUE)"), "{}", last.create());
        }
    }
}
