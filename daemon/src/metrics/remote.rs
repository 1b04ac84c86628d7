//! What is counted of requests to remotes, the same in every process that makes some.

use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::{Kind, Metric, SECONDS, label};

/// Requests to remotes.
pub const REMOTE_REQUESTS: Metric = Metric {
    name: "swift_s3_sync.remote.requests",
    kind: Kind::Counter,
    unit: "{request}",
    help: "Requests sent to remotes, each try counted, by provider (s3, swift), class of operation and outcome: ok, absent, given_up, or the kind of fault.",
    labels: &["provider", "operation", "outcome"],
};

/// How long they took.
pub const REMOTE_REQUEST_DURATION: Metric = Metric {
    name: "swift_s3_sync.remote.request.duration",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    help: "Time from when a request was sent to a remote until the head of its answer was there, the sending of its body included.",
    labels: &["operation", "outcome"],
};

/// Counts requests to remotes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RemoteRequests {
    requests: Counter<u64>,
    duration: Histogram<f64>,
}

impl RemoteRequests {
    /// To be made of the meter whose catalogue has [`REMOTE_REQUESTS`] and [`REMOTE_REQUEST_DURATION`].
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self { requests: REMOTE_REQUESTS.counter(meter), duration: REMOTE_REQUEST_DURATION.histogram(meter) }
    }

    /// A request has ended. All words are of small fixed sets.
    pub fn ended(
        &self,
        provider: &'static str,
        operation: &'static str,
        outcome: &'static str,
        duration: Duration,
    ) {
        let labels = [label("operation", operation), label("outcome", outcome), label("provider", provider)];
        self.requests.add(1, &labels);
        let [operation, outcome, _] = labels;
        self.duration.record(duration.as_secs_f64(), &[operation, outcome]);
    }
}
