//! Rows that were set aside and are due again.

use super::*;

impl Pass<'_> {
    /// Looks up rows that were set aside and are due.
    pub(super) async fn load_retries(&mut self) {
        let (at, limit) = if self.settings.once {
            (Timestamp::from_units(u64::MAX), usize::MAX)
        } else {
            (now(), RETRY_CHUNK)
        };
        let due: Vec<(String, ParkedRow)> = self
            .state
            .parked
            .due(at, limit, self.state.valve.held().is_some())
            .into_iter()
            .filter(|(_, parked)| !parked.reason.is_waiting() || parked.next_try <= now().units() / 100_000)
            .collect();
        if due.is_empty() {
            return;
        }
        let names: Vec<(String, i64, bool)> =
            due.iter().map(|(name, row)| (name.clone(), row.rowid, row.reason == Reason::BadRow)).collect();
        let found = self
            .feed
            .read(move |database| {
                let rows = names
                    .iter()
                    .map(|(name, rowid, unreadable)| {
                        if *unreadable {
                            let row = database.rows_after(rowid.saturating_sub(1), 1)?.into_iter().next();
                            return Ok(match row {
                                Some(Ok(row)) if row.rowid == *rowid => LookedUp::Row(row),
                                Some(Err(problem)) if problem.rowid == *rowid => LookedUp::Unreadable,
                                _ => LookedUp::Gone,
                            });
                        }
                        Ok(match database.row_by_name(name)? {
                            Some(Ok(row)) => LookedUp::Row(row),
                            Some(Err(_)) => LookedUp::Unreadable,
                            None => LookedUp::Gone,
                        })
                    })
                    .collect::<Result<Vec<LookedUp>, DbError>>()?;
                Ok((rows, database.info()?.policy_index))
            })
            .await;
        let (found, policy_index) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(container = %self.feed.source.container, %error, "could not look up rows set aside");
                return;
            }
        };
        for ((name, parked), row) in due.into_iter().zip(found) {
            match row {
                // Another node handed it over: the row may lie below the cursor here, or be an older one, or missing.
                // Or this worker lost it in flight, and what had been sent may have arrived after a newer row of another owner.
                row if parked.is_inherited() || parked.reason == Reason::Unsettled => {
                    match inherited(&name, &parked, row, policy_index) {
                        Some(row) => self.retry(row, parked.share),
                        None => self.unpark(&name),
                    }
                }
                LookedUp::Row(row) if row.rowid == parked.rowid => {
                    if parked.reason == Reason::BadRow {
                        // Now it has a name. It stays set aside under that until it is done.
                        let failed = FailedRow {
                            rowid: row.rowid,
                            share: parked.share,
                            deleted: row.deleted,
                            timestamp: row.timestamps.metadata,
                            policy_index: Some(row.policy_index),
                        };
                        self.state.parked.wait(&row.name, failed, now());
                        self.unpark(&name);
                    }
                    self.retry(row, parked.share);
                }
                // A newer row of the name is in front of a lane or was handled by one.
                LookedUp::Row(_) => self.unpark(&name),
                LookedUp::Unreadable => self.repark_bad_row(&name, &parked),
                // Swift forgets tombstones after a while; the delete is still owed.
                LookedUp::Gone if parked.deleted => match row_of(&name, &parked, policy_index) {
                    Some(row) => self.retry(row, parked.share),
                    None => self.unpark(&name),
                },
                // The row was replaced, or moved to another database (a shard), which is followed on its own.
                LookedUp::Gone => self.unpark(&name),
            }
        }
    }

    /// Hands a row out again, whose remote side is not known.
    fn retry(&mut self, row: Row, share: Share) {
        self.retries.push_back(Task { row, hint: Hint::Unknown, share, lane: None, span: Span::none() });
    }

    pub(super) fn unpark(&mut self, name: &str) {
        self.parked_changed |= self.state.parked.remove(name);
    }

    fn repark_bad_row(&mut self, name: &str, parked: &ParkedRow) {
        let failure = Failure::new(Reason::BadRow, parked.message.clone());
        let timestamp = parked.timestamp.parse().unwrap_or_default();
        let row = FailedRow {
            rowid: parked.rowid,
            share: parked.share,
            deleted: parked.deleted,
            timestamp,
            policy_index: parked.policy_index,
        };
        self.state.parked.fail(name, row, &failure, now(), spread());
        self.parked_changed = true;
    }
}

/// The row to handle for one that another node handed over: the newest that is known of the name.
fn inherited(name: &str, parked: &ParkedRow, found: LookedUp, policy_index: u32) -> Option<Row> {
    match found {
        LookedUp::Row(row) if parked.is_settled_by(row.rowid, row.timestamps.metadata) => Some(row),
        // Replication has not brought it here yet, or never will, for the disk that had it is lost; or it is a tombstone that Swift forgot.
        _ => row_of(name, parked, policy_index),
    }
}

/// A row that is not in the database (any more), as far as it was kept; `policy_index` is the container's. Nothing is taken for sent by a listing alone then: that compares
/// the row's own ETag.
fn row_of(name: &str, parked: &ParkedRow, policy_index: u32) -> Option<Row> {
    let timestamp: Timestamp = parked.timestamp.parse().ok()?;
    Some(Row {
        rowid: parked.rowid,
        name: name.to_owned(),
        timestamps: swift_s3_policy::RowTimestamps {
            data: timestamp,
            content_type: timestamp,
            metadata: timestamp,
        },
        size: 0,
        content_type: String::new(),
        etag: String::new(),
        deleted: parked.deleted,
        policy_index: parked.policy_index.unwrap_or(policy_index),
    })
}
