//! How far a feed is behind, counted from its database.
//!
//! Only names that this node handles first are counted: over all nodes, each row is then counted once.

use swift_s3_policy::{Mapping, Timestamp};

use crate::decide::{DeleteAction, decide_delete};
use crate::lane::{Lane, RowKey, Rows, Share, Verdict, judge};
use crate::parked::Parked;
use crate::swift::container_db::{ContainerDb, DbError, MAX_BATCH_ROWS, Row};

/// Rows that are looked at one by one; beyond, they are estimated. Takes some tenths of a second.
const MAX_SCANNED: usize = 100_000;

/// What is left to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Rows that are due.
    pub rows: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// For how long the first of them has been due, in seconds.
    pub seconds: f64,
    /// Rows that are not old enough yet.
    pub rows_waiting: u64,
    /// Rows set aside after a failure.
    pub rows_parked: u64,
    /// Deletes that the delete limit holds.
    pub deletes_held: u64,
    /// `rows`, `bytes`, `rows_waiting` and `deletes_held` are partly estimated.
    pub is_estimate: bool,
}

/// Says which rows behind a cursor need no look.
type Settled<'a> = &'a dyn Fn(Rows, &Row) -> bool;

/// What rows are measured by.
pub struct Measure<'a> {
    lanes: Vec<(Lane, i64)>,
    own: &'a [u32],
    nodes: u32,
    mapping: &'a Mapping,
    deletes_held: bool,
    now: Timestamp,
    settled: Option<Settled<'a>>,
}

impl<'a> Measure<'a> {
    /// Rows behind a cursor that need no look all the same.
    #[must_use]
    pub(crate) fn without(self, settled: Settled<'a>) -> Self {
        Self { settled: Some(settled), ..self }
    }

    /// A measure of what lies behind the cursors of `lanes`.
    #[must_use]
    pub fn new(
        lanes: &[(Lane, i64)],
        own: &'a [u32],
        nodes: u32,
        mapping: &'a Mapping,
        deletes_held: bool,
        now: Timestamp,
    ) -> Self {
        let lanes = lanes.iter().copied().filter(|(lane, _)| lane.share == Share::Own).collect();
        Self { lanes, own, nodes, mapping, deletes_held, now, settled: None }
    }

    /// Counts rows of `database`, whose highest ROWID is `max_row`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn scan(
        &self,
        database: &ContainerDb,
        max_row: i64,
        parked: Option<&Parked>,
    ) -> Result<Backlog, DbError> {
        let mut backlog = Backlog::default();
        let aside = parked.into_iter().flat_map(Parked::iter);
        for (_, row) in aside.filter(|(_, row)| row.share == Share::Own) {
            let counter =
                if row.reason.is_waiting() { &mut backlog.rows_waiting } else { &mut backlog.rows_parked };
            *counter += 1;
        }
        for (lane, cursor) in &self.lanes {
            self.scan_lane(&mut backlog, (*lane, *cursor), database, max_row, parked)?;
        }
        Ok(backlog)
    }

    fn scan_lane(
        &self,
        total: &mut Backlog,
        (lane, cursor): (Lane, i64),
        database: &ContainerDb,
        max_row: i64,
        parked: Option<&Parked>,
    ) -> Result<(), DbError> {
        let mut backlog = Backlog::default();
        let (mut at, mut scanned) = (cursor, 0);
        while at < max_row {
            if scanned >= MAX_SCANNED {
                backlog.extrapolate(database, at, max_row, scanned)?;
                break;
            }
            let rows = database.rows_after(at, MAX_BATCH_ROWS)?;
            if rows.is_empty() {
                break;
            }
            scanned += rows.len();
            for row in rows {
                match row {
                    Ok(row) => {
                        at = row.rowid;
                        let is_parked = parked
                            .and_then(|parked| parked.get(&row.name))
                            .is_some_and(|parked| parked.rowid == row.rowid);
                        if !is_parked {
                            self.count(&mut backlog, lane, &row);
                        }
                    }
                    Err(problem) => at = problem.rowid,
                }
            }
        }
        total.add(&backlog);
        Ok(())
    }

    /// Adds a row that lies behind the cursor of a lane, if it is the lane's.
    fn count(&self, backlog: &mut Backlog, lane: Lane, row: &Row) {
        let key = RowKey { name: &row.name, deleted: row.deleted, timestamp: row.timestamps.metadata };
        let verdict = judge(lane, key, self.own, self.nodes, self.now);
        let is_settled = self.settled.is_some_and(|settled| settled(lane.rows, row));
        if verdict == Verdict::Pass || is_settled || self.is_unwanted(row) {
            return;
        }
        match verdict {
            Verdict::Pass => {}
            Verdict::Take if self.deletes_held && lane.rows == Rows::Deletes => backlog.deletes_held += 1,
            Verdict::Take => {
                backlog.rows += 1;
                if !row.deleted {
                    backlog.bytes = backlog.bytes.saturating_add(row.size);
                }
                // A restored object has the time of the write that was archived, which says nothing of when its row came.
                if row.timestamps.metadata.offset() == 0 {
                    let due = row.timestamps.metadata.plus(lane.minimum_age);
                    backlog.seconds = backlog.seconds.max(self.now.since(due).as_secs_f64());
                }
            }
            Verdict::WaitUntil(_) | Verdict::Defer(_) => backlog.rows_waiting += 1,
        }
    }

    fn is_unwanted(&self, row: &Row) -> bool {
        let is_excluded = self.mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(&row.name));
        let is_kept =
            || decide_delete(self.mapping.propagate_delete, row.timestamps.metadata) != DeleteAction::Delete;
        is_excluded || (row.deleted && is_kept())
    }
}

