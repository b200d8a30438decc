//! Tiles ([tlog-tiles](https://c2sp.org/tlog-tiles)): 256 consecutive hashes of every eighth level of
//! the tree. A tile that is full never changes, and one that is not only grows.

use std::collections::BTreeMap;
use std::fmt;

use super::tree::{Edge, Head, TreeHash, fold};

/// How many hashes a full tile has.
pub const WIDTH: usize = 256;

/// How many levels of the tree a tile spans.
pub const HEIGHT: u32 = 8;

/// Which tile.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TileId {
    /// The level: a hash at level 0 is a leaf's, at level n the root of a full tile at level n-1. At
    /// most 7.
    pub level: u8,
    /// Which one on this level, counted from 0.
    pub index: u64,
}

impl TileId {
    /// The most levels of tiles: 64 bits count the leaves.
    pub const LEVELS: u8 = 8;

    /// How many hashes the tile has in a tree of `size` leaves; 0 if there is none.
    #[must_use]
    pub fn width(&self, size: u64) -> usize {
        let before = self.index.saturating_mul(256);
        let on_level = on_level(size, self.level);
        usize::try_from(on_level.saturating_sub(before)).map_or(WIDTH, |width| width.min(WIDTH))
    }
}

/// How many hashes there are on `level` in a tree of `size` leaves.
fn on_level(size: u64, level: u8) -> u64 {
    size.checked_shr(HEIGHT.saturating_mul(level.into())).unwrap_or(0)
}

/// The path of tile number `index`, as tlog-tiles writes it: `x001/x234/067` for 1234067.
#[derive(Clone, Copy, Debug)]
pub struct TilePath(pub u64);

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (above, last) = (self.0 / 1_000, self.0 % 1_000);
        if above > 0 {
            let parts = Self(above).to_string();
            for part in parts.split('/') {
                write!(f, "x{}/", part.trim_start_matches('x'))?;
            }
        }
        write!(f, "{last:03}")
    }
}

impl TilePath {
    /// The number that `parts` of a path say; `None` if it is not exactly what we would write.
    #[must_use]
    pub fn parse(parts: &[&str]) -> Option<u64> {
        // 20 digits hold every number.
        if parts.is_empty() || parts.len() > 7 {
            return None;
        }
        let mut index = 0_u64;
        for part in parts {
            let digits = part.strip_prefix('x').unwrap_or(part);
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
        }
        (Self(index).to_string() == parts.join("/")).then_some(index)
    }
}

/// A tree that grows, with the tiles along its right edge that are not full.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    size: u64,
    open: Vec<Open>,
    /// The tiles above level 0 that changed, and those of level 0 that became full.
    changed: BTreeMap<TileId, Vec<TreeHash>>,
}

/// A tile that is not full.
#[derive(Clone, Debug, Default)]
struct Open {
    hashes: Vec<TreeHash>,
    edge: Edge,
}

impl Growth {
    /// The tiles that are not full in a tree of `size` leaves, from level 0 up; some have no hashes.
    pub fn open_tiles(size: u64) -> impl Iterator<Item = TileId> {
        (0..TileId::LEVELS).map(move |level| TileId { level, index: on_level(size, level) / 256 })
    }

