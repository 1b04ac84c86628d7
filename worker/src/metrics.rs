//! What the worker counts and times.
//!
//! Metrics are declared in [`METRICS`]. Counters are counted where things happen, gauges looked up when somebody asks; what costs more
//! than a look is worked out in the background before (see [`crate::control::reporter`]). Labels are bounded: mappings are the finest
//! thing that is told apart, and only the first 200 of them.

mod catalogue;
mod labels;
mod observed;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};
use swift_s3_daemon::metrics::{Metrics as Process, RemoteRequests, label};
use swift_s3_daemon::telemetry::propagation;
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
    pub fn handled(&self, mapping: &str, row: &Row, taken: Duration, result: &Result<Done, Trouble>) {
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
        if is_durable_now && at.offset() == 0 && row.rowid > 0 {
            self.0.propagation.record(now().since(at).as_secs_f64(), &[action_label]);
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

    /// A pass has ended.
    pub(crate) fn pass_ended(&self, taken: Duration, is_broken: bool) {
        self.0.running.add(-1, &[]);
        let result = if is_broken { "broken" } else { OK };
        self.0.pass.record(taken.as_secs_f64(), &[label("result", result)]);
        if !is_broken {
            self.0.told.pass_succeeded();
        }
    }

    /// The scheduler does something; so many feeds have a date.
    pub(crate) fn turned(&self, due: usize) {
        self.0.told.turned(due);
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

    /// The control plane has acknowledged a report.
    pub fn report_acknowledged(&self) {
        self.0.told.acknowledged();
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
        metrics.handled("m", &row(false), taken, &done(Outcome::Copied(5), true));
        metrics.handled("x", &row(true), taken, &done(Outcome::Deleted, false));
        metrics.handled("m", &row(false), taken, &done(Outcome::AlreadyThere, false));
        let failure = Failure::new(Reason::LocalMissing, "gone");
        metrics.handled("m", &row(false), taken, &Err(Trouble::Row(failure)));
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
}
