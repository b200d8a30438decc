//! The store that several servers share: PostgreSQL.
//!
//! | to find | look in |
//! |---|---|
//! | where the database is, and one connection to it | `line` |
//! | TLS on the way | `tls` |
//! | tables, and how they came to be | `schema` |
//! | the parts of a table that expire together | `partition` |
//! | what many ask for at a time | `reads` |
//! | the exclusive right to write | `turn` |
//! | what one list of writes comes to | `batch` |
//!
//! A group of changes is one transaction. It begins by locking the only row of the table `turn`, so that
//! servers write one after the other; the row's number says how many groups there were, and its mark which
//! one was the last. What servers keep in memory is written to the table `changes` as well, under the
//! group's number: whoever has seen up to some number reads from there what it has not. `NOTIFY` says that
//! there is something to read; the number says what.
//!
//! A database that has lost what a server saw in it (a backup was restored, or a standby took over that
//! lacked the newest) has another mark under that number, and the server ends: see [`crate::epoch`].

mod batch;
#[cfg(test)]
pub(crate) mod fixture;
mod line;
mod partition;
mod reads;
mod schema;
#[cfg(test)]
mod tests;
mod tls;
mod turn;

use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::{Group, Order, Pair, Space, Store, StoreError, Turn};
use line::{Heard, Line, LineError, Lines, Route};
use reads::Reads;
pub use schema::{Outdated, SchemaError};
pub use tls::TlsError;
use turn::{Position, PostgresTurn, Writer};

/// How long the store tries to reach a database that does not answer, before it says so: longer than it
/// takes to promote a standby.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// How long it is waited for a word that others have written, before looking without one.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A database, as one server sees it. Clones are handles to the same.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    route: Route,
    /// Held by whose turn it is among those who write here: there is one, the journal.
    writer: tokio::sync::Mutex<Writer>,
    readers: Lines,
    reads: Reads,
    /// Tells that others have written.
    listener: tokio::sync::Mutex<Option<Line>>,
    heard: Heard,
    /// The newest group that this server knows of.
    seen: Mutex<Position>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.0.route).finish()
    }
}

/// The database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenPostgresError {
    /// It is not said where it is.
    #[error(
        "`store.postgres` is no PostgreSQL URL; write `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`"
    )]
    Url(#[source] tokio_postgres::Error),
    /// Nobody can vouch for it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It does not answer, or not as it should.
    #[error(
        "cannot reach the database of `store.postgres`; is it running, and may this server use it?"
    )]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its tables are not ours.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl From<LineError> for OpenPostgresError {
    fn from(error: LineError) -> Self {
        Self::Unreachable(Box::new(error))
    }
}

impl PostgresStore {
    /// Opens the database at `url`, makes the tables if there are none, and brings older ones up to date.
    ///
    /// # Errors
    ///
    /// [`OpenPostgresError`]; the password in `url` is in none of them.
    pub async fn open(
        url: &str,
        ca_file: Option<&std::path::Path>,
    ) -> Result<Self, OpenPostgresError> {
        let route = Route::parse(url, ca_file)?;
        let line = route.connect(None).await?;
        schema::bring_up_to_date(line.client()).await?;
        let mut writer = Writer::default();
        writer.prepare(line).await?;
        let seen = writer.position().await?;
        Ok(Self(Arc::new(Inner {
            route,
            writer: tokio::sync::Mutex::new(writer),
            readers: Lines::default(),
            reads: Reads::default(),
            listener: tokio::sync::Mutex::default(),
            heard: Heard::default(),
            seen: Mutex::new(seen),
        })))
    }

