//! What the control plane tells in numbers.
//!
//! Two kinds: what is counted when it happens ([`Metrics`]), and what is added up of nodes and mappings every few seconds by one
//! task ([`figures`]), so that whoever reads takes no lock of the registry and asks no database. With several processes only the
//! one that leads has the second kind.

mod catalogue;
pub(crate) mod figures;
mod keep;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};
use swift_s3_daemon::metrics::{Metrics as Process, label};
use swift_s3_proto::v1::ConfigOutcome;
use tonic::Code;

use crate::store::StoreError;
pub use catalogue::METRICS;
use catalogue::{
    ADDED_UP, ANSWERS, APPLIES, BROWSERS, CALLS, COMMITS, FIGURES_AGE, FOLLOWERS, LEADER, LEADER_CHANGES,
    PAGES, PUSH_TIME, PUSHES, REFUSALS, STREAMS,
};
use figures::Figures;
pub(crate) use keep::keep;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    meter: Meter,
    calls: Histogram<f64>,
    streams: UpDownCounter<i64>,
    refusals: Counter<u64>,
    pages: Histogram<f64>,
    applies: Counter<u64>,
    pushes: Counter<u64>,
    answers: Counter<u64>,
    push_time: Histogram<f64>,
    commits: Histogram<f64>,
    leader_changes: Counter<u64>,
    is_leading: Arc<AtomicBool>,
    /// `None` while this process does not lead, or has not added up yet.
    figures: Arc<Mutex<Option<Arc<Figures>>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    /// Counts for nobody.
    fn default() -> Self {
        Self::new(&Process::default())
    }
}

impl Metrics {
    /// Counts in the metrics of this process. Once for each process.
    #[must_use]
    pub fn new(process: &Process) -> Self {
        let meter = process.meter(METRICS);
        let is_leading = Arc::<AtomicBool>::default();
        let figures = Arc::<Mutex<Option<Arc<Figures>>>>::default();
        let leading = Arc::clone(&is_leading);
        LEADER.observe(&meter, move |seen| seen.observe(leading.load(Ordering::Relaxed).into(), &[]));
        let aged = Arc::clone(&figures);
        FIGURES_AGE.observe_f64(&meter, move |seen| {
            if let Some(figures) = latest(&aged) {
                seen.observe(figures.at.elapsed().as_secs_f64(), &[]);
            }
        });
        for metric in ADDED_UP {
            let figures = Arc::clone(&figures);
            metric.observe_f64(&meter, move |seen| {
                let Some(figures) = latest(&figures) else { return };
                for (value, labels) in figures.of(metric) {
                    seen.observe(*value, labels);
                }
            });
        }
        let inner = Inner {
            calls: CALLS.histogram(&meter),
            streams: STREAMS.up_down(&meter),
            refusals: REFUSALS.counter(&meter),
            pages: PAGES.histogram(&meter),
            applies: APPLIES.counter(&meter),
            pushes: PUSHES.counter(&meter),
            answers: ANSWERS.counter(&meter),
            push_time: PUSH_TIME.histogram(&meter),
            commits: COMMITS.histogram(&meter),
            leader_changes: LEADER_CHANGES.counter(&meter),
            is_leading,
            figures,
            meter,
        };
        // The first event of a series that begins with it would be no increase.
        for outcome in ChangeOutcome::ALL {
            inner.applies.add(0, &[label("outcome", outcome.as_str())]);
        }
        for reason in ["unauthenticated", "denied"] {
            inner.refusals.add(0, &[label("reason", reason)]);
        }
        for outcome in ["applied", "partly_applied", "rejected"] {
            inner.answers.add(0, &[label("outcome", outcome)]);
        }
        Self(Arc::new(inner))
    }

    /// A call with one answer has ended. `method` is one of the contract, or a word for all others.
    pub(crate) fn called(&self, method: &'static str, status: &'static str, took: Duration) {
        let labels = [label("rpc.method", method), label("rpc.response.status_code", status)];
        self.0.calls.record(took.as_secs_f64(), &labels);
    }

    /// A stream began (1) or ended (-1).
    pub(crate) fn stream(&self, method: &'static str, change: i64) {
        self.0.streams.add(change, &[label("rpc.method", method)]);
    }

