//! Rows of objects that were restored from the remote and wait to be archived again.

use super::*;

/// A lane that waits in front of restored rows goes on this much later, with all that came due meanwhile.
const BATCH: Duration = Duration::from_secs(10);

impl Pass<'_> {
    /// Sets the row of an object that was restored at `restored` aside until it is old enough. False when too many wait already: then its
    /// lane waits in front of it, as it does for any row that is too young.
    pub(super) fn set_restored_aside(&mut self, task: &Task, restored: Timestamp) -> bool {
        // Asked for by an operator, who was told; no row owes it.
        if task.row.rowid == 0 {
            return true;
        }
        let parked = &self.state.parked;
        let known = parked.get(&task.row.name);
        if known.is_some_and(|known| !known.is_settled_by(task.row.rowid, task.row.timestamps.metadata)) {
            return true;
        }
        let due = self.old_enough_at(task.share, restored);
        // A single round ends only when every row is done or set aside.
        let has_room = if self.settings.once { parked.has_room() } else { parked.has_room_for_restored() };
        if known.is_none() && !has_room {
            if self.settings.once {
                self.parked_full();
            } else {
                self.wait_in_front(task, due);
            }
            return false;
        }
        self.state.parked.wait_restored(&task.row.name, task.failed_row(), restored, due);
        self.parked_changed = true;
        tracing::debug!(account = %self.feed.route.account, container = %self.feed.route.container, object = %task.row.name,
            row = task.row.rowid, %due, "restored a short time ago; archived again later");
        true
    }

    /// When something of this time is due, by the rule of the lanes.
    fn old_enough_at(&self, share: Share, time: Timestamp) -> Timestamp {
        let slack = match share {
            Share::Own => Duration::ZERO,
            Share::Others => self.settings.verification_slack,
        };
        time.plus(self.feed.route.mapping.copy_after).plus(slack)
    }

    /// Rows behind this one arrived later, so none of them that was restored is due earlier.
    fn wait_in_front(&mut self, task: &Task, due: Timestamp) {
        let Some(lane) = task.lane.and_then(|index| self.state.lanes.get_mut(index)) else { return };
        let (now, due) = (now(), due.plus(BATCH));
        let earlier = |at: Option<Timestamp>| at.filter(|at| *at > now).map_or(due, |at| at.min(due));
        lane.not_before = Some(earlier(lane.not_before));
        lane.wait_until = Some(earlier(lane.wait_until));
        lane.exhausted = true;
        // They are read again when the lane goes on.
        lane.buffer.clear();
    }
}
