//! One walk over a feed's new rows: read, hint, hand out, collect, remember.
//!
//! Rows are read in chunks per lane and handled concurrently; two writes of one name are never in flight together. A row that fails
//! is set aside and the walk goes on. When the remote as a whole fails, the walk ends and what was not finished is read again later.

mod again;
mod reading;
mod restored;
mod retries;
mod telling;
mod traces;
mod withdrawn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use swift_s3_policy::{Timestamp, owner_index};
use swift_s3_store::{ErrorKind, StoreError};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{Feed, PassEnd, PassSettings, Shared, State, WINDOW, now, seconds};
use crate::coordination::Mode;
use crate::lane::{RowKey, Rows, Share, Verdict, judge};
use crate::large::lane::{Lane, MAX_APART};
use crate::metrics::{Ending, Followed};
use crate::parked::{FailedRow, ParkedRow};
use crate::probe::{PAGE_COST_IN_HEADS, probe};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::{ContainerInfo, DbError, DbErrorKind, MAX_BATCH_ROWS, Row, RowProblem};
use crate::transfer::{Done, Hint, Outcome, Trouble};
use swift_s3_store::remotes::check;

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
/// The clocks of nodes that own the same names one after the other differ by no more than this; Swift asks for less.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);
/// A check of the bucket that takes longer has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// When shares change hands, transfers in flight get this long to finish.
const HAND_OVER: Duration = Duration::from_secs(5);
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
    /// From when it is handed out.
    span: Span,
}

impl Task {
    fn failed_row(&self) -> FailedRow {
        FailedRow {
            rowid: self.row.rowid,
            share: self.share,
            deleted: self.row.deleted,
            timestamp: self.row.timestamps.metadata,
            policy_index: Some(self.row.policy_index),
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
    DeletesHeld,
    Paused,
    Yield,
    Withdrawn,
}

pub(super) struct Pass<'a> {
    feed: &'a Feed,
    state: &'a mut State,
    shared: &'a Shared,
    settings: &'a PassSettings,
    tasks: JoinSet<Result<Done, Trouble>>,
    in_flight: HashMap<Id, Task>,
    /// Rows among them that are in the lane of large objects.
    apart: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    busy: HashSet<String>,
    /// Rows whose name is busy.
    blocked: HashMap<String, VecDeque<Task>>,
    retries: VecDeque<Task>,
    /// Who waits for names that are handled again.
    asked: again::Asked,
    /// Traces of rows that are done, and whose cursor is not saved yet.
    unsaved: traces::Unsaved,
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
    /// Of its own names, nobody else has handled writes that are newer than this.
    owned_since: Timestamp,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        feed: &'a Feed,
        state: &'a mut State,
        shared: &'a Shared,
        settings: &'a PassSettings,
        info: &ContainerInfo,
        must_save: bool,
    ) -> Self {
        // A worker that wrote no record was killed; then its lease had to end first, and that takes longer than clocks differ.
        let margin = if state.shares.is_taken_over { CLOCK_DIFFERENCE } else { Duration::ZERO };
        let owned_since = feed.made_at.plus(margin);
        Self {
            feed,
            state,
            shared,
            settings,
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            apart: std::sync::Arc::default(),
            busy: HashSet::new(),
            blocked: HashMap::new(),
            retries: VecDeque::new(),
            asked: again::Asked::new(),
            unsaved: traces::Unsaved::default(),
            halt: None,
            last_row: if settings.once { info.max_row } else { i64::MAX },
            max_row: info.max_row,
            started: Instant::now(),
            tally: Tally::default(),
            next_lane: 0,
            parked_changed: must_save,
            held_back: false,
            owned_since,
        }
    }

