//! TLS to a real PostgreSQL: whose certificate is believed, and that nothing is said without one.

use std::path::PathBuf;

use claviger_runtime::telemetry::Chain;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::*;

/// A name that no test is at.
const NAME: &str = "db.example.org";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A database whose certificate changes.
struct Database {
    postgres: Postgres,
    port: u16,
    files: tempfile::TempDir,
}

impl Database {
    async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let postgres = Postgres::at(port).await;
        Self { postgres, port, files: tempfile::tempdir().unwrap() }
    }

    /// From now on it shows a certificate for `name` by `issuer`, which `change` has changed before.
    async fn shows(
        &self,
        name: &str,
        issuer: &Issuer,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        self.postgres.shows(&certificate.pem(), &key.serialize_pem()).await;
    }

    /// The file that says whom to believe.
    fn believing(&self, issuer: &Issuer) -> PathBuf {
        let path = self.files.path().join("ca.pem");
        std::fs::write(&path, issuer.pem()).unwrap();
        path
    }

    /// Its URL under `name`, whatever the resolver knows of that.
    fn url(&self, name: &str, mode: &str) -> String {
        let port = self.port;
        format!("postgresql://postgres@{name}:{port}/postgres?hostaddr=127.0.0.1{mode}")
    }
}

fn why(opened: Result<PostgresStore, OpenPostgresError>) -> String {
    Chain(&opened.expect_err("it is refused")).to_string()
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn a_database_elsewhere_is_believed_by_its_certificate_only() {
    let database = Database::start().await;
    let (issuer, other) = (authority(), authority());
    let believed = database.believing(&issuer);
    let url = database.url(NAME, "");
    let open = async || PostgresStore::open(&url, Some(&believed)).await;

    let plain = why(open().await);
    assert!(plain.contains("server does not support TLS"), "{plain}");

    database.shows(NAME, &issuer, |_| {}).await;
    holds(&open().await.unwrap()).await;
    for mode in ["&sslmode=require", "&sslmode=verify-full"] {
        PostgresStore::open(&database.url(NAME, mode), Some(&believed)).await.unwrap();
    }
    let sessions = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE application_name = 'claviger'";
    let store = open().await.unwrap();
    assert_eq!(database.postgres.sql(sessions), "t");
    drop(store);

    // Whom this machine believes is another question.
    let unknown = why(PostgresStore::open(&url, None).await);
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    let elsewhere =
        why(PostgresStore::open(&database.url("a.example.org", ""), Some(&believed)).await);
    assert!(elsewhere.contains("not valid for name"), "{elsewhere}");

    database.shows(NAME, &other, |_| {}).await;
    let forged = why(open().await);
    // The other authority has the same name.
    assert!(forged.contains("BadSignature"), "{forged}");
    database.shows(NAME, &issuer, |params| params.not_after = date_time_ymd(2020, 1, 1)).await;
    let expired = why(open().await);
    assert!(expired.contains("expired"), "{expired}");
}

/// Nothing is asked of a database on this machine unless the URL does.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/fault/postgresql/run"]
async fn a_database_here_is_believed_unless_the_url_asks_for_tls() {
    let database = Database::start().await;
    let issuer = authority();
    let believed = database.believing(&issuer);
    PostgresStore::open(&database.url("localhost", ""), None).await.unwrap();
    for mode in ["&sslmode=require", "&sslmode=verify-full", "&sslmode=verify-ca"] {
        let url = database.url("localhost", mode);
        let plain = why(PostgresStore::open(&url, Some(&believed)).await);
        assert!(plain.contains("server does not support TLS"), "{plain}");
    }
    database.shows("localhost", &issuer, |_| {}).await;
    let url = database.url("localhost", "&sslmode=verify-full");
    PostgresStore::open(&url, Some(&believed)).await.unwrap();
}
