//! Hashes of the tree (RFC 6962 §2.1), and a tree that grows at its right edge.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The number of a record; the first is 1. As a leaf of the tree its index is one less.
pub type Sequence = u64;

/// The SHA-256 of a leaf or of a node. As JSON it is hexadecimal.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
pub struct TreeHash(#[serde(with = "hex::serde")] [u8; 32]);

impl TreeHash {
    /// The root of a tree without leaves: the SHA-256 of nothing.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of the leaf that holds `body`.
    #[must_use]
    pub fn of_leaf(body: &[u8]) -> Self {
        Self::of(&[&[0], body])
    }

    /// The hash of the node above `left` and `right`.
    #[must_use]
    pub fn of_node(left: &Self, right: &Self) -> Self {
        Self::of(&[&[1], &left.0, &right.0])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}

/// How far a log goes, and what it contains.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Head {
    /// How many records there are, which is the number of the newest.
    pub size: Sequence,
    /// The root of their tree.
    pub root: TreeHash,
}

impl Default for Head {
    /// The head of an empty log.
    fn default() -> Self {
        Self { size: 0, root: TreeHash::EMPTY }
    }
}

/// The right edge of a tree: all that is needed to append to it and to know its root.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edge {
    size: u64,
    /// The roots of the largest complete subtrees, from left to right: as many as `size` has ones.
    peaks: Vec<TreeHash>,
}

impl Edge {
    /// Appends a leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        let (mut hash, mut smaller) = (leaf, self.size);
        while smaller & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = TreeHash::of_node(&left, &hash);
            smaller >>= 1;
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the largest complete subtrees, from left to right.
    #[must_use]
    pub fn peaks(&self) -> &[TreeHash] {
        &self.peaks
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        fold(None, &self.peaks).unwrap_or(TreeHash::EMPTY)
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { size: self.size, root: self.root() }
    }
}

impl FromIterator<TreeHash> for Edge {
    fn from_iter<T: IntoIterator<Item = TreeHash>>(leaves: T) -> Self {
        let mut edge = Self::default();
        leaves.into_iter().for_each(|leaf| edge.push(leaf));
        edge
    }
}

/// The root above complete subtrees, `peaks` from left to right and whatever is to their `right`.
pub(super) fn fold(right: Option<TreeHash>, peaks: &[TreeHash]) -> Option<TreeHash> {
    peaks.iter().rev().fold(right, |right, left| {
        Some(right.map_or(*left, |right| TreeHash::of_node(left, &right)))
    })
}

/// The definition of RFC 6962 §2.1, to compare with.
#[cfg(test)]
pub(super) fn by_definition(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => TreeHash::EMPTY,
        [leaf] => *leaf,
        _ => {
            let middle = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(middle);
            TreeHash::of_node(&by_definition(left), &by_definition(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves and roots that RFC 6962's reference implementation is tested with.
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let leaves = [
            &b""[..],
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        assert_eq!(edge.head(), Head::default());
        for (leaf, root) in leaves.iter().zip(roots) {
            edge.push(TreeHash::of_leaf(leaf));
            assert_eq!(edge.root().to_string(), root);
        }
    }

    #[test]
    fn the_edge_has_the_root_of_the_whole_tree() {
        let leaves: Vec<_> = (0..600_u16).map(|n| TreeHash::of_leaf(&n.to_be_bytes())).collect();
        let mut edge = Edge::default();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(edge.root(), by_definition(&leaves[..size]), "{size}");
            assert_eq!(edge.peaks().len(), usize::try_from(size.count_ones()).unwrap());
            edge.push(*leaf);
        }
    }
}
