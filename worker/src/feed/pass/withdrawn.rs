//! What happens to rows in somebody's hands when this worker's shares are lost.
//!
//! From that moment another worker may carry newer writes of the same names, so nothing of ours may arrive any more. Bodies break off and
//! requests do not begin (see [`swift_s3_store::Permission`]); what is left is a request that was sent to its end right before, and whose
//! answer is not known. Its name is set aside and looked at again here, whoever owns it then: so the last to have touched a name has also
//! looked at what became of it.

use super::*;

/// Longer than any request that was sent to its end stays unanswered at a remote that works.
const UNSETTLED: Duration = Duration::from_secs(20);

impl Pass<'_> {
    /// Drops everything that is in flight, and says why.
    pub(super) async fn withdraw(&mut self, why: &str) {
        self.halt = Some(Halt::Withdrawn);
        if !self.in_flight.is_empty() {
            tracing::warn!(account = %self.feed.route.account, container = %self.feed.route.container, transfers = self.in_flight.len(), "{why}");
        }
        self.tasks.shutdown().await;
        self.tell_abandoned();
        let ids: Vec<Id> = self.in_flight.keys().copied().collect();
        for id in ids {
            self.set_unsettled_aside(id);
        }
    }

    /// The owner of a name may have sent a newer write while this worker, which does not own it, sent this one; the owner's record then keeps everybody from looking.
    /// So whoever has changed something looks once more.
    pub(super) fn look_again_if_not_owned(&mut self, task: &Task, outcome: &Outcome) {
        let is_sent = matches!(outcome, Outcome::Copied(_) | Outcome::MetadataUpdated | Outcome::Deleted);
        let is_owned = self.feed.source.own.contains(&owner_index(&task.row.name, self.state.nodes));
        if !is_sent || is_owned || self.feed.regime.mode != Mode::Explicit || task.row.rowid == 0 {
            return;
        }
        let is_known = self.state.parked.get(&task.row.name).is_some();
        if !is_known && self.state.parked.has_room() {
            self.state.parked.wait_unsettled(&task.row.name, task.failed_row(), now().plus(UNSETTLED));
            self.parked_changed = true;
        }
    }

    /// Sets a row aside that may or may not have reached the remote.
    pub(super) fn set_unsettled_aside(&mut self, id: Id) {
        self.halt = Some(Halt::Withdrawn);
        let Some(task) = self.in_flight.remove(&id) else { return };
        self.busy.remove(&task.row.name);
        self.tell_asked(&task, || {
            crate::feed::again::AgainEnd::Failed("this worker lost its shares".to_owned())
        });
        let known = self.state.parked.get(&task.row.name);
        let at = task.row.timestamps.metadata;
        // Without room its cursor waits, which comes to the same: it is read again.
        if task.row.rowid == 0
            || known.is_some_and(|known| !known.is_settled_by(task.row.rowid, at))
            || (known.is_none() && !self.state.parked.has_room())
        {
            return;
        }
        self.state.parked.wait_unsettled(&task.row.name, task.failed_row(), now().plus(UNSETTLED));
        self.parked_changed = true;
        if let Some(lane) = task.lane.and_then(|index| self.state.lanes.get_mut(index)) {
            lane.progress.finish(task.row.rowid);
        }
    }
}
