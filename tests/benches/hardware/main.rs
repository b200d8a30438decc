//! What it costs to verify evidence from hardware: processor time of each kind of document, beside a
//! loop of nothing but the signatures that it carries, in the same run.
//!
//! The documents are real ones where `shared/evidence` lies beside the checkout.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::use_debug,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

mod model;
mod nitro;
mod sev_snp;
mod tdx;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let mut report = Report::default();
    model::measure(&mut report);
    nitro::measure(&mut report);
    tdx::measure(&mut report);
    sev_snp::measure(&mut report);
    if report.all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was measured so far.
#[derive(Debug)]
pub(crate) struct Report {
    all_met: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self { all_met: true }
    }
}

impl Report {
    /// Measures `verify`, which is to take `target` at most, and prints it beside `signatures`: the
    /// same signatures and nothing else.
    pub(crate) fn measure(
        &mut self,
        what: &str,
        target: Duration,
        mut verify: impl FnMut(),
        mut signatures: impl FnMut(),
    ) {
        let (verify, signatures) = (processor_time(&mut verify), processor_time(&mut signatures));
        let met = verify <= target;
        self.all_met &= met;
        println!(
            "{what}: {verify:.1?} of processor time, its signatures alone {signatures:.1?} \
             ({:.2}x); target {target:?}: {}",
            verify.as_secs_f64() / signatures.as_secs_f64(),
            if met { "met" } else { "NOT MET" }
        );
    }

    /// Prints what `took` its time, of which it is to take `target` at most, beside what `least` it
    /// could take.
    pub(crate) fn compare(
        &mut self,
        what: &str,
        target: Duration,
        took: Duration,
        least: Duration,
    ) {
        let met = took <= target;
        self.all_met &= met;
        println!(
            "{what}: {took:.1?}, at least {least:.1?} ({:.2}x); target {target:?}: {}",
            took.as_secs_f64() / least.as_secs_f64(),
            if met { "met" } else { "NOT MET" }
        );
    }

    /// Says that something was not measured, and why. That is no success.
    pub(crate) fn not_measured(&mut self, what: &str, why: &str) {
        self.all_met = false;
        println!("{what}: NOT measured: {why}");
    }
}

/// The folder with real evidence of `kind`, if it is there.
pub(crate) fn corpus(kind: &str) -> Option<PathBuf> {
    let folder = Path::new("shared/evidence").join(kind);
    let around = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    around.map(|parent| parent.join(&folder)).find(|folder| folder.is_dir())
}

/// The processor time that `work` takes, once it is warm: the mean over half a second.
fn processor_time(work: &mut impl FnMut()) -> Duration {
    const ENOUGH: Duration = Duration::from_millis(500);

    for _ in 0..20 {
        work();
    }
    let (begin, mut rounds) = (now(), 0);
    loop {
        work();
        rounds += 1;
        let took = now() - begin;
        if ENOUGH < took {
            return took / rounds;
        }
    }
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}
