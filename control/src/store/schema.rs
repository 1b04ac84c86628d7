//! The data directory and the database in it: created, checked, upgraded, copied.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::StepResult;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

/// `swS3` in ASCII: tells this program's databases from others.
const APPLICATION_ID: i32 = 0x7377_5333;
/// Migrations in order. Released ones are never edited; a change of the schema is a new one at the end.
pub(super) const MIGRATIONS: &[M<'_>] = &[M::up(include_str!("schema_1.sql"))];
/// The database of a process without etcd.
const DATABASE: &str = "state.db";
/// A copy that is not whole yet.
const DRAFT: &str = "state.db.new";
/// How the databases of a process with etcd are called, before their number.
const WORKING_COPY: &str = "working-copy-";
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

/// The data directory, held by this process alone.
#[derive(Debug)]
pub struct DataDirectory {
    database: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if needed, and locks it. Nobody but the owner may read what is in it.
    ///
    /// # Errors
    /// When it cannot be created, another process has it, or it was used with etcd.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let database = path.join(DATABASE);
        if size(&database) == 0 && !working_copies(path)?.is_empty() {
            return Err(OpenError::HoldsWorkingCopy(path.to_owned()));
        }
        let file = private_file(&database).map_err(failed("open", &database))?;
        // SQLite gives its -wal and -shm files the mode of the database.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(failed("set the mode of", &database))?;
        Ok(Self { database, _lock: lock })
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> &Path {
        &self.database
    }
}

/// A data directory that nobody uses while its database is copied.
#[derive(Debug)]
pub struct IdleDirectory {
    path: PathBuf,
    _lock: File,
}

impl IdleDirectory {
    /// Locks a directory that is there.
    ///
    /// # Errors
    /// When it is not there, or a process uses it.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        std::fs::metadata(path).map_err(failed("look at", path))?;
        Ok(Self { path: path.to_owned(), _lock: lock(path)? })
    }

    /// Locks a directory, and creates it if needed.
    ///
    /// # Errors
    /// When it cannot be created, or a process uses it.
    pub fn lock_or_create(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { path: path.to_owned(), _lock: lock(path)? })
    }

    /// True if it holds a state.
    #[must_use]
    pub fn has_state(&self) -> bool {
        size(&self.path.join(DATABASE)) > 0
    }

    /// The database, to be read, and the version of its tables.
    ///
    /// # Errors
    /// When it is not a sound one in a version that is known.
    pub fn open(&self) -> Result<(Connection, usize), OpenError> {
        let path = self.path.join(DATABASE);
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        check(&connection, &path)?;
        connection.set_prepared_statement_cache_capacity(64);
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((connection, usize::try_from(version).unwrap_or(0)))
    }

    /// A new database beside the one in use. It becomes the one in use by [`IdleDirectory::put_in_place`].
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn draft(&self, version: usize) -> Result<Connection, OpenError> {
        let path = self.path.join(DRAFT);
        for name in [DRAFT.to_owned(), format!("{DRAFT}-wal"), format!("{DRAFT}-shm")] {
            match std::fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        create_database(&path, version)
    }

    /// Puts the draft in the place of the database, whole or not at all.
    ///
    /// # Errors
    /// When that fails; the database of before is there then, if there was one.
    pub fn put_in_place(&self, draft: Connection) -> Result<(), OpenError> {
        let (from, to) = (self.path.join(DRAFT), self.path.join(DATABASE));
        // One file each, with nothing in a log beside it: a log of the old one would be taken for one of the new.
        let close = |connection: Connection| {
            connection.pragma_update(None, "journal_mode", "delete")?;
            connection.close().map_err(|(_, error)| OpenError::from(error))
        };
        close(draft)?;
        if self.has_state() {
            let old = Connection::open_with_flags(&to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            old.busy_timeout(BUSY_TIMEOUT)?;
            close(old)?;
        }
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&from).map_err(failed("sync", &from))?;
        std::fs::rename(&from, &to).map_err(failed("name", &to))?;
        sync(&self.path).map_err(failed("sync", &self.path))
    }
}

/// The data directory of a process whose state is in etcd: it holds a working copy that is thrown away.
#[derive(Debug)]
pub struct CopyDirectory {
    path: PathBuf,
    _lock: File,
}

impl CopyDirectory {
    /// Creates the directory if needed, locks it, and removes working copies of earlier processes.
    ///
    /// # Errors
    /// When it cannot be created, another process has it, or it holds a state that is not in etcd.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        if size(&path.join(DATABASE)) > 0 {
            return Err(OpenError::HoldsState(path.to_owned()));
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.clear()?;
        Ok(directory)
    }

    /// Removes working copies. Whoever still has one open keeps it until it is closed.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear(&self) -> Result<(), OpenError> {
        for copy in working_copies(&self.path)? {
            std::fs::remove_file(&copy).map_err(failed("remove", &copy))?;
        }
        Ok(())
    }

    /// A new, empty database with the tables of this version, or of an older one. Names are never used twice, so that nobody
    /// takes one working copy for another.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(&self, number: i64, version: usize) -> Result<(PathBuf, Connection), OpenError> {
        let path = self.path.join(format!("{WORKING_COPY}{number}.db"));
        let connection = create_database(&path, version)?;
        // It is thrown away after a crash; what must be durable is in etcd.
        connection.pragma_update(None, "synchronous", "off")?;
        Ok((path, connection))
    }
}

/// A new database file with the tables of this version.
fn create_database(path: &Path, version: usize) -> Result<Connection, OpenError> {
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

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::File { what, path: path.clone(), source }
}

/// Creates the directory if needed, and locks it.
fn lock(path: &Path) -> Result<File, OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))?;
    let lock_path = path.join("lock");
    let lock = private_file(&lock_path).map_err(failed("open", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
    }
}

/// 0: there is no such file.
fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Databases of processes with etcd, and the files that SQLite keeps beside them.
fn working_copies(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        if entry.file_name().to_string_lossy().starts_with(WORKING_COPY) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
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
fn check(connection: &Connection, path: &Path) -> Result<bool, OpenError> {
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
