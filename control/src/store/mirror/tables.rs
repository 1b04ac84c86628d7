//! Which tables are kept in etcd, and their rows as bytes. A row is a JSON object with the names of its columns.

use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::super::StoreError;

/// A table whose rows are kept in etcd.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, in SQLite and in keys.
    pub name: &'static str,
    /// The columns of its primary key.
    pub key: &'static [&'static str],
    /// True for rows that mean nothing without a row of another table. They are there before it, and go after it.
    pub is_part: bool,
}

/// All of them, those before others whose rows these refer to.
pub const TABLES: [Table; 9] = [
    Table { name: "revisions", key: &["revision"], is_part: false },
    Table { name: "nodes", key: &["node_id"], is_part: false },
    Table { name: "progress", key: &["feed"], is_part: false },
    Table { name: "parked", key: &["feed", "object"], is_part: true },
    Table { name: "switches", key: &["mapping_id"], is_part: false },
    Table { name: "counters", key: &["name"], is_part: false },
    Table { name: "activity", key: &["activity"], is_part: false },
    Table { name: "usage", key: &["month", "mapping_id"], is_part: false },
    Table { name: "usage_reports", key: &["node_id"], is_part: false },
];

/// In the value of a parked row: a digest of the key of its feed. Feeds' numbers are given anew when they are free, so that
/// the number alone does not say that a row belongs to a feed.
const OF_FEED: &str = "of_feed";

/// One column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPart {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl KeyPart {
    fn to_sql(&self) -> SqlValue {
        match self {
            Self::Number(number) => SqlValue::from(*number),
            Self::Text(text) => SqlValue::from(text.clone()),
        }
    }
}

/// Names a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// Index in [`TABLES`].
    pub table: usize,
    /// Its primary key.
    pub key: Vec<KeyPart>,
}

impl RowKey {
    /// The table's description.
    #[must_use]
    pub fn table(&self) -> Option<&'static Table> {
        TABLES.get(self.table)
    }
}

/// Notes, in a temporary table, the key of each row that is written or removed on this connection from now on.
///
/// A row that REPLACE removes is told by its delete trigger only with `recursive_triggers`; one that a foreign key's
/// cascade removes always is. Source: sqlite.org/lang_conflict.html, sqlite.org/foreignkeys.html.
pub(super) fn watch(connection: &Connection) -> rusqlite::Result<()> {
    let mut sql = "PRAGMA recursive_triggers = on;
        CREATE TEMP TABLE changed (in_table INTEGER NOT NULL, key_1 ANY NOT NULL, key_2 ANY) STRICT;"
        .to_owned();
    for (index, table) in TABLES.iter().enumerate() {
        let keys = |side: &str| {
            let mut keys: Vec<String> = table.key.iter().map(|column| format!("{side}.{column}")).collect();
            keys.resize(2, "NULL".to_owned());
            keys.join(", ")
        };
        for (event, sides) in
            [("INSERT", &["NEW"][..]), ("DELETE", &["OLD"][..]), ("UPDATE", &["OLD", "NEW"][..])]
        {
            let mut notes = String::new();
            for side in sides {
                notes.push_str(&format!("INSERT INTO changed VALUES ({index}, {});", keys(side)));
            }
            sql.push_str(&format!(
                "CREATE TEMP TRIGGER note_{name}_{event} AFTER {event} ON main.{name} BEGIN {notes} END;",
                name = table.name
            ));
        }
    }
    connection.execute_batch(&sql)
}

/// The rows that were written or removed since the transaction began, each once; forgets them.
pub(super) fn take_changed(connection: &Connection) -> Result<Vec<RowKey>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT in_table, key_1, key_2 FROM changed")?;
    let rows = statement.query_map([], |row| {
        let mut key = vec![part(row.get_ref(1)?)];
        key.extend(match row.get_ref(2)? {
            ValueRef::Null => None,
            second => Some(part(second)),
        });
        Ok(RowKey { table: row.get(0)?, key })
    })?;
    let changed = rows.collect::<Result<_, _>>()?;
    connection.execute("DELETE FROM changed", [])?;
    Ok(changed)
}

