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

/// Where the rows of a class begin for the owner of a share, who reads the database with the id `database`.
///
/// `own_saved` is the cursor for these rows that this worker itself saved, `record` the share's record (of this number of replicas and this index), and `last_row` the database's last
/// ROWID, read after the record was: a mark above it is false, whoever wrote it, and does not count.
///
/// After a crash requests of this worker's last life may still have reached the remote, for rows up to [`WINDOW`] above its saved cursor, and after another
/// owner's. So these are looked at again, whatever the mark says. Above them and up to the mark nothing is.
#[must_use]
pub fn start(
    own_saved: Option<i64>,
    record: Option<&Record>,
    database: &str,
    last_row: i64,
    rows: Rows,
) -> Start {
    let mark = record.and_then(|record| record.mark(database, rows)).filter(|mark| *mark <= last_row);
    let Some(saved) = own_saved else {
        return Start { cursor: mark.unwrap_or(0), settled: None };
    };
    let looked_at = saved.saturating_add(WINDOW);
    let settled = mark.filter(|mark| *mark > looked_at).map(|mark| (looked_at, mark));
    Start { cursor: saved, settled }
}

#[cfg(test)]
mod tests;
