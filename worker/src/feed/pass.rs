//! One walk over a feed's new rows: read, hint, hand out, collect, remember.
//!
//! Rows are read in chunks per lane and handled concurrently; two writes of one name are never in flight together. A row that fails
//! is set aside and the walk goes on. When the remote as a whole fails, the walk ends and what was not finished is read again later.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use swift_s3_policy::Timestamp;
use swift_s3_store::{ErrorKind, StoreError};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Feed, PassEnd, PassSettings, Shared, State, WINDOW, now};
use crate::lane::{RowKey, Share, Verdict, judge};
use crate::parked::{FailedRow, ParkedRow};
use crate::probe::{PAGE_COST_IN_HEADS, probe};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::{ContainerInfo, DbError, DbErrorKind, MAX_BATCH_ROWS, Row, RowProblem};
use crate::transfer::{Done, Hint, Outcome, Trouble};

/// Cursors are saved this often during a long walk. A crash repeats at most this much checking.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// A walk that takes longer tells how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Rows with unknown history are read in chunks of at least this many, so that listing pages cover many of them.
const PROBE_CHUNK: u32 = 8_000;
/// Rows set aside that are looked up again in one walk.
const RETRY_CHUNK: usize = 500;
/// A walk gives way to waiting feeds after this long.
const SLICE: Duration = Duration::from_secs(20);
/// New rows that arrive during a walk are looked for at most this often.
const WAKE_INTERVAL: Duration = Duration::from_millis(50);
/// Rows of other nodes are verified in batches that span this part of the verification slack.
const VERIFICATION_BATCHES: u32 = 4;
/// A check of the bucket that takes longer has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// On shutdown, transfers in flight get this long to finish before they are abandoned.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A row in somebody's hands.
#[derive(Debug)]
struct Task {
    row: Row,
    hint: Hint,
    share: Share,
    /// Index of the lane it came from; none for a row that was set aside.
    lane: Option<usize>,
}