    /// What the database answers to a question that changes nothing.
    async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (slot, asked) = match self.0.readers.line(&self.0.route).await {
                Ok((slot, line)) => {
                    let asking = line.client().query_typed(statement, parameters);
                    let asked = timeout(ANSWER, asking).await;
                    (
                        Some(slot),
                        asked
                            .map_err(LineError::from)
                            .and_then(|rows| rows.map_err(LineError::from)),
                    )
                }
                Err(error) => (None, Err(error)),
            };
            match asked {
                Ok(rows) => return Ok(rows),
                Err(error) if error.is_final() => return Err(StoreError::failed("read", error)),
                Err(error) if until <= Instant::now() => {
                    return Err(unavailable("read", error));
                }
                Err(_lost) => {
                    if let Some(slot) = slot {
                        self.0.readers.give_up(slot).await;
                    }
                    sleep(AGAIN).await;
                }
            }
        }
    }

    fn seen(&self) -> Position {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_seen(&self, position: Position) {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// What `rows` of the table `changes` say, which begin with the newest that was seen.
    fn take_in(&self, rows: &[Row]) -> Result<Vec<Group>, StoreError> {
        let (position, groups) = turn::read_news(self.seen(), rows)?;
        self.has_seen(position);
        Ok(groups)
    }
}

fn unavailable(action: &'static str, error: LineError) -> StoreError {
    StoreError::Unavailable { action, source: Box::new(error) }
}

/// Where the pairs of `space` lie.
fn table(space: Space) -> String {
    format!("{}.{}", schema::NAME, space.name())
}

#[async_trait]
impl Store for PostgresStore {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.reads.get(self, (space, key.to_vec())).await
    }

    async fn get_many(
        &self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let Some(wanted) = batch::Wanted::new(&keys) else { return Ok(Vec::new()) };
        let rows = self.ask(wanted.statement(), &wanted.parameters()).await?;
        batch::in_order(&keys, &rows)
    }

    async fn scan(
        &self,
        space: Space,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let (above, least) = match from {
            Bound::Included(key) => (">=", key),
            Bound::Excluded(key) => (">", key),
            Bound::Unbounded => (">=", Vec::new()),
        };
        let (below, greatest) = match to {
            Bound::Included(key) => ("AND key <= $2", key),
            Bound::Excluded(key) => ("AND key < $2", key),
            Bound::Unbounded => ("AND $2 IS NOT NULL", Vec::new()),
        };
        let order = match order {
            Order::Ascending => "ASC",
            Order::Descending => "DESC",
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let statement = format!(
            "SELECT key, value FROM {} WHERE key {above} $1 {below} ORDER BY key {order} LIMIT $3",
            table(space)
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&least, Type::BYTEA), (&greatest, Type::BYTEA), (&limit, Type::INT8)];
        let rows = self.ask(&statement, &parameters).await?;
        let pair = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let pairs: Result<_, tokio_postgres::Error> = rows.iter().map(pair).collect();
        pairs.map_err(|error| StoreError::failed("read", error))
    }

    async fn count(&self, space: Space) -> Result<usize, StoreError> {
        let rows = self.ask(&format!("SELECT count(*) FROM {}", table(space)), &[]).await?;
        let count = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0));
        let count = count.map_err(|error| StoreError::failed("count", error))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn whole_parts(&self, space: Space, key: &[u8]) -> Option<Vec<u8>> {
        partition::of(space, key).map(|partition| partition.least)
    }

    async fn turn(&self) -> Result<Box<dyn Turn + '_>, StoreError> {
        Ok(Box::new(PostgresTurn::begin(self).await?))
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn others(&self) {
        let mut listener = self.0.listener.lock().await;
        if listener.as_ref().is_none_or(Line::is_lost) {
            *listener = self.listen().await;
            if listener.is_none() {
                sleep(AGAIN).await;
            }
            return; // Nobody told meanwhile.
        }
        drop(timeout(HEARTBEAT, self.0.heard.wait()).await);
    }

    async fn news(&self) -> Result<Vec<Group>, StoreError> {
        let seen = self.seen();
        let rows = self.ask(turn::NEWS, &[(&seen.number, Type::INT8)]).await?;
        self.take_in(&rows)
    }
}

impl PostgresStore {
    async fn listen(&self) -> Option<Line> {
        let line = self.0.route.connect(Some(self.0.heard.clone())).await.ok()?;
        let listening = execute(line.client(), "LISTEN claviger").await;
        listening.is_ok().then_some(line)
    }
}

/// Does what `statements` say, within bounds.
async fn execute(client: &Client, statements: &str) -> Result<(), LineError> {
    Ok(timeout(ANSWER, client.batch_execute(statements)).await??)
}
