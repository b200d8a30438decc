//! What a list of writes comes to, and the statements for it: one for all tables.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::table;
use crate::store::{Space, StoreError, Write};

/// What a list of writes comes to: the last word on every key, and which ranges go before that.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Per space, the key below which everything goes.
    pub(super) below: BTreeMap<Space, Vec<u8>>,
    /// The value of each key, or none.
    pub(super) last: BTreeMap<Space, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl From<Vec<Write>> for Batch {
    fn from(writes: Vec<Write>) -> Self {
        let mut batch = Self::default();
        for write in writes {
            match write {
                Write::Put { space, key, value } => {
                    batch.last.entry(space).or_default().insert(key, Some(value));
                }
                Write::Delete { space, key } => {
                    batch.last.entry(space).or_default().insert(key, None);
                }
                Write::DeleteBelow { space, key } => {
                    for (_, value) in batch.last.entry(space).or_default().range_mut(..key.clone())
                    {
                        *value = None;
                    }
                    let below = batch.below.entry(space).or_default();
                    if *below < key {
                        *below = key;
                    }
                }
            }
        }
        batch
    }
}

/// Statements that become one, and their parameters.
#[derive(Default)]
pub(super) struct Statement {
    parts: Vec<String>,
    parameters: Vec<(Box<dyn ToSql + Send + Sync>, Type)>,
}

impl Statement {
    /// Puts one more parameter in, and gives what stands for it.
    pub(super) fn parameter(
        &mut self,
        value: impl ToSql + Send + Sync + 'static,
        kind: Type,
    ) -> String {
        self.parameters.push((Box::new(value), kind));
        format!("${}", self.parameters.len())
    }

    /// Adds a statement that changes one table.
    pub(super) fn add(&mut self, part: String) {
        self.parts.push(part);
    }

    /// Adds what `batch` says of single keys, and gives what of it servers keep in memory.
    pub(super) fn change(&mut self, batch: &Batch) {
        let mut changes = (Vec::new(), Vec::new(), Vec::new());
        for (space, pairs) in &batch.last {
            if is_kept(*space) {
                for (key, value) in pairs {
                    changes.0.push(space.name());
                    changes.1.push(key.clone());
                    changes.2.push(value.clone());
                }
            }
            let gone: Vec<_> =
                pairs.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| k.clone()).collect();
            if !gone.is_empty() {
                let gone = self.parameter(gone, Type::BYTEA_ARRAY);
                self.add(format!("DELETE FROM {} WHERE key = ANY({gone})", table(*space)));
            }
            let put = pairs.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?)));
            let (keys, values): (Vec<_>, Vec<_>) = put.unzip();
            if !keys.is_empty() {
                let keys = self.parameter(keys, Type::BYTEA_ARRAY);
                let values = self.parameter(values, Type::BYTEA_ARRAY);
                self.add(format!(
                    "INSERT INTO {} SELECT * FROM unnest({keys}, {values}) \
                     ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value",
                    table(*space)
                ));
            }
        }
        let spaces = self.parameter(changes.0, Type::TEXT_ARRAY);
        let keys = self.parameter(changes.1, Type::BYTEA_ARRAY);
        let values = self.parameter(changes.2, Type::BYTEA_ARRAY);
        self.add(format!(
            "INSERT INTO claviger.changes (number, mark, spaces, keys, vals) \
             VALUES ($1, $2, {spaces}, {keys}, {values})"
        ));
    }

    /// The whole, which ends with `last`.
    pub(super) fn text(&self, last: &str) -> String {
        let parts = self.parts.iter().enumerate();
        let parts: Vec<_> = parts.map(|(n, part)| format!("part{n} AS ({part})")).collect();
        format!("WITH {} {last}", parts.join(", "))
    }

    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
        for (value, kind) in &self.parameters {
            parameters.push((&**value, kind.clone()));
        }
        parameters
    }
}

/// Whether servers keep it in memory, so that they have to be told of changes.
const fn is_kept(space: Space) -> bool {
    match space {
        Space::Meta
        | Space::Entries
        | Space::Agents
        | Space::Authorities
        | Space::Standings
        | Space::Approvals
        | Space::Policies => true,
        Space::Tokens
        | Space::Psks
        | Space::Audit
        | Space::Tiles
        | Space::Once
        | Space::Issued
        | Space::Series => false,
    }
}

/// A question for many keys of many tables.
pub(super) struct Wanted {
    statement: String,
    keys: Vec<Vec<Vec<u8>>>,
}

impl Wanted {
    /// `None` if nothing is wanted.
    pub(super) fn new(wanted: &[(Space, Vec<u8>)]) -> Option<Self> {
        let mut by_space: BTreeMap<Space, Vec<Vec<u8>>> = BTreeMap::new();
        for (space, key) in wanted {
            by_space.entry(*space).or_default().push(key.clone());
        }
        let select = |(n, space): (usize, &Space)| {
            let (name, table) = (space.name(), table(*space));
            format!("SELECT '{name}', key, value FROM {table} WHERE key = ANY(${n})")
        };
        let selects: Vec<_> = (1..).zip(by_space.keys()).map(select).collect();
        let statement = selects.join(" UNION ALL ");
        (!selects.is_empty()).then(|| Self { statement, keys: by_space.into_values().collect() })
    }

    pub(super) fn statement(&self) -> &str {
        &self.statement
    }

    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
        for keys in &self.keys {
            parameters.push((keys, Type::BYTEA_ARRAY));
        }
        parameters
    }
}

/// What `rows` say of `keys`, in their order.
pub(super) fn in_order(
    keys: &[(Space, Vec<u8>)],
    rows: &[Row],
) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let mut found = BTreeMap::new();
    for row in rows {
        let pair =
            || Ok(((row.try_get::<_, &str>(0)?, row.try_get::<_, &[u8]>(1)?), row.try_get(2)?));
        let (key, value): (_, Vec<u8>) =
            pair().map_err(|error: tokio_postgres::Error| StoreError::failed("read", error))?;
        found.insert(key, value);
    }
    Ok(keys
        .iter()
        .map(|(space, key)| found.get(&(space.name(), key.as_slice())).cloned())
        .collect())
}

/// What `row` of the table `changes` says was written.
pub(super) fn read_changes(row: &Row) -> Result<Vec<Write>, StoreError> {
    let failed = |error| StoreError::failed("read what others wrote", error);
    let spaces: Vec<&str> = row.try_get(2).map_err(failed)?;
    let keys: Vec<Vec<u8>> = row.try_get(3).map_err(failed)?;
    let values: Vec<Option<Vec<u8>>> = row.try_get(4).map_err(failed)?;
    let all = spaces.into_iter().zip(keys).zip(values);
    // A newer server may keep what this one does not know of.
    let known = all.filter_map(|((name, key), value)| {
        let space = Space::ALL.into_iter().find(|space| space.name() == name)?;
        Some(match value {
            Some(value) => Write::Put { space, key, value },
            None => Write::Delete { space, key },
        })
    });
    Ok(known.collect())
}
