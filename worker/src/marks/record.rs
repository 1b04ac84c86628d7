//! What the owner of a share leaves for whoever takes the share after it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use swift_s3_policy::{Timestamp, owner_index};

use super::pairs::{Pairs, raise};
use crate::lane::Rows;
use crate::parked::{Parked, ParkedRow};
use crate::reason::Reason;
use crate::swift::container_db::{MAX_POINTS, is_database_id};

/// No record is larger than this, and nothing larger is read.
pub const MAX_RECORD_BYTES: usize = 256 << 10;
/// What rows set aside may take of it. The rest is enough for the most marks of three classes with the longest ids.
const PARKED_BYTES: usize = 192 << 10;
/// What an entry takes beside its name, at most.
const ENTRY_BYTES: usize = 192;
/// The form that this program writes and reads.
const VERSION: u32 = 1;
/// More replicas than any ring has.
const MAX_REPLICAS: u32 = 64;
/// Names of nodes are host names, or chosen by operators.
const MAX_NODE_BYTES: usize = 256;
/// Swift allows 1,024 bytes unless configured otherwise.
const MAX_NAME_BYTES: usize = 8 << 10;

/// The progress of a share of a container, for one mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The node that wrote it.
    pub owner: String,
    /// The id of the database that the owner reads.
    pub database: String,
    /// How many shares there are.
    pub replicas: u32,
    /// Which of them this is.
    pub index: u32,
    /// Where each class of rows stands.
    classes: BTreeMap<Rows, Settled>,
    /// Rows set aside, by name. They may lie below cursors and marks.
    pub parked: BTreeMap<String, Entry>,
    /// When it was written, in seconds since the epoch. Only for people.
    pub written: u64,
}

/// How far a class of rows is settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// In the owner's database.
    pub cursor: i64,
    /// In others, by their id.
    pub marks: BTreeMap<String, i64>,
}

/// A row that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// It is a tombstone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The newest timestamp of the row, in Swift's form.
    pub timestamp: String,
    /// The policy that the object was written with, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// When it is due again, in seconds since the epoch.
    pub due: u64,
}

/// What the owner of a share knows when it writes a record.
#[derive(Clone, Copy, Debug)]
pub struct OwnState<'a> {
    /// Its own name.
    pub node: &'a str,
    /// The id of its database.
    pub database: &'a str,
    /// How many shares there are.
    pub replicas: u32,
    /// Which of them it writes about.
    pub index: u32,
    /// Where its cursors for the share stand.
    pub cursors: &'a [(Rows, i64)],
    /// What it read of its database.
    pub pairs: &'a Pairs,
    /// What it has set aside, of whatever share, with all that it has taken over of the former owner.
    pub parked: &'a Parked,
    /// Now, in seconds since the epoch.
    pub now: u64,
}

impl Record {
    /// The record that takes the place of `previous`, which is the share's current one.
    ///
    /// Cursors and marks never go down. If not all that is set aside fits, those stay that were listed, the others with the lowest ROWIDs are added, and cursors and marks stay
    /// in front of the first that did not fit.
    #[must_use]
    pub fn next(previous: Option<&Self>, own: &OwnState<'_>) -> Self {
        Self::next_within(previous, own, PARKED_BYTES)
    }

    pub(super) fn next_within(previous: Option<&Self>, own: &OwnState<'_>, parked_bytes: usize) -> Self {
        let previous = previous.filter(|known| known.replicas == own.replicas && known.index == own.index);
        let (parked, bounds) = choose(previous, own, parked_bytes);
        let classes = own
            .cursors
            .iter()
            .map(|(rows, cursor)| {
                let mut settled = Settled::default();
                for (id, mark) in previous.map(|known| known.all_marks(*rows)).unwrap_or_default() {
                    if id == own.database {
                        settled.cursor = mark;
                    } else {
                        settled.marks.insert(id, mark);
                    }
                }
                let reached = (*cursor).min(bounds.of(*rows));
                settled.cursor = settled.cursor.max(reached);
                if own.pairs.database() == own.database {
                    let found = own.pairs.marks_at(reached);
                    raise(&mut settled.marks, &found);
                    limit(&mut settled.marks, &found);
                }
                (*rows, settled)
            })
            .collect();
        Self {
            version: VERSION,
            owner: own.node.to_owned(),
            database: own.database.to_owned(),
            replicas: own.replicas,
            index: own.index,
            classes,
            parked,
            written: own.now,
        }
    }

    /// Up to which ROWID of a database this class of rows is settled. A class that was written in another form (deletes and live rows together or apart) counts as far as
    /// both parts were done.
    #[must_use]
    pub fn mark(&self, database: &str, rows: Rows) -> Option<i64> {
        let of = |rows: Rows| {
            let settled = self.classes.get(&rows)?;
            if database == self.database {
                Some(settled.cursor)
            } else {
                settled.marks.get(database).copied()
            }
        };
        let other_form = || match rows {
            Rows::All => of(Rows::Deletes).zip(of(Rows::Live)).map(|(deletes, live)| deletes.min(live)),
            Rows::Deletes | Rows::Live => of(Rows::All),
        };
        of(rows).or_else(other_form)
    }

    /// True when a node that does not own the share may pass over a row of it: it is settled, and not merely set aside. What is listed as set aside is
    /// not passed over, so that the cursors of other nodes stay true without the record.
    #[must_use]
    pub fn settles(&self, database: &str, rows: Rows, rowid: i64, name: &str) -> bool {
        self.mark(database, rows).is_some_and(|mark| rowid <= mark) && !self.parked.contains_key(name)
    }

