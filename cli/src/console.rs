//! What the user sees: answers on stdout, remarks and progress on stderr.

use std::fmt::{self, Display};
use std::future::Future;
use std::io::{self, IsTerminal, Write as _};
use std::pin::pin;
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::failure::Failure;

/// The form of an answer: for people, or one JSON document of a stable shape for programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    Pretty,
    Json,
}

/// Where answers and remarks go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    format: Format,
}

impl Console {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// The form that was asked for.
    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// Prints one answer: its `Display` for people, its `Serialize` for programs.
    pub(crate) fn answer(self, answer: &(impl Display + Serialize)) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Pretty => writeln!(out, "{answer}")?,
            Format::Json => {
                serde_json::to_writer(&mut out, answer).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        Ok(out.flush()?)
    }

    /// Does `work`; if it takes longer than a second and somebody watches, says what is waited for.
    pub(crate) async fn watch<T>(self, what: &str, work: impl Future<Output = T>) -> T {
        const PATIENCE: Duration = Duration::from_secs(1);

        let mut work = pin!(work);
        if let Ok(done) = timeout(PATIENCE, &mut work).await {
            return done;
        }
        if !io::stderr().is_terminal() {
            return work.await;
        }
        let start = Instant::now() - PATIENCE;
        let mut ticks = interval(PATIENCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let show = |text: &str| drop(write!(io::stderr(), "\r\x1b[K{text}"));
        loop {
            tokio::select! {
                done = &mut work => {
                    show("");
                    return done;
                }
                _ = ticks.tick() => show(&format!("{what} … {} s", start.elapsed().as_secs())),
            }
        }
    }
}

/// Prints a line that has the same form for everyone.
pub(crate) fn line(line: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Says something that is not part of the answer.
pub(crate) fn remark(remark: impl Display) {
    // A remark that nobody can read is no reason to stop.
    drop(writeln!(io::stderr(), "{remark}"));
}

/// A table without borders, under `header`.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A number as people read it: `1,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (left, digit) in (1..=digits.len()).rev().zip(digits.chars()) {
        text.push(digit);
        if left % 3 == 1 && left != 1 {
            text.push(',');
        }
    }
    text
}

/// How many there are: `{"count":2}`, or `2 agents`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Count {
    pub(crate) count: i32,
    /// The name of one of them.
    #[serde(skip)]
    pub(crate) one: &'static str,
    /// The name of several.
    #[serde(skip)]
    pub(crate) many: &'static str,
}

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, if self.count == 1 { self.one } else { self.many })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_leave_no_trailing_space() {
        let rows = vec![["a".into(), "one\ntwo".into()], ["long".into(), "x".into()]];
        assert_eq!(table(["ID", "WHAT"], rows), "ID    WHAT\na     one\n      two\nlong  x");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_work_is_still_done() {
        let slow = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            7
        };
        assert_eq!(Console::new(Format::Pretty).watch("waiting", slow).await, 7);
    }
}
