//! Figures, in the text format of Prometheus.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels of an answer. All values come from fixed sets.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AnswerLabels {
    /// `proxy` or `filter`.
    pub door: &'static str,
    /// `pass`, `read`, `listing`, `delete`, `post` or `copy`.
    pub operation: &'static str,
    /// `1xx` to `5xx`.
    pub status: &'static str,
}

/// Labels of what was asked of a remote.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RemoteLabels {
    /// `get`, `head`, `list`, `delete`, `post`.
    pub operation: &'static str,
    /// `ok`, `absent`, or the word of a [`swift_s3_store::ErrorKind`].
    pub outcome: &'static str,
}

/// Labels of a restore.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// What became of it.
    pub outcome: &'static str,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Answers given.
    pub answers: Family<AnswerLabels, Counter>,
    /// Requests to remotes.
    pub remote: Family<RemoteLabels, Counter>,
    /// Seconds until the first byte of an answer of the shunt's own.
    pub first_byte: Histogram,
    /// Bytes of archived content handed out.
    pub remote_bytes: Counter,
    /// Remote bodies resumed after they broke.
    pub resumed: Counter,
    /// Objects written back.
    pub restores: Family<OutcomeLabels, Counter>,
    /// Listings without the remote's names.
    pub partial_listings: Counter,
    /// Open connections of clients.
    pub connections: Gauge,
    /// Connections refused because there were too many.
    pub refused_connections: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("swift_s3_shunt");
        let answers = Family::default();
        registry.register("answers", "Answers, by door, operation and class of status", answers.clone());
        let remote = Family::default();
        registry.register("remote_requests", "Requests to remotes, by operation and outcome", remote.clone());
        let first_byte = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register_with_unit(
            "first_byte",
            "Time until an answer from a remote begins",
            Unit::Seconds,
            first_byte.clone(),
        );
        let remote_bytes = Counter::default();
        registry.register_with_unit(
            "remote_content",
            "Archived content handed out",
            Unit::Bytes,
            remote_bytes.clone(),
        );
        let resumed = Counter::default();
        registry.register("resumed", "Remote contents resumed after they broke", resumed.clone());
        let restores = Family::default();
        registry.register("restores", "Objects written back, by outcome", restores.clone());
        let partial_listings = Counter::default();
        registry.register(
            "partial_listings",
            "Listings without the names of the remote",
            partial_listings.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open connections of clients", connections.clone());
        let refused_connections = Counter::default();
        registry.register(
            "refused_connections",
            "Connections refused because there were too many",
            refused_connections.clone(),
        );
        Self {
            registry: Arc::new(registry),
            answers,
            remote,
            first_byte,
            remote_bytes,
            resumed,
            restores,
            partial_listings,
            connections,
            refused_connections,
        }
    }
}

impl Metrics {
    /// All figures as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
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
        self.answers.get_or_create(&AnswerLabels { door, operation, status }).inc();
    }

    /// Counts a restore, or one that was not begun.
    pub fn restored(&self, outcome: &'static str) {
        self.restores.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a request to a remote.
    pub fn asked_remote(&self, operation: &'static str, outcome: &'static str) {
        self.remote.get_or_create(&RemoteLabels { operation, outcome }).inc();
    }
}
