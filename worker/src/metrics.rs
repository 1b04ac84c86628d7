//! What the worker counts and times.
//!
//! Metrics are declared in [`METRICS`]. Counters are counted where things happen, gauges looked up when somebody asks; what costs more
//! than a look is worked out in the background before (see [`crate::control::reporter`]). Labels are bounded: mappings are the finest
//! thing that is told apart, and only 200 of them.

mod catalogue;
mod labels;
mod observed;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};
use swift_s3_daemon::metrics::{Metrics as Process, RemoteRequests, label};
use swift_s3_daemon::telemetry::propagation;
use swift_s3_policy::Timestamp;
use swift_s3_store::{EndedRequest, RequestObserver};

use crate::feed::now;
use crate::reason::Reason;
use crate::swift::container_db::Row;
use crate::transfer::{Done, Outcome, Trouble};
use labels::MappingLabels;
use told::Told;

pub use catalogue::METRICS;
pub use observed::Sources;

/// See the module. Clones share everything.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    meter: Meter,
    actions: Counter<u64>,
    duration: Histogram<f64>,
    propagation: Histogram<f64>,
    retries: Counter<u64>,
    remote: RemoteRequests,
    swift: Histogram<f64>,
    running: UpDownCounter<i64>,
    waiting: UpDownCounter<i64>,
    pass: Histogram<f64>,
    reloads: Counter<u64>,
    labels: MappingLabels,
    told: Arc<Told>,
}

/// For how long a feed has been followed, and what its rows wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Followed {
    /// Older writes wait for other reasons than how fast this worker is: they were there before the mapping, or before the worker.
    pub(crate) since: Timestamp,
    /// Writes wait for this age as the mapping has it.
    pub(crate) copy_after: Duration,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It did not look at the database: the worker stops, the mapping is paused, or there is no database.
    #[default]
    NotBegun,
    /// Everything that was due was handled or set aside.
    Whole,
    /// It gave way, or was paused or stopped, with rows left.
    CutShort,
    /// The database, the remote or the saving of progress failed.
    Broken,
}

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// All of it is in force.
    Applied,
    /// It is in force without some mappings.
    PartlyApplied,
    /// The one before stays in force.
    Refused,
}

impl Default for Metrics {
    /// Counts for nobody.
    fn default() -> Self {
        Self::new(&Process::default())
    }
}

impl Metrics {
    /// Counts in the metrics of this process.
    #[must_use]
    pub fn new(process: &Process) -> Self {
        let meter = process.meter(METRICS);
        let told = Arc::<Told>::default();
        observed::observe_told(&meter, &told);
        Self(Arc::new(Instruments {
            actions: catalogue::ACTIONS.counter(&meter),
            duration: catalogue::TRANSFER_DURATION.histogram(&meter),
            propagation: catalogue::PROPAGATION.histogram(&meter),
            retries: catalogue::RETRIES.counter(&meter),
            remote: RemoteRequests::new(&meter),
            swift: catalogue::SWIFT_DURATION.histogram(&meter),
            running: catalogue::PASSES_RUNNING.up_down(&meter),
            waiting: catalogue::PASSES_WAITING.up_down(&meter),
            pass: catalogue::PASS_DURATION.histogram(&meter),
            reloads: catalogue::RELOADS.counter(&meter),
            labels: MappingLabels::default(),
            told,
            meter,
        }))
    }

    /// Tells of the worker's state from now on. To be called once.
    pub fn observe(&self, sources: &Sources) {
        observed::observe(&self.0.meter, &self.0.labels, &self.0.told, sources);
    }

    /// The mappings of the configuration in force, in its order.
    pub fn keep_mappings(&self, ids: &[String]) {
        self.0.labels.keep(ids);
    }

    /// Counts a row that somebody had in hand for `taken`, and what became of it.
    /// Of those writes that `followed` says were followed from the beginning, counts the time until they were durable.
    pub(crate) fn handled(
        &self,
        mapping: &str,
        row: &Row,
        followed: &Followed,
        taken: Duration,
        result: &Result<Done, Trouble>,
    ) {
        let (action, word) = (action(row, result), word(result));
        let labels = [self.0.labels.of(mapping), label("action", action), label("result", word)];
        self.0.actions.add(1, &labels);
        let [mapping, action_label, result_label] = labels;
        self.0.duration.record(taken.as_secs_f64(), &[action_label.clone(), result_label]);
        let Ok(done) = result else { return };
        if done.archived {
            self.0.actions.add(1, &[mapping, label("action", "archived"), label("result", OK)]);
        }
        let is_durable_now =
            matches!(done.outcome, Outcome::Copied(_) | Outcome::MetadataUpdated | Outcome::Deleted);
        let at = row.timestamps.metadata;
        // A restored object has the time of the write that was archived; a row that an operator asked for was not written at all.
        if is_durable_now && at.offset() == 0 && row.rowid > 0 && at >= followed.since {
            let due = if row.deleted { at } else { at.plus(followed.copy_after) };
            self.0.propagation.record(now().since(due).as_secs_f64(), &[action_label]);
        }
    }

