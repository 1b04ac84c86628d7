//! One row of the `object` table, and what is accepted as one.

use rusqlite::types::ValueRef;
use swift_s3_policy::RowTimestamps;

/// Swift allows 1,024 bytes for an object and 256 for a container unless configured otherwise; this leaves room.
pub(super) const MAX_NAME_BYTES: usize = 8 << 10;
/// Three timestamps with offsets need some 80 bytes.
pub(super) const MAX_TIMESTAMP_BYTES: usize = 256;
/// A content type is one header, and Swift's headers are 8 KiB at most.
const MAX_CONTENT_TYPE_BYTES: usize = 16 << 10;
/// An MD5 in hex, or an SLO's with parameters of container updates behind it.
const MAX_ETAG_BYTES: usize = 4 << 10;

/// A row: the newest write of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number in this database; another replica has another one.
    pub rowid: i64,
    /// The object's name.
    pub name: String,
    /// When data, content type and metadata were last written.
    pub timestamps: RowTimestamps,
    /// Bytes as the container counts them.
    pub size: u64,
    /// Content type, with Swift's own parameters still on it.
    pub content_type: String,
    /// ETag as the container lists it, without quotes.
    pub etag: String,
    /// The row is a tombstone.
    pub deleted: bool,
    /// The storage policy that the object was written with.
    pub policy_index: u32,
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {rowid}: {reason}")]
pub struct RowProblem {
    /// The row's number.
    pub rowid: i64,
    /// The object's name, when at least that can be read.
    pub name: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl Row {
    /// Reads the columns ROWID, name, created_at, size, content_type, etag, deleted, storage_policy_index.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> Result<Self, RowProblem> {
        let rowid = row.get(0).unwrap_or_default();
        let name = column(row, 1).and_then(|value| text(value, "name", MAX_NAME_BYTES));
        let known_name = name.as_ref().ok().cloned();
        name.and_then(|name| Self::parse(row, rowid, name)).map_err(|reason| RowProblem {
            rowid,
            name: known_name,
            reason,
        })
    }

    fn parse(row: &rusqlite::Row<'_>, rowid: i64, name: String) -> Result<Self, String> {
        if name.is_empty() {
            return Err("name: expected text, got an empty one".to_owned());
        }
        let created_at = text(column(row, 2)?, "created_at", MAX_TIMESTAMP_BYTES)?;
        Ok(Self {
            rowid,
            name,
            timestamps: RowTimestamps::parse(&created_at).map_err(|error| format!("created_at: {error}"))?,
            size: whole_number(column(row, 3)?, "size")?,
            content_type: optional_text(column(row, 4)?, "content_type", MAX_CONTENT_TYPE_BYTES)?,
            etag: optional_text(column(row, 5)?, "etag", MAX_ETAG_BYTES)?,
            deleted: flag(column(row, 6)?, "deleted")?,
            policy_index: whole_number(column(row, 7)?, "storage_policy_index")?,
        })
    }
}

/// One column of a row.
pub(super) fn column<'r>(row: &'r rusqlite::Row<'_>, index: usize) -> Result<ValueRef<'r>, String> {
    row.get_ref(index).map_err(|error| error.to_string())
}

/// A number that stands for yes or no.
pub(super) fn flag(value: ValueRef<'_>, column: &str) -> Result<bool, String> {
    match whole_number::<i64>(value, column)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("{column}: expected 0 or 1, got {other}")),
    }
}

/// Text of at most `most` bytes. A BLOB or a NULL in a text column is not text, even if it could be read as such.
pub(super) fn text(value: ValueRef<'_>, column: &str, most: usize) -> Result<String, String> {
    let ValueRef::Text(bytes) = value else {
        return Err(format!("{column}: expected text, got {}", value.data_type()));
    };
    if bytes.len() > most {
        return Err(format!("{column}: expected at most {most} bytes, got {}", bytes.len()));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(format!("{column}: expected UTF-8, got another byte at {}", error.valid_up_to())),
    }
}

/// As [`text`], but NULL is empty: Swift writes it for some old tombstones.
pub(super) fn optional_text(value: ValueRef<'_>, column: &str, most: usize) -> Result<String, String> {
    if value == ValueRef::Null { Ok(String::new()) } else { text(value, column, most) }
}

/// A number that the wanted type can hold.
pub(super) fn whole_number<N: TryFrom<i64>>(value: ValueRef<'_>, column: &str) -> Result<N, String> {
    let ValueRef::Integer(number) = value else {
        return Err(format!("{column}: expected a whole number, got {}", value.data_type()));
    };
    N::try_from(number).map_err(|_| format!("{column}: expected 0 or more within range, got {number}"))
}
