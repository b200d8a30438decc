//! Tables, and how they came to be.
//!
//! Each migration is done once, in order, in one transaction with the note that it was. A note has the
//! digest of what was done: a database that was brought up to date by something else is refused.
//!
//! **Servers of two versions side by side.** Each migration says which is the oldest version whose programs
//! may go on beside it; the table `turn` has the greatest of these. A program that is older does not start,
//! and one that runs ends when it gets its turn, before it writes, or when it hears what others wrote. So a
//! change that older programs would not survive is made in two releases: the first one *expands* (tables and
//! columns are added, both forms are read, what is written is what older programs read), and the next one
//! *contracts*, and says that programs must know the expanded form. The same goes for the form of the values:
//! programs skip a whole space that they do not know, and nothing else.

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::timeout;
use tokio_postgres::Client;
use tracing::info;

use super::line::LineError;
use super::{PATIENCE, execute};

/// The schema in which all tables are.
pub(super) const NAME: &str = "claviger";

/// One step.
struct Migration {
    /// What is done.
    sql: &'static str,
    /// The oldest version whose programs may go on working on what comes of it.
    oldest: i32,
}

/// What was ever done to the tables, oldest first. What is here is never changed, only added to.
const MIGRATIONS: &[Migration] = &[
    Migration { sql: include_str!("migrations/1.sql"), oldest: 1 },
    // Programs of version 1 do not look at what it adds.
    Migration { sql: include_str!("migrations/2.sql"), oldest: 2 },
];

/// The tables have changed so that this program can't go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a newer claviger has changed the tables: whoever works on them has to know their version {needed}, and \
     this program knows up to {known}; start the newer claviger, or restore the database from a backup of before"
)]
pub struct Outdated {
    /// The oldest version that a program must know.
    pub needed: i32,
    /// The newest that this program knows.
    pub known: i32,
}

/// Whether this program may go on where programs have to know version `needed`.
///
/// # Errors
///
/// [`Outdated`] if it may not.
pub(super) fn may_go_on(needed: i32) -> Result<(), Outdated> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if needed <= known { Ok(()) } else { Err(Outdated { needed, known }) }
}

/// The tables are not as this program needs them.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer program has been at work.
    #[error(transparent)]
    Outdated(#[from] Outdated),
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
        let needed = client.query_one("SELECT oldest FROM claviger.turn", &[]).await?;
        may_go_on(needed.try_get(0)?)?;
        let (found, known) = (done.len(), MIGRATIONS.len());
        info!(found, known, "the tables are newer than this program, which may go on beside them");
    }
    for (version, migration) in (1_i32..).zip(MIGRATIONS) {
        let at = usize::try_from(version).unwrap_or(usize::MAX);
        let sum = digest(&SHA256, migration.sql.as_bytes());
        match done.get(at.saturating_sub(1)) {
            Some(noted) if noted == sum.as_ref() => {}
            Some(_) => return Err(SchemaError::Foreign { version: at }),
            None => {
                execute(client, migration.sql).await?;
                let note = "INSERT INTO claviger.migrations (version, digest) VALUES ($1, $2)";
                client.execute(note, &[&version, &sum.as_ref()]).await?;
            }
        }
    }
    if done.len() < MIGRATIONS.len() {
        let oldest = MIGRATIONS.iter().map(|migration| migration.oldest).max().unwrap_or(1);
        let limit = "UPDATE claviger.turn SET oldest = greatest(oldest, $1)";
        client.execute(limit, &[&oldest]).await?;
        // Whoever can't go on hears of it at once.
        execute(client, "SELECT pg_notify('claviger', '')").await?;
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
    fn no_migration_wants_programs_that_are_newer_than_itself() {
        for (version, migration) in (1..).zip(MIGRATIONS) {
            assert!((1..=version).contains(&migration.oldest), "{version}");
        }
        may_go_on(1).unwrap();
    }

    #[test]
    fn every_space_has_a_table() {
        let all: String = MIGRATIONS.iter().map(|migration| migration.sql).collect();
        for space in Space::ALL {
            let made = format!("CREATE TABLE claviger.{} (", space.name());
            assert!(all.contains(&made), "no migration makes the table of {space:?}");
        }
    }
}
