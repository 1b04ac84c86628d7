//! What the shunt counts.

use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};
use swift_s3_daemon::metrics::{Kind, Metric, Metrics as Process, SECONDS, label};

const ANSWERS: Metric = Metric {
    name: "swift_s3_shunt.answers",
    kind: Kind::Counter,
    unit: "{answer}",
    help: "Answers, by door, operation and class of status.",
    labels: &["door", "operation", "status"],
};
const REMOTE_REQUESTS: Metric = Metric {
    name: "swift_s3_shunt.remote_requests",
    kind: Kind::Counter,
    unit: "{request}",
    help: "Questions to remotes, by operation and outcome.",
    labels: &["operation", "outcome"],
};
const FIRST_BYTE: Metric = Metric {
    name: "swift_s3_shunt.first_byte",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    help: "Time until an answer from a remote begins.",
    labels: &[],
};
const REMOTE_CONTENT: Metric = Metric {
    name: "swift_s3_shunt.remote_content",
    kind: Kind::Counter,
    unit: "By",
    help: "Archived content handed out.",
    labels: &[],
};
const RESUMED: Metric = Metric {
    name: "swift_s3_shunt.resumed",
    kind: Kind::Counter,
    unit: "{body}",
    help: "Remote contents resumed after they broke.",
    labels: &[],
};
const RESTORES: Metric = Metric {
    name: "swift_s3_shunt.restores",
    kind: Kind::Counter,
    unit: "{object}",
    help: "Objects written back, by outcome.",
    labels: &["outcome"],
};
const PARTIAL_LISTINGS: Metric = Metric {
    name: "swift_s3_shunt.partial_listings",
    kind: Kind::Counter,
    unit: "{listing}",
    help: "Listings without the names of the remote.",
    labels: &[],
};
const CONNECTIONS: Metric = Metric {
    name: "swift_s3_shunt.connections",
    kind: Kind::Gauge,
    unit: "{connection}",
    help: "Open connections of clients.",
    labels: &[],
};
const REFUSED_CONNECTIONS: Metric = Metric {
    name: "swift_s3_shunt.refused_connections",
    kind: Kind::Counter,
    unit: "{connection}",
    help: "Connections refused because there were too many.",
    labels: &[],
};

/// Everything that the shunt counts beside what every process tells.
pub const METRICS: &[&Metric] = &[
    &ANSWERS,
    &REMOTE_REQUESTS,
    &FIRST_BYTE,
    &REMOTE_CONTENT,
    &RESUMED,
    &RESTORES,
    &PARTIAL_LISTINGS,
    &CONNECTIONS,
    &REFUSED_CONNECTIONS,
];

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    answers: Counter<u64>,
    remote: Counter<u64>,
    /// Seconds until the first byte of an answer of the shunt's own.
    pub first_byte: Histogram<f64>,
    /// Bytes of archived content handed out.
    pub remote_content: Counter<u64>,
    /// Remote bodies resumed after they broke.
    pub resumed: Counter<u64>,
    restores: Counter<u64>,
    /// Listings without the remote's names.
    pub partial_listings: Counter<u64>,
    /// Open connections of clients.
    pub connections: UpDownCounter<i64>,
    /// Connections refused because there were too many.
    pub refused_connections: Counter<u64>,
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
        Self {
            answers: ANSWERS.counter(&meter),
            remote: REMOTE_REQUESTS.counter(&meter),
            first_byte: FIRST_BYTE.histogram(&meter),
            remote_content: REMOTE_CONTENT.counter(&meter),
            resumed: RESUMED.counter(&meter),
            restores: RESTORES.counter(&meter),
            partial_listings: PARTIAL_LISTINGS.counter(&meter),
            connections: CONNECTIONS.up_down(&meter),
            refused_connections: REFUSED_CONNECTIONS.counter(&meter),
        }
    }

    /// Counts an answer.
    pub fn answered(&self, door: &'static str, operation: &'static str, status: http::StatusCode) {
        let status = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.answers.add(1, &[label("door", door), label("operation", operation), label("status", status)]);
    }

    /// Counts a restore, or one that was not begun.
    pub fn restored(&self, outcome: &'static str) {
        self.restores.add(1, &[label("outcome", outcome)]);
    }

    /// Counts a request to a remote.
    pub fn asked_remote(&self, operation: &'static str, outcome: &'static str) {
        self.remote.add(1, &[label("operation", operation), label("outcome", outcome)]);
    }
}