    /// For tests that break a rule.
    #[cfg(test)]
    pub(super) fn with_cursors(mut self, cursors: &[(Rows, i64)]) -> Self {
        for (rows, cursor) in cursors {
            self.classes.entry(*rows).or_default().cursor = *cursor;
        }
        self
    }

    fn all_marks(&self, rows: Rows) -> BTreeMap<String, i64> {
        let ids = self.classes.values().flat_map(|settled| settled.marks.keys());
        let ids: BTreeSet<&String> = ids.chain(std::iter::once(&self.database)).collect();
        ids.into_iter().filter_map(|id| Some((id.clone(), self.mark(id, rows)?))).collect()
    }

    /// True when only the time differs.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        *self == Self { written: self.written, ..other.clone() }
    }

    /// The record as it is stored.
    ///
    /// # Errors
    /// None that is known: maps with text for keys can be written. The result is never larger than [`MAX_RECORD_BYTES`].
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what somebody stored. Nothing in it is trusted: what this program cannot have written, or what another version has, is no record, and the new owner
    /// begins at its own cursor.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_RECORD_BYTES {
            tracing::warn!(bytes = bytes.len(), "a record of progress is too large; done without");
            return None;
        }
        match serde_json::from_slice::<Self>(bytes).map_err(|error| error.to_string()) {
            Ok(record) => match record.problem() {
                None => Some(record),
                Some(problem) => {
                    tracing::warn!(problem, "a record of progress cannot be used; done without");
                    None
                }
            },
            Err(problem) => {
                tracing::warn!(problem, "a record of progress cannot be read; done without");
                None
            }
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let is_settled = |settled: &Settled| {
            settled.cursor >= 0
                && settled.marks.len() <= MAX_POINTS
                && settled.marks.iter().all(|(id, mark)| is_database_id(id) && *mark >= 0)
        };
        let is_entry = |(name, entry): (&String, &Entry)| {
            !name.is_empty()
                && name.len() <= MAX_NAME_BYTES
                && entry.timestamp.parse::<Timestamp>().is_ok()
                && owner_index(name, self.replicas) == self.index
        };
        if self.version != VERSION {
            return Some("it is of another version");
        }
        if self.replicas == 0 || self.replicas > MAX_REPLICAS || self.index >= self.replicas {
            return Some("there is no such share");
        }
        if !is_database_id(&self.database) || self.owner.len() > MAX_NODE_BYTES {
            return Some("its database or owner has no name that one could have");
        }
        if !self.classes.values().all(is_settled) {
            return Some("its marks are too many, or no marks");
        }
        let size = self.parked.keys().fold(0_usize, |size, name| size.saturating_add(entry_size(name)));
        if size > PARKED_BYTES || !self.parked.iter().all(is_entry) {
            return Some("its rows set aside are too many, or no rows of the share");
        }
        None
    }
}

/// Cursors stay at or below these.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    deletes: i64,
    live: i64,
}

impl Bounds {
    fn of(self, rows: Rows) -> i64 {
        match rows {
            Rows::All => self.deletes.min(self.live),
            Rows::Deletes => self.deletes,
            Rows::Live => self.live,
        }
    }
}

/// What of the rows set aside is listed, and how far the cursors may be told with that.
fn choose(
    previous: Option<&Record>,
    own: &OwnState<'_>,
    parked_bytes: usize,
) -> (BTreeMap<String, Entry>, Bounds) {
    let mut bounds = Bounds { deletes: i64::MAX, live: i64::MAX };
    // Rows that cannot be read have no name that says anything to another node, and nobody can carry them.
    let mut owed: Vec<(&str, &ParkedRow)> = own
        .parked
        .iter()
        .filter(|(name, row)| row.reason != Reason::BadRow && owner_index(name, own.replicas) == own.index)
        .collect();
    // What was listed lies below marks that were told, so it goes first; it fitted once, and takes no more room than then.
    let was_listed = |name: &str| previous.is_some_and(|known| known.parked.contains_key(name));
    owed.sort_by_key(|(name, row)| (!was_listed(name), row.rowid));
    let mut listed = BTreeMap::new();
    let mut room = parked_bytes;
    for (name, row) in owed {
        if let Some(rest) = room.checked_sub(entry_size(name)) {
            room = rest;
            listed.insert(name.to_owned(), Entry::of(row));
        } else {
            room = 0;
            let bound = if row.deleted { &mut bounds.deletes } else { &mut bounds.live };
            *bound = (*bound).min(row.rowid.saturating_sub(1));
        }
    }
    (listed, bounds)
}

/// How many bytes the entry of a name is counted as. It does not depend on the entry, so that what fitted once fits again.
pub(super) fn entry_size(name: &str) -> usize {
    serde_json::to_string(name).map_or(usize::MAX, |json| json.len().saturating_add(ENTRY_BYTES))
}

/// Marks of databases that are not heard of any more make room.
fn limit(marks: &mut BTreeMap<String, i64>, current: &BTreeMap<String, i64>) {
    let mut surplus = marks.len().saturating_sub(MAX_POINTS);
    marks.retain(|id, _| {
        let drop = surplus > 0 && !current.contains_key(id);
        surplus -= usize::from(drop);
        !drop
    });
    while marks.len() > MAX_POINTS {
        marks.pop_first();
    }
}

impl Entry {
    fn of(row: &ParkedRow) -> Self {
        Self {
            deleted: row.deleted,
            timestamp: row.timestamp.clone(),
            policy: row.policy_index,
            reason: row.reason,
            due: row.next_try,
        }
    }
}
