//! What was read of a database over time: at which of its rows it had how much of the others.

use std::collections::BTreeMap;

use crate::swift::container_db::{MAX_POINTS, SyncPoints};

/// The most pairs that are kept. Between two neighbours lies at most a small part of what the cursor has to go.
const MAX_PAIRS: usize = 64;

/// A bounded memory of [`SyncPoints`], for one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    database: String,
    /// By ascending row.
    pairs: Vec<Pair>,
}

/// With all rows up to `row`, the database has of each other one what `points` say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    row: i64,
    points: BTreeMap<String, i64>,
}

impl Pairs {
    /// Remembers what was read. Reads of another database begin anew; one that gives no points changes nothing, for what was true of rows stays true.
    pub fn note(&mut self, read: SyncPoints) {
        if read.database != self.database {
            *self = Self { database: read.database, pairs: Vec::new() };
        }
        if read.points.is_empty() {
            return;
        }
        let pair = Pair { row: read.max_row, points: read.points };
        // A row is reached earlier than a later one, so the earlier read is the better one if it knew as much.
        if self.pairs.iter().any(|known| known.row <= pair.row && known.covers(&pair)) {
            return;
        }
        self.pairs.retain(|known| known.row < pair.row || !pair.covers(known));
        let place = self.pairs.partition_point(|known| known.row <= pair.row);
        self.pairs.insert(place, pair);
        self.thin();
    }

    /// Removes the pair whose absence leaves the smallest gap; the first and the last stay.
    fn thin(&mut self) {
        if self.pairs.len() <= MAX_PAIRS {
            return;
        }
        let gaps = self.pairs.windows(3).filter_map(|three| match three {
            [before, _, after] => Some(after.row.saturating_sub(before.row)),
            _ => None,
        });
        if let Some((index, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) {
            self.pairs.remove(index.saturating_add(1));
        }
    }

    /// The marks of a cursor: with every row of the database up to `cursor` settled, so is every row of these databases up to their mark.
    #[must_use]
    pub fn marks_at(&self, cursor: i64) -> BTreeMap<String, i64> {
        let mut marks = BTreeMap::new();
        for pair in self.pairs.iter().take_while(|pair| pair.row <= cursor) {
            raise(&mut marks, &pair.points);
        }
        marks
    }

    /// The database that the pairs are of; empty before the first.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Joins what all cursors have reached (the lowest stands at `lowest`), so that the rest has room.
    pub fn forget_below(&mut self, lowest: i64) {
        let reached = self.pairs.partition_point(|pair| pair.row <= lowest);
        if reached < 2 {
            return;
        }
        let rest = self.pairs.split_off(reached);
        let mut joined = self.pairs.drain(..).reduce(|mut joined, pair| {
            raise(&mut joined.points, &pair.points);
            joined.row = pair.row;
            joined
        });
        if let Some(joined) = &mut joined {
            // Ids of databases that are no more; without a mark they cost a look at most.
            while joined.points.len() > MAX_POINTS {
                joined.points.pop_first();
            }
        }
        self.pairs.extend(joined);
        self.pairs.extend(rest);
    }

    /// How many pairs are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True before the first pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl Pair {
    /// True when it says at least as much of each database as `other`.
    fn covers(&self, other: &Self) -> bool {
        other.points.iter().all(|(id, point)| self.points.get(id).is_some_and(|known| known >= point))
    }
}

/// Raises marks to others where those are higher.
pub(super) fn raise(marks: &mut BTreeMap<String, i64>, others: &BTreeMap<String, i64>) {
    for (id, point) in others {
        match marks.get_mut(id) {
            Some(known) => *known = (*known).max(*point),
            None => {
                marks.insert(id.clone(), *point);
            }
        }
    }
}
