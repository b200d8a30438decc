//! How many redemptions a second, beside how many rows PostgreSQL takes if nothing else is done.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::store::postgres::PostgresStore;
use crate::store::postgres::fixture::Postgres;

const CLIENTS: usize = 64;
const TIME: Duration = Duration::from_secs(3);

fn per_second(count: usize, time: Duration) -> usize {
    count * 1_000 / usize::try_from(time.as_millis()).unwrap()
}

/// Redeems every one of `keys` by so many clients.
async fn redeem_all(server: &Arc<Server>, keys: Vec<Minted>) -> Duration {
    let (began, keys) = (Instant::now(), Arc::new(keys));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (server, keys) = (Arc::clone(server), Arc::clone(&keys));
        clients.spawn(async move {
            for key in keys.iter().skip(client).step_by(CLIENTS) {
                server.redeem(key, 1).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn postgresql_redemptions_beside_rows_as_postgresql_takes_them() {
    let postgres = Postgres::start().await;
    let store = PostgresStore::open(&postgres.url(), None).await.unwrap();
    let server = Arc::new(Server::start(Arc::new(store), &TestClock::at(NOW)).await);
    let ledger = &server.life.storage.ledger;
    let mut keys = Vec::new();
    while keys.len() < 6_400 {
        let wanted = (0..64).map(|_| (issue(binding(290)), Met::nothing())).collect();
        keys.extend(ledger.mint_all(wanted).await.unwrap());
    }
    let (count, elapsed) = (keys.len(), redeem_all(&server, keys).await);

    postgres.sql("CREATE TABLE raw (key bytea PRIMARY KEY)");
    let (mut rows, began) = (0, Instant::now());
    let insert = format!(
        "BEGIN; INSERT INTO raw SELECT decode(md5(random()::text), 'hex') FROM generate_series(1, {CLIENTS}) \
         ON CONFLICT DO NOTHING; COMMIT"
    );
    while began.elapsed() < TIME {
        // psql begins anew each time; many statements in one go make that small.
        postgres.sql(&vec![insert.as_str(); 200].join("; "));
        rows += 200 * CLIENTS;
    }
    let (redeemed, raw) = (per_second(count, elapsed), per_second(rows, began.elapsed()));
    println!(
        "measured: {redeemed} durable redemptions a second by {CLIENTS} clients, {raw} raw rows a second \
         in batches of {CLIENTS}: {} %",
        redeemed * 100 / raw
    );
    assert!(redeemed > 100, "{redeemed}");
}