    /// Counts a row that is begun anew at once.
    pub fn retried(&self) {
        self.0.retries.add(1, &[]);
    }

    /// Counts a request to a server of this cluster. All words are of small fixed sets.
    pub(crate) fn asked_swift(&self, server: &'static str, outcome: &'static str, taken: Duration) {
        let labels = [label("server", server), label("outcome", outcome)];
        self.0.swift.record(taken.as_secs_f64(), &labels);
    }

    /// A pass waits (1), or does not any more (-1).
    pub(crate) fn pass_waits(&self, change: i64) {
        self.0.waiting.add(change, &[]);
    }

    /// A pass is under way.
    pub(crate) fn pass_begins(&self) {
        self.0.running.add(1, &[]);
    }

    /// A pass has ended. One that never began counts for nothing.
    pub(crate) fn pass_ended(&self, taken: Duration, ending: Ending) {
        self.0.running.add(-1, &[]);
        let result = match ending {
            Ending::NotBegun => return,
            Ending::Whole => OK,
            Ending::CutShort => "cut_short",
            Ending::Broken => "broken",
        };
        self.0.pass.record(taken.as_secs_f64(), &[label("result", result)]);
        if ending == Ending::Whole {
            self.0.told.pass_succeeded();
        }
    }

    /// The scheduler does something; so many feeds have a date.
    pub(crate) fn turned(&self, due: usize) {
        self.0.told.turned(due);
    }

    /// For how long the scheduler has done nothing. `None` before its first turn.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        self.0.told.idle()
    }

    /// A configuration is in force from now on.
    pub fn configured(&self) {
        self.0.told.configured();
    }

    /// The control plane's revision of it.
    pub fn set_revision(&self, revision: i64) {
        self.0.told.set_revision(revision);
    }

    /// Counts a configuration that was read again or pushed.
    pub fn reloaded(&self, outcome: Reloaded) {
        let outcome = match outcome {
            Reloaded::Applied => "applied",
            Reloaded::PartlyApplied => "partly_applied",
            Reloaded::Refused => "refused",
        };
        self.0.reloads.add(1, &[label("outcome", outcome)]);
    }

    /// Mappings that are not in force as the control plane wants them, by id.
    pub fn set_refused(&self, ids: BTreeSet<String>) {
        self.0.told.set_refused(ids);
    }

    /// There is a control plane, and this worker is registered with it, or is not.
    pub fn set_connected(&self, is_connected: bool) {
        self.0.told.set_connected(is_connected);
    }

    /// A report was sent to the control plane.
    pub(crate) fn reported(&self) {
        self.0.told.reported();
    }

    /// The control plane has acknowledged a report; the `oldest` of those that still wait was sent then.
    pub(crate) fn report_acknowledged(&self, oldest: Option<Instant>) {
        self.0.told.acknowledged(oldest);
    }
}

impl RequestObserver for Metrics {
    fn sending(&self, headers: &mut HeaderMap) {
        propagation::pass_on_current(headers);
    }

    fn ended(&self, request: &EndedRequest) {
        self.0.remote.ended(request.provider, request.operation, request.outcome, request.duration);
    }
}

const OK: &str = "ok";

/// What was done; of a row that failed, what was to be done.
pub(crate) fn action(row: &Row, result: &Result<Done, Trouble>) -> &'static str {
    match result.as_ref().map(|done| &done.outcome) {
        Ok(Outcome::Copied(_)) => "copied",
        Ok(Outcome::MetadataUpdated) => "updated",
        Ok(Outcome::AlreadyThere) => "verified",
        Ok(Outcome::Kept) => "kept",
        Ok(Outcome::Deleted) => "deleted",
        Ok(Outcome::NotWanted) => "skipped",
        Ok(Outcome::Superseded) => "superseded",
        Ok(Outcome::Restored(_)) => "deferred",
        Err(_) if row.deleted => "deleted",
        Err(_) => "copied",
    }
}

/// `ok`, or the reason.
fn word(result: &Result<Done, Trouble>) -> &'static str {
    result.as_ref().err().map_or(OK, |trouble| reason(trouble).as_str())
}