fn part(value: ValueRef<'_>) -> KeyPart {
    match value {
        ValueRef::Integer(number) => KeyPart::Number(number),
        ValueRef::Text(text) => KeyPart::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => KeyPart::Text(String::new()),
    }
}

/// The value of a row; `None` if there is none.
///
/// # Errors
/// When the database fails.
pub(super) fn read(connection: &Connection, key: &RowKey) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(table) = key.table() else { return Ok(None) };
    let condition: Vec<String> = table.key.iter().map(|column| format!("{column} = ?")).collect();
    let sql = format!("SELECT * FROM {} WHERE {}", table.name, condition.join(" AND "));
    let mut statement = connection.prepare_cached(&sql)?;
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let key_values = key.key.iter().map(KeyPart::to_sql);
    let row = statement.query_row(params_from_iter(key_values), |row| object(row, &names)).optional()?;
    row.map(|object| encoded(connection, table, object)).transpose()
}

/// The next rows of a table in the order of its key, at most `limit`.
///
/// # Errors
/// When the database fails.
pub fn read_page(
    connection: &Connection,
    index: usize,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<(RowKey, Vec<u8>)>, StoreError> {
    let Some(table) = TABLES.get(index) else { return Ok(Vec::new()) };
    if !is_there(connection, table)? {
        return Ok(Vec::new());
    }
    let columns = table.key.join(", ");
    let marks = vec!["?"; table.key.len()].join(", ");
    let condition = after.map_or_else(String::new, |_| format!("WHERE ({columns}) > ({marks})"));
    let sql = format!("SELECT * FROM {} {condition} ORDER BY {columns} LIMIT {limit}", table.name);
    let mut statement = connection.prepare_cached(&sql)?;
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let after = after.map_or(&[][..], |key| &key.key);
    let mut rows = statement.query(params_from_iter(after.iter().map(KeyPart::to_sql)))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let object = object(row, &names)?;
        let key = RowKey { table: index, key: key_of(table, &object) };
        page.push((key, encoded(connection, table, object)?));
    }
    Ok(page)
}

/// False in a database of an older version, whose tables are copied as they are.
fn is_there(connection: &Connection, table: &Table) -> rusqlite::Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")?;
    statement.exists([table.name])
}

fn object(row: &rusqlite::Row<'_>, names: &[String]) -> rusqlite::Result<Map<String, Value>> {
    let mut object = Map::new();
    for (index, name) in names.iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Integer(number) => Value::from(number),
            ValueRef::Text(_) => Value::from(row.get::<_, String>(index)?),
            // The tables have numbers and texts only.
            ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
        };
        object.insert(name.clone(), value);
    }
    Ok(object)
}

fn encoded(
    connection: &Connection,
    table: &Table,
    mut object: Map<String, Value>,
) -> Result<Vec<u8>, StoreError> {
    if table.name == "parked" {
        let feed = object.get("feed").and_then(Value::as_i64).unwrap_or_default();
        object.insert(OF_FEED.to_owned(), Value::from(feed_digest(connection, feed)?.unwrap_or_default()));
    }
    serde_json::to_vec(&object).map_err(|error| StoreError::Failed(error.to_string()))
}

/// A digest of what names a feed; `None` if there is no such feed.
fn feed_digest(connection: &Connection, feed: i64) -> rusqlite::Result<Option<String>> {
    let mut statement =
        connection.prepare_cached("SELECT mapping_identity, database_id FROM progress WHERE feed = ?")?;
    let key = statement
        .query_row([feed], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    Ok(key.map(|(identity, database)| {
        let mut digest = Sha256::new();
        digest.update(identity);
        digest.update([0]);
        digest.update(database);
        hex::encode(digest.finalize().get(..12).unwrap_or_default())
    }))
}

fn key_of(table: &Table, object: &Map<String, Value>) -> Vec<KeyPart> {
    let part = |column: &&str| match object.get(*column) {
        Some(Value::Number(number)) => KeyPart::Number(number.as_i64().unwrap_or_default()),
        Some(Value::String(text)) => KeyPart::Text(text.clone()),
        _ => KeyPart::Text(String::new()),
    };
    table.key.iter().map(part).collect()
}

/// What became of a row that was to be put into the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    /// It is there.
    Done,
    /// It belongs to a feed that is not there: a write of many rows was cut short before the feed, or behind its removal.
    Orphan,
    /// This feed has the same key.
    Twin(i64),
}

