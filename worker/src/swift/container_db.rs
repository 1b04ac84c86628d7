//! A container's SQLite databases, read while Swift's servers write them.
//!
//! Everything here blocks; callers on the async side use `spawn_blocking`. Nothing is ever created or changed: a
//! database that needs a writer first (a journal left over by a crash) is reported as busy, and Swift's own container
//! server repairs it when it is next asked for the container.
//!
//! The files must never be opened by other means in this process: POSIX drops all of a process's locks on a file when
//! any descriptor of it is closed, and SQLite's locks are of that kind.
//!
//! Source: `swift/container/backend.py` and `swift/common/db.py` of Swift 2.30.1.

mod error;
mod files;
mod headers;
mod info;
mod row;
mod shard_range;
mod sync_points;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use swift_s3_policy::Timestamp;

use error::is_missing_policy;
pub use error::{DbError, DbErrorKind};
pub use files::{DbFile, DbFiles, locate};
pub use info::ContainerInfo;
pub use row::{Row, RowProblem};
pub(crate) use shard_range::RawShardRange;
pub use shard_range::{OwnRange, ShardRange, ShardRanges, ShardState, ShardingState, sharding_state};
pub use sync_points::{MAX_POINTS, SyncPoints, is_database_id};

/// How often and how many times a read tries again while a writer commits: for a second in all. SQLite's own waiting
/// grows to 100 ms between two tries and finds no gap in a busy container.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const BUSY_TRIES: i32 = 500;
/// The most rows of one batch: some MiB of memory with the longest names.
pub const MAX_BATCH_ROWS: u32 = 10_000;
/// The most rows that [`ContainerDb::rows_behind`] looks at.
const MAX_COUNTED_ROWS: u32 = 1 << 20;
/// A size above this is not a size. It also keeps the sum over all counted rows inside 64 bits.
const MAX_COUNTED_SIZE: i64 = 1 << 42;

/// An open container database.
#[derive(Debug)]
pub struct ContainerDb {
    connection: Connection,
}

/// What lies behind a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsBehind {
    /// Rows above the cursor, tombstones included.
    pub rows: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// The time of the oldest, by its data timestamp.
    pub oldest: Option<Timestamp>,
    /// There may be more rows than were counted.
    pub is_partial: bool,
}

impl ContainerDb {
    /// Opens a database for reading only. The file itself is first touched by the first question.
    ///
    /// # Errors
    /// [`DbErrorKind::Missing`], [`DbErrorKind::Truncated`] for an empty file, [`DbErrorKind::Io`].
    pub fn open_read_only(path: &Path) -> Result<Self, DbError> {
        let metadata = std::fs::metadata(path).map_err(|error| DbError::from_io(&error, "opening", path))?;
        if metadata.len() == 0 {
            return Err(DbError::new(
                DbErrorKind::Truncated,
                format!("{}: expected a database, got an empty file", path.display()),
            ));
        }
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_handler(Some(wait_for_writer))?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { connection }),
            Err(error) => Err(DbError::from_sqlite(&error, "opening")),
        }
    }

    /// What the database says about itself and its container.
    ///
    /// # Errors
    /// Any kind but [`DbErrorKind::Missing`]; an unreadable identity is [`DbErrorKind::Corrupt`].
    pub fn info(&self) -> Result<ContainerInfo, DbError> {
        info::read(&self.connection)
    }

    /// The container's own headers, as users set them: names as stored, and an empty value for each that was removed lately.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn headers(&self) -> Result<BTreeMap<String, String>, DbError> {
        headers::read(&self.connection)
    }

    /// Rows with a ROWID above `rowid`, ascending, at most `limit` (and never more than 10,000).
    ///
    /// A row that cannot be understood is given as its problem, in its place, and does not stop the others.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn rows_after(&self, rowid: i64, limit: u32) -> Result<Vec<Result<Row, RowProblem>>, DbError> {
        let limit = limit.min(MAX_BATCH_ROWS);
        self.rows("WHERE ROWID > ?1 ORDER BY ROWID LIMIT ?2", params![rowid, limit])
            .map_err(|error| DbError::from_sqlite(&error, "reading rows"))
    }

    /// The row of one name, `None` when the database has none.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn row_by_name(&self, name: &str) -> Result<Option<Result<Row, RowProblem>>, DbError> {
        // Naming both values of `deleted` lets SQLite use Swift's index on (deleted, name).
        let condition = "WHERE deleted IN (0, 1) AND name = ?1 ORDER BY ROWID DESC LIMIT 1";
        self.rows(condition, params![name])
            .map(|rows| rows.into_iter().next())
            .map_err(|error| DbError::from_sqlite(&error, "reading a row"))
    }

    fn rows(
        &self,
        condition: &str,
        parameters: impl rusqlite::Params,
    ) -> rusqlite::Result<Vec<Result<Row, RowProblem>>> {
        let query = |policy: &str| {
            format!(
                "SELECT ROWID, name, created_at, size, content_type, etag, deleted, {policy} \
                 FROM object {condition}"
            )
        };
        let mut statement = match self.connection.prepare_cached(&query("storage_policy_index")) {
            Err(error) if is_missing_policy(&error) => self.connection.prepare_cached(&query("0"))?,
            other => other?,
        };
        let mut found = Vec::new();
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            found.push(Row::read(row));
        }
        Ok(found)
    }

    /// Counts what lies above `rowid`, looking at a million rows at most.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn rows_behind(&self, rowid: i64) -> Result<RowsBehind, DbError> {
        self.rows_behind_within(rowid, MAX_COUNTED_ROWS)
    }

    fn rows_behind_within(&self, rowid: i64, most: u32) -> Result<RowsBehind, DbError> {
        let count = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT COUNT(*), SUM(MAX(0, MIN(CAST(size AS INTEGER), ?3))), MIN(created_at) \
                 FROM (SELECT size, created_at FROM object WHERE ROWID > ?1 ORDER BY ROWID LIMIT ?2)",
            )?;
            statement.query_row(params![rowid, most, MAX_COUNTED_SIZE], |row| {
                let rows: i64 = row.get(0)?;
                let bytes: Option<i64> = row.get(1)?;
                let oldest = row::text(row.get_ref(2)?, "created_at", row::MAX_TIMESTAMP_BYTES).ok();
                Ok((rows, bytes.unwrap_or(0), oldest))
            })
        };
        let (rows, bytes, oldest) = count().map_err(|error| DbError::from_sqlite(&error, "counting rows"))?;
        let rows = u64::try_from(rows).unwrap_or(0);
        Ok(RowsBehind {
            rows,
            bytes: u64::try_from(bytes).unwrap_or(0),
            oldest: oldest
                .and_then(|text| swift_s3_policy::RowTimestamps::parse(&text).ok())
                .map(|timestamps| timestamps.data),
            is_partial: rows >= u64::from(most),
        })
    }

    /// The shard ranges that the database holds, in no particular order; none in a database that never had any.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn shard_ranges(&self, own: OwnRange) -> Result<ShardRanges, DbError> {
        let info = self.info()?;
        shard_range::read(&self.connection, &info.account, &info.container, own)
            .map_err(|error| DbError::from_sqlite(&error, "reading shard ranges"))
    }
}

fn wait_for_writer(tries: i32) -> bool {
    std::thread::sleep(BUSY_PAUSE);
    tries < BUSY_TRIES
}

#[cfg(test)]
mod tests;