impl Backlog {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.seconds = self.seconds.max(other.seconds);
        self.rows_waiting += other.rows_waiting;
        self.rows_parked += other.rows_parked;
        self.deletes_held += other.deletes_held;
        self.is_estimate |= other.is_estimate;
    }

    /// Adds the rows above `at`, as if they were like the `scanned` ones. Rows come in the order of their arrival, so that those are
    /// the oldest.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn extrapolate(
        &mut self,
        database: &ContainerDb,
        at: i64,
        max_row: i64,
        scanned: usize,
    ) -> Result<(), DbError> {
        let counted = database.rows_behind(at)?;
        // Of more rows than can be counted, ROWIDs tell at least the order of magnitude.
        let by_number = u64::try_from(max_row.saturating_sub(at)).unwrap_or_default();
        let rest = if counted.is_partial { by_number.max(counted.rows) } else { counted.rows };
        let factor = 1.0 + rest as f64 / scanned.max(1) as f64;
        let scaled = |value: u64| (value as f64 * factor).round() as u64;
        self.rows = scaled(self.rows);
        self.bytes = scaled(self.bytes);
        self.rows_waiting = scaled(self.rows_waiting);
        self.deletes_held = scaled(self.deletes_held);
        self.is_estimate = true;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::lane::{Waits, lanes};
    use std::time::Duration;
    use swift_s3_policy::{RowTimestamps, parse_sync_config};

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);

    fn mapping(extra: &str) -> std::sync::Arc<Mapping> {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[
              {{"account":"AUTH_a","container":"c","aws_bucket":"b","aws_identity":"i","aws_secret":"s"{extra}}}]}}"#
        );
        std::sync::Arc::clone(&parse_sync_config(&text).unwrap().config.mappings[0])
    }

    fn row(rowid: i64, name: &str, age: u64, deleted: bool) -> Row {
        let at = Timestamp::from_units(NOW.units() - age * 100_000);
        Row {
            rowid,
            name: name.to_owned(),
            timestamps: RowTimestamps { data: at, content_type: at, metadata: at },
            size: 10,
            content_type: String::new(),
            etag: String::new(),
            deleted,
            policy_index: 0,
        }
    }

    fn counted(mapping: &Mapping, own: &[u32], nodes: u32, cursor: i64, held: bool, rows: &[Row]) -> Backlog {
        let lanes: Vec<_> = lanes(mapping, Waits::for_others(Duration::from_secs(60)), nodes, held)
            .into_iter()
            .map(|lane| (lane, cursor))
            .collect();
        let measure = Measure::new(&lanes, own, nodes, mapping, held, NOW);
        let mut backlog = Backlog::default();
        for (lane, cursor) in &measure.lanes {
            for row in rows.iter().filter(|row| row.rowid > *cursor) {
                measure.count(&mut backlog, *lane, row);
            }
        }
        backlog
    }

    #[test]
    fn what_is_done_is_not_behind() {
        let rows = [row(1, "a", 100, false), row(2, "b", 50, false)];
        let backlog = counted(&mapping(""), &[0], 1, 1, false, &rows);
        assert_eq!((backlog.rows, backlog.bytes, backlog.seconds), (1, 10, 50.0));
        assert_eq!(counted(&mapping(""), &[0], 1, 2, false, &rows), Backlog::default());
    }

    #[test]
    fn every_row_is_behind_on_one_node_only() {
        let rows: Vec<Row> = (1..=50).map(|rowid| row(rowid, &format!("name{rowid}"), 100, false)).collect();
        let sum: u64 = (0..3).map(|own| counted(&mapping(""), &[own], 3, 0, false, &rows).rows).sum();
        assert_eq!(sum, 50);
    }

    #[test]
    fn rows_that_are_too_young_wait_and_age_counts_from_when_they_are_due() {
        let mapping = mapping(r#","copy_after":60"#);
        let backlog = counted(&mapping, &[0], 1, 0, false, &[row(1, "a", 59, false), row(2, "b", 70, false)]);
        assert_eq!((backlog.rows, backlog.rows_waiting, backlog.seconds), (1, 1, 10.0));
    }

    #[test]
    fn what_the_mapping_does_not_want_is_not_behind() {
        let excluded = mapping(r#","exclude_pattern":"^tmp""#);
        assert_eq!(counted(&excluded, &[0], 1, 0, false, &[row(1, "tmp1", 9, false)]), Backlog::default());
        let keeping = mapping(r#","propagate_delete":false"#);
        assert_eq!(counted(&keeping, &[0], 1, 0, false, &[row(1, "a", 9, true)]), Backlog::default());
    }

    #[test]
    fn the_age_of_a_restored_object_is_no_lag() {
        let mut restored = row(1, "a", 1_000_000, false);
        let at = restored.timestamps.data.with_offset(2);
        restored.timestamps = RowTimestamps { data: at, content_type: at, metadata: at };
        let backlog = counted(&mapping(""), &[0], 1, 0, false, &[restored]);
        assert_eq!((backlog.rows, backlog.seconds), (1, 0.0));
    }

    #[test]
    fn held_deletes_are_told_apart() {
        let rows = [row(1, "a", 9, true), row(2, "b", 9, false)];
        let backlog = counted(&mapping(""), &[0], 1, 0, true, &rows);
        assert_eq!((backlog.rows, backlog.deletes_held), (1, 1));
    }
}