    /// Runs the walk to its end.
    pub(super) async fn drive(mut self, stop: &CancellationToken) -> PassEnd {
        self.open_lanes();
        self.load_retries().await;
        self.load_again().await;
        let mut saving = tokio::time::interval_at(self.started + SAVE_EVERY, SAVE_EVERY);
        saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reporting = tokio::time::interval_at(self.started + REPORT_EVERY, REPORT_EVERY);
        let mut last_wake = self.started;
        let mut grace_ends: Option<Instant> = None;
        let mut way_given: Option<Instant> = None;
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
                _ = saving.tick() => {
                    self.save().await;
                    self.tell_shares(false).await;
                }
                _ = reporting.tick() => self.report(),
                () = self.feed.wake.notified(), if self.halt.is_none() && last_wake.elapsed() >= WAKE_INTERVAL => {
                    last_wake = Instant::now();
                    self.feed.dirty.store(false, std::sync::atomic::Ordering::Release);
                    self.feed.flush_pending(&self.shared.container_servers).await;
                    self.feed.note_seen();
                    self.load_again().await;
                    self.open_lanes();
                }
                () = self.feed.regime.over() => {
                    self.withdraw("shares were lost: abandoning what is in flight; it is looked at again").await;
                    break;
                }
                () = tokio::time::sleep_until(way_given.unwrap_or(far_future)), if way_given.is_some() => {
                    self.withdraw("other shares are ours from now on: abandoning what takes long; it is read again").await;
                    break;
                }
                () = self.feed.gives_way.cancelled(), if way_given.is_none() => {
                    self.halt.get_or_insert(Halt::Yield);
                    way_given = Some(Instant::now() + HAND_OVER);
                }
                () = stop.cancelled(), if grace_ends.is_none() => {
                    self.halt = Some(Halt::Stopping);
                    grace_ends = Some(Instant::now() + GRACE);
                }
                () = tokio::time::sleep_until(grace_ends.unwrap_or(far_future)), if grace_ends.is_some() => {
                    if self.feed.regime.mode == Mode::Explicit {
                        // Others begin as soon as this worker has left.
                        self.withdraw("abandoning transfers that did not finish in time; they are repeated after the next start").await;
                        break;
                    }
                    tracing::warn!(container = %self.feed.route.container, transfers = self.tasks.len(),
                        "abandoning transfers that did not finish in time; they are repeated after the next start");
                    self.tasks.shutdown().await;
                    self.tell_abandoned();
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
            let held = lane.lane.rows == Rows::Deletes && self.state.valve.held().is_some();
            lane.exhausted = waits.is_some() || held;
            lane.wait_until = waits.filter(|_| !held);
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
        if !unfinished && self.halt.is_none() {
            self.state.valve.note_objects(self.state.objects);
        }
        self.save().await;
        // Whoever owns them next begins where this ends.
        let is_last = matches!(self.halt, Some(Halt::Stopping | Halt::Withdrawn)) || self.feed.is_retired();
        let untold_until = self.tell_shares(is_last).await;
        if self.tally.rows > 0 {
            self.log_end();
        }
        // Held deletes wait for a person: a single round that leaves them has not done everything.
        let failures = self.state.parked.failures() + usize::from(self.state.valve.held().is_some());
        let waits = self.state.lanes.iter().filter_map(|lane| lane.wait_until);
        let parked_due = self
            .state
            .parked
            .next_due(self.state.valve.held().is_some())
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
            Some(Halt::Yield | Halt::Paused | Halt::DatabaseChanged | Halt::DeletesHeld) => (None, true),
            // The feed that takes this one's place begins at once.
            Some(Halt::Withdrawn) => (soon(), false),
            Some(Halt::ParkedFull | Halt::Stopping) => (parked_due.or_else(soon), false),
            None => (waits.chain(parked_due).min(), unfinished || self.held_back),
        };
        let broken = matches!(
            self.halt,
            Some(Halt::RemoteDown | Halt::NotSaved | Halt::DatabaseFailed | Halt::ParkedFull)
        );
        let again_at = again_at.into_iter().chain(untold_until).min();
        let ending = match self.halt {
            _ if broken => Ending::Broken,
            Some(_) => Ending::CutShort,
            None => Ending::Whole,
        };
        PassEnd { again_at, more, failures, broken, ending }
    }

