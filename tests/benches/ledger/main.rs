//! What the ledger does in a second, beside what its store can do: redemptions of one-time keys, each durable
//! before it is answered, and opening a store that is full of them. Nothing goes over a network: the figures
//! are those of the ledger, its audit log and its store, not of gRPC.
//!
//! Without arguments all of it is measured; otherwise what they name: `embedded`, `restart`, `postgresql`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

mod embedded;
mod keys;
mod postgresql;
mod restart;
mod wishes;

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use claviger_tests::bench::{Parts, millis, percentile, report};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many ask at a time.
const CLIENTS: usize = 64;

/// How often each thing is done that is compared.
const ROUNDS: usize = 3;

/// What one redemption writes: the key's record, the audit record, and its part of the log's tree.
const BYTES: usize = 1_200;

/// Of what the store can do.
const TARGET: f64 = 0.5;

/// How fast something was done.
#[derive(Clone, Copy)]
struct Pace {
    per_second: f64,
    p99: Duration,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} a second, p99 {:.2} ms", self.per_second, millis(self.p99))
    }
}

/// The best of each of several things that are done one after the other, again and again: what else the
/// machine does hits all of them.
async fn best<const N: usize>(mut round: impl AsyncFnMut() -> [Pace; N]) -> [Pace; N] {
    let mut best = round().await;
    for _more in 1..ROUNDS {
        for (best, now) in best.iter_mut().zip(round().await) {
            if best.per_second < now.per_second {
                *best = now;
            }
        }
    }
    best
}

/// Reports the pace of redemptions as a part of `raw`, which is what something else does.
fn report_ratio(redeemed: Pace, what: &str, raw: Pace) -> bool {
    let ratio = redeemed.per_second / raw.per_second;
    let figure = format!("{ratio:.2}× of {raw}");
    report(&format!("of what {what}"), &figure, &format!("{TARGET:.2}×"), ratio >= TARGET)
}

/// Does `work` with each of `all`, by so many clients, each of which waits until one is done before it
/// begins the next.
async fn pace<T, F>(all: Vec<T>, work: impl Fn(T) -> F + Clone + Send + 'static) -> Pace
where
    T: Send + 'static,
    F: Future<Output = ()> + Send,
{
    let count = all.len();
    let mut shares: Vec<Vec<T>> = (0..CLIENTS).map(|_| Vec::new()).collect();
    for (number, one) in all.into_iter().enumerate() {
        shares[number % CLIENTS].push(one);
    }
    let (began, mut clients) = (Instant::now(), JoinSet::new());
    for share in shares {
        let work = work.clone();
        clients.spawn(async move {
            let mut took = Vec::with_capacity(share.len());
            for one in share {
                let began = Instant::now();
                work(one).await;
                took.push(began.elapsed());
            }
            took
        });
    }
    let mut took: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let elapsed = began.elapsed();
    took.sort_unstable();
    Pace { per_second: count as f64 / elapsed.as_secs_f64(), p99: percentile(&took, 99) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let parts = Parts::named();
    let mut met = !parts.want("embedded") || embedded::measure().await;
    met &= !parts.want("restart") || restart::measure().await;
    met &= !parts.want("postgresql") || postgresql::measure().await;
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
