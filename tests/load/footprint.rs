//! What a process takes of the machine over time.

use std::fmt;
use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What growth is the allocator's, and not the process's: bytes.
const SLACK: u64 = 8 << 20;

/// What may be kept of a key until it is forgotten, minutes after it ended: bytes.
const KEPT: u64 = 8 << 10;

/// More descriptors than this are a leak.
const MORE_DESCRIPTORS: usize = 16;

/// Looked at once a second.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    resident: Vec<u64>,
    descriptors: Vec<usize>,
}

impl Footprint {
    /// Watches processes for `span`.
    pub(crate) async fn watch<const N: usize>(pids: [u32; N], span: Duration) -> [Self; N] {
        let began = Instant::now();
        let mut prints = pids.map(|_| Self::default());
        while began.elapsed() < span {
            for (print, pid) in prints.iter_mut().zip(pids) {
                print.resident.push(resident(pid));
                print.descriptors.push(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count());
            }
            sleep(Duration::from_secs(1)).await;
        }
        prints
    }

    /// The most at a time in one third of the span, counted from 0.
    fn most(&self, third: usize) -> u64 {
        let length = (self.resident.len() / 3).max(1);
        self.resident.iter().skip(third * length).take(length).copied().max().unwrap_or(0)
    }

    /// Whether the last third is like the second: in the first, caches fill. Where a third is too short for
    /// keys to be forgotten, the `keys` that were used in one are kept.
    pub(crate) fn memory_is_flat(&self, keys: u64) -> bool {
        self.most(2) <= self.most(1) + self.most(1) / 20 + SLACK + keys * KEPT
    }

    pub(crate) fn descriptors_are_flat(&self) -> bool {
        let (first, last) = (self.descriptors.first(), self.descriptors.last());
        first.zip(last).is_some_and(|(first, last)| *last <= first + MORE_DESCRIPTORS)
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = [0, 1, 2].map(|third| self.most(third) as f64 / 1e6);
        let (begin, end) = (self.descriptors.first(), self.descriptors.last());
        write!(f, "{first:.1}, {second:.1} and {third:.1} MB resident at most in each third, ")?;
        write!(f, "{} and then {} descriptors", begin.unwrap_or(&0), end.unwrap_or(&0))
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}
