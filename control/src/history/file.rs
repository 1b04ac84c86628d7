//! The file that the past is kept in. It is worth less than anything else here: what cannot be used is moved aside.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::series::{Point, Step, fold, minutes_of_coarse};

/// `swSh` in ASCII: tells these files from others.
const APPLICATION_ID: i32 = 0x7377_5368;
/// Grows with each change of the tables.
const SCHEMA: i64 = 1;
const TABLES: &str = include_str!("schema.sql");
/// 1 GiB: several times what 1,000 mappings need.
const MAX_PAGES: u32 = 262_144;
/// The write-ahead log is cut back to this.
const LOG_BYTES: i64 = 16 * 1024 * 1024;
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the past was not written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("could not {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The file, opened when it is first needed.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    connection: Option<Connection>,
}

/// Why a file is moved aside.
enum Opened {
    Ready(Connection),
    Unusable(String),
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, connection: None }
    }

    /// Removes what is too much, writes how it was at a time, and makes the coarse step of that time anew.
    pub(super) fn record(&mut self, at_ms: i64, points: &BTreeMap<String, Point>) -> Result<(), FileError> {
        self.with(|connection| {
            // By itself: what it frees, a file that is full can be written to.
            let pruning = connection.transaction()?;
            prune(&pruning)?;
            pruning.commit()?;
            let transaction = connection.transaction()?;
            write(&transaction, at_ms, points)?;
            fold_coarse(&transaction, at_ms)?;
            transaction.commit()
        })
    }

    /// What is known of a series in these steps, oldest first.
    pub(super) fn read(
        &mut self,
        series: &str,
        step: Step,
        numbers: RangeInclusive<i64>,
    ) -> Result<Vec<(i64, Point)>, FileError> {
        self.with(|connection| {
            let id = connection
                .prepare_cached("SELECT id FROM series WHERE mapping_id = ?")?
                .query_row([series], |row| row.get::<_, i64>(0))
                .optional()?;
            let Some(id) = id else { return Ok(Vec::new()) };
            // One look for each step: other series lie between them.
            let mut statement = connection.prepare_cached(&format!(
                "SELECT lag, rows, bytes, failures, row_rate, byte_rate, complete FROM {} WHERE number = ? AND series = ?",
                table(step)
            ))?;
            let mut found = Vec::new();
            for number in numbers.clone() {
                if let Some(point) = statement.query_row([number, id], |row| point(row, 0)).optional()? {
                    found.push((number, point));
                }
            }
            Ok(found)
        })
    }

    /// Does something with the file. One that turns out to be damaged is replaced by an empty one, once.
    fn with<T>(&mut self, work: impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T, FileError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open_or_replace()?,
        };
        let done = match work(&mut connection) {
            Err(error) if is_damage(&error) => {
                drop(connection);
                self.move_aside(&error.to_string())?;
                connection = self.open_or_replace()?;
                work(&mut connection)
            }
            done => done,
        };
        self.connection = Some(connection);
        Ok(done?)
    }

    fn open_or_replace(&self) -> Result<Connection, FileError> {
        let why = match self.open()? {
            Opened::Ready(connection) => return Ok(connection),
            Opened::Unusable(why) => why,
        };
        self.move_aside(&why)?;
        match self.open()? {
            Opened::Ready(connection) => Ok(connection),
            Opened::Unusable(why) => Err(self.io("use", std::io::Error::other(why))),
        }
    }

    fn open(&self) -> Result<Opened, FileError> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        drop(options.open(&self.path).map_err(|error| self.io("open", error))?);
        match set_up(&self.path) {
            Err(error) if is_damage(&error) => Ok(Opened::Unusable(error.to_string())),
            opened => Ok(opened?),
        }
    }

    fn move_aside(&self, why: &str) -> Result<(), FileError> {
        let aside = with_ending(&self.path, ".unusable");
        tracing::warn!(path = %self.path.display(), aside = %aside.display(), why, "the history cannot be used; beginning a new one");
        // A log of the old file would be taken for one of the new.
        for ending in ["-wal", "-shm"] {
            match std::fs::remove_file(with_ending(&self.path, ending)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(self.io("remove the log of", error));
                }
                _ => {}
            }
        }
        std::fs::rename(&self.path, aside).map_err(|error| self.io("move aside", error))
    }

    fn io(&self, what: &'static str, source: std::io::Error) -> FileError {
        FileError::Io { what, path: self.path.clone(), source }
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn set_up(path: &Path) -> rusqlite::Result<Opened> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let (id, version) = (pragma("application_id")?, pragma("user_version")?);
    let is_empty = tables == 0 && id == 0 && version == 0;
    if !is_empty && (id != i64::from(APPLICATION_ID) || version != SCHEMA) {
        return Ok(Opened::Unusable(format!(
            "application id {id:#010x}, version {version}; this program writes {SCHEMA}"
        )));
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Ok(Opened::Unusable(verdict));
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    // The last minutes may be lost with the power; nothing else may.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "max_page_count", MAX_PAGES)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    if is_empty {
        // All of it or nothing: a half made file would not be taken for an empty one.
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
        ))?;
    }
    Ok(Opened::Ready(connection))
}

