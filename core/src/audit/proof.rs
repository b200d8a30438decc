//! Proofs (RFC 6962 §2.1.1 and §2.1.2): which hashes they take, where those are among the tiles, and
//! what they show (by the algorithms of RFC 9162 §2.1.3.2 and §2.1.4.2).

use std::collections::BTreeSet;
use std::ops::Range;

use super::tile::{HEIGHT, TileId};
use super::tree::{Edge, Head, TreeHash, fold};

/// The most hashes of a proof.
pub const MAX_HASHES: usize = 64;

/// The hashes that something takes: each is the root over a range of leaves that is a subtree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted(Vec<Range<u64>>);

impl Wanted {
    /// The root over the first `size` leaves.
    #[must_use]
    pub fn root(size: u64) -> Self {
        Self(std::iter::once(0..size).collect())
    }

    /// What shows that leaf `index` is in the tree of `size` leaves; `None` if it can't be.
    #[must_use]
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut path, mut at) = (Vec::new(), 0..size);
        while let Some(middle) = middle(&at) {
            let (left, right) = (at.start..middle, middle..at.end);
            let (next, sibling) = if index < middle { (left, right) } else { (right, left) };
            path.push(sibling);
            at = next;
        }
        path.reverse();
        Some(Self(path))
    }

    /// What shows that the tree of `new` leaves begins with that of `old` leaves; `None` if it can't.
    /// Nothing is needed if the old one is empty or the same.
    #[must_use]
    pub fn consistency(old: u64, new: u64) -> Option<Self> {
        if old > new {
            return None;
        }
        let (mut path, mut at) = (Vec::new(), 0..new);
        if old == 0 || old == new {
            return Some(Self(path));
        }
        while let Some(middle) = middle(&at).filter(|_| at.end != old) {
            let (left, right) = (at.start..middle, middle..at.end);
            let (next, sibling) = if old <= middle { (left, right) } else { (right, left) };
            path.push(sibling);
            at = next;
        }
        if at.start != 0 {
            path.push(at);
        }
        path.reverse();
        Some(Self(path))
    }

    /// The tiles in which these hashes are. They fit a tree that has all the leaves.
    #[must_use]
    pub fn tiles(&self) -> BTreeSet<TileId> {
        self.0.iter().flat_map(nodes).map(|node| node.tile()).collect()
    }

    /// The hashes, out of the tiles that `tile` gives; `None` if one is missing or too narrow.
    pub fn resolve<'a>(
        &self,
        tile: impl Fn(TileId) -> Option<&'a [TreeHash]>,
    ) -> Option<Vec<TreeHash>> {
        let hash = |range: &Range<u64>| {
            let peaks: Option<Vec<_>> = nodes(range).map(|node| node.hash(&tile)).collect();
            Some(fold(None, &peaks?).unwrap_or(TreeHash::EMPTY))
        };
        self.0.iter().map(hash).collect()
    }
}

/// Where a subtree divides: at the largest power of two below its width. `None` for a leaf.
fn middle(range: &Range<u64>) -> Option<u64> {
    let width = range.end.checked_sub(range.start).filter(|width| *width > 1)?;
    let height = width.saturating_sub(1).ilog2();
    range.start.checked_add(1_u64.checked_shl(height)?)
}

/// The root of a complete subtree: number `index` among those of its height.
#[derive(Clone, Copy, Debug)]
struct Node {
    height: u32,
    index: u64,
}

/// The complete subtrees that a subtree consists of, from left to right: the largest first.
fn nodes(range: &Range<u64>) -> impl Iterator<Item = Node> + use<> {
    let Range { mut start, end } = range.clone();
    std::iter::from_fn(move || {
        let height = end.saturating_sub(start).checked_ilog2()?;
        let index = start.checked_shr(height)?;
        start = start.checked_add(1_u64.checked_shl(height)?)?;
        Some(Node { height, index })
    })
}

impl Node {
    /// Where its leaves in the tile's sense begin: those are as many levels below as a tile spans.
    fn first(&self) -> u64 {
        self.index.checked_shl(self.height % HEIGHT).unwrap_or(u64::MAX)
    }

    fn tile(&self) -> TileId {
        let level = u8::try_from(self.height / HEIGHT).unwrap_or(u8::MAX);
        TileId { level, index: self.first() / 256 }
    }

    fn hash<'a>(&self, tile: impl Fn(TileId) -> Option<&'a [TreeHash]>) -> Option<TreeHash> {
        let from = usize::try_from(self.first() % 256).ok()?;
        let count = 1_usize.checked_shl(self.height % HEIGHT)?;
        let hashes = tile(self.tile())?.get(from..from.checked_add(count)?)?;
        Some(hashes.iter().copied().collect::<Edge>().root())
    }
}

/// A proof that shows nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the proof does not lead to the root of the tree")]
pub struct WrongProof;

/// Checks that leaf number `index`, whose hash is `leaf`, is in the tree with this `head`.
///
/// # Errors
///
/// [`WrongProof`] if `path` does not show that.
pub fn verify_inclusion(
    index: u64,
    leaf: TreeHash,
    path: &[TreeHash],
    head: &Head,
) -> Result<(), WrongProof> {
    let mut last = head.size.checked_sub(1).filter(|last| index <= *last).ok_or(WrongProof)?;
    let (mut at, mut hash) = (index, leaf);
    for sibling in path {
        if last == 0 {
            return Err(WrongProof);
        }
        if at & 1 == 1 || at == last {
            hash = TreeHash::of_node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = TreeHash::of_node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && hash == head.root { Ok(()) } else { Err(WrongProof) }
}

/// Checks that the log with the head `new` begins with the log that had the head `old`.
///
/// # Errors
///
/// [`WrongProof`] if `path` does not show that: if it is a right proof for other heads, the log was
/// changed or there are two of it.
pub fn verify_consistency(old: &Head, new: &Head, path: &[TreeHash]) -> Result<(), WrongProof> {
    if old.size == 0 || old.size == new.size {
        let same = if old.size == 0 { old.root == TreeHash::EMPTY } else { old.root == new.root };
        return if same && path.is_empty() { Ok(()) } else { Err(WrongProof) };
    }
    let mut last = new.size.checked_sub(1).filter(|_| old.size < new.size).ok_or(WrongProof)?;
    let mut at = old.size.saturating_sub(1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    // The old tree is complete: its root stands for itself.
    let (first, path) = if old.size.is_power_of_two() {
        (old.root, path)
    } else {
        let (first, rest) = path.split_first().ok_or(WrongProof)?;
        (*first, rest)
    };
    let (mut old_root, mut new_root) = (first, first);
    for hash in path {
        if last == 0 {
            return Err(WrongProof);
        }
        if at & 1 == 1 || at == last {
            old_root = TreeHash::of_node(hash, &old_root);
            new_root = TreeHash::of_node(hash, &new_root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_root = TreeHash::of_node(&new_root, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    let shown = last == 0 && old_root == old.root && new_root == new.root;
    if shown { Ok(()) } else { Err(WrongProof) }
}

#[cfg(test)]
mod tests;
