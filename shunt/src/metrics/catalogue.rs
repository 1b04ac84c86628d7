//! Everything that the shunt counts, by name.

use swift_s3_daemon::metrics::{self, Kind, Metric, SECONDS};

pub(super) const REQUEST_DURATION: Metric = Metric {
    name: "http.server.request.duration",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    help: "Requests of clients, from the header block until the answer is sent, by method, status, door and operation; error.type: client_gone, broken_body. At the filter's door the time of the last step, and no status where Swift's is not known.",
    labels: &["http.request.method", "http.response.status_code", "door", "operation", "error.type"],
};
pub(super) const ACTIVE_REQUESTS: Metric = Metric {
    name: "http.server.active_requests",
    kind: Kind::Gauge,
    unit: "{request}",
    help: "Requests of clients whose answer is not sent yet, by door.",
    labels: &["door"],
};
pub(super) const SWIFT_DURATION: Metric = Metric {
    name: "http.client.request.duration",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    help: "Requests to Swift until an answer begins, by method, status and way (upstream, restore); error.type: unreachable, timeout, client_gone (what was to be sent broke off), given_up.",
    labels: &["http.request.method", "http.response.status_code", "way", "error.type"],
};
pub(super) const IO: Metric = Metric {
    name: "swift_s3_shunt.io",
    kind: Kind::Counter,
    unit: "By",
    help: "Content of clients taken (receive) and given (transmit), by door.",
    labels: &["door", "network.io.direction"],
};
pub(super) const REMOTE_REQUESTS: Metric = Metric {
    name: "swift_s3_shunt.remote_requests",
    kind: Kind::Counter,
    unit: "{request}",
    help: "Questions to remotes, by operation and outcome.",
    labels: &["operation", "outcome"],
};
pub(super) const FIRST_BYTE: Metric = Metric {
    name: "swift_s3_shunt.first_byte",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    help: "Time until an answer from a remote begins.",
    labels: &[],
};
pub(super) const REMOTE_CONTENT: Metric = Metric {
    name: "swift_s3_shunt.remote_content",
    kind: Kind::Counter,
    unit: "By",
    help: "Archived content handed out.",
    labels: &[],
};
pub(super) const RESUMED: Metric = Metric {
    name: "swift_s3_shunt.resumed",
    kind: Kind::Counter,
    unit: "{body}",
    help: "Remote contents resumed after they broke.",
    labels: &[],
};
pub(super) const READ_AHEAD: Metric = Metric {
    name: "swift_s3_shunt.read_ahead.pieces",
    kind: Kind::Gauge,
    unit: "{piece}",
    help: "Pieces of contents that are read ahead of their clients, 4 MiB each.",
    labels: &[],
};
pub(super) const CACHE_LOOKUPS: Metric = Metric {
    name: "swift_s3_shunt.cache.lookups",
    kind: Kind::Counter,
    unit: "{lookup}",
    help: "Questions to what is kept in memory, by cache (companions: what large objects are made of; presence: buckets that are there; readers: who may list) and outcome.",
    labels: &["cache", "outcome"],
};
pub(super) const RESTORES: Metric = Metric {
    name: "swift_s3_shunt.restores",
    kind: Kind::Counter,
    unit: "{object}",
    help: "Objects written back, by outcome.",
    labels: &["outcome"],
};
pub(super) const RESTORE_DURATION: Metric = Metric {
    name: "swift_s3_shunt.restore.duration",
    kind: Kind::Histogram(SECONDS),
    unit: "s",
    help: "Restores that were begun, from the client's GET to their end, by outcome.",
    labels: &["outcome"],
};
pub(super) const RESTORE_ACTIVE: Metric = Metric {
    name: "swift_s3_shunt.restore.active",
    kind: Kind::Gauge,
    unit: "{object}",
    help: "Objects that are being written back.",
    labels: &[],
};
pub(super) const RESTORE_LIMIT: Metric = Metric {
    name: "swift_s3_shunt.restore.limit",
    kind: Kind::Gauge,
    unit: "{object}",
    help: "Objects that may be written back at a time.",
    labels: &[],
};
pub(super) const RESTORE_CONTENT: Metric = Metric {
    name: "swift_s3_shunt.restore.content",
    kind: Kind::Counter,
    unit: "By",
    help: "Content of objects written back in full.",
    labels: &[],
};
pub(super) const LISTING_ROWS: Metric = Metric {
    name: "swift_s3_shunt.listing.rows",
    kind: Kind::Counter,
    unit: "{row}",
    help: "Rows of merged listings as they were read, by where from (local, remote).",
    labels: &["source"],
};
pub(super) const LISTING_PLACES: Metric = Metric {
    name: "swift_s3_shunt.listing.lines",
    kind: Kind::Gauge,
    unit: "{line}",
    help: "Lines for which listings that are being made or sent hold room.",
    labels: &[],
};
pub(super) const LISTING_PLACES_LIMIT: Metric = Metric {
    name: "swift_s3_shunt.listing.lines.limit",
    kind: Kind::Gauge,
    unit: "{line}",
    help: "Lines for which there is room; further listings wait.",
    labels: &[],
};
pub(super) const PARTIAL_LISTINGS: Metric = Metric {
    name: "swift_s3_shunt.partial_listings",
    kind: Kind::Counter,
    unit: "{listing}",
    help: "Listings without the names of the remote.",
    labels: &[],
};
pub(super) const CONNECTIONS: Metric = Metric {
    name: "swift_s3_shunt.connections",
    kind: Kind::Gauge,
    unit: "{connection}",
    help: "Open connections, by door.",
    labels: &["door"],
};
pub(super) const REFUSED_CONNECTIONS: Metric = Metric {
    name: "swift_s3_shunt.refused_connections",
    kind: Kind::Counter,
    unit: "{connection}",
    help: "Connections refused because there were too many, by door.",
    labels: &["door"],
};
pub(super) const CONFIG_REVISION: Metric = Metric {
    name: "swift_s3_sync.config.revision",
    kind: Kind::Gauge,
    unit: "{revision}",
    help: "The revision of the configuration in force; 0 when it is from a file.",
    labels: &[],
};
pub(super) const CONFIG_AGE: Metric = Metric {
    name: "swift_s3_sync.config.age",
    kind: Kind::Gauge,
    unit: "s",
    help: "Time since the configuration was put in force.",
    labels: &[],
};
pub(super) const CONFIG_RELOADS: Metric = Metric {
    name: "swift_s3_sync.config.reloads",
    kind: Kind::Counter,
    unit: "{configuration}",
    help: "Configurations that came, by outcome: applied, partial (some mappings or remotes cannot be served), refused (nothing changed).",
    labels: &["outcome"],
};
pub(super) const MAPPINGS: Metric = Metric {
    name: "swift_s3_shunt.mappings",
    kind: Kind::Gauge,
    unit: "{mapping}",
    help: "Mappings that merge, by state: ok, or broken (the remote cannot be used as it is configured).",
    labels: &["state"],
};
pub(super) const CONTROL_CONNECTED: Metric = Metric {
    name: "swift_s3_sync.control.connected",
    kind: Kind::Gauge,
    unit: "{connection}",
    help: "1 while the control plane is followed, 0 while it is away; absent where none is configured.",
    labels: &[],
};

/// Everything that the shunt counts beside what every process tells.
pub const METRICS: &[&Metric] = &[
    &REQUEST_DURATION,
    &ACTIVE_REQUESTS,
    &SWIFT_DURATION,
    &IO,
    &REMOTE_REQUESTS,
    &metrics::REMOTE_REQUESTS,
    &metrics::REMOTE_REQUEST_DURATION,
    &FIRST_BYTE,
    &REMOTE_CONTENT,
    &RESUMED,
    &READ_AHEAD,
    &CACHE_LOOKUPS,
    &RESTORES,
    &RESTORE_DURATION,
    &RESTORE_ACTIVE,
    &RESTORE_LIMIT,
    &RESTORE_CONTENT,
    &LISTING_ROWS,
    &LISTING_PLACES,
    &LISTING_PLACES_LIMIT,
    &PARTIAL_LISTINGS,
    &CONNECTIONS,
    &REFUSED_CONNECTIONS,
    &CONFIG_REVISION,
    &CONFIG_AGE,
    &CONFIG_RELOADS,
    &MAPPINGS,
    &CONTROL_CONNECTED,
];
