//! What is in one file.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// What a disk writes as a whole, if it writes it.
pub(super) const SECTOR: usize = 512;
/// What the kernel keeps in memory as a whole.
pub(super) const PAGE: usize = 4_096;

/// Pages that were written, and the length. What was not written is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    length: usize,
    pages: BTreeMap<usize, Vec<u8>>,
}

impl Content {
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, piece) in pieces(offset, data, PAGE) {
            let page = self.pages.entry(at / PAGE).or_insert_with(|| vec![0; PAGE]);
            page[at % PAGE..at % PAGE + piece.len()].copy_from_slice(piece);
        }
        self.length = self.length.max(offset + data.len());
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.length = length;
        self.pages.retain(|page, _| page * PAGE < length);
        if let Some(last) = self.pages.get_mut(&(length / PAGE)) {
            last[length % PAGE..].fill(0);
        }
    }

    /// Longer, with zeros: the file system has noted the length, the data is not there yet.
    pub(super) fn lengthen(&mut self, length: usize) {
        self.length = self.length.max(length);
    }

    pub(super) fn store(&self, path: &Path) {
        let file = File::create_new(path).unwrap();
        file.set_len(u64::try_from(self.length).unwrap()).unwrap();
        for (page, bytes) in &self.pages {
            let at = page * PAGE;
            let end = PAGE.min(self.length.saturating_sub(at));
            file.write_all_at(&bytes[..end], u64::try_from(at).unwrap()).unwrap();
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut all = vec![0; self.length];
        for (page, bytes) in &self.pages {
            let at = page * PAGE;
            let end = PAGE.min(self.length.saturating_sub(at));
            all[at..at + end].copy_from_slice(&bytes[..end]);
        }
        all
    }
}

/// `data` at `offset` of a file, cut where the file has borders of `size`.
pub(super) fn pieces(
    offset: usize,
    data: &[u8],
    size: usize,
) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begins = offset + at;
        let length = (size - begins % size).min(data.len() - at);
        let piece = &data[at..at + length];
        at += length;
        (length > 0).then_some((begins, piece))
    })
}
