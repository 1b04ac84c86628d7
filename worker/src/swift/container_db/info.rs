//! What a database says about its container.

use rusqlite::{Connection, Row};
use swift_s3_policy::Timestamp;

use super::error::{DbError, DbErrorKind, is_missing_policy, is_missing_table};
use super::row::{self, MAX_NAME_BYTES, column};
use super::shard_range;

/// What a database says about its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Names this database; changes when Swift rebuilds it, and ROWIDs start anew then.
    pub id: String,
    /// The account, `.shards_…` for a shard.
    pub account: String,
    /// The container.
    pub container: String,
    /// The container is deleted, judged by this database alone: a delete newer than the last PUT, and no objects.
    /// While a container is being sharded, it is deleted only if both of its databases say so.
    pub deleted: bool,
    /// The highest ROWID, 0 when there are no rows. Rows of a `.pending` file have none yet.
    pub max_row: i64,
    /// Live objects over all policies, as the database counts them.
    pub object_count: u64,
    /// The policy of the container.
    pub policy_index: u32,
}

pub(super) fn read(connection: &Connection) -> Result<ContainerInfo, DbError> {
    let sqlite = |error: rusqlite::Error| DbError::from_sqlite(&error, "reading container_info");
    let query = |policy: &str| {
        format!(
            "SELECT account, container, id, put_timestamp, delete_timestamp, {policy}, object_count \
             FROM container_stat LIMIT 1"
        )
    };
    let mut statement = match connection.prepare_cached(&query("storage_policy_index")) {
        Err(error) if is_missing_policy(&error) => connection.prepare_cached(&query("0")).map_err(sqlite)?,
        other => other.map_err(sqlite)?,
    };
    let mut rows = statement.query([]).map_err(sqlite)?;
    let parsed = match rows.next().map_err(sqlite)? {
        Some(row) => parse(row),
        None => Err("expected one row in container_info, got none".to_owned()),
    };
    let mut info = parsed.map_err(|problem| DbError::new(DbErrorKind::Corrupt, problem))?;
    drop(rows);
    complete(connection, &mut info).map_err(sqlite)?;
    Ok(info)
}

/// Everything but `max_row`; objects are those of the container's own policy.
fn parse(row: &Row<'_>) -> Result<ContainerInfo, String> {
    let text = |index: usize, name: &str| row::text(column(row, index)?, name, MAX_NAME_BYTES);
    let time = |index: usize, name: &str| -> Result<Timestamp, String> {
        text(index, name)?.parse().map_err(|error| format!("{name}: {error}"))
    };
    let object_count: u64 = row::whole_number(column(row, 6)?, "object_count")?;
    let is_marked = time(4, "delete_timestamp")? > time(3, "put_timestamp")?;
    Ok(ContainerInfo {
        account: text(0, "account")?,
        container: text(1, "container")?,
        id: text(2, "id")?,
        deleted: is_marked && object_count == 0,
        max_row: 0,
        object_count,
        policy_index: row::whole_number(column(row, 5)?, "storage_policy_index")?,
    })
}

fn complete(connection: &Connection, info: &mut ContainerInfo) -> rusqlite::Result<()> {
    info.max_row = connection
        .prepare_cached("SELECT MAX(ROWID) FROM object")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?
        .unwrap_or(0);
    if let Some(total) = count_over_policies(connection)? {
        info.object_count = total;
    }
    if info.deleted {
        // A sharded root counts through its shards.
        info.deleted = shard_range::live_objects(connection, &info.account, &info.container)? == 0;
    }
    Ok(())
}

/// Objects over all policies; `None` in a database from before there were policies.
fn count_over_policies(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let counted = connection
        .prepare_cached("SELECT SUM(MAX(object_count, 0)) FROM policy_stat")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, Option<i64>>(0)));
    match counted {
        Ok(count) => Ok(Some(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))),
        Err(error) if is_missing_table(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
