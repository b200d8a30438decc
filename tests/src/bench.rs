//! What benchmarks have in common: parts that can be asked for, figures beside their targets.

use std::time::Duration;

/// Prints one figure, and says whether it meets its target.
#[expect(clippy::print_stdout, reason = "that is what a benchmark is for")]
pub fn report(what: &str, figure: &str, target: &str, met: bool) -> bool {
    println!("{what}: {figure}; target {target}: {}", if met { "met" } else { "MISSED" });
    met
}

/// The parts of a benchmark that its arguments name; without any, all of it.
#[derive(Debug)]
pub struct Parts(Vec<String>);

impl Parts {
    /// What the arguments of this process name.
    #[must_use]
    pub fn named() -> Self {
        // Cargo adds an option of its own.
        Self(std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect())
    }

    /// Whether `part` is wanted.
    #[must_use]
    pub fn want(&self, part: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|named| named == part)
    }
}

/// Milliseconds.
#[must_use]
pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// The value that `percent` of all do not exceed.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}
