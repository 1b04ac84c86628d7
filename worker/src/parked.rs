//! Rows that could not be finished: set aside with a next try, so that no bad object holds the others.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swift_s3_policy::Timestamp;

use crate::lane::Share;
use crate::marks::Entry;
use crate::reason::{Failure, Reason};

/// The most rows one container keeps aside per mapping. The set is written with every cursor, so it must stay small; when it
/// is full the cursor waits, and says so.
pub const MAX_PARKED: usize = 5_000;
/// The first retry comes after this long.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// Retries are never further apart than this.
const LAST_DELAY: Duration = Duration::from_secs(900);
/// The ROWID of a row that was taken over from another node: in this node's database it has another one, or none.
const INHERITED: i64 = -1;
/// Explanations are cut to this many bytes before they are stored.
const MAX_MESSAGE: usize = 400;

/// One row set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParkedRow {
    /// The ROWID when it was set aside. A newer write of the name has another one. Below 0 for a row that was taken over from another node.
    pub rowid: i64,
    /// Whose share the name is in, hence who reported it first.
    pub share: Share,
    /// True when the row was a tombstone.
    pub deleted: bool,
    /// The newest timestamp of the row, in Swift's form.
    pub timestamp: String,
    /// The class of the last failure.
    pub reason: Reason,
    /// The last failure in words.
    pub message: String,
    /// How often the row was tried.
    pub attempts: u32,
    /// When it is tried next, in seconds since the epoch.
    pub next_try: u64,
    /// The policy that the object was written with, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_index: Option<u32>,
}

impl ParkedRow {
    /// True when another node set the row aside, and handed it over. This node's database may have an older row of the name, a newer one, or none.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.rowid < 0
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        if self.is_inherited() || other.is_inherited() {
            let time = |row: &Self| row.timestamp.parse::<Timestamp>().ok();
            return time(self) > time(other);
        }
        self.rowid > other.rowid
    }

    /// True when what was in flight may still arrive, so that the name must be looked at again whatever is done about it until then.
    #[must_use]
    pub fn is_yet_to_come(&self, now: Timestamp) -> bool {
        self.reason == Reason::Unsettled && self.next_try > now.units() / 100_000
    }

    /// True when whoever has handled a row of the name, with this ROWID and timestamp, owes nothing any more.
    #[must_use]
    pub fn is_settled_by(&self, rowid: i64, timestamp: Timestamp) -> bool {
        if self.is_inherited() {
            return self.timestamp.parse().is_ok_and(|owed: Timestamp| owed <= timestamp);
        }
        self.rowid <= rowid
    }
}

/// The rows of one container database that are set aside, by object name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parked {
    rows: BTreeMap<String, ParkedRow>,
}

