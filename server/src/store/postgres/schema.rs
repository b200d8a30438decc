//! Tables, and how they came to be.
//!
//! Each migration is done once, in order, in one transaction with the note that it was. A note has the
//! digest of what was done: a database that was brought up to date by something else is refused, and so is
//! one that is newer than this program.

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::timeout;
use tokio_postgres::Client;

use super::line::LineError;
use super::{PATIENCE, execute};

/// The schema in which all tables are.
pub(super) const NAME: &str = "claviger";

/// What was ever done to the tables, oldest first. What is here is never changed, only added to.
const MIGRATIONS: &[&str] = &[include_str!("migrations/1.sql")];

/// The tables are not as this program needs them.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer program has been at work.
    #[error(
        "the database has version {found} of the tables, and this program knows up to {known}; start the \
         newer claviger that made them, or restore the database from a backup of before"
    )]
    Newer {
        /// The version of the tables.
        found: usize,
        /// The newest that this program knows.
        known: usize,
    },
    /// Something else has been at work.
    #[error(
        "version {version} of the tables was not made by claviger as it is released; use another database, \
         or restore this one from a backup"
    )]
    Foreign {
        /// Which version.
        version: usize,
    },
    /// The database says no.
    #[error("cannot make the tables; the user of `store.postgres` has to own the database")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<LineError> for SchemaError {
    fn from(error: LineError) -> Self {
        Self::Database(Box::new(error))
    }
}

impl From<tokio_postgres::Error> for SchemaError {
    fn from(error: tokio_postgres::Error) -> Self {
        LineError::from(error).into()
    }
}

/// Brings the tables up to date. Several programs that do so at the same time do it one after the other.
///
/// # Errors
///
/// [`SchemaError`]; nothing was changed.
pub(super) async fn bring_up_to_date(client: &Client) -> Result<(), SchemaError> {
    let done = timeout(PATIENCE, migrate(client)).await.map_err(LineError::from)?;
    if done.is_err() {
        execute(client, "ROLLBACK").await?;
    }
    done
}

async fn migrate(client: &Client) -> Result<(), SchemaError> {
    // The number stands for "claviger" and nothing else.
    execute(client, "BEGIN; SELECT pg_advisory_xact_lock(7164780438)").await?;
    let exists =
        client.query_one("SELECT to_regclass('claviger.migrations') IS NOT NULL", &[]).await?;
    let done: Vec<Vec<u8>> = if exists.try_get(0)? {
        let rows =
            client.query("SELECT digest FROM claviger.migrations ORDER BY version", &[]).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?
    } else {
        execute(client, BEGINNING).await?;
        Vec::new()
    };
    if MIGRATIONS.len() < done.len() {
        return Err(SchemaError::Newer { found: done.len(), known: MIGRATIONS.len() });
    }
    for (version, migration) in (1_i32..).zip(MIGRATIONS) {
        let at = usize::try_from(version).unwrap_or(usize::MAX);
        let sum = digest(&SHA256, migration.as_bytes());
        match done.get(at.saturating_sub(1)) {
            Some(noted) if noted == sum.as_ref() => {}
            Some(_) => return Err(SchemaError::Foreign { version: at }),
            None => {
                execute(client, migration).await?;
                let note = "INSERT INTO claviger.migrations (version, digest) VALUES ($1, $2)";
                client.execute(note, &[&version, &sum.as_ref()]).await?;
            }
        }
    }
    Ok(execute(client, "COMMIT").await?)
}

const BEGINNING: &str = "CREATE SCHEMA IF NOT EXISTS claviger; \
    CREATE TABLE claviger.migrations (version integer PRIMARY KEY, digest bytea NOT NULL, \
    done_at timestamptz NOT NULL DEFAULT now())";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Space;

    #[test]
    fn every_space_has_a_table() {
        let all = MIGRATIONS.concat();
        for space in Space::ALL {
            let made = format!("CREATE TABLE claviger.{} (", space.name());
            assert!(all.contains(&made), "no migration makes the table of {space:?}");
        }
    }
}
