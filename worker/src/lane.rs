//! Which rows a cursor is responsible for, and when they are due.
//!
//! The rows of one container database are walked by up to four cursors. Names are shared out between the nodes that
//! hold a replica (*own* and *others'* share); a mapping with `copy_after` walks deletes and live rows apart, so that a
//! delete does not wait behind rows that are not old enough yet. Every row belongs to exactly one lane.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use swift_s3_policy::{Mapping, Timestamp, owner_index};

/// Whose names a lane takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Names that this replica handles first.
    Own,
    /// Names that another node handles first; verified here once they are old enough.
    Others,
}

/// Which rows of the share a lane takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// Live rows and tombstones.
    All,
    /// Tombstones only.
    Deletes,
    /// Live rows only.
    Live,
}

/// One cursor's responsibility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Whose names.
    pub share: Share,
    /// Which of their rows.
    pub rows: Rows,
    /// Rows younger than this wait.
    pub minimum_age: Duration,
}

impl Lane {
    /// The stable name of the lane in a status file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.share, self.rows) {
            (Share::Own, Rows::All) => "own",
            (Share::Own, Rows::Deletes) => "own_deletes",
            (Share::Own, Rows::Live) => "own_live",
            (Share::Others, Rows::All) => "others",
            (Share::Others, Rows::Deletes) => "others_deletes",
            (Share::Others, Rows::Live) => "others_live",
        }
    }
}

/// How long rows are left alone beside what the mapping asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Rows of this node's own share.
    pub own: Duration,
    /// Rows of others.
    pub others: Duration,
}

impl Waits {
    /// Own rows are handled at once.
    #[must_use]
    pub fn for_others(others: Duration) -> Self {
        Self { own: Duration::ZERO, others }
    }
}

/// The lanes of a mapping: two without `copy_after`, up to four with it, or when `split` asks to have deletes apart.
#[must_use]
pub fn lanes(mapping: &Mapping, waits: Waits, nodes: u32, split: bool) -> Vec<Lane> {
    let mut lanes = Vec::with_capacity(4);
    for (share, slack) in [(Share::Own, waits.own), (Share::Others, waits.others)] {
        // A replica count of one leaves no share for others; their cursor would only read every row twice.
        if share == Share::Others && nodes <= 1 {
            continue;
        }
        if mapping.copy_after.is_zero() && !(split && mapping.propagate_delete) {
            lanes.push(Lane { share, rows: Rows::All, minimum_age: slack });
        } else {
            if mapping.propagate_delete {
                lanes.push(Lane { share, rows: Rows::Deletes, minimum_age: slack });
            }
            let minimum_age = mapping.copy_after.saturating_add(slack);
            lanes.push(Lane { share, rows: Rows::Live, minimum_age });
        }
    }
    lanes
}

/// What a lane does with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another lane's row, or nothing to do: the cursor passes over it.
    Pass,
    /// The row is due.
    Take,
    /// The row is not old enough yet; it will be at this time. The lane stops in front of it.
    WaitUntil(Timestamp),
    /// The row claims a time in the future, so it says nothing about the rows behind it: it waits on its own, apart
    /// from the cursor, and is due at this time.
    Defer(Timestamp),
}

/// A row whose clock runs ahead by more than this is treated as dated in the future. Nodes of one cluster may differ
/// by a little; Swift itself asks for clocks in sync.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Decides whose turn a row is. `own` are the replica indexes that this node holds of `nodes` replicas.
#[must_use]
pub fn judge(lane: Lane, row: RowKey<'_>, own: &[u32], nodes: u32, now: Timestamp) -> Verdict {
    let wanted = match lane.rows {
        Rows::All => true,
        Rows::Deletes => row.deleted,
        Rows::Live => !row.deleted,
    };
    if !wanted {
        return Verdict::Pass;
    }
    let is_own = own.contains(&owner_index(row.name, nodes));
    if is_own != (lane.share == Share::Own) {
        return Verdict::Pass;
    }
    let due = row.timestamp.plus(lane.minimum_age);
    if row.timestamp > now.plus(CLOCK_TOLERANCE) {
        return Verdict::Defer(due);
    }
    // Without a minimum age nothing waits: a client's clock a second ahead must not hold its own upload.
    if lane.minimum_age.is_zero() || due.units() <= now.units() {
        return Verdict::Take;
    }
    Verdict::WaitUntil(due)
}

