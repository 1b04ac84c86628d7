//! Remembers and tells how far the walk is.

use super::*;
use crate::status_file::SavedFeed;
use crate::valve::Valve;

impl Pass<'_> {
    /// Remembers cursors and rows set aside, if they changed.
    pub(super) async fn save(&mut self) {
        let cursors = self.state.cursors();
        let unchanged =
            !self.parked_changed && self.state.saved.as_ref().is_some_and(|saved| saved.cursors == cursors);
        if unchanged {
            // A row that was set aside before may be covered by what is saved already.
            self.end_saved();
            self.feed.publish(self.state);
            return;
        }
        let saving = self.saving();
        let valve = &self.state.valve;
        let feed = std::sync::Arc::new(SavedFeed {
            cursors,
            replicas: self.feed.source.own.clone(),
            nodes: self.state.nodes,
            parked: self.state.parked.clone(),
            valve: (*valve != Valve::default()).then(|| valve.clone()),
        });
        let name = self.feed.name(&self.state.database);
        match self.feed.memory.save(&name, &feed).await {
            Ok(()) => {
                self.state.saved = Some(feed);
                self.parked_changed = false;
                self.feed.publish(self.state);
            }
            Err(error) => {
                saving.failed(&mut self.unsaved);
                tracing::error!(account = %self.feed.route.account, container = %self.feed.route.container, %error,
                    "could not save progress; the container waits");
                self.halt.get_or_insert(Halt::NotSaved);
            }
        }
    }

    /// Tells how far the shares are, unless they are lost. Answers when to come back for what could not be told yet.
    pub(super) async fn tell_shares(&mut self, is_last: bool) -> Option<Timestamp> {
        self.feed.tell_shares(self.state, is_last).await
    }

    pub(super) fn report(&self) {
        let elapsed = self.started.elapsed().as_secs_f64().max(0.001);
        let slowest =
            self.state.lanes.iter().map(|lane| lane.progress.cursor()).min().unwrap_or(self.max_row);
        // ROWIDs of overwritten objects are gaps, so this is the most that can be left.
        let rows_left_at_most = u64::try_from(self.max_row.saturating_sub(slowest)).unwrap_or(0);
        #[allow(clippy::cast_precision_loss, reason = "rates are for people")]
        let (rows_per_second, bytes_per_second, left) =
            (self.tally.rows as f64 / elapsed, self.tally.bytes as f64 / elapsed, rows_left_at_most as f64);
        let eta_seconds = (left / rows_per_second.max(0.001)).round();
        tracing::info!(
            account = %self.feed.route.account, container = %self.feed.route.container, rows = self.tally.rows,
            bytes = self.tally.bytes, rows_per_second = rows_per_second.round(), bytes_per_second = bytes_per_second.round(),
            rows_left_at_most, eta_seconds, in_flight = self.tasks.len(), failed = self.tally.failed, "still working"
        );
    }

    pub(super) fn log_end(&self) {
        let tally = &self.tally;
        tracing::info!(
            account = %self.feed.route.account, container = %self.feed.route.container, rows = tally.rows, copied = tally.copied,
            updated = tally.updated, deleted = tally.deleted, archived = tally.archived, bytes = tally.bytes,
            failed = tally.failed, parked = self.state.parked.len(), seconds = self.started.elapsed().as_secs_f64(), "processed rows"
        );
    }
}
