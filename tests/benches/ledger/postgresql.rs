//! Redemptions with PostgreSQL, beside names that are inserted unless they are there, as many at a time: with
//! the same bytes, and alone. All wait for the disk.

#[expect(dead_code, reason = "the benchmark needs no standby")]
#[path = "../../../server/src/store/postgres/fixture.rs"]
mod fixture;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger_server::config::{DatabaseConfig, DatabaseUrl};
use claviger_server::store::postgres::PostgresStore;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};

use crate::keys::{Server, redeem};
use crate::wishes::{self, Wish};
use crate::{BYTES, CLIENTS, Pace, best, report_ratio};
use fixture::Postgres;

const COUNT: usize = 32_000;

pub(crate) async fn measure() -> bool {
    let round = async || {
        let postgres = Postgres::start().await;
        postgres.sql("ALTER SYSTEM SET fsync = on");
        postgres.sql("SELECT pg_reload_conf()");
        [
            names(&postgres, "names_alone", 0).await,
            names(&postgres, "same_bytes", BYTES).await,
            redemptions(&postgres).await,
        ]
    };
    let [names, bytes, redeemed] = best(round).await;
    println!("durable redemptions, PostgreSQL: {redeemed}, by {CLIENTS} clients");
    let insert = "INSERT … ON CONFLICT takes";
    let mut met = report_ratio(redeemed, &format!("{insert}, {BYTES} bytes each"), bytes);
    met &= report_ratio(redeemed, &format!("{insert}, names alone"), names);
    met
}

async fn redemptions(postgres: &Postgres) -> Pace {
    let dir = TempDir::new().unwrap();
    let key_file = dir.path().join("store.key");
    write_key(&key_file);
    let url = DatabaseUrl::new(postgres.url());
    let server = Server::shared(dir.path(), &DatabaseConfig { url, ca_file: None, key_file }).await;
    let offered = server.mint(COUNT).await;
    let pace = redeem(&server, offered).await;
    server.stop().await;
    pace
}

fn write_key(path: &Path) {
    fs::write(path, "07".repeat(32)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Names with so many bytes each, by the database.
async fn names(postgres: &Postgres, table: &str, bytes: usize) -> Pace {
    postgres.sql(&format!("CREATE TABLE {table} (name bytea PRIMARY KEY, value bytea)"));
    let (client, connection) =
        postgres.url().parse::<Config>().unwrap().connect(NoTls).await.unwrap();
    let (mut running, (wish, wishes)) = (JoinSet::new(), wishes::channel());
    running.spawn(async move { connection.await.unwrap() });
    let insert = format!(
        "INSERT INTO {table} SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING"
    );
    running.spawn(write(client, insert, vec![7; bytes], wishes));
    let pace = wishes::make(COUNT, wish).await;
    running.join_all().await;
    pace
}

async fn write(client: Client, insert: String, value: Vec<u8>, mut wishes: mpsc::Receiver<Wish>) {
    let kinds = [Type::BYTEA_ARRAY, Type::BYTEA_ARRAY];
    let insert = client.prepare_typed(&insert, &kinds).await.unwrap();
    let mut group = Vec::new();
    while wishes.recv_many(&mut group, CLIENTS).await != 0 {
        let (names, waiting): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let values = vec![value.as_slice(); names.len()];
        let written = client.execute(&insert, &[&names, &values]).await.unwrap();
        assert_eq!(written, names.len() as u64, "a name is taken twice");
        for done in waiting {
            done.send(()).unwrap();
        }
    }
}