    /// The tree of `size` leaves whose tiles that are not full are these, as [`Self::open_tiles`]
    /// names them. `None` if the tiles do not fit the size.
    #[must_use]
    pub fn resume(size: u64, tiles: Vec<Vec<TreeHash>>) -> Option<Self> {
        let open = |hashes: Vec<TreeHash>| Open { edge: hashes.iter().copied().collect(), hashes };
        let open: Vec<_> = tiles.into_iter().map(open).collect();
        let fits = (0..TileId::LEVELS).all(|level| {
            let wanted = on_level(size, level) % 256;
            open.get(usize::from(level)).map_or(0, |tile| tile.edge.size()) == wanted
        });
        fits.then(|| Self { size, open, changed: BTreeMap::new() })
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        self.size = self.size.saturating_add(1);
        let mut hash = leaf;
        for level in 0..TileId::LEVELS {
            if self.open.len() <= usize::from(level) {
                self.open.push(Open::default());
            }
            let Some(tile) = self.open.get_mut(usize::from(level)) else { return };
            tile.hashes.push(hash);
            tile.edge.push(hash);
            let is_full = tile.hashes.len() == WIDTH;
            if is_full || level > 0 {
                let index = on_level(self.size, level).saturating_sub(1) / 256;
                self.changed.insert(TileId { level, index }, tile.hashes.clone());
            }
            if !is_full {
                return;
            }
            hash = tile.edge.root();
            *tile = Open::default();
        }
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> Head {
        let root = self.open.iter().fold(None, |right, tile| fold(right, tile.edge.peaks()));
        Head { size: self.size, root: root.unwrap_or(TreeHash::EMPTY) }
    }

    /// Takes the tiles that are to be stored since this was asked last: those above level 0 that
    /// changed, and those of level 0 that became full. The one of level 0 that is not full follows
    /// from the newest records.
    pub fn take_changed(&mut self) -> BTreeMap<TileId, Vec<TreeHash>> {
        std::mem::take(&mut self.changed)
    }
}

/// `hashes` one after the other, as tiles are stored and served.
#[must_use]
pub fn to_bytes(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The hashes in `bytes`; `None` if that is not one to 256 of them.
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<TreeHash>> {
    let (hashes, []) = bytes.as_chunks::<32>() else { return None };
    let in_range = !hashes.is_empty() && hashes.len() <= WIDTH;
    in_range.then(|| hashes.iter().copied().map(TreeHash::from_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(n: u64) -> TreeHash {
        TreeHash::of_leaf(&n.to_be_bytes())
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        for (index, path) in
            [(0, "000"), (67, "067"), (1_234_067, "x001/x234/067"), (1_000, "x001/000")]
        {
            assert_eq!(TilePath(index).to_string(), path);
            assert_eq!(TilePath::parse(&path.split('/').collect::<Vec<_>>()), Some(index));
        }
        let most = TilePath(u64::MAX).to_string();
        assert_eq!(TilePath::parse(&most.split('/').collect::<Vec<_>>()), Some(u64::MAX));
        for wrong in ["", "1", "0001", "x001", "001/002", "x000/001", "x001/x02/003", "+01", "xx01"]
        {
            assert_eq!(TilePath::parse(&wrong.split('/').collect::<Vec<_>>()), None, "{wrong}");
        }
    }

    #[test]
    fn widths_are_those_of_the_specification() {
        let widths = |size, level, indices: &[u64]| -> Vec<usize> {
            indices.iter().map(|index| TileId { level, index: *index }.width(size)).collect()
        };
        assert_eq!(widths(70_000, 0, &[0, 272, 273, 274]), [256, 256, 112, 0]);
        assert_eq!(widths(70_000, 1, &[0, 1, 2]), [256, 17, 0]);
        assert_eq!(widths(70_000, 2, &[0, 1]), [1, 0]);
        assert_eq!(widths(256, 1, &[0]), [1]);
        assert_eq!(widths(u64::MAX, 7, &[0, 1]), [255, 0]);
    }

    #[test]
    fn a_tree_grows_and_resumes_from_its_tiles() {
        let (mut growth, mut edge) = (Growth::default(), Edge::default());
        let mut stored = BTreeMap::new();
        for n in 0..66_000 {
            if n % 509 == 0 || n > 65_500 && n < 65_600 {
                assert_eq!(growth.head(), edge.head());
                stored.extend(growth.take_changed());
                let tiles = Growth::open_tiles(n).map(|at| {
                    if at.level == 0 {
                        return (n / 256 * 256..n).map(leaf).collect();
                    }
                    let open = stored.get(&at).filter(|tile| tile.len() < WIDTH);
                    open.cloned().unwrap_or_default()
                });
                let resumed = Growth::resume(n, tiles.collect()).unwrap();
                assert_eq!(resumed.head(), edge.head());
            }
            growth.push(leaf(n));
            edge.push(leaf(n));
        }
        stored.extend(growth.take_changed());
        for (id, hashes) in &stored {
            assert_eq!(hashes.len(), id.width(66_000), "{id:?}");
            assert_eq!(from_bytes(&to_bytes(hashes)).as_ref(), Some(hashes));
        }
        assert_eq!(stored.len(), 257 + 2 + 1, "full ones of level 0 and all above");
        assert!(Growth::resume(3, vec![vec![leaf(0); 2]]).is_none());
        assert!(Growth::resume(0, vec![vec![leaf(0)]]).is_none());
    }

    #[test]
    fn bytes_that_are_no_tile_are_refused() {
        assert_eq!(from_bytes(&[]), None);
        assert_eq!(from_bytes(&[0; 31]), None);
        assert_eq!(from_bytes(&[0; 257 * 32]), None);
    }
}
