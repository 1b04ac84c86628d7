//! The delete limit: a burst of deletes that looks like an accident is held until an operator lets it go.
//!
//! Each feed counts the deletes that it is about to carry, scales them up to the whole container, and compares the objects that are
//! left with those that were there before. Once both pass the mapping's limit, this feed's deletes wait in their place; everything else
//! goes on. A container whose objects come and go all the time does not shrink, and is left alone. What was held survives a restart.

use serde::{Deserialize, Serialize};
use swift_s3_policy::DeleteLimit;

use crate::lane::Share;

/// A container that had fewer objects than this is too small to tell a replaced database from an emptied one.
const FEWEST_OBJECTS_TO_COMPARE: u64 = 100;

/// The delete limit's memory of one feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Valve {
    /// Set while deletes are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    /// When counting began, in seconds since the epoch.
    #[serde(default)]
    counting_since: u64,
    /// Deletes of the own share since then.
    #[serde(default)]
    own: u64,
    /// Deletes of the others' share since then.
    #[serde(default)]
    others: u64,
    /// The most objects that the container had since then.
    #[serde(default)]
    most_objects: u64,
    /// Objects at the end of the last pass; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_objects: Option<u64>,
    /// Deletes up to these ROWIDs are counted already, by share: rows may be read more than once before they are done.
    #[serde(default)]
    counted_up_to: [i64; 2],
    /// Deletes up to this ROWID were let go by an operator.
    #[serde(default)]
    released_up_to: i64,
}

/// Since when deletes are held, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Seconds since the epoch.
    pub since: u64,
    /// For the operator.
    pub because: String,
}

/// Deletes that are about to be carried.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// How many, without those that are settled.
    pub deletes: u64,
    /// The highest ROWID among them.
    pub last_row: i64,
    /// Whose share they are in.
    pub share: Share,
    /// Of how many replicas of the container the share is one.
    pub nodes: u32,
    /// How many of the replicas this node holds.
    pub own_replicas: u32,
    /// Objects that the container has left.
    pub objects: u64,
}

impl Valve {
    /// Since when deletes are held.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// True for a delete that an operator let go, or that was counted before.
    #[must_use]
    pub fn is_settled(&self, share: Share, rowid: i64) -> bool {
        let [own, others] = self.counted_up_to;
        rowid <= self.released_up_to.max(if share == Share::Own { own } else { others })
    }

    /// Forgets which rows were counted: those that are read again count again.
    pub fn count_anew(&mut self) {
        self.counted_up_to = [0, 0];
    }

    /// Holds what was held elsewhere.
    pub fn hold(&mut self, held: Held) {
        self.held.get_or_insert(held);
    }

    /// True when the deletes may be carried. Otherwise they are held from `now` (seconds since the epoch) on.
    pub fn admit(&mut self, limit: Option<&DeleteLimit>, burst: Burst, now: u64) -> bool {
        if self.held.is_some() {
            return false;
        }
        let Some(limit) = limit else { return true };
        // A clock that went back starts anew, too.
        if now < self.counting_since || now - self.counting_since >= limit.per.as_secs() {
            (self.counting_since, self.own, self.others) = (now, 0, 0);
            self.most_objects = self.last_objects.unwrap_or_default();
        }
        let counted = match burst.share {
            Share::Own => &mut self.own,
            Share::Others => &mut self.others,
        };
        let deletes = counted.saturating_add(burst.deletes);
        let held_replicas = match burst.share {
            Share::Own => burst.own_replicas,
            Share::Others => burst.nodes.saturating_sub(burst.own_replicas),
        };
        let of_container =
            deletes.saturating_mul(u64::from(burst.nodes.max(1))) / u64::from(held_replicas.max(1));
        // A feed that never saw the container before takes it that all the deleted objects were there at once.
        let at_least = if self.last_objects.is_none() { of_container } else { 0 };
        self.most_objects = self.most_objects.max(burst.objects.saturating_add(at_least));
        if limit.holds(of_container, self.most_objects, burst.objects) {
            let because = format!(
                "about {of_container} deletes within {} s, and {} of {} objects left, exceed delete_limit (count {}, ratio {})",
                limit.per.as_secs(),
                burst.objects,
                self.most_objects,
                limit.count,
                limit.ratio
            );
            self.held = Some(Held { since: now, because });
            return false;
        }
        *counted = deletes;
        let [own, others] = &mut self.counted_up_to;
        let mark = if burst.share == Share::Own { own } else { others };
        *mark = burst.last_row.max(*mark);
        true
    }

    /// Holds deletes of a database that took the place of another one and has lost most of its objects.
    pub fn note_replacement(&mut self, limit: Option<&DeleteLimit>, before: u64, objects: u64, now: u64) {
        let Some(limit) = limit else { return };
        let is_held = self.held.is_some();
        if !is_held && before >= FEWEST_OBJECTS_TO_COMPARE && limit.is_exceeded(before, objects) {
            let because = format!(
                "the container database was replaced, and has {objects} objects where it had {before}"
            );
            self.held = Some(Held { since: now, because });
        }
    }

