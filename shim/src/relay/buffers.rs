//! Memory for bytes on their way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is lent as long as there is enough: four records of TLS.
const LARGE: usize = 64 << 10;

/// What is lent beyond that.
const SMALL: usize = 4 << 10;

/// How many large ones may be out at a time, 16 MiB in all. They are out only while bytes wait for
/// somebody to take them, so this many connections can be stuck before others get less.
const MOST_LARGE: usize = 256;

/// How many are kept for the next: each worker thread uses one at a time.
const KEPT: usize = 16;

/// Lends buffers. Clones lend from the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Stock>);

#[derive(Debug, Default)]
struct Stock {
    kept: Mutex<Vec<Box<[u8]>>>,
    large: AtomicUsize,
}

/// A buffer, given back on drop.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    stock: Option<Arc<Stock>>,
}

impl Buffers {
    /// A buffer with something in it.
    pub(super) fn take(&self) -> Buffer {
        let out = self.0.large.fetch_add(1, Ordering::Relaxed);
        if MOST_LARGE <= out {
            self.0.large.fetch_sub(1, Ordering::Relaxed);
            return Buffer { bytes: vec![0; SMALL].into(), stock: None };
        }
        let kept = self.0.kept().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; LARGE].into());
        Buffer { bytes, stock: Some(Arc::clone(&self.0)) }
    }
}

#[cfg(test)]
impl Buffers {
    /// How many large ones were made and are kept.
    pub(super) fn ever(&self) -> usize {
        self.0.kept().len()
    }
}

impl Stock {
    fn kept(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        // A list of buffers is whole at any time.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(stock) = self.stock.take() else { return };
        stock.large.fetch_sub(1, Ordering::Relaxed);
        let mut kept = stock.kept();
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_buffers_are_small() {
        let buffers = Buffers::default();
        let out: Vec<_> = std::iter::repeat_with(|| buffers.take()).take(MOST_LARGE + 1).collect();
        let sizes: Vec<_> = out.iter().map(|buffer| buffer.bytes().len()).collect();
        assert!(sizes[..MOST_LARGE].iter().all(|size| *size == LARGE));
        assert_eq!(sizes[MOST_LARGE], SMALL);
        drop(out);
        assert_eq!(buffers.take().bytes().len(), LARGE);
        assert_eq!(buffers.0.kept().len(), KEPT);
    }
}
