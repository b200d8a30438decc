//! The exclusive right to write: one transaction that has locked the row of the table `turn`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_lc_rs::rand;
use futures_util::future::join;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use tracing::warn;

use super::batch::{Batch, Statement, Wanted, in_order, read_changes};
use super::line::{Line, LineError};
use super::partition::{self, Partition};
use super::schema::{self, Outdated};
use super::{AGAIN, ANSWER, PATIENCE, PostgresStore, execute, table, unavailable};
use crate::store::{Group, Space, StoreError, Turn, Write};

/// What others wrote, beginning with the newest group that was seen; and who may read it.
pub(super) const NEWS: &str = "SELECT number, mark, spaces, keys, vals, \
    (SELECT oldest FROM claviger.turn) FROM claviger.changes WHERE number >= $1 ORDER BY number";

const LOCK: &str = "SELECT number, mark, oldest FROM claviger.turn FOR UPDATE";

/// How many groups are remembered for servers that have not seen them.
const REMEMBERED: i64 = 20_000;

/// How often those are dropped that nobody needs any more, in groups.
const TIDIED: i64 = 256;

/// A group of writes: the how manyth it is, and a name that no other has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Position {
    pub(super) number: i64,
    mark: [u8; 16],
}

impl Position {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let (number, mark): (i64, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        // That of an empty database is empty.
        Ok(Self { number, mark: mark.try_into().unwrap_or_default() })
    }

    /// The one after this, under a new name.
    fn next(self) -> Result<Self, StoreError> {
        let mut mark = [0; 16];
        rand::fill(&mut mark).map_err(|_unspecified| StoreError::Unavailable {
            action: "name what it writes",
            source: "the system gives no random bytes".into(),
        })?;
        Ok(Self { number: self.number.saturating_add(1), mark })
    }
}

/// What `rows` of [`NEWS`] say: how far they go, and what was written after `seen`.
///
/// # Errors
///
/// [`StoreError::Failed`] if they do not continue what was seen, or are not for this program any more.
pub(super) fn read_news(
    seen: Position,
    rows: &[Row],
) -> Result<(Position, Vec<Group>), StoreError> {
    let failed = |error| StoreError::failed("read what others wrote", error);
    let lost =
        |what: &'static str| StoreError::failed("continue from what this server has seen", what);
    let (mut at, mut groups) = (seen, Vec::new());
    for row in rows {
        schema::may_go_on(row.try_get(5).map_err(failed)?).map_err(outdated)?;
        let position = Position::read(row).map_err(failed)?;
        if position.number == seen.number {
            if position != seen {
                return Err(lost(
                    "the database has another history; it was restored, or failed over",
                ));
            }
            continue;
        }
        if position.number != at.number.saturating_add(1) {
            return Err(lost("more was written than the database remembers for others"));
        }
        at = position;
        groups.push(read_changes(row)?.into());
    }
    Ok((at, groups))
}

/// A server that is too old ends: nothing that it would write or read could be relied upon.
fn outdated(why: Outdated) -> StoreError {
    StoreError::failed("go on beside newer servers", why)
}

/// The connection over which is written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    line: Option<Line>,
    /// The partitions there are, as far as is known. More does no harm, and neither does less.
    partitions: BTreeSet<Partition>,
}

impl Writer {
    /// Writes over `line` from now on.
    pub(super) async fn prepare(&mut self, line: Line) -> Result<(), LineError> {
        const NAMES: &str = "SELECT p.relname::text, c.relname::text FROM pg_inherits i \
            JOIN pg_class p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid \
            JOIN pg_namespace n ON n.oid = p.relnamespace WHERE n.nspname = 'claviger'";
        let rows = timeout(ANSWER, line.client().query_typed(NAMES, &[])).await??;
        self.partitions.clear();
        for row in rows {
            let (parent, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let space = partition::spaces().find(|space| space.name() == parent);
            self.partitions.extend(space.and_then(|space| Partition::named(space, name)));
        }
        self.line = Some(line);
        Ok(())
    }

    /// The newest group.
    pub(super) async fn position(&self) -> Result<Position, LineError> {
        let client = self.client()?;
        let asked = client.query_typed("SELECT number, mark FROM claviger.turn", &[]);
        let rows = timeout(ANSWER, asked).await??;
        Ok(rows.first().map(Position::read).transpose()?.unwrap_or_default())
    }

    fn client(&self) -> Result<&Client, LineError> {
        self.line.as_ref().map(Line::client).ok_or(LineError::Lost)
    }

    /// Begins a transaction and waits for the turn.
    async fn begin(&mut self, store: &PostgresStore) -> Result<Position, LineError> {
        if self.line.as_ref().is_none_or(Line::is_lost) {
            let line = store.0.route.connect(None).await?;
            self.prepare(line).await?;
        }
        let client = self.client()?;
        let both = join(client.batch_execute("BEGIN"), client.query_typed(LOCK, &[]));
        let (began, locked) = timeout(ANSWER, both).await?;
        began?;
        let rows = locked?;
        let Some(row) = rows.first() else { return Ok(Position::default()) };
        schema::may_go_on(row.try_get(2)?)?;
        Ok(Position::read(row)?)
    }
}

/// A turn. Dropped in the middle, its connection ends, and with it the transaction.
#[derive(Debug)]
pub(super) struct PostgresTurn<'s> {
    store: &'s PostgresStore,
    writer: MutexGuard<'s, Writer>,
    /// The group before it.
    before: Position,
    is_open: bool,
}

