//! What a power cut may leave of the list of writes that was under way: any of its pages, and the end of it.
//!
//! The engine throws away a last batch that has no end. One whose end is there and whose middle is not, it
//! takes for damage, and does not open. Nobody was told that such a batch is durable, because it was not: it
//! is cut off here, before the engine looks. Damage looks the same, so this is for a store that was not
//! closed before the machine went down; there a new epoch begins anyway (see `crate::epoch`).
//!
//! A batch in the engine's journal, whose numbers are little-endian: a start (the byte 1, how many items in
//! four bytes, a number in eight); its items (2, a kind and a compression in one byte each, a space in eight
//! bytes, the lengths of key, value and value as it lies here in two, four and four, both) or marks that a
//! space is emptied (4, the space in eight); an end (3, an XXH3 of all items in eight, and `FJL` 3).

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// How a batch ends.
const TRAILER: &[u8] = b"FJL\x03";

/// Cuts off the last batch of the newest journal in `path`, which nobody has open, if it is torn. Returns
/// how many bytes that were.
///
/// # Errors
///
/// What the operating system says.
pub(super) fn cut_off(path: &Path) -> io::Result<Option<usize>> {
    let Some(journal) = newest(path)? else { return Ok(None) };
    let bytes = fs::read(&journal)?;
    let Some(whole) = torn_from(&bytes) else { return Ok(None) };
    let file = OpenOptions::new().write(true).open(&journal)?;
    file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
    file.sync_all()?;
    Ok(Some(bytes.len().saturating_sub(whole)))
}

/// The journal that the engine writes to: the one with the highest number.
fn newest(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for file in fs::read_dir(path)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok());
        newest = newest.max(number);
    }
    Ok(newest.map(|number| path.join(format!("{number}.jnl"))))
}

/// Where the torn batch begins, if the last one is.
fn torn_from(bytes: &[u8]) -> Option<usize> {
    let mut rest = Reader(bytes);
    loop {
        let begin = bytes.len().checked_sub(rest.0.len())?;
        match rest.batch() {
            Batch::Whole => {}
            // The engine sees that by itself.
            Batch::Unended => return None,
            // What comes after a batch was written when that one was durable, so something else is amiss.
            Batch::Torn => return (!is_followed(rest.0)).then_some(begin),
        }
    }
}

/// Whether there is a whole batch anywhere in `bytes`.
fn is_followed(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| {
        let mut rest = Reader(bytes.get(at..).unwrap_or_default());
        matches!(rest.batch(), Batch::Whole)
    })
}

/// What is at the beginning of some bytes.
enum Batch {
    /// A batch as it was written.
    Whole,
    /// No batch, or one without an end.
    Unended,
    /// One that ends, with something else in it than was written.
    Torn,
}

/// The rest of a journal.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn batch(&mut self) -> Batch {
        self.try_batch().unwrap_or(Batch::Unended)
    }

    fn try_batch(&mut self) -> Option<Batch> {
        let [1] = self.take()? else { return None };
        let items = u32::from_le_bytes(self.take()?);
        let _number = self.take::<8>()?;
        let (begin, mut found) = (self.0, 0_u32);
        loop {
            let so_far = begin.len().checked_sub(self.0.len())?;
            match self.take()? {
                [2] => self.skip_item()?,
                [4] => drop(self.take::<8>()?),
                [3] => {
                    let said = u64::from_le_bytes(self.take()?);
                    if self.take::<4>()? != TRAILER {
                        return None;
                    }
                    let mut hash = Xxh3::new();
                    hash.update(begin.get(..so_far)?);
                    let whole = found == items && hash.digest() == said;
                    return Some(if whole { Batch::Whole } else { Batch::Torn });
                }
                _ => return None,
            }
            found = found.checked_add(1)?;
        }
    }

    fn skip_item(&mut self) -> Option<()> {
        let _kind_compression_and_space = self.take::<10>()?;
        let key = u16::from_le_bytes(self.take()?);
        let _length = self.take::<4>()?;
        let stored = u32::from_le_bytes(self.take()?);
        self.skip(key.into())?;
        self.skip(stored.try_into().ok()?)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.0 = self.0.get(length..)?;
        Some(())
    }
}
