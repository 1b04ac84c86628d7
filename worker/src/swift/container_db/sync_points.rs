//! What a database says of the other replicas' databases: up to which of their rows it has everything.
//!
//! # The promise
//!
//! `sync_points` reads, in one transaction, the highest ROWID *a* of this database A and the table `incoming_sync`, a list of
//! (id of a database B, ROWID *b* of B). Swift's replicators go by it, and promise: **each row of B at ROWID <= b is in A at ROWID <= a,
//! or A had, at ROWID <= a, a row of the same name and policy that is at least as new.** Rows that B gets later have higher ROWIDs.
//!
//! How *b* gets there, in Swift 2.30.1, and why the promise holds:
//!
//! | who writes it | why |
//! |---|---|
//! | `container/backend.py: merge_items` with `source`, called by B's `db_replicator.py: _usync_db` | B sends its rows in order and without gaps from the point that A told it (or that it noted for A's id once A had all of it); rows and point are written in one transaction |
//! | `db_replicator.py: merge_syncs`, at the end of B's `_usync_db` | B sends its own table, which it read before it sent its rows: what B had of C by then, A has now |
//! | `db_replicator.py: _handle_sync_request`, equal hashes | the hash is an exclusive or over all (name, time): both have the same rows, at whatever ROWIDs |
//! | `db_replicator.py: complete_rsync`, `common/db.py: newid` | A is a copy of B with a new id; the point is the copy's last ROWID. B's own points are true of a copy of B |
//! | `db_replicator.py: rsync_then_merge` | the same, after the rows of A's former database were merged into the copy |
//! | `container/sharder.py: _cleave_shard_broker` | points of databases of *another* container; nobody asks for the marks of those |
//!
//! Only existing rows count for *a*: a row that was removed again (replaced, or a tombstone that Swift forgot) is at no ROWID. `sqlite_sequence`
//! would be as true, but a cursor comes to it only with the next write.
//!
//! # Where it does not hold
//!
//! * **A database that is being split, was split, or takes shards back.** `container/backend.py: set_sharding_state` copies the retiring database's points
//!   into a fresh one that has no rows. From the moment sharding is ordered until the last shard range is forgotten, no points are given
//!   (the file itself shows it: shard ranges of others, or an own range in any state but active). A shard in use has its own, active range only.
//! * **After `rsync_then_merge`** the point of B is the last ROWID of the *merged* database (`newid` comes after the merge), which is above B's own last row if the former
//!   database had rows that the copy lacked. B's next so many rows are then taken for known; Swift's replicator on B does not send them either. They come
//!   as all rows do, with the updates of the object servers, and from the third replica. A reader that finds a point above its own last row
//!   knows that it is false; one that looks later cannot. See `docs/decisions/0005-progress-across-replicas.md`.
//! * **Between two reads of Swift:** hash and last row of B are read one after the other (`get_replication_info`), rows and points of the former database too
//!   (`rsync_then_merge`). A row of that instant may be missing in A until the third replica or the object server brings it.
//! * **Tombstones older than `reclaim_age`** may be forgotten by A before anybody has looked at them.
//! * **A database put back from a backup** has its old id and fewer rows.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::error::{DbError, is_missing_table};
use super::{ContainerDb, info, row};

/// The most points that are read, those of the newest databases first: three replicas and some that are no more.
pub const MAX_POINTS: usize = 100;
/// No UUID and device name is longer.
const MAX_DATABASE_ID_BYTES: usize = 128;

/// Up to where a database has the rows of others. See the module for what it promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncPoints {
    /// The id of the database that says so.
    pub database: String,
    /// Its highest ROWID, 0 when there are no rows.
    pub max_row: i64,
    /// By the id of another database: the ROWID of that database up to which this one has everything. Empty where the promise does not hold.
    pub points: BTreeMap<String, i64>,
}

/// True for what can be the id of a database: a UUID, and a device name or nothing.
#[must_use]
pub fn is_database_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    !id.is_empty() && id.len() <= MAX_DATABASE_ID_BYTES && id.bytes().all(is_plain)
}

impl ContainerDb {
    /// The highest ROWID and the points of other databases, all of one instant. Points that cannot be understood are left out.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn sync_points(&self) -> Result<SyncPoints, DbError> {
        let sqlite = |error: rusqlite::Error| DbError::from_sqlite(&error, "reading incoming_sync");
        // One transaction, or rows that came between the two reads would count as looked at when the cursor is still in front of them.
        let transaction = self.connection.unchecked_transaction().map_err(sqlite)?;
        let info = info::read(&transaction)?;
        let points = if is_split(&transaction, &info.account, &info.container).map_err(sqlite)? {
            BTreeMap::new()
        } else {
            points(&transaction, &info.id).map_err(sqlite)?
        };
        Ok(SyncPoints { database: info.id, max_row: info.max_row, points })
    }
}

/// True when rows may be in another database of the container instead, or be on their way there or back.
fn is_split(connection: &Connection, account: &str, container: &str) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM shard_range WHERE name != ?1 OR state != 40 OR deleted != 0)";
    let mut statement = match connection.prepare_cached(query) {
        Err(error) if is_missing_table(&error) => return Ok(false),
        other => other?,
    };
    statement.query_row([format!("{account}/{container}")], |row| row.get(0))
}

fn points(connection: &Connection, own: &str) -> rusqlite::Result<BTreeMap<String, i64>> {
    let query = "SELECT remote_id, sync_point FROM incoming_sync ORDER BY ROWID DESC LIMIT ?1";
    let mut statement = match connection.prepare_cached(query) {
        Err(error) if is_missing_table(&error) => return Ok(BTreeMap::new()),
        other => other?,
    };
    let mut found = BTreeMap::new();
    let mut rows = statement.query([i64::try_from(MAX_POINTS).unwrap_or(i64::MAX)])?;
    while let Some(read) = rows.next()? {
        let id = row::column(read, 0).and_then(|value| row::text(value, "remote_id", MAX_DATABASE_ID_BYTES));
        let point = row::column(read, 1).and_then(|value| row::whole_number::<i64>(value, "sync_point"));
        // Below the first row there is nothing, and of itself a database knows better.
        if let (Ok(id), Ok(point)) = (id, point)
            && point > 0
            && is_database_id(&id)
            && id != own
        {
            found.insert(id, point);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
