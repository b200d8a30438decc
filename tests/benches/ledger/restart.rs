//! How long a server takes to open its store with a million keys that are good.

use std::time::Duration;

use claviger_tests::bench::report;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::keys::Server;

const KEYS: usize = 1_000_000;
const TARGET: Duration = Duration::from_secs(2);

pub(crate) async fn measure() -> bool {
    let dir = TempDir::new().unwrap();
    let server = Server::embedded(dir.path()).await;
    let began = Instant::now();
    let minted = server.mint(KEYS).await.len();
    let took = began.elapsed().as_secs_f64();
    println!("({minted} keys were minted, 64 at a time, {:.0} a second)", minted as f64 / took);
    server.stop().await;

    let began = Instant::now();
    let server = Server::embedded(dir.path()).await;
    let took = began.elapsed();
    // They are known again, all of them.
    assert_eq!(server.storage.ledger.room_for_psks(), 0);
    server.stop().await;
    let figure = format!("{:.2} s", took.as_secs_f64());
    report("opening a store with a million live keys", &figure, "2 s", took <= TARGET)
}
