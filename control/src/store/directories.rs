//! Data directories: for whom they are, held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::schema::{BUSY_TIMEOUT, OpenError, check, create_database};

/// The database of a process without etcd.
pub(super) const DATABASE: &str = "state.db";
/// Says that the directory was used with etcd.
const USED_WITH_ETCD: &str = "used-with-etcd";
/// How the databases of a process with etcd are called, before their number.
const WORKING_COPY: &str = "working-copy-";
/// A copy that is not whole yet.
const DRAFT: &str = "state.db.new";

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
        if size(&database) == 0 && (!working_copies(path)?.is_empty() || path.join(USED_WITH_ETCD).exists()) {
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
        // Stays: who starts here without etcd by mistake must not begin an empty state of its own.
        let mark = path.join(USED_WITH_ETCD);
        private_file(&mark).map_err(failed("create", &mark))?;
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

pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
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
