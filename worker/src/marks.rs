//! Progress in one replica's database, told in the ROWIDs of the others.
//!
//! The same rows have other ROWIDs in each replica's database, so a cursor says nothing to another node. Swift's replicators note in each database
//! up to which ROWID of the others it has everything ([`SyncPoints`]); from these the owner of a share derives
//! *marks*, cursors for the other databases, and leaves them in a [`Record`] for whoever takes the share after it.
//!
//! The invariant, for a share, a database X and a mark *m*: **each row of the share in X at ROWID <= m is settled:** done, superseded by another write that
//! is in some database, or listed in the share's current record as set aside. `docs/decisions/0005-progress-across-replicas.md` has the argument.
//!
//! * [`Pairs`] turns the owner's cursor into marks,
//! * [`Record`] carries marks and rows set aside from owner to owner, and
//! * [`start`] says where a new owner begins.
//!
//! Everything here is a pure function of its arguments.
//!
//! [`SyncPoints`]: crate::swift::container_db::SyncPoints

mod pairs;
mod record;

pub use pairs::Pairs;
pub use record::{Entry, MAX_RECORD_BYTES, OwnState, Record, Settled};

use crate::feed::WINDOW;
use crate::lane::Rows;

/// Where the owner of a share begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Rows at or below this ROWID need no look.
    pub cursor: i64,
    /// Neither do rows above the first and up to the second of these.
    pub settled: Option<(i64, i64)>,
}

impl Start {
    /// True when a row needs no look.
    #[must_use]
    pub fn is_settled(&self, rowid: i64) -> bool {
        rowid <= self.cursor || self.settled.is_some_and(|(from, to)| rowid > from && rowid <= to)
    }

    /// The highest ROWID up to which nothing above [`WINDOW`] needs a look.
    #[must_use]
    pub fn mark(&self) -> i64 {
        self.settled.map_or(self.cursor, |(_, to)| to)
    }
}

/// How far a worker itself has come with a class of rows of a share, in one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The cursor that was saved when this process began to read the database; none if nothing was.
    pub begun_at: Option<i64>,
    /// Where the cursor stands by now.
    pub cursor: i64,
}

impl Reached {
    /// Requests of this worker's last life may have reached the remote late, after another owner's, for rows up to here. They are
    /// looked at again whatever a mark says.
    fn looked_at_within(self, window: i64) -> i64 {
        self.begun_at.map_or(0, |begun| begun.saturating_add(window)).max(self.cursor)
    }
}

/// Where the rows of a class begin for the owner of a share, who reads the database with the id `database`, at the start of its process or when it takes the share.
///
/// `record` is the share's record (of this number of replicas and this index), and `last_row` the database's last
/// ROWID, read after the record was: a mark above it is false, whoever wrote it, and does not count.
///
/// Rows up to [`WINDOW`] above `begun_at` are looked at: a worker's last life may have had them in flight. Above them and up to the mark none are.
#[must_use]
pub fn start(reached: Reached, record: Option<&Record>, database: &str, last_row: i64, rows: Rows) -> Start {
    start_within(reached, record, database, last_row, rows, WINDOW)
}

fn start_within(
    reached: Reached,
    record: Option<&Record>,
    database: &str,
    last_row: i64,
    rows: Rows,
    window: i64,
) -> Start {
    let mark = record.and_then(|record| record.mark(database, rows)).filter(|mark| *mark <= last_row);
    let cursor = reached.cursor.max(reached.begun_at.unwrap_or(0));
    let looked_at = reached.looked_at_within(window).max(cursor);
    match mark.filter(|mark| *mark > looked_at) {
        Some(mark) if looked_at == cursor => Start { cursor: mark, settled: None },
        Some(mark) => Start { cursor, settled: Some((looked_at, mark)) },
        None => Start { cursor, settled: None },
    }
}

#[cfg(test)]
mod tests;
