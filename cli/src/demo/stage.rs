//! What is printed of each step: what happened, whether it should have, and how long it took.

use std::fmt;
use std::future::Future;

use serde::Serialize;
use tokio::time::Instant;

use crate::console::{self, Console, Format};
use crate::failure::Failure;

/// Steps, printed as they are done.
#[derive(Debug)]
pub(super) struct Stage {
    console: Console,
    start: Instant,
    steps: Vec<Step>,
}

/// One of `{"steps":[{"step":"…","ok":true,"millis":12.3}],"ok":true,"millis":1234.5}`.
#[derive(Clone, Debug, Serialize)]
struct Step {
    step: String,
    ok: bool,
    millis: f64,
}

impl Stage {
    pub(super) fn new(console: Console) -> Self {
        Self { console, start: Instant::now(), steps: Vec::new() }
    }

    pub(super) fn console(&self) -> Console {
        self.console
    }

    /// Does one step, and prints the line that it returns; or that it failed to do `what`.
    pub(super) async fn step<T>(
        &mut self,
        what: &str,
        act: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let done = act.await;
        let millis = millis_since(start);
        let (ok, step) = match &done {
            Ok((_, line)) => (true, line.clone()),
            Err(_) => (false, what.to_owned()),
        };
        let step = Step { step, ok, millis };
        if self.console.format() == Format::Pretty {
            console::line(&step)?;
        }
        self.steps.push(step);
        done.map(|(value, _)| value)
    }

    /// The end: what it comes to.
    pub(super) fn close(self, shown: Result<(), Failure>) -> Result<(), Failure> {
        let millis = millis_since(self.start);
        self.console.answer(&Play { ok: shown.is_ok(), steps: self.steps, millis })?;
        shown
    }
}

/// To a tenth.
fn millis_since(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.ok { '✓' } else { '✗' };
        let Self { step, millis, .. } = self;
        write!(f, "{mark} {step:<76} {millis:>7.1} ms")
    }
}

#[derive(Debug, Serialize)]
struct Play {
    steps: Vec<Step>,
    ok: bool,
    millis: f64,
}

impl fmt::Display for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.millis / 1_000.0;
        let done = self.steps.iter().filter(|step| step.ok).count();
        if self.ok {
            write!(f, "all {done} steps did what they say, in {seconds:.1} s")
        } else {
            write!(f, "stopped after {done} steps, in {seconds:.1} s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned() {
        let line = |step: &str, ok, millis| Step { step: step.into(), ok, millis }.to_string();
        let lines = [line("short", true, 1.04), line(&"…".repeat(76), false, 1_234.56)];
        assert!(lines[0].starts_with("✓ short "));
        assert!(lines[0].ends_with("     1.0 ms"));
        assert!(lines[1].starts_with("✗ …") && lines[1].ends_with("…  1234.6 ms"));
        assert_eq!(lines[0].chars().count(), lines[1].chars().count());
    }

    #[tokio::test]
    async fn a_step_that_fails_is_not_passed_over() {
        let mut stage = Stage::new(Console::new(Format::Json));
        stage.step("one", async { Ok(((), "one done".to_owned())) }).await.unwrap();
        let failed =
            stage.step("two", async { Err::<((), String), _>(Failure::failed("no")) }).await;
        let steps: Vec<_> = stage.steps.iter().map(|step| (step.step.clone(), step.ok)).collect();
        assert_eq!(steps, [("one done".to_owned(), true), ("two".to_owned(), false)]);
        failed.unwrap_err();
    }
}
