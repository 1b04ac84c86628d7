//! Rows set aside: pages of them, counts of them.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{FailureCount, FailureStatus, ParkedRow};

use super::StoreError;
use super::reader::as_limit;

/// Which failures. Empty fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureFilter {
    /// Of this mapping.
    pub mapping_id: String,
    /// Of this account.
    pub account: String,
    /// Of this container.
    pub container: String,
    /// This object.
    pub object: String,
    /// Only names that begin so.
    pub object_prefix: String,
    /// Of this class.
    pub reason: String,
    /// Of this node.
    pub node_id: String,
}

/// The last failure of a page: the next page begins behind it, whatever was added or removed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePosition {
    account: String,
    container: String,
    object: String,
    node_id: String,
    feed: i64,
}

/// A page of failures.
#[derive(Clone, Debug, Default)]
pub struct FailurePage {
    /// By account, container, object and node.
    pub failures: Vec<FailureStatus>,
    /// Where the next page begins, if there is one.
    pub next: Option<FailurePosition>,
    /// All that match, on all pages.
    pub total: u64,
}

/// A condition and what it binds.
struct Condition {
    sql: String,
    values: Vec<Value>,
}

impl FailureFilter {
    fn condition(&self) -> Condition {
        let mut condition = Condition { sql: "k.attempts > 0".to_owned(), values: Vec::new() };
        let columns = [
            ("p.mapping_id", &self.mapping_id),
            ("k.account", &self.account),
            ("k.container", &self.container),
            ("k.object", &self.object),
            ("k.reason", &self.reason),
            ("p.node_id", &self.node_id),
        ];
        for (column, value) in columns {
            if !value.is_empty() {
                condition.add(&format!("{column} = ?"), [Value::from(value.clone())]);
            }
        }
        if !self.object_prefix.is_empty() {
            // LIKE would treat % and _ in names as patterns, and ASCII letters as equal.
            condition.add(
                "substr(k.object, 1, length(?)) = ?",
                [Value::from(self.object_prefix.clone()), Value::from(self.object_prefix.clone())],
            );
        }
        condition
    }
}

impl Condition {
    fn add<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }
}

/// Both tables; the index of failures gives the order.
const TABLES: &str = "parked k JOIN progress p ON p.feed = k.feed";

pub(super) fn page(
    connection: &Connection,
    filter: &FailureFilter,
    after: Option<&FailurePosition>,
    limit: usize,
) -> Result<FailurePage, StoreError> {
    // One snapshot for the page and its total.
    let transaction = connection.unchecked_transaction()?;
    let condition = filter.condition();
    let total = transaction.query_row(
        &format!("SELECT count(*) FROM {TABLES} WHERE {}", condition.sql),
        params_from_iter(&condition.values),
        |row| row.get(0),
    )?;
    let mut condition = condition;
    if let Some(after) = after {
        let text = |value: &String| Value::from(value.clone());
        // The first comparison lets the index seek; the second is the exact one.
        condition.add(
            "(k.account, k.container, k.object) >= (?, ?, ?)",
            [text(&after.account), text(&after.container), text(&after.object)],
        );
        condition.add(
            "(k.account, k.container, k.object, p.node_id, k.feed) > (?, ?, ?, ?, ?)",
            [
                text(&after.account),
                text(&after.container),
                text(&after.object),
                text(&after.node_id),
                Value::from(after.feed),
            ],
        );
    }
    condition.values.push(Value::from(as_limit(limit.saturating_add(1))));
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT k.object, k.row, k.share, k.deleted, k.timestamp, k.reason, k.message, k.attempts, k.next_try,
                p.mapping_id, k.account, k.container, p.node_id, k.feed
         FROM {TABLES} WHERE {} ORDER BY k.account, k.container, k.object, p.node_id, k.feed LIMIT ?",
        condition.sql
    ))?;
    let rows = statement.query_map(params_from_iter(&condition.values), |row| {
        let status = FailureStatus {
            mapping_id: row.get(9)?,
            account: row.get(10)?,
            container: row.get(11)?,
            node_id: row.get(12)?,
            row: Some(parked_row(row)?),
        };
        Ok((status, row.get::<_, i64>(13)?))
    })?;
    let mut found = rows.collect::<Result<Vec<_>, _>>()?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|(status, feed)| FailurePosition {
        account: status.account.clone(),
        container: status.container.clone(),
        object: status.row.as_ref().map(|row| row.object.clone()).unwrap_or_default(),
        node_id: status.node_id.clone(),
        feed: *feed,
    });
    Ok(FailurePage { failures: found.into_iter().map(|(status, _)| status).collect(), next, total })
}

