//! The database in the data directory: created, checked, upgraded, copied.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::StepResult;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::directories::{DATABASE, DataDirectory, failed};

/// `swS3` in ASCII: tells this program's databases from others.
const APPLICATION_ID: i32 = 0x7377_5333;
/// Migrations in order. Released ones are never edited; a change of the schema is a new one at the end.
pub(super) const MIGRATIONS: &[M<'_>] =
    &[M::up(include_str!("schema_1.sql")), M::up(include_str!("schema_2.sql"))];
/// Other processes (a backup, an operator's `sqlite3`) hold locks for moments only.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The log goes into the database when it has so many pages, 32 MiB: less often than SQLite's default, since pages are written again and again.
const CHECKPOINT_PAGES: u32 = 8_000;
/// The write-ahead log is cut back to this after a checkpoint, so that a burst does not hold disk space for ever.
const WAL_BYTES: i64 = 64 * 1024 * 1024;
/// A backup that finds the database locked tries again after this pause.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Why the data directory or its database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, the lock or the database file.
    #[error("could not {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another swift-s3-control; stop that one first, or choose another --data-dir")]
    Locked(PathBuf),
    /// A process without `--etcd` keeps its state there.
    #[error(
        "{0} holds the state.db of a swift-s3-control without --etcd; choose another --data-dir, or move the state to etcd with \
         `swift-s3ctl state copy`, and the file away"
    )]
    HoldsState(PathBuf),
    /// A process with `--etcd` had its working copy there.
    #[error(
        "{0} was used by a swift-s3-control with --etcd, whose state is in etcd; choose another --data-dir, or get the state from \
         there with `swift-s3ctl state copy`"
    )]
    HoldsWorkingCopy(PathBuf),
    /// Another program holds the database.
    #[error("could not make the backup {0}: the database is locked by another program; try again")]
    Busy(PathBuf),
    /// Not ours.
    #[error(
        "{path} is not a database of swift-s3-control (application id {found:#010x}, expected {APPLICATION_ID:#010x}); \
         choose another --data-dir"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        found: i32,
    },
    /// Written by a newer program.
    #[error(
        "{path} has schema version {found}, this program knows up to {known}; upgrade swift-s3-control, or restore a backup \
         that was made before the upgrade"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest this program knows.
        known: usize,
    },
    /// Damaged.
    #[error(
        "{path} is damaged: {found}; restore a backup (swift-s3-control --backup makes them), or move the file away to start \
         empty: workers then verify what they carried before, and the configuration must be applied again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        found: String,
    },
    /// Anything else that SQLite says.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A migration failed.
    #[error("could not upgrade the database: {0}")]
    Migration(#[from] rusqlite_migration::Error),
    /// The operating system gave no thread.
    #[error("could not start the database's writer: {0}")]
    Thread(io::Error),
}

/// A new database file with the tables of this version.
pub(super) fn create_database(path: &Path, version: usize) -> Result<Connection, OpenError> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    drop(options.open(path).map_err(failed("create", path))?);
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    connection.set_prepared_statement_cache_capacity(64);
    Migrations::from_slice(MIGRATIONS).to_version(&mut connection, version)?;
    Ok(connection)
}

/// Brings the tables of a database to this program's version.
///
/// # Errors
/// When the database fails.
pub fn upgrade(connection: &mut Connection) -> Result<(), OpenError> {
    Ok(Migrations::from_slice(MIGRATIONS).to_latest(connection)?)
}

/// Opens the database for its one writer.
pub(super) fn open_writer(directory: &DataDirectory) -> Result<Connection, OpenError> {
    let path = directory.database();
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let is_empty = check(&connection, path)?;
    if is_empty {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    set_up_writer(&connection)?;
    Migrations::from_slice(MIGRATIONS).to_latest(&mut connection)?;
    Ok(connection)
}

/// What a connection that writes needs besides its journal.
pub(super) fn set_up_writer(connection: &Connection) -> Result<(), OpenError> {
    connection.pragma_update(None, "foreign_keys", "on")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    // Savepoints of large reports would spill into temporary files, and cost more writes than the data.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Refuses what is damaged, foreign or newer, before anything is written. True: the file is empty.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<bool, OpenError> {
    let damaged = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path: path.to_owned(), found: error.to_string() }
        }
        _ => OpenError::Sqlite(error),
    };
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(damaged)?;
    let version = pragma("user_version").map_err(damaged)?;
    let found = i32::try_from(pragma("application_id").map_err(damaged)?).unwrap_or(-1);
    // A start that was killed before its first migration leaves the id alone, or nothing.
    let is_empty = tables == 0 && version == 0 && (found == 0 || found == APPLICATION_ID);
    if !is_empty && found != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned(), found });
    }
    if version > i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX) {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: MIGRATIONS.len() });
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(damaged)?;
    if verdict != "ok" {
        return Err(OpenError::Damaged { path: path.to_owned(), found: verdict });
    }
    Ok(is_empty)
}

/// Copies the database of `data_dir` to the new file `target`, whole and consistent, while it may be in use. A copy that
/// is not whole never has the name `target`.
///
/// # Errors
/// When the database cannot be read, or `target` exists or cannot be written.
pub fn backup(data_dir: &Path, target: &Path) -> Result<(), OpenError> {
    if target.symlink_metadata().is_ok() {
        return Err(failed("create the backup", target)(io::ErrorKind::AlreadyExists.into()));
    }
    let source_path = data_dir.join(DATABASE);
    let source = Connection::open_with_flags(&source_path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.busy_timeout(BUSY_TIMEOUT)?;
    check(&source, &source_path)?;
    let mut draft = target.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed("create the backup", &draft))?;
    let finished = copy(&source, &draft).and_then(|()| {
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&draft).map_err(failed("sync", &draft))?;
        std::fs::rename(&draft, target).map_err(failed("name the backup", target))?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        sync(folder.unwrap_or(Path::new("."))).map_err(failed("sync the folder of", target))
    });
    if finished.is_err() {
        drop(std::fs::remove_file(&draft));
    }
    finished
}

/// In one step: with several, a busy writer would have it begin anew again and again.
fn copy(source: &Connection, target: &Path) -> Result<(), OpenError> {
    let mut copy = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let backup = rusqlite::backup::Backup::new(source, &mut copy)?;
    let deadline = std::time::Instant::now() + BUSY_TIMEOUT;
    while !matches!(backup.step(-1)?, StepResult::Done) {
        if std::time::Instant::now() >= deadline {
            return Err(OpenError::Busy(target.to_owned()));
        }
        std::thread::sleep(BUSY_PAUSE);
    }
    drop(backup);
    // The copy is one file: without this it would be opened with a log beside it.
    copy.pragma_update(None, "journal_mode", "delete")?;
    copy.close().map_err(|(_, error)| error.into())
}