    /// A call was not allowed.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.0.refusals.add(1, &[label("reason", reason)]);
    }

    /// A request of a page was answered. `route` is one of the router's own, or a word for all others.
    pub(crate) fn page(&self, route: &'static str, status: http::StatusCode, took: Duration) {
        let status = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.0.pages.record(took.as_secs_f64(), &[label("http.route", route), label("status", status)]);
    }

    /// A request of a page ended without an answer: its browser has left. Which page it was is not known by then.
    pub(crate) fn page_left(&self, took: Duration) {
        let labels = [label("http.route", "_OTHER"), label("status", "left")];
        self.0.pages.record(took.as_secs_f64(), &labels);
    }

    /// Asks these for numbers of now whenever somebody reads. Once for each process.
    pub(crate) fn watch_pages(
        &self,
        connections: impl Fn() -> usize + Send + Sync + 'static,
        followers: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        BROWSERS.observe(&self.0.meter, move |seen| seen.observe(number(connections()), &[]));
        FOLLOWERS.observe(&self.0.meter, move |seen| seen.observe(number(followers()), &[]));
    }

    /// What became of a change of the configuration that was asked for.
    pub(crate) fn applied(&self, outcome: ChangeOutcome) {
        self.0.applies.add(1, &[label("outcome", outcome.as_str())]);
    }

    /// A configuration is on its way to a node.
    pub(crate) fn pushed(&self) {
        self.0.pushes.add(1, &[]);
    }

    /// A node said what became of a configuration.
    pub(crate) fn answered(&self, outcome: ConfigOutcome, took: Duration) {
        let outcome = match outcome {
            ConfigOutcome::Applied => "applied",
            ConfigOutcome::PartlyApplied => "partly_applied",
            ConfigOutcome::Rejected => "rejected",
            // More is to come.
            ConfigOutcome::Applying | ConfigOutcome::Unspecified => return,
        };
        self.0.answers.add(1, &[label("outcome", outcome)]);
        if outcome == "applied" {
            self.0.push_time.record(took.as_secs_f64(), &[]);
        }
    }

    /// A batch of changes was made durable, or not.
    pub(crate) fn committed(&self, store: &'static str, outcome: Result<(), &StoreError>, took: Duration) {
        let outcome = if outcome.is_ok() { "ok" } else { "failed" };
        self.0.commits.record(took.as_secs_f64(), &[label("store", store), label("outcome", outcome)]);
    }

    /// This process answers for the cluster, or does not.
    pub(crate) fn leads(&self, is_leading: bool) {
        self.0.is_leading.store(is_leading, Ordering::Relaxed);
        if !is_leading {
            self.publish(None);
        }
    }

    /// So many times a leader came or went.
    pub(crate) fn leader_changed(&self, changes: u64) {
        self.0.leader_changes.add(changes, &[]);
    }

    /// Replaces what is told of nodes and mappings; `None`: nothing is. It counts on the SDK dropping series that are
    /// observed no more.
    fn publish(&self, figures: Option<Figures>) {
        *self.0.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures.map(Arc::new);
    }
}

/// What became of a change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    /// It is in force.
    Applied,
    /// It is what was in force already.
    Unchanged,
    /// A dry run.
    Tried,
    /// It is wrong.
    Refused,
    /// Somebody else was quicker.
    Conflict,
    /// It could not be stored.
    Failed,
}

impl ChangeOutcome {
    const ALL: [Self; 6] =
        [Self::Applied, Self::Unchanged, Self::Tried, Self::Refused, Self::Conflict, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Tried => "tried",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }

    /// Of a call that is answered so.
    pub(crate) fn of(status: &tonic::Status) -> Self {
        match status.code() {
            Code::Aborted => Self::Conflict,
            Code::InvalidArgument => Self::Refused,
            _ => Self::Failed,
        }
    }
}

fn latest(figures: &Mutex<Option<Arc<Figures>>>) -> Option<Arc<Figures>> {
    figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_metric_is_declared_once_and_belongs_here() {
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.prometheus_name()).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let is_ours = metric.name.starts_with("swift_s3_control.") || *metric == &CALLS;
            assert!(is_ours && metric.help.ends_with('.'), "{}", metric.name);
        }
        assert!(ADDED_UP.iter().all(|metric| METRICS.contains(metric)));
    }

    #[test]
    fn whoever_leads_no_more_tells_nothing_of_the_cluster() {
        let process = Process::default();
        let metrics = Metrics::new(&process);
        let age = "\nswift_s3_control_figures_age_seconds ";
        metrics.leads(true);
        metrics.publish(Some(Figures::none()));
        assert!(process.render().contains(age));
        metrics.leads(false);
        let text = process.render();
        assert!(!text.contains(age) && text.contains("\nswift_s3_control_leader 0"), "{text}");
        assert!(text.contains("swift_s3_control_config_applies_total{outcome=\"failed\"} 0"), "{text}");
    }
}