impl Parked {
    /// How many rows are set aside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when nothing is set aside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows are failures rather than waiting for their time.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.rows.values().filter(|row| !row.reason.is_waiting()).count()
    }

    /// The row of a name, if it is set aside.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ParkedRow> {
        self.rows.get(name)
    }

    /// True when one more name fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.rows.len() < MAX_PARKED
    }

    /// Sets a row aside after a failure at `now`. `spread` in 0.0..1.0 is a random number: retries of many rows must not
    /// come in step.
    pub fn fail(&mut self, name: &str, row: FailedRow, failure: &Failure, now: Timestamp, spread: f64) {
        let attempts = match self.rows.get(name) {
            Some(known) if known.rowid == row.rowid => known.attempts.saturating_add(1),
            _ => 1,
        };
        let next_try = now.plus(retry_delay(attempts, spread));
        self.insert(name, row, failure, attempts, next_try);
    }

    /// Sets a row aside until `due`, without counting a try.
    pub fn wait(&mut self, name: &str, row: FailedRow, due: Timestamp) {
        let failure = Failure::new(
            Reason::FutureTimestamp,
            format!("the row is dated {} and waits for that time", row.timestamp),
        );
        self.insert(name, row, &failure, 0, due);
    }

    /// Sets the row of an object that was restored at `restored` aside until `due`, without counting a try.
    pub fn wait_restored(&mut self, name: &str, row: FailedRow, restored: Timestamp, due: Timestamp) {
        let message =
            format!("the object was restored from the remote at {restored} and waits for copy_after");
        self.insert(name, row, &Failure::new(Reason::Restored, message), 0, due);
    }

    /// Sets a row aside that was in somebody's hands when this worker lost its shares, until `due`.
    pub fn wait_unsettled(&mut self, name: &str, row: FailedRow, due: Timestamp) {
        let message = "in flight when this worker lost its shares; looked at again".to_owned();
        self.insert(name, row, &Failure::new(Reason::Unsettled, message), 0, due);
    }

    /// True when one more row may wait after a restore: such rows leave half of the room to failures.
    #[must_use]
    pub fn has_room_for_restored(&self) -> bool {
        self.rows.len() < MAX_PARKED / 2
    }

    fn insert(&mut self, name: &str, row: FailedRow, failure: &Failure, attempts: u32, next_try: Timestamp) {
        let mut message = failure.message.clone();
        if message.len() > MAX_MESSAGE {
            let cut = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
        }
        self.rows.insert(
            name.to_owned(),
            ParkedRow {
                rowid: row.rowid,
                share: row.share,
                deleted: row.deleted,
                timestamp: row.timestamp.to_string(),
                reason: failure.reason,
                message,
                attempts,
                next_try: next_try.units() / 100_000,
                policy_index: row.policy_index,
            },
        );
    }

    /// Takes over what another node had set aside, beyond all limits: nobody else has it any more. What is newer here stays. True when there was something.
    pub fn inherit(&mut self, entries: &BTreeMap<String, Entry>) -> bool {
        let mut is_changed = false;
        for (name, entry) in entries {
            let Ok(timestamp) = entry.timestamp.parse::<Timestamp>() else { continue };
            let known = self.rows.get(name).and_then(|row| row.timestamp.parse::<Timestamp>().ok());
            if known.is_some_and(|known| known >= timestamp) {
                continue;
            }
            self.rows.insert(
                name.clone(),
                ParkedRow {
                    rowid: INHERITED,
                    share: Share::Own,
                    deleted: entry.deleted,
                    timestamp: timestamp.to_string(),
                    // Of what cannot be read there is no name to hand over.
                    reason: if entry.reason == Reason::BadRow { Reason::Other } else { entry.reason },
                    message: "another node set it aside".to_owned(),
                    attempts: 0,
                    next_try: entry.due,
                    policy_index: entry.policy,
                },
            );
            is_changed = true;
        }
        is_changed
    }

    /// Takes a name out: it is done, or a newer row of it is.
    pub fn remove(&mut self, name: &str) -> bool {
        self.rows.remove(name).is_some()
    }

    /// The names whose next try has come, at most `limit` of them, longest due first. Without deletes if they are held.
    #[must_use]
    pub fn due(&self, now: Timestamp, limit: usize, deletes_held: bool) -> Vec<(String, ParkedRow)> {
        let now = now.units() / 100_000;
        let is_due = |row: &ParkedRow| row.next_try <= now && !(deletes_held && row.deleted);
        let mut due: Vec<_> = self.rows.iter().filter(|(_, row)| is_due(row)).collect();
        due.sort_by_key(|(_, row)| row.next_try);
        due.into_iter().take(limit).map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// When the next row is due, in seconds since the epoch. Without deletes if they are held.
    #[must_use]
    pub fn next_due(&self, deletes_held: bool) -> Option<u64> {
        let wanted = self.rows.values().filter(|row| !(deletes_held && row.deleted));
        wanted.map(|row| row.next_try).min()
    }

    /// Makes rows due at once, except those that only wait for their time. True when there were any.
    pub fn retry_now(&mut self, wanted: impl Fn(&str, &ParkedRow) -> bool) -> bool {
        let mut any = false;
        for (name, row) in &mut self.rows {
            if !row.reason.is_waiting() && wanted(name, row) {
                row.next_try = 0;
                any = true;
            }
        }
        any
    }

    /// Takes over rows of another account of the same feed; of two writes of one name, the newer stays.
    pub fn absorb(&mut self, other: Self) {
        for (name, row) in other.rows {
            if self.rows.get(&name).is_none_or(|known| row.is_newer_than(known)) {
                self.rows.insert(name, row);
            }
        }
    }

    /// Every row set aside.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParkedRow)> {
        self.rows.iter().map(|(name, row)| (name.as_str(), row))
    }
}

impl FromIterator<(String, ParkedRow)> for Parked {
    fn from_iter<I: IntoIterator<Item = (String, ParkedRow)>>(rows: I) -> Self {
        Self { rows: rows.into_iter().collect() }
    }
}

/// What [`Parked::fail`] keeps of a row.
#[derive(Clone, Copy, Debug)]
pub struct FailedRow {
    /// The row's ROWID.
    pub rowid: i64,
    /// Whose share it is in.
    pub share: Share,
    /// True for a tombstone.
    pub deleted: bool,
    /// The newest of its timestamps.
    pub timestamp: Timestamp,
    /// The policy that the object was written with, where it is known.
    pub policy_index: Option<u32>,
}

