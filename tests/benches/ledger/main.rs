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

use std::process::ExitCode;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many ask at a time.
const CLIENTS: usize = 64;

/// What one redemption writes: the key's record, the audit record, and its part of the log's tree.
const BYTES: usize = 1_200;

/// Of what the store can do.
const TARGET: f64 = 0.5;

/// Prints one figure, and says whether it meets its target.
fn report(what: &str, figure: &str, target: &str, met: bool) -> bool {
    println!("{what}: {figure}; target {target}: {}", if met { "met" } else { "MISSED" });
    met
}

/// How fast something was done.
#[derive(Clone, Copy)]
struct Pace {
    per_second: f64,
    p99: Duration,
}

impl Pace {
    fn p99_ms(self) -> f64 {
        self.p99.as_secs_f64() * 1e3
    }

    /// As a part of what `other` is.
    fn of(self, other: Self) -> f64 {
        self.per_second / other.per_second
    }
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
    Pace {
        per_second: count as f64 / elapsed.as_secs_f64(),
        p99: took[(count * 99).div_ceil(100) - 1],
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // Cargo adds an option of its own.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);

    let mut met = !wanted("embedded") || embedded::measure().await;
    met &= !wanted("restart") || restart::measure().await;
    met &= !wanted("postgresql") || postgresql::measure().await;
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