impl Task {
    fn failed_row(&self) -> FailedRow {
        FailedRow {
            rowid: self.row.rowid,
            share: self.share,
            deleted: self.row.deleted,
            timestamp: self.row.timestamps.metadata,
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    rows: u64,
    copied: u64,
    updated: u64,
    deleted: u64,
    archived: u64,
    bytes: u64,
    failed: u64,
}

/// What has become of a row that was set aside.
#[derive(Debug)]
enum LookedUp {
    Row(Row),
    Unreadable,
    Gone,
}

/// Why no more rows are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    Stopping,
    RemoteDown,
    DatabaseChanged,
    DatabaseFailed,
    ParkedFull,
    NotSaved,
    Yield,
}

pub(super) struct Pass<'a> {
    feed: &'a Feed,
    state: &'a mut State,
    shared: &'a Shared,
    settings: &'a PassSettings,
    tasks: JoinSet<Result<Done, Trouble>>,
    in_flight: HashMap<Id, Task>,
    busy: HashSet<String>,
    /// Rows whose name is busy.
    blocked: HashMap<String, VecDeque<Task>>,
    retries: VecDeque<Task>,
    halt: Option<Halt>,
    /// In a single round, rows above this one are left for the next.
    last_row: i64,
    /// The highest row when the walk began.
    max_row: i64,
    started: Instant,
    tally: Tally,
    next_lane: usize,
    parked_changed: bool,
    /// A lane stopped short although there are rows left.
    held_back: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        feed: &'a Feed,
        state: &'a mut State,
        shared: &'a Shared,
        settings: &'a PassSettings,
        info: &ContainerInfo,
    ) -> Self {
        Self {
            feed,
            state,
            shared,
            settings,
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            busy: HashSet::new(),
            blocked: HashMap::new(),
            retries: VecDeque::new(),
            halt: None,
            last_row: if settings.once { info.max_row } else { i64::MAX },
            max_row: info.max_row,
            started: Instant::now(),
            tally: Tally::default(),
            next_lane: 0,
            parked_changed: false,
            held_back: false,
        }
    }

    /// Runs the walk to its end.
    pub(super) async fn drive(mut self, stop: &CancellationToken) -> PassEnd {
        self.open_lanes();
        self.load_retries().await;
        let mut saving = tokio::time::interval_at(self.started + SAVE_EVERY, SAVE_EVERY);
        saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reporting = tokio::time::interval_at(self.started + REPORT_EVERY, REPORT_EVERY);
        let mut last_wake = self.started;
        let mut grace_ends: Option<Instant> = None;
        loop {
            if self.halt.is_none() {
                tokio::select! {
                    biased;
                    // Dropping `fill` loses nothing: rows that it had begun with hold the cursor, and are read again.
                    () = stop.cancelled() => {
                        self.halt = Some(Halt::Stopping);
                        grace_ends = Some(Instant::now() + GRACE);
                    }
                    () = self.fill() => {}
                }
            }
            if self.tasks.is_empty() {
                break;
            }
            let far_future = self.started + Duration::from_secs(86_400 * 365);
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.collect(ended).await,
                _ = saving.tick() => self.save().await,
                _ = reporting.tick() => self.report(),
                () = self.feed.wake.notified(), if self.halt.is_none() && last_wake.elapsed() >= WAKE_INTERVAL => {
                    last_wake = Instant::now();
                    self.feed.dirty.store(false, std::sync::atomic::Ordering::Release);
                    self.feed.flush_pending(self.shared).await;
                    self.feed.note_seen();
                    self.open_lanes();
                }
                () = stop.cancelled(), if grace_ends.is_none() => {
                    self.halt = Some(Halt::Stopping);
                    grace_ends = Some(Instant::now() + GRACE);
                }
                () = tokio::time::sleep_until(grace_ends.unwrap_or(far_future)), if grace_ends.is_some() => {
                    tracing::warn!(container = %self.feed.route.container, transfers = self.tasks.len(),
                        "abandoning transfers that did not finish in time; they are repeated after the next start");
                    self.tasks.shutdown().await;
                    break;
                }
            }
        }
        self.finish().await
    }

    /// Lets every lane be read (again), except those whose next batch is not due.
    fn open_lanes(&mut self) {
        let now = now();
        for lane in &mut self.state.lanes {
            let waits = lane.not_before.filter(|at| *at > now && !self.settings.once);
            lane.exhausted = waits.is_some();
            lane.wait_until = waits;
        }
    }

    /// Puts the state in order, saves it, and says when to come back.
    async fn finish(mut self) -> PassEnd {
        let mut unfinished = false;
        for lane in &mut self.state.lanes {
            let read = lane.progress.read();
            if lane.progress.cursor() < read || !lane.buffer.is_empty() {
                // Some of these rows may have been carried; they are not fresh any more when they are read again.
                self.state.fresh_after = self.state.fresh_after.max(read);
                unfinished = true;
            }
            lane.buffer.clear();
            lane.progress.rewind();
        }
        self.save().await;
        if self.tally.rows > 0 {
            self.log_end();
        }
        let failures = self.state.parked.failures();
        let waits = self.state.lanes.iter().filter_map(|lane| lane.wait_until);
        let parked_due = self
            .state
            .parked
            .next_due()
            .map(|seconds| Timestamp::from_units(seconds.saturating_mul(100_000)));
        let pause = self
            .feed
            .remote
            .health
            .paused_until(Instant::now())
            .map(|until| now().plus(until.duration_since(Instant::now())));
        let soon = || Some(now().plus(Duration::from_secs(5)));
        let (again_at, more) = match self.halt {
            Some(Halt::RemoteDown) => (pause.or_else(soon), false),
            Some(Halt::NotSaved | Halt::DatabaseFailed) => (soon(), false),
            Some(Halt::Yield | Halt::DatabaseChanged) => (None, true),
            Some(Halt::ParkedFull | Halt::Stopping) => (parked_due.or_else(soon), false),
            None => (waits.chain(parked_due).min(), unfinished || self.held_back),
        };
        let broken = matches!(
            self.halt,
            Some(Halt::RemoteDown | Halt::NotSaved | Halt::DatabaseFailed | Halt::ParkedFull)
        );
        PassEnd { again_at, more, failures, broken }
    }

    /// Looks up rows that were set aside and are due.
    async fn load_retries(&mut self) {
        let (at, limit) = if self.settings.once {
            (Timestamp::from_units(u64::MAX), usize::MAX)
        } else {
            (now(), RETRY_CHUNK)
        };
        let due: Vec<(String, ParkedRow)> = self
            .state
            .parked
            .due(at, limit)
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
                names
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
                    .collect::<Result<Vec<LookedUp>, DbError>>()
            })
            .await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(container = %self.feed.source.container, %error, "could not look up rows set aside");
                return;
            }
        };
        for ((name, parked), row) in due.into_iter().zip(found) {
            match row {
                LookedUp::Row(row) if row.rowid == parked.rowid => {
                    if parked.reason == Reason::BadRow {
                        // Now it has a name. It stays set aside under that until it is done.
                        let failed = FailedRow {
                            rowid: row.rowid,
                            share: parked.share,
                            deleted: row.deleted,
                            timestamp: row.timestamps.metadata,
                        };
                        self.state.parked.wait(&row.name, failed, now());
                        self.unpark(&name);
                    }
                    self.retries.push_back(Task {
                        row,
                        hint: Hint::Unknown,
                        share: parked.share,
                        lane: None,
                    });
                }
                // A newer row of the name is in front of a lane or was handled by one.
                LookedUp::Row(_) => self.unpark(&name),
                LookedUp::Unreadable => self.repark_bad_row(&name, &parked),
                // Swift forgets tombstones after a while; the delete is still owed.
                LookedUp::Gone if parked.deleted => match forgotten_tombstone(&name, &parked) {
                    Some(row) => {
                        self.retries.push_back(Task {
                            row,
                            hint: Hint::Unknown,
                            share: parked.share,
                            lane: None,
                        });
                    }
                    None => self.unpark(&name),
                },
                // The row was replaced, or moved to another database (a shard), which is followed on its own.
                LookedUp::Gone => self.unpark(&name),
            }
        }
    }

    fn unpark(&mut self, name: &str) {
        self.parked_changed |= self.state.parked.remove(name);
    }

    fn repark_bad_row(&mut self, name: &str, parked: &ParkedRow) {
        let failure = Failure::new(Reason::BadRow, parked.message.clone());
        let timestamp = parked.timestamp.parse().unwrap_or_default();
        let row = FailedRow { rowid: parked.rowid, share: parked.share, deleted: parked.deleted, timestamp };
        self.state.parked.fail(name, row, &failure, now(), spread());
        self.parked_changed = true;
    }

    /// Hands out rows until enough are in flight or there are none.
    async fn fill(&mut self) {
        while self.halt.is_none() && self.tasks.len() < self.settings.in_flight {
            if self.feed.is_retired() {
                self.halt = Some(Halt::Yield);
                return;
            }
            if self.started.elapsed() > SLICE
                && !self.settings.once
                && self.shared.waiting.load(std::sync::atomic::Ordering::Relaxed) > 0
            {
                self.halt = Some(Halt::Yield);
                return;
            }
            match self.next_task().await {
                Some(task) => self.hand_out(task),
                None => return,
            }
        }
    }

    async fn next_task(&mut self) -> Option<Task> {
        if let Some(task) = self.retries.pop_front() {
            return Some(task);
        }
        let lanes = self.state.lanes.len();
        loop {
            for step in 0..lanes {
                let index = (self.next_lane + step) % lanes.max(1);
                let Some(lane) = self.state.lanes.get_mut(index) else { continue };
                if let Some((row, hint)) = lane.buffer.pop_front() {
                    self.next_lane = index + 1;
                    let share = lane.lane.share;
                    return Some(Task { row, hint, share, lane: Some(index) });
                }
            }
            let hungry = (0..lanes).find(|index| {
                self.state.lanes.get(*index).is_some_and(|lane| !lane.exhausted && lane.buffer.is_empty())
            })?;
            self.read_chunk(hungry).await;
            if self.halt.is_some() {
                return None;
            }
        }
    }

    fn hand_out(&mut self, task: Task) {
        let name = &task.row.name;
        if self.busy.contains(name) {
            self.blocked.entry(name.clone()).or_default().push_back(task);
            return;
        }
        self.busy.insert(name.clone());
        let transfer = self.shared.transfer.clone();
        let route = std::sync::Arc::clone(&self.feed.route);
        let permits = std::sync::Arc::clone(&self.settings.permits);
        let (row, hint) = (task.row.clone(), task.hint.clone());
        let handle = self.tasks.spawn(async move {
            // The semaphore is never closed; without a permit there would merely be no bound.
            let _permit = permits.acquire_owned().await;
            transfer.handle(&route, &row, hint).await
        });
        self.in_flight.insert(handle.id(), task);
    }

    /// Takes the end of one row.
    async fn collect(&mut self, ended: Result<(Id, Result<Done, Trouble>), tokio::task::JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let failure = Failure::new(Reason::Other, format!("the transfer broke off: {error}"));
                (error.id(), Err(Trouble::Row(failure)))
            }
        };
        let Some(task) = self.in_flight.remove(&id) else { return };
        self.busy.remove(&task.row.name);
        let finished = match result {
            Ok(done) => {
                self.done(&task, &done);
                true
            }
            Err(Trouble::Row(failure)) => self.park(&task, &failure),
            Err(Trouble::Remote(error)) => self.remote_failed(&task, &error).await,
        };
        if finished
            && let Some(index) = task.lane
            && let Some(lane) = self.state.lanes.get_mut(index)
        {
            lane.progress.finish(task.row.rowid);
        }
        if let Some(waiting) = self.blocked.get_mut(&task.row.name) {
            let next = waiting.pop_front();
            if waiting.is_empty() {
                self.blocked.remove(&task.row.name);
            }
            if let Some(next) = next
                && self.halt.is_none()
            {
                self.hand_out(Task { hint: Hint::Unknown, ..next });
            }
        }
    }

    fn done(&mut self, task: &Task, done: &Done) {
        // Rows that the remote was not asked about say nothing of its health.
        let asked = !matches!(done.outcome, Outcome::NotWanted | Outcome::Superseded);
        if asked && self.feed.remote.health.succeeded() {
            tracing::info!(remote = %self.feed.remote.label, "the remote answers again");
        }
        // A newer row of the name may have been set aside meanwhile; it is still owed.
        if self.state.parked.get(&task.row.name).is_some_and(|parked| parked.rowid <= task.row.rowid) {
            self.unpark(&task.row.name);
        }
        if let Some(timestamp) = done.carried {
            self.state.carried.insert(&task.row.name, timestamp);
        }
        self.tally.rows += 1;
        self.tally.archived += u64::from(done.archived);
        match done.outcome {
            Outcome::Copied(bytes) => {
                self.tally.copied += 1;
                self.tally.bytes += bytes;
            }
            Outcome::MetadataUpdated => self.tally.updated += 1,
            Outcome::Deleted => self.tally.deleted += 1,
            Outcome::AlreadyThere | Outcome::NotWanted | Outcome::Superseded => {}
        }
    }

    /// Sets a row aside. False when there is no room: its cursor then waits.
    fn park(&mut self, task: &Task, failure: &Failure) -> bool {
        let name = &task.row.name;
        let known = self.state.parked.get(name).map(|parked| parked.rowid);
        // A newer row of the name is set aside already, and says all that is left to say.
        if known.is_some_and(|rowid| rowid > task.row.rowid) {
            return true;
        }
        if known.is_none() && !self.state.parked.has_room() {
            self.parked_full();
            return false;
        }
        self.state.parked.fail(name, task.failed_row(), failure, now(), spread());
        self.parked_changed = true;
        self.tally.failed += 1;
        let (attempts, next_try) =
            self.state.parked.get(name).map_or((0, 0), |parked| (parked.attempts, parked.next_try));
        tracing::warn!(
            account = %self.feed.route.account, container = %self.feed.route.container, object = %name, row = task.row.rowid,
            reason = failure.reason.as_str(), attempts, retry_in = next_try.saturating_sub(now().units() / 100_000),
            "row set aside: {}", failure.message
        );
        true
    }

    fn parked_full(&mut self) {
        if self.halt.is_none() {
            tracing::error!(account = %self.feed.route.account, container = %self.feed.route.container,
                parked = self.state.parked.len(), "too many rows set aside; the container waits until some of them succeed");
            self.halt = Some(Halt::ParkedFull);
        }
    }

    /// Tells a remote that is down from an object that it does not like. True when the row is finished (set aside).
    async fn remote_failed(&mut self, task: &Task, error: &StoreError) -> bool {
        let reason = match error.kind() {
            ErrorKind::Denied | ErrorKind::BucketMissing => Reason::RemoteDenied,
            _ => Reason::RemoteUnavailable,
        };
        if self.remote_is_down(error).await {
            return false;
        }
        self.park(task, &Failure::new(reason, error.to_string()))
    }

    async fn remote_is_down(&mut self, error: &StoreError) -> bool {
        let health = &self.feed.remote.health;
        if health.paused_until(Instant::now()).is_none() {
            // One request tells an object's own trouble from an outage. Rows must not be set aside for an outage: they would
            // stay so for a minute after its end.
            let check = tokio::time::timeout(CHECK_LIMIT, self.feed.remote.store.check()).await;
            let certain = !matches!(check, Ok(Ok(())));
            // The bucket is fine: it is this object that may not be touched.
            if !certain && matches!(error.kind(), ErrorKind::Denied | ErrorKind::BucketMissing) {
                return false;
            }
            // The bucket answers, and waiting was tried: as many such rows as may be in flight must not stop everything else.
            if !certain && health.has_paused() {
                return false;
            }
            if let Some(pause) = health.failed(certain, Instant::now()) {
                tracing::error!(remote = %self.feed.remote.label, %error, pause_seconds = pause.as_secs(),
                    "the remote fails; its mappings wait");
            }
        }
        let down = health.paused_until(Instant::now()).is_some();
        if down {
            self.halt = Some(Halt::RemoteDown);
        }
        down
    }

    /// Reads the next rows of a lane into its buffer.
    async fn read_chunk(&mut self, index: usize) {
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
                if open.info()?.id != database {
                    return Ok(None);
                }
                open.rows_after(read, limit).map(Some)
            })
            .await;
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
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
        let Some(lane) = self.state.lanes.get_mut(index) else { return false };
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
                    if !self.state.parked.has_room() {
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
                    };
                    self.state.parked.wait(&row.name, failed, at);
                    self.parked_changed = true;
                    lane.progress.pass(row.rowid);
                }
            }
        }
        if full {
            self.parked_full();
        }
        let hints = self.hints(index, &due).await;
        let Some(lane) = self.state.lanes.get_mut(index) else { return false };
        lane.buffer.extend(due.into_iter().zip(hints));
        took_all
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
                let young = row.timestamps.metadata.since(Timestamp::default()) > oldest_fresh;
                let fresh = lane.lane.share == Share::Own
                    && row.rowid > self.state.fresh_after
                    && (young || self.state.nodes <= 1)
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
                    self.remote_is_down(&error).await;
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
            let row =
                FailedRow { rowid: problem.rowid, share, deleted: false, timestamp: Timestamp::default() };
            let failure = Failure::new(Reason::BadRow, problem.reason.to_string());
            tracing::warn!(container = %self.feed.source.container, row = problem.rowid, reason = %problem.reason,
                "row cannot be understood; set aside");
            self.state.parked.fail(&name, row, &failure, now(), spread());
            self.parked_changed = true;
        }
        true
    }

    /// Remembers cursors and rows set aside, if they changed.
    async fn save(&mut self) {
        let cursors = self
            .state
            .lanes
            .iter()
            .map(|lane| (lane.lane.name().to_owned(), lane.progress.cursor()))
            .collect();
        let unchanged =
            !self.parked_changed && self.state.saved.as_ref().is_some_and(|saved| saved.cursors == cursors);
        if unchanged {
            return;
        }
        let feed = crate::status_file::SavedFeed {
            cursors,
            replicas: self.feed.source.own.clone(),
            nodes: self.state.nodes,
            parked: self.state.parked.clone(),
        };
        let (status, identity) = (std::sync::Arc::clone(&self.feed.status), self.feed.identity.clone());
        let (database, copy) = (self.state.database.clone(), feed.clone());
        let saved = tokio::task::spawn_blocking(move || status.save(&identity, &database, copy))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match saved {
            Ok(()) => {
                self.state.saved = Some(feed);
                self.parked_changed = false;
            }
            Err(error) => {
                tracing::error!(account = %self.feed.route.account, container = %self.feed.route.container, %error,
                    "could not save progress; the container waits");
                self.halt.get_or_insert(Halt::NotSaved);
            }
        }
    }

    fn report(&self) {
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

    fn log_end(&self) {
        let tally = &self.tally;
        tracing::info!(
            account = %self.feed.route.account, container = %self.feed.route.container, rows = tally.rows, copied = tally.copied,
            updated = tally.updated, deleted = tally.deleted, archived = tally.archived, bytes = tally.bytes,
            failed = tally.failed, parked = self.state.parked.len(), seconds = self.started.elapsed().as_secs_f64(), "processed rows"
        );
    }
}

/// The delete that a forgotten tombstone asked for.
fn forgotten_tombstone(name: &str, parked: &ParkedRow) -> Option<Row> {
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
        deleted: true,
        policy_index: 0,
    })
}

/// A number in 0.0..1.0 that differs from row to row. Only for spreading retries; the clock's low digits do.
fn spread() -> f64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos() % 1_000);
    f64::from(nanos) / 1_000.0
}
