//! What can go wrong with a database file, by what a caller does about it.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_SHORT_READ, SQLITE_READONLY};

use crate::swift::file_stamp::is_absent;

/// A question to a container database that was not answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DbError {
    kind: DbErrorKind,
    message: String,
}

/// What a caller can do about a [`DbError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DbErrorKind {
    /// There is no such file: the container moved, or was removed.
    Missing,
    /// Another process holds the lock, or a crashed one left work that only a writer can finish. Try again later.
    Busy,
    /// This is no database, a damaged one, or not a container's.
    Corrupt,
    /// The file is empty or ends early.
    Truncated,
    /// The system could not read it.
    Io,
}

impl DbErrorKind {
    /// The reason class for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Busy => "busy",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::Io => "io",
        }
    }
}

impl DbError {
    pub(crate) const fn new(kind: DbErrorKind, message: String) -> Self {
        Self { kind, message }
    }

    /// What a caller can do about it.
    pub const fn kind(&self) -> DbErrorKind {
        self.kind
    }

    pub(super) fn from_io(error: &io::Error, action: &str, path: &Path) -> Self {
        let kind = if is_absent(error) { DbErrorKind::Missing } else { DbErrorKind::Io };
        Self::new(kind, format!("{action} {}: {error}", path.display()))
    }

    pub(super) fn from_sqlite(error: &rusqlite::Error, action: &str) -> Self {
        Self::new(kind_of(error), format!("{action}: {error}"))
    }
}

fn kind_of(error: &rusqlite::Error) -> DbErrorKind {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        // A column of another type or number than asked for: the schema is not a container's.
        return DbErrorKind::Corrupt;
    };
    if failure.extended_code == SQLITE_IOERR_SHORT_READ {
        return DbErrorKind::Truncated;
    }
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged => DbErrorKind::Busy,
        // Nothing is ever written here, so this means a journal that must be rolled back first.
        ErrorCode::ReadOnly if failure.extended_code != SQLITE_READONLY => DbErrorKind::Busy,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig => DbErrorKind::Corrupt,
        // SQLITE_ERROR: no such table or column.
        ErrorCode::Unknown => DbErrorKind::Corrupt,
        _ => DbErrorKind::Io,
    }
}

/// SQLite's own words.
pub(super) fn message(error: &rusqlite::Error) -> Option<&str> {
    match error {
        rusqlite::Error::SqliteFailure(_, message) => message.as_deref(),
        rusqlite::Error::SqlInputError { msg, .. } => Some(msg),
        _ => None,
    }
}

pub(super) fn is_missing_table(error: &rusqlite::Error) -> bool {
    message(error).is_some_and(|message| message.contains("no such table"))
}

/// Databases from before storage policies have no such column; everything in them is of policy 0.
pub(super) fn is_missing_policy(error: &rusqlite::Error) -> bool {
    message(error).is_some_and(|message| message.contains("no such column: storage_policy_index"))
}
