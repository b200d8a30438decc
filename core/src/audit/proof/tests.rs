use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::audit::tile::{Growth, WIDTH};
use crate::audit::tree::by_definition;

/// A tree with all its leaves, and its tiles.
struct Tree {
    leaves: Vec<TreeHash>,
    tiles: BTreeMap<TileId, Vec<TreeHash>>,
}

fn tree(size: u64) -> Tree {
    let leaves: Vec<_> = (0..size).map(|n| TreeHash::of_leaf(&n.to_be_bytes())).collect();
    let mut growth = Growth::default();
    leaves.iter().for_each(|leaf| growth.push(*leaf));
    let mut tiles = growth.take_changed();
    for (index, tile) in (0..).zip(leaves.chunks(WIDTH)) {
        tiles.insert(TileId { level: 0, index }, tile.to_vec());
    }
    Tree { leaves, tiles }
}

impl Tree {
    fn head(&self, size: u64) -> Head {
        Head { size, root: self.root(0..size) }
    }

    fn root(&self, range: Range<u64>) -> TreeHash {
        let place = |n: u64| usize::try_from(n).unwrap();
        by_definition(&self.leaves[place(range.start)..place(range.end)])
    }

    fn resolve(&self, wanted: &Wanted) -> Vec<TreeHash> {
        let named = wanted.tiles();
        let tile = |id| {
            assert!(named.contains(&id), "{id:?}");
            self.tiles.get(&id).map(Vec::as_slice)
        };
        let hashes = wanted.resolve(tile).unwrap();
        let expected: Vec<_> = wanted.0.iter().map(|range| self.root(range.clone())).collect();
        assert_eq!(hashes, expected);
        hashes
    }
}

#[test]
fn every_leaf_of_small_trees_is_shown_and_no_other() {
    let tree = tree(40);
    for size in 1..=40_u64 {
        let head = tree.head(size);
        assert_eq!(tree.resolve(&Wanted::root(size)), [head.root]);
        for (index, leaf) in (0..size).zip(&tree.leaves) {
            let path = tree.resolve(&Wanted::inclusion(index, size).unwrap());
            assert_eq!(verify_inclusion(index, *leaf, &path, &head), Ok(()));
            for other in (0..=size).filter(|other| *other != index) {
                assert_eq!(verify_inclusion(other, *leaf, &path, &head), Err(WrongProof));
            }
            refuses_changes(&path, |path| verify_inclusion(index, *leaf, path, &head));
        }
        assert_eq!(Wanted::inclusion(size, size), None);
    }
}

#[test]
fn small_trees_continue_each_other_and_no_other() {
    let tree = tree(40);
    for new in 0..=40_u64 {
        for old in 0..=new {
            let (before, after) = (tree.head(old), tree.head(new));
            let path = tree.resolve(&Wanted::consistency(old, new).unwrap());
            assert_eq!(verify_consistency(&before, &after, &path), Ok(()), "{old} {new}");
            refuses_changes(&path, |path| verify_consistency(&before, &after, path));
            let forked = Head { root: TreeHash::from_bytes([7; 32]), ..before };
            assert_eq!(verify_consistency(&forked, &after, &path), Err(WrongProof));
            let forked = Head { root: TreeHash::from_bytes([7; 32]), ..after };
            if old > 0 {
                assert_eq!(verify_consistency(&before, &forked, &path), Err(WrongProof));
            }
        }
        assert_eq!(Wanted::consistency(new + 1, new), None);
        let longer = Head { size: new + 1, ..Head::default() };
        assert_eq!(verify_consistency(&longer, &tree.head(new), &[]), Err(WrongProof));
    }
}

#[track_caller]
fn refuses_changes(path: &[TreeHash], verify: impl Fn(&[TreeHash]) -> Result<(), WrongProof>) {
    let mut longer = path.to_vec();
    longer.push(TreeHash::EMPTY);
    assert_eq!(verify(&longer), Err(WrongProof));
    for at in 0..path.len() {
        let mut changed = path.to_vec();
        changed[at] = TreeHash::EMPTY;
        assert_eq!(verify(&changed), Err(WrongProof));
        let mut shorter = path.to_vec();
        shorter.remove(at);
        assert_eq!(verify(&shorter), Err(WrongProof));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Across several levels of tiles.
    #[test]
    fn large_trees_are_no_different(
        size in 1_u64..70_000,
        shares in proptest::collection::vec((0_u64..1_000, 0_u64..1_000), 6)
    ) {
        let tree = tree(size);
        let head = tree.head(size);
        for (one, other) in shares {
            let (old, index) = (size * one / 1_000, size * other / 1_000);
            let path = tree.resolve(&Wanted::inclusion(index, size).unwrap());
            let leaf = tree.leaves[usize::try_from(index).unwrap()];
            prop_assert_eq!(verify_inclusion(index, leaf, &path, &head), Ok(()));
            let path = tree.resolve(&Wanted::consistency(old, size).unwrap());
            prop_assert_eq!(verify_consistency(&tree.head(old), &head, &path), Ok(()));
        }
    }
}