/// 60 s, then half as long again each time up to 900 s; the upper half of each delay is spread by `spread` (0.0..1.0).
#[must_use]
pub fn retry_delay(attempts: u32, spread: f64) -> Duration {
    let mut delay = FIRST_DELAY;
    for _ in 1..attempts.min(16) {
        delay = (delay * 3 / 2).min(LAST_DELAY);
    }
    // Spread upwards from the base, so that no retry comes earlier than the documented minimum.
    (delay + delay.mul_f64(spread.clamp(0.0, 1.0) / 4.0)).min(LAST_DELAY)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);

    fn row(rowid: i64) -> FailedRow {
        FailedRow { rowid, share: Share::Own, deleted: false, timestamp: NOW, policy_index: Some(1) }
    }

    fn failure() -> Failure {
        Failure::new(Reason::LocalMissing, "no replica of the object was found")
    }

    #[test]
    fn is_due_only_after_its_delay() {
        let mut parked = Parked::default();
        parked.fail("a", row(1), &failure(), NOW, 0.0);
        assert!(parked.due(NOW.plus(Duration::from_secs(59)), 10, false).is_empty());
        assert_eq!(parked.due(NOW.plus(Duration::from_secs(60)), 10, false).len(), 1);
    }

    #[test]
    fn counts_tries_of_one_write_and_starts_anew_for_the_next() {
        let mut parked = Parked::default();
        for _ in 0..3 {
            parked.fail("a", row(1), &failure(), NOW, 0.5);
        }
        assert_eq!(parked.get("a").unwrap().attempts, 3);
        parked.fail("a", row(2), &failure(), NOW, 0.5);
        assert_eq!(parked.get("a").unwrap().attempts, 1);
    }

    #[test]
    fn waiting_rows_are_no_failures() {
        let mut parked = Parked::default();
        let due = NOW.plus(Duration::from_secs(5));
        parked.wait("a", row(1), due);
        parked.wait_restored("b", row(2), NOW, due);
        assert_eq!((parked.len(), parked.failures()), (2, 0));
        assert!(!parked.retry_now(|_, _| true), "nobody makes them due earlier");
        assert!(parked.due(NOW, 10, false).is_empty());
        assert_eq!(parked.due(due, 10, false).len(), 2);
    }

    #[test]
    fn what_may_still_arrive_is_looked_at_again_whatever_was_done_meanwhile() {
        let mut parked = Parked::default();
        parked.wait_unsettled("a", row(7), NOW.plus(Duration::from_secs(20)));
        let known = parked.get("a").unwrap();
        // A newer row of the name was handled: the old request may still come after it.
        assert!(known.is_settled_by(8, NOW) && known.is_yet_to_come(NOW));
        assert!(!known.is_yet_to_come(NOW.plus(Duration::from_secs(20))));
        parked.fail("b", row(7), &failure(), NOW, 0.0);
        assert!(!parked.get("b").unwrap().is_yet_to_come(NOW));
    }

    #[test]
    fn restored_rows_leave_room_for_failures() {
        let mut parked = Parked::default();
        for number in 0..MAX_PARKED / 2 {
            assert!(parked.has_room_for_restored());
            parked.wait_restored(&number.to_string(), row(1), NOW, NOW);
        }
        assert!(!parked.has_room_for_restored());
        assert!(parked.has_room());
    }

    #[test]
    fn survives_a_round_through_json() {
        let mut parked = Parked::default();
        parked.fail("é\n", row(7), &failure(), NOW, 0.3);
        let text = serde_json::to_string(&parked).unwrap();
        assert_eq!(serde_json::from_str::<Parked>(&text).unwrap(), parked);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let mut parked = Parked::default();
        parked.fail("a", row(1), &Failure::new(Reason::Other, "é".repeat(1_000)), NOW, 0.0);
        assert!(parked.get("a").unwrap().message.len() <= MAX_MESSAGE);
    }

    proptest! {
        #[test]
        fn delays_stay_within_bounds_and_never_shrink(attempts in 1..200_u32, spread in 0.0..1.0_f64) {
            let delay = retry_delay(attempts, spread);
            prop_assert!(delay >= FIRST_DELAY && delay <= LAST_DELAY);
            prop_assert!(retry_delay(attempts + 1, spread) >= delay);
        }
    }
}
