//! Against a real PostgreSQL, which `tests/fault/postgresql/run` installs.

mod tls;

use std::sync::Arc;

use claviger_core::psk::identity::Serial;
use claviger_core::time::UnixTime;
use claviger_runtime::telemetry::Chain;

use super::fixture::Postgres;
use super::*;
use crate::store::Write;
use crate::store::contract::holds;

fn put(space: Space, key: &[u8], value: &[u8]) -> Write {
    Write::put(space, key, value)
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn does_what_every_store_does() {
    let postgres = Postgres::start().await;
    holds(&postgres.store().await).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn others_hear_of_what_servers_keep_in_memory_and_of_nothing_else() {
    let postgres = Postgres::start().await;
    let (one, other) = (postgres.store().await, postgres.store().await);
    other.others().await; // It listens from now on.
    let serial = Serial::new(UnixTime::from_secs(600_000), [7; 12]).to_key();
    let writes = vec![put(Space::Entries, b"a", b"1"), put(Space::Psks, &serial, b"2")];
    one.write(writes).await.unwrap();
    one.write(vec![Write::delete(Space::Entries, b"a")]).await.unwrap();
    timeout(Duration::from_secs(5), other.others()).await.unwrap();
    let news = other.news().await.unwrap();
    assert_eq!(&*news[0], [put(Space::Entries, b"a", b"1")]);
    assert_eq!(&*news[1], [Write::delete(Space::Entries, b"a")]);
    assert_eq!(news.len(), 2);
    assert!(one.news().await.unwrap().is_empty(), "who wrote it is not told");
    assert!(other.news().await.unwrap().is_empty(), "told once");
    one.write(vec![put(Space::Meta, b"b", b"1")]).await.unwrap();
    let mut turn = other.turn().await.unwrap();
    assert_eq!(turn.news().await.unwrap().len(), 1);
    assert!(turn.news().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn between_the_last_look_and_the_write_nobody_else_writes() {
    let postgres = Postgres::start().await;
    let mut servers = tokio::task::JoinSet::new();
    for _server in 0..4 {
        let store = postgres.store().await;
        servers.spawn(async move {
            for _time in 0..50 {
                let mut turn = store.turn().await.unwrap();
                turn.news().await.unwrap();
                let key = (Space::Meta, b"count".to_vec());
                let count = turn.get_many(vec![key]).await.unwrap().remove(0);
                let count = count.map_or(0, |count| u64::from_be_bytes(count.try_into().unwrap()));
                let more = (count + 1).to_be_bytes();
                turn.write(vec![put(Space::Meta, b"count", &more)]).await.unwrap();
            }
        });
    }
    servers.join_all().await;
    let count = postgres.store().await.get(Space::Meta, b"count").await.unwrap().unwrap();
    assert_eq!(u64::from_be_bytes(count.try_into().unwrap()), 200);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn a_turn_that_is_given_up_or_hangs_holds_up_nobody() {
    let postgres = Postgres::start().await;
    let (one, other) = (postgres.store().await, postgres.store().await);
    drop(one.turn().await.unwrap());
    other.write(vec![put(Space::Meta, b"a", b"1")]).await.unwrap();
    one.turn().await.unwrap().write(Vec::new()).await.unwrap();
    other.write(vec![put(Space::Meta, b"a", b"2")]).await.unwrap();
    let hangs = one.turn().await.unwrap();
    other.write(vec![put(Space::Meta, b"a", b"3")]).await.unwrap();
    let late = hangs.write(vec![put(Space::Meta, b"a", b"4")]).await.unwrap_err();
    assert!(late.untouched(), "{late}");
    one.write(vec![put(Space::Meta, b"b", b"5")]).await.unwrap();
    assert_eq!(one.get(Space::Meta, b"a").await.unwrap(), Some(b"3".to_vec()));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn what_expires_together_is_dropped_whole() {
    let postgres = Postgres::start().await;
    let store = postgres.store().await;
    let key = |secs| Serial::new(UnixTime::from_secs(secs), [7; 12]).to_key();
    for secs in [600_000, 600_060, 600_600, 601_200] {
        store.write(vec![put(Space::Psks, &key(secs), b"x")]).await.unwrap();
    }
    let parts = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'claviger.psks'::regclass";
    assert_eq!(postgres.sql(parts), "4", "three, and the rest");
    let below = store.whole_parts(Space::Psks, &key(600_700)).unwrap();
    // Another server, which has made none of them.
    let other = postgres.store().await;
    let write = Write::DeleteBelow { space: Space::Psks, key: below };
    other.write(vec![write]).await.unwrap();
    assert_eq!(postgres.sql(parts), "3");
    assert_eq!(store.count(Space::Psks).await.unwrap(), 2);
    // Somebody who comes late finds a place nevertheless.
    store.write(vec![put(Space::Psks, &key(600_000), b"late")]).await.unwrap();
    assert_eq!(store.get(Space::Psks, &key(600_000)).await.unwrap(), Some(b"late".to_vec()));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn tables_of_another_program_are_refused() {
    let postgres = Postgres::start().await;
    drop(postgres.store().await);
    drop(postgres.store().await);
    postgres.sql("UPDATE claviger.migrations SET digest = 'x'");
    let refused = PostgresStore::open(&postgres.url(), None).await.unwrap_err();
    assert!(refused.to_string().contains("use another database"), "{refused}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn an_older_server_goes_on_beside_newer_ones_as_long_as_they_say_so() {
    let postgres = Postgres::start().await;
    let (older, idle) = (postgres.store().await, postgres.store().await);
    older.write(vec![put(Space::Meta, b"a", b"1")]).await.unwrap();
    idle.news().await.unwrap();
    // A newer program expands.
    postgres.sql(
        "INSERT INTO claviger.migrations (version, digest) VALUES (99, 'y'); \
         CREATE TABLE claviger.wonders (key bytea PRIMARY KEY, value bytea NOT NULL)",
    );
    older.write(vec![put(Space::Meta, b"a", b"2")]).await.unwrap();
    let started = postgres.store().await;
    started.write(vec![put(Space::Meta, b"a", b"3")]).await.unwrap();
    // What it writes of kinds that older ones do not know is nothing to them.
    postgres.sql(
        "UPDATE claviger.turn SET number = number + 1, mark = '0123456789abcdef'; \
         INSERT INTO claviger.changes (number, mark, spaces, keys, vals) SELECT number, mark, \
         '{wonders,meta}', '{x,b}', '{1,4}' FROM claviger.turn",
    );
    let mut turn = older.turn().await.unwrap();
    let news = turn.news().await.unwrap();
    assert_eq!(news.last().map(|group| &**group), Some(&[put(Space::Meta, b"b", b"4")][..]));
    turn.write(vec![put(Space::Meta, b"a", b"5")]).await.unwrap();

    // And contracts, in another release.
    postgres.sql("UPDATE claviger.turn SET oldest = 98");
    let ends = "a newer claviger has changed the tables";
    for refused in [older.turn().await.err().unwrap(), idle.news().await.unwrap_err()] {
        let said = Chain(&refused).to_string();
        assert!(said.contains(ends) && !refused.settles(), "{said}");
    }
    let refused = PostgresStore::open(&postgres.url(), None).await.unwrap_err();
    assert!(refused.to_string().contains(ends), "{refused}");
    assert_eq!(
        postgres.sql("SELECT encode(value, 'escape') FROM claviger.meta WHERE key = 'a'"),
        "5"
    );
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn a_database_that_has_forgotten_something_is_noticed() {
    let postgres = Postgres::start().await;
    let (one, other) = (postgres.store().await, postgres.store().await);
    one.write(vec![put(Space::Meta, b"a", b"1")]).await.unwrap();
    other.news().await.unwrap();
    // As a backup of before would have it, in which somebody else has gone on.
    postgres.sql("UPDATE claviger.turn SET number = 1, mark = 'x'");
    postgres.sql("UPDATE claviger.changes SET mark = 'x'");
    for store in [one, other] {
        let mut turn = store.turn().await.unwrap();
        let error = turn.news().await.unwrap_err();
        assert!(!error.settles(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn what_was_acknowledged_is_there_after_connections_were_cut_at_any_moment() {
    let postgres = Arc::new(Postgres::start().await);
    let store = postgres.store().await;
    let cutter = {
        let postgres = Arc::clone(&postgres);
        tokio::task::spawn_blocking(move || {
            for _time in 0..30 {
                postgres.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name = 'claviger'",
                );
            }
        })
    };
    let (mut acknowledged, mut number) = (Vec::new(), 0_u64);
    while !cutter.is_finished() {
        number += 1;
        let mut turn = store.turn().await.unwrap();
        turn.news().await.unwrap();
        match turn.write(vec![put(Space::Entries, &number.to_be_bytes(), b"x")]).await {
            Ok(()) => acknowledged.push(number),
            Err(error) => assert!(error.settles(), "{error}"),
        }
    }
    cutter.await.unwrap();
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    for number in acknowledged {
        assert!(store.get(Space::Entries, &number.to_be_bytes()).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn what_was_acknowledged_outlives_the_primary() {
    let mut primary = Postgres::start().await;
    let standby = primary.standby("one").await;
    primary.wait_for("one").await;
    let url = primary.url_with(&standby);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut servers = tokio::task::JoinSet::new();
    for server in 0..3_u64 {
        let store = PostgresStore::open(&url, None).await.unwrap();
        let stop = Arc::clone(&stop);
        servers.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0_u64.. {
                if stop.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                let key = [server.to_be_bytes(), number.to_be_bytes()].concat();
                let write = async {
                    let mut turn = store.turn().await?;
                    turn.news().await?;
                    turn.write(vec![put(Space::Entries, &key, b"x")]).await
                };
                match write.await {
                    Ok(()) => acknowledged.push(key),
                    Err(error) => assert!(error.settles(), "{error}"),
                }
            }
            acknowledged
        });
    }
    sleep(Duration::from_secs(1)).await;
    primary.kill();
    sleep(Duration::from_millis(500)).await;
    standby.promote();
    sleep(Duration::from_secs(2)).await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let acknowledged = servers.join_all().await;
    let store = standby.store().await;
    for keys in acknowledged {
        assert!(keys.len() > 20, "{}", keys.len());
        let found = store.get_many(keys.iter().map(|key| (Space::Entries, key.clone())).collect());
        assert!(found.await.unwrap().iter().all(Option::is_some));
    }
}