/// What [`judge`] needs of a row.
#[derive(Clone, Copy, Debug)]
pub struct RowKey<'a> {
    /// The object's name.
    pub name: &'a str,
    /// True for a tombstone.
    pub deleted: bool,
    /// The newest of the row's timestamps.
    pub timestamp: Timestamp,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use swift_s3_policy::parse_sync_config;

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);

    fn mapping(extra: &str) -> std::sync::Arc<Mapping> {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[
              {{"account":"AUTH_a","container":"c","aws_bucket":"b","aws_identity":"i","aws_secret":"s"{extra}}}]}}"#
        );
        std::sync::Arc::clone(&parse_sync_config(&text).unwrap().config.mappings[0])
    }

    fn before(seconds: u64) -> Timestamp {
        Timestamp::from_units(NOW.units() - seconds * 100_000)
    }

    fn row(name: &str, deleted: bool, timestamp: Timestamp) -> RowKey<'_> {
        RowKey { name, deleted, timestamp }
    }

    #[test]
    fn every_row_belongs_to_exactly_one_lane() {
        for (extra, split) in [("", false), ("", true), (r#","copy_after":3600"#, false)] {
            let lanes = lanes(&mapping(extra), Waits::for_others(Duration::from_secs(60)), 3, split);
            for name in ["obj0", "foo", "café", "a", "b", "c"] {
                for deleted in [false, true] {
                    let taken = lanes
                        .iter()
                        .filter(|lane| {
                            judge(**lane, row(name, deleted, before(100_000)), &[1], 3, NOW) == Verdict::Take
                        })
                        .count();
                    assert_eq!(taken, 1, "{name} deleted={deleted} {extra}");
                }
            }
        }
    }

    #[test]
    fn shares_follow_the_name_hash() {
        let own = Lane { share: Share::Own, rows: Rows::All, minimum_age: Duration::ZERO };
        for (name, owner) in [("obj0", 0), ("foo", 2), ("café", 0)] {
            for index in 0..3 {
                let expected = if index == owner { Verdict::Take } else { Verdict::Pass };
                assert_eq!(
                    judge(own, row(name, false, before(1)), &[index], 3, NOW),
                    expected,
                    "{name} {index}"
                );
            }
        }
    }

    #[test]
    fn a_node_with_two_replicas_owns_both_shares() {
        let own = Lane { share: Share::Own, rows: Rows::All, minimum_age: Duration::ZERO };
        assert_eq!(judge(own, row("foo", false, before(1)), &[0, 2], 3, NOW), Verdict::Take);
        assert_eq!(judge(own, row("obj0", false, before(1)), &[0, 2], 3, NOW), Verdict::Take);
    }

    #[test]
    fn deletes_do_not_wait_for_copy_after() {
        let lanes =
            lanes(&mapping(r#","copy_after":3600"#), Waits::for_others(Duration::from_secs(60)), 1, false);
        let verdicts: Vec<_> =
            lanes.iter().map(|lane| judge(*lane, row("foo", true, before(1)), &[0], 1, NOW)).collect();
        assert_eq!(verdicts, [Verdict::Take, Verdict::Pass]);
    }

    #[test]
    fn young_rows_stop_the_lane_and_future_rows_do_not() {
        let lane = Lane { share: Share::Own, rows: Rows::Live, minimum_age: Duration::from_secs(3600) };
        let due = before(10).plus(Duration::from_secs(3600));
        assert_eq!(judge(lane, row("foo", false, before(10)), &[0], 1, NOW), Verdict::WaitUntil(due));
        let future = NOW.plus(Duration::from_secs(86_400));
        let due = future.plus(Duration::from_secs(3600));
        assert_eq!(judge(lane, row("foo", false, future), &[0], 1, NOW), Verdict::Defer(due));
    }

    #[test]
    fn exactly_old_enough_is_due() {
        let lane = Lane { share: Share::Own, rows: Rows::Live, minimum_age: Duration::from_secs(3600) };
        assert_eq!(judge(lane, row("foo", false, before(3600)), &[0], 1, NOW), Verdict::Take);
    }
}
