//! Reads rows, sorts them into lanes, and finds out cheaply what the remote holds of them.

use super::*;
use crate::decide::{DeleteAction, decide_delete};
use crate::valve::Burst;

impl Pass<'_> {
    /// Reads the next rows of a lane into its buffer.
    pub(super) async fn read_chunk(&mut self, index: usize) {
        let Some(lane) = self.state.lanes.get(index) else { return };
        let (share, read) = (lane.lane.share, lane.progress.read());
        let wanted = if share == Share::Others || read < self.state.fresh_after {
            self.settings.items_chunk.max(PROBE_CHUNK)
        } else {
            self.settings.items_chunk
        };
        let limit = wanted.clamp(1, MAX_BATCH_ROWS);
        let database = self.state.database.clone();
        let chunk = self
            .feed
            .read(move |open| {
                let info = open.info()?;
                if info.id != database {
                    return Ok(None);
                }
                Ok(Some((info.object_count, open.rows_after(read, limit)?)))
            })
            .await;
        let chunk = match chunk {
            Ok(Some((objects, chunk))) => {
                self.state.objects = objects;
                chunk
            }
            Ok(None) => {
                self.halt = Some(Halt::DatabaseChanged);
                return;
            }
            Err(error) => {
                if error.kind() != DbErrorKind::Missing {
                    tracing::warn!(container = %self.feed.source.container, %error, "could not read rows");
                }
                self.halt = Some(Halt::DatabaseFailed);
                return;
            }
        };
        let complete = u32::try_from(chunk.len()).unwrap_or(u32::MAX) < limit;
        let mut rows = Vec::with_capacity(chunk.len());
        let mut problems = Vec::new();
        let mut last = read;
        for row in chunk {
            match row {
                Ok(row) => {
                    last = row.rowid;
                    rows.push(row);
                }
                Err(problem) => {
                    last = problem.rowid;
                    problems.push(problem);
                }
            }
        }
        if !self.park_bad_rows(share, &problems) {
            return;
        }
        // Not further ahead of the saved cursor than a restart would check.
        let horizon = self.saved_cursor(index).saturating_add(WINDOW);
        let in_reach = rows.partition_point(|row| row.rowid <= horizon);
        let mut cut = false;
        if in_reach < rows.len() {
            cut = true;
            if in_reach == 0 {
                self.widen(index, rows.first().map_or(read, |row| row.rowid)).await;
                return;
            }
            rows.truncate(in_reach);
        }
        let took_all = self.take(index, rows, complete && !cut).await;
        // Rows that cannot be understood, set aside by now, may lie behind the last good one.
        if took_all
            && !cut
            && let Some(lane) = self.state.lanes.get_mut(index)
        {
            lane.progress.pass(last);
        }
    }

    /// The next row is out of reach of the saved cursor: saves the cursor as near to it as it can be.
    async fn widen(&mut self, index: usize, next_row: i64) {
        let Some(lane) = self.state.lanes.get_mut(index) else { return };
        lane.progress.pass(next_row.saturating_sub(1));
        let held = lane.progress.cursor().saturating_add(WINDOW) < next_row;
        self.save().await;
        let Some(lane) = self.state.lanes.get_mut(index) else { return };
        if held {
            // Rows in flight hold the cursor; the lane goes on when they are finished.
            lane.exhausted = true;
            self.held_back = true;
        }
    }

    fn saved_cursor(&self, index: usize) -> i64 {
        let Some(lane) = self.state.lanes.get(index) else { return 0 };
        self.state.saved.as_ref().and_then(|saved| saved.cursors.get(lane.lane.name()).copied()).unwrap_or(0)
    }

    /// Sorts a chunk: what is due goes to the buffer with what is known of it. False when the lane stopped in front of a row.
    async fn take(&mut self, index: usize, rows: Vec<Row>, complete: bool) -> bool {
        let (now, nodes) = (now(), self.state.nodes);
        self.learn_of_others(index, &rows).await;
        let State { lanes, shares, database, parked, .. } = &mut *self.state;
        let Some(lane) = lanes.get_mut(index) else { return false };
        lane.exhausted = complete;
        let mut due = Vec::new();
        let mut took_all = true;
        let mut full = false;
        for row in rows {
            if row.rowid > self.last_row {
                lane.exhausted = true;
                took_all = false;
                break;
            }
            let key = RowKey { name: &row.name, deleted: row.deleted, timestamp: row.timestamps.metadata };
            let start = lane.starts.get(&owner_index(&row.name, nodes));
            let is_settled = match lane.lane.share {
                Share::Own => start.is_some_and(|start| start.is_settled(row.rowid)),
                Share::Others => {
                    row.rowid > lane.looked_at_until
                        && shares.is_settled(nodes, database, lane.lane.rows, &row)
                }
            };
            if is_settled {
                lane.progress.pass(row.rowid);
                continue;
            }
            match judge(lane.lane, key, &self.feed.source.own, nodes, now) {
                Verdict::Pass => lane.progress.pass(row.rowid),
                Verdict::Take => {
                    lane.progress.start(row.rowid);
                    due.push(row);
                }
                Verdict::WaitUntil(at) => {
                    // Checks of others' rows are not urgent, and many together cost few listing pages.
                    let at = match lane.lane.share {
                        Share::Own => at,
                        Share::Others => at.plus(self.settings.verification_slack / VERIFICATION_BATCHES),
                    };
                    lane.not_before = Some(at);
                    lane.wait_until = Some(at);
                    lane.exhausted = true;
                    took_all = false;
                    break;
                }
                Verdict::Defer(at) => {
                    if !parked.has_room() {
                        lane.exhausted = true;
                        took_all = false;
                        full = true;
                        break;
                    }
                    let failed = FailedRow {
                        rowid: row.rowid,
                        share: lane.lane.share,
                        deleted: row.deleted,
                        timestamp: row.timestamps.metadata,
                        policy_index: Some(row.policy_index),
                    };
                    parked.wait(&row.name, failed, at);
                    self.parked_changed = true;
                    lane.progress.pass(row.rowid);
                }
            }
        }
        if full {
            self.parked_full();
        }
        let hints = self.hints(index, &due).await;
        if !self.admit(index, &due, &hints) {
            return false;
        }
        let Some(lane) = self.state.lanes.get_mut(index) else { return false };
        lane.buffer.extend(due.into_iter().zip(hints));
        took_all
    }

    /// Before rows of others are looked at, asks what their owners say of them.
    async fn learn_of_others(&mut self, index: usize, rows: &[Row]) {
        let Some(lane) = self.state.lanes.get(index).map(|lane| lane.lane) else { return };
        if lane.share != Share::Others || !self.state.shares.is_stale() {
            return;
        }
        let due = now();
        if rows.iter().any(|row| row.timestamps.metadata.plus(lane.minimum_age) <= due) {
            let mut shares = std::mem::take(&mut self.state.shares);
            if let Err(error) = self.feed.read_shares(&mut shares).await {
                // Without it more is verified than needed.
                tracing::debug!(container = %self.feed.source.container, %error, "could not read records");
            }
            self.state.shares = shares;
        }
    }

    /// Asks the delete limit about the deletes among these rows. False when they are held, and the walk ends in front of them.
    fn admit(&mut self, index: usize, rows: &[Row], hints: &[Hint]) -> bool {
        let Some(share) = self.state.lanes.get(index).map(|lane| lane.lane.share) else { return true };
        let mapping = &self.feed.route.mapping;
        let valve = &mut self.state.valve;
        let is_counted = |row: &Row| {
            row.deleted
                && decide_delete(mapping.propagate_delete, row.timestamps.metadata) == DeleteAction::Delete
                && !valve.is_settled(share, row.rowid)
                && !mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(&row.name))
        };
        let counted = rows.iter().zip(hints).filter(|(row, hint)| **hint != Hint::Absent && is_counted(row));
        let (deletes, last_row) =
            counted.fold((0, 0), |(deletes, last), (row, _)| (deletes + 1, row.rowid.max(last)));
        if deletes == 0 {
            return true;
        }
        let burst = Burst {
            deletes,
            last_row,
            share,
            nodes: self.state.nodes,
            own_replicas: u32::try_from(self.feed.source.own.len()).unwrap_or(u32::MAX),
            objects: self.state.objects,
        };
        if valve.admit(mapping.delete_limit.as_ref(), burst, seconds(now())) {
            // The count is part of what is saved: a restart must not begin anew.
            self.parked_changed = true;
            return true;
        }
        let because = valve.held().map(|held| held.because.as_str()).unwrap_or_default();
        tracing::error!(account = %self.feed.route.account, container = %self.feed.route.container, because,
            "deletes are held until an operator releases them; everything else goes on");
        self.parked_changed = true;
        self.halt = Some(Halt::DeletesHeld);
        false
    }

    /// What is known of the remote side of these rows before any of them is handled.
    async fn hints(&mut self, index: usize, rows: &[Row]) -> Vec<Hint> {
        let Some(lane) = self.state.lanes.get(index) else { return Vec::new() };
        let mapping = &self.feed.route.mapping;
        let verified_at_age = self.settings.verification_slack.saturating_add(mapping.copy_after);
        let oldest_fresh = now().since(Timestamp::default()).saturating_sub(verified_at_age);
        let mut hints: Vec<Hint> = rows
            .iter()
            .map(|row| {
                // Another node verifies rows once they are older than the slack, and may have carried them then.
                let young = match self.feed.regime.mode {
                    Mode::Implicit => row.timestamps.metadata.since(Timestamp::default()) > oldest_fresh,
                    // Nobody else handles names that are owned since before the write, until it is old enough to be verified.
                    Mode::Explicit => {
                        row.timestamps.metadata > self.owned_since
                            && row.timestamps.metadata.since(Timestamp::default()) > oldest_fresh
                    }
                    // Somebody may own them.
                    Mode::Fallback => false,
                };
                let alone = self.state.nodes <= 1 && self.feed.regime.mode == Mode::Implicit;
                // Clients' writes have no offset: this one was restored from the remote, or moved by Swift.
                let fresh = lane.lane.share == Share::Own
                    && row.timestamps.metadata.offset() == 0
                    && row.rowid > self.state.fresh_after
                    && (young || alone)
                    && !self.state.carried.contains(&row.name);
                if fresh { Hint::Fresh } else { Hint::Unknown }
            })
            .collect();
        let asked: Vec<usize> = rows
            .iter()
            .zip(&hints)
            .enumerate()
            .filter(|(_, (row, hint))| {
                **hint == Hint::Unknown
                    && (!row.deleted || mapping.propagate_delete)
                    && !mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(&row.name))
            })
            .map(|(index, _)| index)
            .collect();
        if asked.len() < PAGE_COST_IN_HEADS {
            return hints;
        }
        let keys: Vec<String> = asked
            .iter()
            .filter_map(|index| rows.get(*index))
            .map(|row| self.feed.route.keys.object_key(&row.name))
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        match probe(&*self.feed.route.store, self.feed.route.keys.key_prefix(), &keys).await {
            Ok(found) => {
                for (index, hint) in asked.into_iter().zip(found) {
                    if let Some(slot) = hints.get_mut(index) {
                        *slot = hint;
                    }
                }
            }
            Err(error) if error.kind().is_remote_wide() => {
                // Credentials that may not list can still be good for everything else: each row finds out for itself.
                if error.kind() != ErrorKind::Denied {
                    self.remote_is_down(&Span::none(), &error).await;
                }
            }
            Err(error) => tracing::debug!(%error, "could not list; asking for each key"),
        }
        hints
    }

    /// False when there is no room for one of them; the walk then ends in front of it.
    fn park_bad_rows(&mut self, share: Share, problems: &[RowProblem]) -> bool {
        for problem in problems {
            let name = format!("(unreadable row {})", problem.rowid);
            if self.state.parked.get(&name).is_some() {
                continue;
            }
            if !self.state.parked.has_room() {
                self.parked_full();
                return false;
            }
            let row = FailedRow {
                rowid: problem.rowid,
                share,
                deleted: false,
                timestamp: Timestamp::default(),
                policy_index: None,
            };
            let failure = Failure::new(Reason::BadRow, problem.reason.to_string());
            tracing::warn!(container = %self.feed.source.container, row = problem.rowid, reason = %problem.reason,
                "row cannot be understood; set aside");
            self.state.parked.fail(&name, row, &failure, now(), spread());
            self.parked_changed = true;
        }
        true
    }
}