impl Drop for PostgresTurn<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.writer.line = None;
        }
    }
}

impl<'s> PostgresTurn<'s> {
    /// Waits for a turn, over another connection if need be.
    pub(super) async fn begin(store: &'s PostgresStore) -> Result<Self, StoreError> {
        let until = Instant::now() + PATIENCE;
        let mut writer = store.0.writer.lock().await;
        loop {
            match writer.begin(store).await {
                Ok(before) => return Ok(Self { store, writer, before, is_open: true }),
                Err(LineError::Outdated(error)) => {
                    writer.line = None;
                    return Err(outdated(error));
                }
                Err(error) => {
                    writer.line = None;
                    if until <= Instant::now() {
                        return Err(unavailable("begin to write", error));
                    }
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        let failed = |error| unavailable("read", error);
        let client = self.writer.client().map_err(failed)?;
        let asked = timeout(ANSWER, client.query_typed(statement, parameters)).await;
        asked
            .map_err(LineError::from)
            .and_then(|rows| rows.map_err(LineError::from))
            .map_err(failed)
    }

    /// Sees to it that everything in `batch` has a partition to lie in, and drops those that it empties.
    ///
    /// Somebody who reads for long may be in the way of either. Then it is done without: what has no
    /// partition lies with the rest, and what can't be dropped is deleted.
    async fn arrange(&mut self, batch: &Batch) -> Result<(), LineError> {
        for (space, below) in &batch.below {
            for partition in Partition::below(&self.writer.partitions, *space, below) {
                if self.try_to(&partition.drop()).await? {
                    self.writer.partitions.remove(&partition);
                }
            }
            let statement = format!("DELETE FROM {} WHERE key < $1", table(*space));
            let client = self.writer.client()?;
            timeout(ANSWER, client.query_typed(&statement, &[(below, Type::BYTEA)])).await??;
        }
        for space in partition::spaces() {
            let put =
                batch.last.get(&space).into_iter().flatten().filter(|(_, value)| value.is_some());
            let wanted: BTreeSet<_> =
                put.filter_map(|(key, _)| partition::of(space, key)).collect();
            let missing: Vec<_> = wanted.difference(&self.writer.partitions).cloned().collect();
            for partition in missing {
                if !self.try_to(&partition.create()).await? {
                    warn!(partition = partition.name(), "cannot make a partition; doing without");
                }
                self.writer.partitions.insert(partition);
            }
        }
        Ok(())
    }

    /// Whether `statement` could be done; if not, the transaction goes on without it.
    async fn try_to(&self, statement: &str) -> Result<bool, LineError> {
        let client = self.writer.client()?;
        execute(client, "SAVEPOINT part; SET LOCAL lock_timeout = '200ms'").await?;
        match execute(client, statement).await {
            Ok(()) => {
                execute(client, "RELEASE part; SET LOCAL lock_timeout = '5s'").await?;
                Ok(true)
            }
            Err(LineError::Database(error)) if error.as_db_error().is_some() => {
                execute(client, "ROLLBACK TO part").await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes and commits, in one go: if anything but the commit fails, the database does not commit.
    async fn commit(&mut self, writes: Vec<Write>, position: Position) -> Result<(), Failure> {
        let batch = Batch::from(writes);
        self.arrange(&batch).await.map_err(Failure::Before)?;
        let mut statement = Statement::default();
        statement.parameter(position.number, Type::INT8);
        statement.parameter(position.mark.to_vec(), Type::BYTEA);
        statement.change(&batch);
        statement.add("UPDATE claviger.turn SET number = $1, mark = $2".to_owned());
        if position.number.checked_rem(TIDIED) == Some(0) {
            let oldest = position.number.saturating_sub(REMEMBERED);
            let oldest = statement.parameter(oldest, Type::INT8);
            statement.add(format!("DELETE FROM claviger.changes WHERE number < {oldest}"));
        }
        let text = statement.text("SELECT pg_notify('claviger', '')");
        let parameters = statement.parameters();
        let client = self.writer.client().map_err(Failure::Before)?;
        let both = join(client.query_typed(&text, &parameters), client.batch_execute("COMMIT"));
        let (written, committed) =
            timeout(PATIENCE, both).await.map_err(|late| Failure::During(late.into()))?;
        match (written, committed) {
            (Ok(_rows), Ok(())) => Ok(()),
            // The database has said no to something, so it has rolled back.
            (Err(error), _) | (Ok(_), Err(error)) if error.as_db_error().is_some_and(is_no) => {
                Err(Failure::Before(error.into()))
            }
            (Err(error), _) | (Ok(_), Err(error)) => Err(Failure::During(error.into())),
        }
    }

    /// Finds out whether the group at `position` was written by a commit that nobody saw the end of.
    ///
    /// Whoever holds the turn knows: the transaction in question has ended. That it is there is believed
    /// only once it is where a commit of now is, on every standby that has to have it: a database that was
    /// started again shows more.
    async fn find_out(&mut self, position: Position) -> Result<bool, LineError> {
        self.writer.line = None;
        let store = self.store;
        let now = self.writer.begin(store).await?;
        let client = self.writer.client()?;
        let from: [(&(dyn ToSql + Sync), Type); 1] = [(&position.number, Type::INT8)];
        let rows = timeout(ANSWER, client.query_typed(NEWS, &from)).await??;
        let there = rows.first().map(Position::read).transpose()?;
        let is_there = there == Some(position);
        if !is_there {
            if position.number <= now.number
                && there.is_none_or(|there| there.number != position.number)
            {
                return Err(LineError::Lost);
            }
            execute(client, "ROLLBACK").await?;
            return Ok(false);
        }
        execute(client, "UPDATE claviger.turn SET number = number").await?;
        timeout(PATIENCE, client.batch_execute("COMMIT")).await??;
        Ok(true)
    }

    async fn settle(&mut self, position: Position, lost: LineError) -> Result<(), StoreError> {
        warn!(error = %lost, "the database was lost while it committed; finding out what became of it");
        let until = Instant::now() + PATIENCE;
        loop {
            match self.find_out(position).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(unavailable("write", lost)),
                Err(_error) if Instant::now() < until => sleep(AGAIN).await,
                Err(error) => return Err(StoreError::Unsettled { source: Box::new(error) }),
            }
        }
    }
}

/// Whether the database has refused the statement, rather than gone away in the middle of it.
fn is_no(said: &tokio_postgres::error::DbError) -> bool {
    // 57P0x: it is being stopped or starts; 08xxx: the connection.
    let code = said.code().code();
    !(code.starts_with("57P") || code.starts_with("08"))
}

/// Why a group was not written.
enum Failure {
    /// Nothing was committed.
    Before(LineError),
    /// Something may have been.
    During(LineError),
}

#[async_trait]
impl Turn for PostgresTurn<'_> {
    async fn news(&mut self) -> Result<Vec<Group>, StoreError> {
        let seen = self.store.seen();
        if seen == self.before {
            return Ok(Vec::new());
        }
        let rows = self.ask(NEWS, &[(&seen.number, Type::INT8)]).await?;
        let groups = self.store.take_in(&rows)?;
        if self.store.seen() != self.before {
            let what =
                "the database has forgotten what this server saw; it was restored, or failed over";
            return Err(StoreError::failed("continue from what this server has seen", what));
        }
        Ok(groups)
    }

    async fn get_many(
        &mut self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let Some(wanted) = Wanted::new(&keys) else { return Ok(Vec::new()) };
        let rows = self.ask(wanted.statement(), &wanted.parameters()).await?;
        in_order(&keys, &rows)
    }

    async fn write(mut self: Box<Self>, writes: Vec<Write>) -> Result<(), StoreError> {
        if writes.is_empty() {
            let client =
                self.writer.client().map_err(|error| unavailable("end its turn", error))?;
            self.is_open = execute(client, "ROLLBACK").await.is_err();
            return Ok(());
        }
        let position = self.before.next()?;
        match self.commit(writes, position).await {
            Ok(()) => {}
            Err(Failure::Before(error)) => return Err(unavailable("write", error)),
            Err(Failure::During(lost)) => self.settle(position, lost).await?,
        }
        self.is_open = false;
        self.store.has_seen(position);
        Ok(())
    }
}