/// True for the table of feeds.
pub(super) fn is_feed(index: usize) -> bool {
    TABLES.get(index).is_some_and(|table| table.name == "progress")
}

/// Another feed with the key of this one.
fn twin(connection: &Connection, object: &Map<String, Value>) -> rusqlite::Result<Option<i64>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let feed = object.get("feed").and_then(Value::as_i64).unwrap_or_default();
    let mut statement = connection.prepare_cached(
        "SELECT feed FROM progress WHERE mapping_identity = ? AND database_id = ? AND feed <> ?",
    )?;
    let key = rusqlite::params![text("mapping_identity"), text("database_id"), feed];
    statement.query_row(key, |row| row.get(0)).optional()
}

/// A column as the database has it.
#[derive(Debug)]
pub(super) struct Column {
    name: String,
    is_number: bool,
    may_be_null: bool,
}

/// The columns of a table.
pub(super) fn columns(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<Column>> {
    let mut statement =
        connection.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?) ORDER BY cid")?;
    let columns = statement.query_map([table.name], |row| {
        Ok(Column {
            name: row.get(0)?,
            is_number: row.get::<_, String>(1)? == "INTEGER",
            may_be_null: !row.get::<_, bool>(2)? && row.get::<_, i64>(3)? == 0,
        })
    })?;
    columns.collect()
}

/// What is wrong with a value. Its content is not shown: documents have secrets.
fn not_json(error: &serde_json::Error) -> String {
    format!(
        "not a JSON object: {:?} error in line {}, column {}",
        error.classify(),
        error.line(),
        error.column()
    )
}

/// Puts a row into the database, in place of one that has the same key.
///
/// # Errors
/// A sentence about what is wrong with the value, or what the database says.
pub(super) fn insert(
    connection: &Connection,
    key: &RowKey,
    columns: &[Column],
    value: &[u8],
) -> Result<Insertion, String> {
    let table = key.table().ok_or("an unknown table")?;
    let mut object: Map<String, Value> = serde_json::from_slice(value).map_err(|error| not_json(&error))?;
    if table.name == "parked" {
        let told = object.remove(OF_FEED);
        let feed = object.get("feed").and_then(Value::as_i64).ok_or("feed is not a number")?;
        let known = feed_digest(connection, feed).map_err(|error| error.to_string())?;
        if known.is_none() || known.as_deref() != told.as_ref().and_then(Value::as_str) {
            return Ok(Insertion::Orphan);
        }
    }
    if key_of(table, &object) != key.key {
        return Err("the row has another key than its place".to_owned());
    }
    if is_feed(key.table)
        && let Some(other) = twin(connection, &object).map_err(|error| error.to_string())?
    {
        return Ok(Insertion::Twin(other));
    }
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let value = object.remove(&column.name).ok_or_else(|| format!("{} is missing", column.name))?;
        values.push(sql_value(column, value)?);
    }
    if let Some(name) = object.keys().next() {
        return Err(format!("{name:?} is not a column of {}", table.name));
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT OR REPLACE INTO {} ({}) VALUES ({marks})", table.name, names.join(", "));
    let mut statement = connection.prepare_cached(&sql).map_err(|error| error.to_string())?;
    statement.execute(params_from_iter(values)).map_err(|error| error.to_string())?;
    Ok(Insertion::Done)
}

fn sql_value(column: &Column, value: Value) -> Result<SqlValue, String> {
    let kind = if column.is_number { "a number" } else { "a text" };
    match value {
        Value::Null if column.may_be_null => Ok(SqlValue::Null),
        Value::Number(number) if column.is_number => number
            .as_i64()
            .map(SqlValue::from)
            .ok_or_else(|| format!("{} is not a whole number", column.name)),
        Value::String(text) if !column.is_number => Ok(SqlValue::from(text)),
        _ => Err(format!("{} is not {kind}", column.name)),
    }
}
