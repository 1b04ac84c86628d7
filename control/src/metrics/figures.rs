//! The figures of nodes and mappings at one moment. Pure: the same facts give the same figures.
//!
//! What is not known has no value, which is not zero. The first mappings of the configuration are told apart, the others are told
//! together, so that 10,000 mappings are as many series as 200.

use std::collections::HashMap;
use std::time::Instant;

use opentelemetry::KeyValue;
use swift_s3_daemon::metrics::{Metric, label};
use swift_s3_proto::v1::{CoordinationMode, Lag, MappingStatus, NodeState, RemoteUsage, Role};

use super::catalogue::{
    ALERTS, AUDITS, COMPLETE, CONTAINERS, COST, FEEDS, HELD, HISTORY_SIZE, LAG_AGE, LAG_OBSERVED, LAG_ROWS,
    LAG_SIZE, LAG_WAITING, NODES, PARKED, PARKED_BY_REASON, PAUSED, QUEUE, RATE_ROWS, RECEIVED, REQUESTS,
    REVISION, REVISION_AGE, SENT, SHARES_TAKEN, SHARING, SLOW_NODES, STORE_SIZE, TAKEOVERS, TAKEOVERS_TOTAL,
};
use crate::overview::Overview;
use crate::time;

/// Mappings that are told apart, in the order of the configuration.
const MAPPINGS: usize = 200;
/// The label of all others together.
const OTHER: &str = "other";
/// Reasons that are told apart: those that workers know. Others are told as [`OTHER`], as a node could invent a new one each time.
const REASONS: [&str; 21] = [
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
];

/// What is known.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// Nodes, mappings, alerts.
    pub(crate) overview: &'a Overview,
    /// When the configuration in force was applied; `None`: there is none, or it is not known.
    pub(crate) applied_at_ms: Option<i64>,
    /// Now.
    pub(crate) now_ms: i64,
    /// Feeds of all nodes.
    pub(crate) feeds: usize,
    /// Takeovers that were told since the start: taken, returned.
    pub(crate) takeovers: (u64, u64),
    /// Sessions that were cut since the start.
    pub(crate) slow_nodes: u64,
    /// Questions under way.
    pub(crate) audits: usize,
    /// Changes that wait to be written.
    pub(crate) queue: usize,
    /// Bytes of the state; `None`: not known.
    pub(crate) store_bytes: Option<u64>,
    /// Bytes of the history; `None`: none is kept.
    pub(crate) history_bytes: Option<u64>,
}

/// Looks up one number.
type Count = fn(&RemoteUsage) -> u64;

type Values = Vec<(f64, Vec<KeyValue>)>;

/// Values by the names of metrics.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(super) at: Instant,
    values: HashMap<&'static str, Values>,
}