    /// Remembers how many objects there are while nothing is going on.
    pub fn note_objects(&mut self, objects: u64) {
        self.last_objects = Some(objects);
    }

    /// Lets go what is held since before `released_at` (seconds since the epoch), up to the ROWID `max_row`. True when something was.
    pub fn release(&mut self, released_at: u64, max_row: i64) -> bool {
        if self.held.as_ref().is_none_or(|held| held.since > released_at) {
            return false;
        }
        *self = Self { released_up_to: max_row, last_objects: self.last_objects, ..Self::default() };
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const LIMIT: DeleteLimit = DeleteLimit { count: 100, ratio: 0.5, per: Duration::from_secs(3600) };

    fn burst(deletes: u64, objects: u64) -> Burst {
        Burst { deletes, last_row: 0, share: Share::Own, nodes: 1, own_replicas: 1, objects }
    }

    #[test]
    fn few_deletes_and_small_parts_pass() {
        for (deletes, objects) in [(100, 0), (1, 0), (1_000, 1_000), (1_000, 1_000_000)] {
            assert!(Valve::default().admit(Some(&LIMIT), burst(deletes, objects), 1), "{deletes} {objects}");
        }
    }

    #[test]
    fn a_burst_is_held_until_it_is_released() {
        let mut valve = Valve::default();
        assert!(valve.admit(Some(&LIMIT), burst(60, 0), 10));
        assert!(!valve.admit(Some(&LIMIT), burst(41, 0), 20));
        assert_eq!(valve.held().unwrap().since, 20);
        assert!(!valve.admit(Some(&LIMIT), burst(1, 1_000_000), 9_999), "time does not release");
        assert!(!valve.release(19, 500), "a release of an earlier burst is none of this one");
        assert!(valve.release(20, 500));
        assert!(valve.is_settled(Share::Own, 500) && !valve.is_settled(Share::Own, 501));
        assert!(valve.admit(Some(&LIMIT), burst(1, 0), 30));
    }

    #[test]
    fn slow_deletes_never_add_up() {
        let mut valve = Valve::default();
        for hour in 0..100 {
            assert!(valve.admit(Some(&LIMIT), burst(90, 0), hour * 3600));
        }
    }

    #[test]
    fn a_share_stands_for_the_whole_container() {
        let share = |deletes, objects| Burst { nodes: 3, ..burst(deletes, objects) };
        // 60 % of 300 objects are gone; this node sees a third of the deletes.
        assert!(!Valve::default().admit(Some(&LIMIT), share(60, 120), 1));
        assert!(Valve::default().admit(Some(&LIMIT), share(30, 210), 1));
    }

    #[test]
    fn a_delete_is_counted_once_however_often_it_is_read() {
        let mut valve = Valve::default();
        assert!(valve.admit(Some(&LIMIT), Burst { last_row: 70, ..burst(60, 0) }, 10));
        assert!(valve.is_settled(Share::Own, 70) && !valve.is_settled(Share::Own, 71));
        assert!(!valve.is_settled(Share::Others, 70));
    }

    #[test]
    fn objects_that_come_and_go_are_no_burst() {
        let mut valve = Valve::default();
        valve.note_objects(50);
        for _ in 0..100 {
            assert!(valve.admit(Some(&LIMIT), burst(90, 50), 1));
        }
    }

    #[test]
    fn a_container_that_was_emptied_between_two_looks_is_noticed() {
        let mut valve = Valve::default();
        valve.note_objects(10_000);
        assert!(!valve.admit(Some(&LIMIT), burst(200, 0), 99_999));
    }

    #[test]
    fn no_limit_holds_nothing() {
        assert!(Valve::default().admit(None, burst(u64::MAX, 0), 1));
    }

    #[test]
    fn an_emptied_replacement_is_held_and_a_full_one_is_not() {
        for (before, objects, held) in
            [(1_000, 0, true), (1_000, 499, true), (1_000, 600, false), (99, 0, false), (0, 0, false)]
        {
            let mut valve = Valve::default();
            valve.note_replacement(Some(&LIMIT), before, objects, 5);
            assert_eq!(valve.held().is_some(), held, "{before} {objects}");
        }
    }

    proptest! {
        #[test]
        fn never_lets_more_than_the_limit_pass_of_an_emptied_container(steps in prop::collection::vec(1..80_u64, 1..40)) {
            let (mut valve, mut passed) = (Valve::default(), 0);
            for deletes in steps {
                if valve.admit(Some(&LIMIT), burst(deletes, 0), 1) {
                    passed += deletes;
                }
            }
            prop_assert!(passed <= LIMIT.count);
        }
    }
}
