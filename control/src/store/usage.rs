//! What was asked of remotes in a month, by mapping.

use std::collections::HashMap;

use rusqlite::Connection;
use swift_s3_proto::v1::{RemoteUsage, UsageReport};

use super::StoreError;

/// What a process of a node counted since it told last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageNews {
    /// The process.
    pub instance_id: String,
    /// Counts what this process told; one that was stored already is not added again. 0: it cannot be told apart, and is left out.
    pub number: u64,
    /// By mapping.
    pub reports: Vec<UsageReport>,
}

/// By mapping.
pub(super) fn of_month(
    connection: &Connection,
    month: &str,
) -> Result<HashMap<String, RemoteUsage>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT mapping_id, writes, lists, reads, deletes, bytes_sent, bytes_received FROM usage WHERE month = ?",
    )?;
    let rows = statement.query_map([month], |row| {
        let usage = RemoteUsage {
            writes: row.get(1)?,
            lists: row.get(2)?,
            reads: row.get(3)?,
            deletes: row.get(4)?,
            bytes_sent: row.get(5)?,
            bytes_received: row.get(6)?,
        };
        Ok((row.get(0)?, usage))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