impl Figures {
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { at: Instant::now(), values: HashMap::new() }
    }

    /// Adds up.
    pub(crate) fn new(facts: &Facts<'_>) -> Self {
        let mut figures = Self { at: Instant::now(), values: HashMap::new() };
        figures.add_process(facts);
        figures.add_nodes(facts);
        figures.add_mappings(&facts.overview.mappings, facts.now_ms);
        figures.add_usage(&facts.overview.mappings);
        figures.add_reasons(facts);
        for (kind, severity, count) in &facts.overview.alert_counts {
            figures.add(&ALERTS, whole(*count), vec![label("kind", *kind), label("severity", *severity)]);
        }
        figures
    }

    /// The values of a metric.
    pub(super) fn of(&self, metric: &Metric) -> &[(f64, Vec<KeyValue>)] {
        self.values.get(metric.name).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, metric: &Metric, value: f64, labels: Vec<KeyValue>) {
        self.values.entry(metric.name).or_default().push((value, labels));
    }

    fn add_process(&mut self, facts: &Facts<'_>) {
        self.add(&QUEUE, size(facts.queue), Vec::new());
        self.add(&FEEDS, size(facts.feeds), Vec::new());
        self.add(&AUDITS, size(facts.audits), Vec::new());
        self.add(&SLOW_NODES, whole(facts.slow_nodes), Vec::new());
        let (taken, returned) = facts.takeovers;
        self.add(&TAKEOVERS_TOTAL, whole(taken), vec![label("kind", "taken")]);
        self.add(&TAKEOVERS_TOTAL, whole(returned), vec![label("kind", "returned")]);
        for (metric, bytes) in [(&STORE_SIZE, facts.store_bytes), (&HISTORY_SIZE, facts.history_bytes)] {
            if let Some(bytes) = bytes {
                self.add(metric, whole(bytes), Vec::new());
            }
        }
        self.add(&REVISION, signed(facts.overview.current.revision), Vec::new());
        if let Some(applied_at_ms) = facts.applied_at_ms {
            self.add(&REVISION_AGE, age(applied_at_ms, facts.now_ms), Vec::new());
        }
    }

    fn add_nodes(&mut self, facts: &Facts<'_>) {
        let Overview { nodes, current, .. } = facts.overview;
        let roles = [(Role::Worker, "worker"), (Role::Shunt, "shunt")];
        let states = [
            (NodeState::Synced, "in_force"),
            (NodeState::Stale, "behind"),
            (NodeState::Rejected, "refused"),
            (NodeState::NotSeen, "silent"),
        ];
        for (role, role_name) in roles {
            for (state, state_name) in states {
                let is_so = |node: &&crate::registry::NodeView| {
                    node.record.role == i32::from(role) && node.state(current.revision) == state
                };
                let labels = vec![label("role", role_name), label("state", state_name)];
                self.add(&NODES, size(nodes.iter().filter(is_so).count()), labels);
            }
        }
        let told: Vec<_> = nodes.iter().filter_map(|node| node.coordination.as_ref()).collect();
        let modes = [
            (CoordinationMode::Implicit, "implicit"),
            (CoordinationMode::Explicit, "explicit"),
            (CoordinationMode::Fallback, "fallback"),
        ];
        for (mode, name) in modes {
            let count = told.iter().filter(|one| one.mode() == mode).count();
            self.add(&SHARING, size(count), vec![label("mode", name)]);
        }
        let taken = told.iter().map(|one| one.shares_taken).fold(0, u64::saturating_add);
        self.add(&SHARES_TAKEN, whole(taken), Vec::new());
        for (is_returned, kind) in [(false, "taken"), (true, "returned")] {
            let takeovers = told.iter().flat_map(|one| &one.takeovers);
            let moved = takeovers.filter(|one| one.is_returned == is_returned);
            let shares = moved.map(|one| u64::from(one.shares)).fold(0, u64::saturating_add);
            self.add(&TAKEOVERS, whole(shares), vec![label("kind", kind)]);
        }
    }

    fn add_mappings(&mut self, mappings: &[MappingStatus], now_ms: i64) {
        let sum = |one: f64, other: f64| one + other;
        let flag = |is_so: bool| Some(if is_so { 1.0 } else { 0.0 });
        self.each(&CONTAINERS, mappings, sum, |mapping| Some(whole(mapping.containers)));
        self.each(&PAUSED, mappings, sum, |mapping| flag(mapping.is_paused));
        self.each(&COMPLETE, mappings, f64::min, |mapping| flag(mapping.is_complete));
        self.each(&PARKED, mappings, sum, |mapping| Some(whole(mapping.failures)));
        self.each(&RATE_ROWS, mappings, sum, |mapping| Some(mapping.rows_per_second));
        let of_lag = |look: fn(&Lag) -> f64| move |mapping: &MappingStatus| mapping.lag.as_ref().map(look);
        self.each(&LAG_ROWS, mappings, sum, of_lag(|lag| whole(lag.rows)));
        self.each(&LAG_SIZE, mappings, sum, of_lag(|lag| whole(lag.bytes)));
        self.each(&LAG_AGE, mappings, f64::max, of_lag(|lag| lag.seconds));
        self.each(&LAG_WAITING, mappings, sum, of_lag(|lag| whole(lag.rows_waiting)));
        self.each(&HELD, mappings, sum, of_lag(|lag| whole(lag.deletes_held)));
        self.each(&LAG_OBSERVED, mappings, f64::max, |mapping| {
            let observed_at = mapping.lag.as_ref()?.observed_at.as_ref()?;
            Some(age(time::milliseconds(observed_at), now_ms))
        });
    }

    fn add_usage(&mut self, mappings: &[MappingStatus]) {
        let sum = |one: f64, other: f64| one + other;
        let of_usage = |look: Count| {
            move |mapping: &MappingStatus| Some(whole(look(mapping.usage.as_ref()?.usage.as_ref()?)))
        };
        let classes: [(&'static str, Count); 4] = [
            ("write", |usage| usage.writes),
            ("list", |usage| usage.lists),
            ("read", |usage| usage.reads),
            ("delete", |usage| usage.deletes),
        ];
        for (class, look) in classes {
            self.each_with(&REQUESTS, Some(label("class", class)), mappings, sum, of_usage(look));
        }
        self.each(&SENT, mappings, sum, of_usage(|usage| usage.bytes_sent));
        self.each(&RECEIVED, mappings, sum, of_usage(|usage| usage.bytes_received));
        // One price table, one currency.
        let currencies = mappings.iter().filter_map(|mapping| mapping.usage.as_ref());
        let currency = currencies.map(|usage| usage.currency.as_str()).find(|currency| !currency.is_empty());
        if let Some(currency) = currency {
            let currency = Some(label("currency", currency.to_owned()));
            self.each_with(&COST, currency, mappings, sum, |mapping| mapping.usage.as_ref()?.cost);
        }
    }

    fn add_reasons(&mut self, facts: &Facts<'_>) {
        let mut rest = None;
        for count in &facts.overview.status.failure_reasons {
            if REASONS.contains(&count.reason.as_str()) {
                let labels = vec![label("reason", count.reason.clone())];
                self.add(&PARKED_BY_REASON, whole(count.rows), labels);
            } else {
                rest = Some(rest.unwrap_or(0_u64).saturating_add(count.rows));
            }
        }
        if let Some(rest) = rest {
            self.add(&PARKED_BY_REASON, whole(rest), vec![label("reason", OTHER)]);
        }
    }

    fn each(
        &mut self,
        metric: &Metric,
        mappings: &[MappingStatus],
        join: fn(f64, f64) -> f64,
        look: impl Fn(&MappingStatus) -> Option<f64>,
    ) {
        self.each_with(metric, None, mappings, join, look);
    }

    /// The value of each of the first mappings, and of the others joined.
    fn each_with(
        &mut self,
        metric: &Metric,
        second: Option<KeyValue>,
        mappings: &[MappingStatus],
        join: fn(f64, f64) -> f64,
        look: impl Fn(&MappingStatus) -> Option<f64>,
    ) {
        let labels = |mapping: KeyValue| std::iter::once(mapping).chain(second.clone()).collect();
        for mapping in mappings.iter().take(MAPPINGS) {
            if let Some(value) = look(mapping) {
                self.add(metric, value, labels(label("mapping", mapping.mapping_id.clone())));
            }
        }
        if let Some(value) = mappings.iter().skip(MAPPINGS).filter_map(look).reduce(join) {
            self.add(metric, value, labels(label("mapping", OTHER)));
        }
    }
}

/// Seconds since then; none if that is ahead.
fn age(then_ms: i64, now_ms: i64) -> f64 {
    signed(now_ms.saturating_sub(then_ms).max(0)) / 1_000.0
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn whole(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn signed(number: i64) -> f64 {
    number as f64
}

fn size(count: usize) -> f64 {
    whole(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