    /// Hands out rows until enough are in flight or there are none.
    async fn fill(&mut self) {
        while self.halt.is_none() && self.tasks.len() < self.room() {
            if self.feed.mapping.is_paused() {
                self.halt = Some(Halt::Paused);
                return;
            }
            if !self.feed.regime.is_valid() {
                self.halt = Some(Halt::Withdrawn);
                return;
            }
            if self.feed.is_retired() || self.feed.memory.is_stale() {
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

    /// How many rows may be in somebody's hands: those in the lane of large objects take nobody's place.
    fn room(&self) -> usize {
        let apart = self.apart.load(std::sync::atomic::Ordering::Acquire).min(MAX_APART);
        self.settings.in_flight.saturating_add(apart)
    }

    async fn next_task(&mut self) -> Option<Task> {
        while let Some(task) = self.retries.pop_front() {
            if !self.is_given_up(&task) {
                return Some(task);
            }
        }
        let lanes = self.state.lanes.len();
        loop {
            for step in 0..lanes {
                let index = (self.next_lane + step) % lanes.max(1);
                let Some(lane) = self.state.lanes.get_mut(index) else { continue };
                if let Some((row, hint)) = lane.buffer.pop_front() {
                    self.next_lane = index + 1;
                    let share = lane.lane.share;
                    return Some(Task { row, hint, share, lane: Some(index), span: Span::none() });
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
        let (mapping, permits) = (self.feed.mapping.permits(), self.settings.permits.load_full());
        let (row, hint) = (task.row.clone(), task.hint.clone());
        let apart = std::sync::Arc::clone(&self.apart);
        let metrics = self.shared.metrics.clone();
        let mapping_state = std::sync::Arc::clone(&self.feed.mapping);
        let followed = self.followed();
        let span = self.begin_trace(&task);
        let told = span.clone();
        let work = async move {
            // Semaphores are never closed; without a permit there would merely be no bound. The mapping's first: whoever waits for it
            // must not keep other mappings waiting.
            let of_mapping = std::sync::Arc::clone(&mapping).acquire_owned().await;
            let permit = permits.acquire_owned().await;
            let held = of_mapping.into_iter().chain(permit).collect();
            let begun = Instant::now();
            let ended = transfer.in_lane(Lane::new(held, mapping, apart)).handle(&route, &row, hint).await;
            metrics.handled(&mapping_state.id, &row, &followed, begun.elapsed(), &ended);
            traces::tell_end(&told, &row, &ended);
            ended
        };
        let handle = self.tasks.spawn(work.instrument(span.clone()));
        self.in_flight.insert(handle.id(), Task { span, ..task });
    }

    fn followed(&self) -> Followed {
        Followed { since: self.feed.made_at, copy_after: self.feed.route.mapping.copy_after }
    }

    /// Takes the end of one row.
    async fn collect(&mut self, ended: Result<(Id, Result<Done, Trouble>), tokio::task::JoinError>) {
        if !self.feed.regime.is_valid() {
            let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
            return self.set_unsettled_aside(id);
        }
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let failure = Failure::new(Reason::Other, format!("the transfer broke off: {error}"));
                let broken_off = Err(Trouble::Row(failure));
                self.tell_broken_off(error.id(), &broken_off);
                (error.id(), broken_off)
            }
        };
        let Some(task) = self.in_flight.remove(&id) else { return };
        self.busy.remove(&task.row.name);
        self.tell_asked(&task, || again::end_of(&result));
        let has_failed = result.is_err();
        let finished = match result {
            Ok(Done { outcome: Outcome::Restored(at), .. }) => self.set_restored_aside(&task, at),
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
        if finished {
            self.unsaved.add(&task, has_failed);
        }
        if let Some(waiting) = self.blocked.get_mut(&task.row.name) {
            let next = waiting.pop_front();
            if waiting.is_empty() {
                self.blocked.remove(&task.row.name);
            }
            if let Some(next) = next
                && self.halt.is_none()
            {
                self.hand_out(Task { hint: next.hint.stale(), ..next });
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
        let at = task.row.timestamps.metadata;
        let parked = self.state.parked.get(&task.row.name);
        if parked
            .is_some_and(|parked| parked.is_settled_by(task.row.rowid, at) && !parked.is_yet_to_come(now()))
        {
            self.unpark(&task.row.name);
        }
        self.look_again_if_not_owned(task, &done.outcome);
        if let Some(timestamp) = done.carried {
            self.state.carried.insert(&task.row.name, timestamp);
        }
        self.tally.rows += 1;
        self.feed.note_done(done);
        self.tally.archived += u64::from(done.archived);
        match done.outcome {
            Outcome::Copied(bytes) => {
                self.tally.copied += 1;
                self.tally.bytes += bytes;
            }
            Outcome::MetadataUpdated => self.tally.updated += 1,
            Outcome::Deleted => self.tally.deleted += 1,
            Outcome::AlreadyThere
            | Outcome::Kept
            | Outcome::NotWanted
            | Outcome::Superseded
            | Outcome::Restored(_) => {}
        }
    }

    /// Sets a row aside. False when there is no room: its cursor then waits.
    fn park(&mut self, task: &Task, failure: &Failure) -> bool {
        let name = &task.row.name;
        // Asked for by an operator, who was told; no row owes it.
        if task.row.rowid == 0 {
            return true;
        }
        let known = self.state.parked.get(name);
        // A newer row of the name is set aside already, and says all that is left to say.
        if known.is_some_and(|known| !known.is_settled_by(task.row.rowid, task.row.timestamps.metadata)) {
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
        // Inside of the row's span, so that the line has its trace id.
        task.span.in_scope(|| {
            tracing::warn!(
                account = %self.feed.route.account, container = %self.feed.route.container, object = %name, row = task.row.rowid,
                reason = failure.reason.as_str(), attempts, retry_in = next_try.saturating_sub(now().units() / 100_000),
                "row set aside: {}", failure.message
            );
        });
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
        let reason = Reason::of_remote(error);
        if self.remote_is_down(&task.span, error).await {
            return false;
        }
        self.park(task, &Failure::new(reason, error.to_string()))
    }

    async fn remote_is_down(&mut self, span: &Span, error: &StoreError) -> bool {
        let health = &self.feed.remote.health;
        if health.paused_until(Instant::now()).is_none() {
            // One request tells an object's own trouble from an outage. Rows must not be set aside for an outage: they would
            // stay so for a minute after its end.
            let check = check(&*self.feed.remote.store, &self.feed.route.mapping);
            let check = tokio::time::timeout(CHECK_LIMIT, check).await;
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
                span.in_scope(|| {
                    tracing::error!(remote = %self.feed.remote.label, %error, pause_seconds = pause.as_secs(),
                        "the remote fails; its mappings wait");
                });
            }
        }
        let down = health.paused_until(Instant::now()).is_some();
        if down {
            self.halt = Some(Halt::RemoteDown);
        }
        down
    }
}

/// A number in 0.0..1.0 that differs from row to row. Only for spreading retries; the clock's low digits do.
fn spread() -> f64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos() % 1_000);
    f64::from(nanos) / 1_000.0
}