fn table(step: Step) -> &'static str {
    match step {
        Step::Minute => "minutes",
        Step::Coarse => "coarse",
    }
}

fn write(
    transaction: &Transaction<'_>,
    at_ms: i64,
    points: &BTreeMap<String, Point>,
) -> rusqlite::Result<()> {
    let minute = Step::Minute.number(at_ms);
    let mut series = transaction.prepare_cached(
        "INSERT INTO series (mapping_id, seen) VALUES (?1, ?2)
         ON CONFLICT (mapping_id) DO UPDATE SET seen = max(seen, excluded.seen) RETURNING id",
    )?;
    for (mapping_id, point) in points {
        let id: i64 = series.query_row(params![mapping_id, minute], |row| row.get(0))?;
        insert(transaction, Step::Minute, minute, id, point)?;
    }
    Ok(())
}

fn fold_coarse(transaction: &Transaction<'_>, at_ms: i64) -> rusqlite::Result<()> {
    let minutes = minutes_of_coarse(at_ms);
    let mut by_series: HashMap<i64, Vec<Point>> = HashMap::new();
    let mut statement = transaction.prepare_cached(
        "SELECT series, lag, rows, bytes, failures, row_rate, byte_rate, complete FROM minutes WHERE number BETWEEN ? AND ?",
    )?;
    let mut rows = statement.query([minutes.start(), minutes.end()])?;
    while let Some(row) = rows.next()? {
        by_series.entry(row.get(0)?).or_default().push(point(row, 1)?);
    }
    for (series, points) in by_series {
        if let Some(folded) = fold(&points) {
            insert(transaction, Step::Coarse, Step::Coarse.number(at_ms), series, &folded)?;
        }
    }
    Ok(())
}

/// Keeps the newest so many steps that there are, whenever they were: a clock that is wrong for a while, by years in either
/// direction, must not cost the past.
fn prune(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for step in Step::BOTH {
        let table = table(step);
        // From step to step, not over all rows of each.
        let sql = format!(
            "WITH RECURSIVE steps (number) AS (
                 SELECT max(number) FROM {table}
                 UNION ALL
                 SELECT (SELECT max(number) FROM {table} WHERE number < steps.number) FROM steps
                     WHERE steps.number IS NOT NULL LIMIT ?1
             )
             DELETE FROM {table} WHERE (SELECT count(number) FROM steps) = ?1
                 AND number < (SELECT min(number) FROM steps)"
        );
        transaction.prepare_cached(&sql)?.execute([step.steps()])?;
    }
    // A series without a sample that is kept.
    let oldest: Option<i64> =
        transaction.prepare_cached("SELECT min(number) FROM coarse")?.query_row([], |row| row.get(0))?;
    if let Some(oldest) = oldest {
        let oldest = Step::Minute.number(Step::Coarse.begins_ms(oldest));
        transaction.prepare_cached("DELETE FROM series WHERE seen < ?")?.execute([oldest])?;
    }
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    step: Step,
    number: i64,
    series: i64,
    point: &Point,
) -> rusqlite::Result<()> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let sql = format!(
        "INSERT OR REPLACE INTO {} (number, series, lag, rows, bytes, failures, row_rate, byte_rate, complete)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        table(step)
    );
    transaction.prepare_cached(&sql)?.execute(params![
        number,
        series,
        point.lag_seconds,
        count(point.rows),
        count(point.bytes),
        count(point.failures),
        point.rows_per_second,
        point.bytes_per_second,
        point.is_complete
    ])?;
    Ok(())
}

/// The columns of a point, the first of which is `first`.
fn point(row: &Row<'_>, first: usize) -> rusqlite::Result<Point> {
    let count = |index: usize| row.get(index).map(|number: i64| u64::try_from(number).unwrap_or(0));
    Ok(Point {
        lag_seconds: row.get(first)?,
        rows: count(first + 1)?,
        bytes: count(first + 2)?,
        failures: count(first + 3)?,
        rows_per_second: row.get(first + 4)?,
        bytes_per_second: row.get(first + 5)?,
        is_complete: row.get(first + 6)?,
    })
}

#[cfg(test)]
mod tests;