pub(super) fn count(
    connection: &Connection,
    filter: &FailureFilter,
) -> Result<(u64, Vec<String>), StoreError> {
    let condition = filter.condition();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT p.node_id, count(*) FROM {TABLES} WHERE {} GROUP BY p.node_id ORDER BY p.node_id",
        condition.sql
    ))?;
    let rows = statement.query_map(params_from_iter(&condition.values), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))
    })?;
    let mut total = 0_u64;
    let mut nodes = Vec::new();
    for row in rows {
        let (node, count) = row?;
        total = total.saturating_add(count);
        nodes.push(node);
    }
    Ok((total, nodes))
}

/// Classes of failures that are told; nodes know a few dozen, and what they send is not trusted.
/// Classes that are told of at a time.
pub const MAX_REASONS: usize = 100;
/// Classes of all mappings; what nodes make up must not fill the memory.
const MAX_REASONS_OF_ALL: usize = 100_000;

/// Rows that match by their class, the most frequent first, at most [`MAX_REASONS`] classes. Empty fields match everything.
pub(super) fn reasons(
    connection: &Connection,
    mapping_id: &str,
    account: &str,
    container: &str,
) -> Result<Vec<FailureCount>, StoreError> {
    // Only feeds with failures are looked at, by their index.
    let mut condition = Condition { sql: "p.failures > 0 AND k.attempts > 0".to_owned(), values: Vec::new() };
    let columns = [("p.mapping_id", mapping_id), ("p.account", account), ("p.container", container)];
    for (column, value) in columns.into_iter().filter(|(_, value)| !value.is_empty()) {
        condition.add(&format!("{column} = ?"), [Value::from(value.to_owned())]);
    }
    condition.values.push(Value::from(as_limit(MAX_REASONS)));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT k.reason, count(*) FROM progress p CROSS JOIN parked k ON k.feed = p.feed WHERE {}
         GROUP BY k.reason ORDER BY count(*) DESC, k.reason LIMIT ?",
        condition.sql
    ))?;
    let rows = statement.query_map(params_from_iter(&condition.values), |row| {
        Ok(FailureCount { reason: row.get(0)?, rows: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Rows set aside after failures by mapping and class, the most frequent first.
pub(super) fn reasons_by_mapping(connection: &Connection) -> Result<Vec<(String, FailureCount)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT p.mapping_id, k.reason, count(*) FROM progress p CROSS JOIN parked k ON k.feed = p.feed
         WHERE p.failures > 0 AND k.attempts > 0
         GROUP BY p.mapping_id, k.reason ORDER BY count(*) DESC, k.reason LIMIT ?",
    )?;
    let rows = statement.query_map([as_limit(MAX_REASONS_OF_ALL)], |row| {
        Ok((row.get(0)?, FailureCount { reason: row.get(1)?, rows: row.get(2)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every row of a feed that is set aside, those that only wait included.
pub(super) fn of_feed(connection: &Connection, feed: i64) -> Result<Vec<ParkedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT object, row, share, deleted, timestamp, reason, message, attempts, next_try
         FROM parked WHERE feed = ? ORDER BY object",
    )?;
    let rows = statement.query_map([feed], parked_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn parked_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ParkedRow> {
    Ok(ParkedRow {
        object: row.get(0)?,
        rowid: row.get(1)?,
        share: row.get(2)?,
        deleted: row.get(3)?,
        timestamp: row.get(4)?,
        reason: row.get(5)?,
        message: row.get(6)?,
        attempts: row.get(7)?,
        next_try: u64::try_from(row.get::<_, i64>(8)?).unwrap_or(0),
    })
}