/// The class of a failure.
pub(crate) fn reason(trouble: &Trouble) -> Reason {
    match trouble {
        Trouble::Row(failure) => failure.reason,
        Trouble::Remote(error) => Reason::of_remote(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reason::Failure;
    use swift_s3_policy::RowTimestamps;

    fn row(deleted: bool) -> Row {
        let at = now();
        Row {
            rowid: 1,
            name: "o".into(),
            timestamps: RowTimestamps { data: at, content_type: at, metadata: at },
            size: 5,
            content_type: String::new(),
            etag: String::new(),
            deleted,
            policy_index: 0,
        }
    }

    #[test]
    fn names_are_told_once_and_begin_with_the_product() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| name.starts_with("swift_s3_sync.")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn rows_are_counted_by_what_became_of_them() {
        let process = Process::default();
        let metrics = Metrics::new(&process);
        metrics.keep_mappings(&["m".to_owned()]);
        let taken = Duration::from_millis(20);
        let done = |outcome, archived| Ok(Done { outcome, archived, carried: None });
        let followed = followed(Duration::ZERO);
        metrics.handled("m", &row(false), &followed, taken, &done(Outcome::Copied(5), true));
        metrics.handled("x", &row(true), &followed, taken, &done(Outcome::Deleted, false));
        metrics.handled("m", &row(false), &followed, taken, &done(Outcome::AlreadyThere, false));
        let failure = Failure::new(Reason::LocalMissing, "gone");
        metrics.handled("m", &row(false), &followed, taken, &Err(Trouble::Row(failure)));
        let text = process.render();
        for line in [
            r#"swift_s3_sync_object_actions_total{action="copied",mapping="m",result="ok"} 1"#,
            r#"swift_s3_sync_object_actions_total{action="archived",mapping="m",result="ok"} 1"#,
            r#"swift_s3_sync_object_actions_total{action="deleted",mapping="other",result="ok"} 1"#,
            r#"swift_s3_sync_object_actions_total{action="verified",mapping="m",result="ok"} 1"#,
            r#"swift_s3_sync_object_actions_total{action="copied",mapping="m",result="local_missing"} 1"#,
            r#"swift_s3_sync_propagation_delay_seconds_count{action="copied"} 1"#,
            r#"swift_s3_sync_propagation_delay_seconds_count{action="deleted"} 1"#,
            r#"swift_s3_sync_transfer_duration_seconds_count{action="copied",result="local_missing"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    /// Followed for an hour.
    fn followed(copy_after: Duration) -> Followed {
        let since = Timestamp::from_units(now().units() - 3_600 * 100_000);
        Followed { since, copy_after }
    }

    #[test]
    fn the_delay_is_of_writes_that_were_followed_from_the_beginning_and_without_their_wait() {
        let process = Process::default();
        let metrics = Metrics::new(&process);
        let copied = Ok(Done { outcome: Outcome::Copied(5), archived: false, carried: None });
        let aged = |seconds: u64| {
            let at = Timestamp::from_units(now().units() - seconds * 100_000);
            Row { timestamps: RowTimestamps { data: at, content_type: at, metadata: at }, ..row(false) }
        };
        let handle = |row: &Row, copy_after| {
            metrics.handled("m", row, &followed(copy_after), Duration::ZERO, &copied);
        };
        // A first copy of what was there before.
        handle(&aged(86_400), Duration::ZERO);
        handle(&aged(1_000), Duration::from_secs(960));
        let text = process.render();
        let bucket = |le: &str| {
            format!(r#"swift_s3_sync_propagation_delay_seconds_bucket{{action="copied",le="{le}"}}"#)
        };
        for line in
            [format!("{} 0", bucket("30")), format!("{} 1", bucket("60")), format!("{} 1", bucket("+Inf"))]
        {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn only_whole_passes_are_successes_and_those_that_never_began_are_not_told() {
        let process = Process::default();
        let metrics = Metrics::new(&process);
        let last = || {
            let text = process.render();
            text.lines().any(|line| line == "swift_s3_sync_pass_last_success_time_seconds 0")
        };
        for ending in [Ending::NotBegun, Ending::CutShort, Ending::Broken] {
            metrics.pass_begins();
            metrics.pass_ended(Duration::ZERO, ending);
            assert!(last(), "{ending:?}");
        }
        metrics.pass_begins();
        metrics.pass_ended(Duration::ZERO, Ending::Whole);
        assert!(!last());
        let text = process.render();
        let passes =
            text.lines().filter(|line| line.starts_with("swift_s3_sync_pass_duration_seconds_count"));
        assert_eq!(passes.count(), 3, "{text}");
        assert!(text.contains("swift_s3_sync_pass_running 0"), "{text}");
    }

    #[test]
    fn every_series_of_every_mapping_has_room() {
        let process = Process::default();
        let metrics = Metrics::new(&process);
        let ids: Vec<String> = (0..201).map(|number| format!("m{number}")).collect();
        metrics.keep_mappings(&ids);
        let followed = followed(Duration::ZERO);
        let words = [
            "local_missing",
            "local_stale",
            "local_unavailable",
            "local_read",
            "local_corrupt",
            "needs_proxy",
            "large_object",
            "segment_missing",
            "symlink",
            "key_too_long",
            "metadata_too_large",
            "object_too_large",
            "remote_unavailable",
            "remote_denied",
            "remote_refused",
            "remote_mismatch",
            "local_delete",
            "bad_row",
            "future_timestamp",
            "restored",
            "unsettled",
            "other",
        ];
        for id in &ids {
            for (deleted, word) in words.iter().flat_map(|word| [(false, word), (true, word)]) {
                let failure = Failure::new(Reason::from_word(word), "x");
                metrics.handled(id, &row(deleted), &followed, Duration::ZERO, &Err(Trouble::Row(failure)));
            }
        }
        let text = process.render();
        assert!(!text.contains("otel_metric_overflow"));
        let series =
            text.lines().filter(|line| line.starts_with("swift_s3_sync_object_actions_total{")).count();
        assert_eq!(series, 201 * words.len() * 2);
    }
}
