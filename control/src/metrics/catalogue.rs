//! Every metric of the control plane, declared once.

use swift_s3_daemon::metrics::{Kind, Metric, SECONDS};

/// A value of now, without a bound on what it may be.
const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, help, labels }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, help, labels }
}

const fn seconds(
    name: &'static str,
    bounds: &'static [f64],
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram(bounds), unit: "s", help, labels }
}

pub(super) const CALLS: Metric = seconds(
    "rpc.server.call.duration",
    SECONDS,
    &["rpc.method", "rpc.response.status_code"],
    "How long gRPC calls with one answer take, those of the web pages among them, by method and outcome.",
);
pub(super) const STREAMS: Metric = gauge(
    "swift_s3_control.rpc.streams",
    "{stream}",
    &["rpc.method"],
    "Open gRPC streams, by method: sessions of nodes, and those who watch.",
);
pub(super) const REFUSALS: Metric = counter(
    "swift_s3_control.rpc.refusals",
    "{call}",
    &["reason"],
    "Calls that the access file does not allow: unauthenticated, or denied to this caller.",
);
pub(super) const SLOW_NODES: Metric = counter(
    "swift_s3_control.sessions.cut",
    "{session}",
    &[],
    "Sessions of nodes that were ended because the node did not read.",
);
pub(super) const PAGES: Metric = seconds(
    "swift_s3_control.page.duration",
    SECONDS,
    &["http.route", "status"],
    "How long requests of the web pages take until the answer begins, by route and class of status; status left: the browser did not wait.",
);
pub(super) const BROWSERS: Metric =
    gauge("swift_s3_control.page.connections", "{connection}", &[], "Open connections of browsers.");
pub(super) const FOLLOWERS: Metric = gauge(
    "swift_s3_control.page.followers",
    "{page}",
    &[],
    "Web pages that follow what happens, each by an open stream.",
);
pub(super) const APPLIES: Metric = counter(
    "swift_s3_control.config.applies",
    "{change}",
    &["outcome"],
    "Changes of the configuration that were asked for: applied, unchanged (it was so already), tried (a dry run), refused, conflict, failed.",
);
pub(super) const PUSHES: Metric = counter(
    "swift_s3_control.config.pushes",
    "{push}",
    &[],
    "Configurations sent to nodes, those at the begin of their sessions among them.",
);
pub(super) const ANSWERS: Metric = counter(
    "swift_s3_control.config.answers",
    "{answer}",
    &["outcome"],
    "Answers of nodes to configurations: applied, partly_applied, rejected.",
);
pub(super) const PUSH_TIME: Metric = seconds(
    "swift_s3_control.config.push.duration",
    SECONDS,
    &[],
    "Time from sending a configuration to a node until it is in force there.",
);
pub(super) const COMMITS: Metric = seconds(
    "swift_s3_control.store.commit.duration",
    SECONDS,
    &["store", "outcome"],
    "How long it takes to make a batch of changes durable, in sqlite or in etcd.",
);
pub(super) const QUEUE: Metric = gauge(
    "swift_s3_control.store.queue",
    "{change}",
    &[],
    "Changes that wait for the one thread that writes; 1024 at most, then callers wait.",
);
pub(super) const STORE_SIZE: Metric = gauge(
    "swift_s3_control.store.size",
    "By",
    &[],
    "The state on this machine's disk, with its write-ahead log.",
);
pub(super) const HISTORY_SIZE: Metric =
    gauge("swift_s3_control.history.size", "By", &[], "The history of lag and rates on this machine's disk.");
pub(super) const LEADER: Metric = gauge(
    "swift_s3_control.leader",
    "{process}",
    &[],
    "1 if this process answers for the cluster: it is the only one, or it leads. What it tells of nodes and mappings is missing \
     elsewhere.",
);
pub(super) const LEADER_CHANGES: Metric = counter(
    "swift_s3_control.leader.changes",
    "{change}",
    &[],
    "How often this process saw somebody else lead than before, or nobody.",
);
pub(super) const FIGURES_AGE: Metric = gauge(
    "swift_s3_control.figures.age",
    "s",
    &[],
    "How long ago the figures of nodes and mappings below were added up; every five seconds, if that is not too much work.",
);
pub(super) const NODES: Metric = gauge(
    "swift_s3_control.nodes",
    "{node}",
    &["role", "state"],
    "Nodes by role (worker, shunt) and state: in_force (the configuration), behind, refused (some or all of it), silent.",
);
pub(super) const SHARING: Metric = gauge(
    "swift_s3_control.workers",
    "{worker}",
    &["mode"],
    "Connected workers by the way they share out the work: implicit, explicit (through etcd), fallback (etcd cannot be used).",
);
pub(super) const SHARES_TAKEN: Metric = gauge(
    "swift_s3_control.shares.taken",
    "{share}",
    &[],
    "Shares of workers that are gone, which others have taken.",
);
pub(super) const TAKEOVERS: Metric = gauge(
    "swift_s3_control.takeovers.day",
    "{share}",
    &["kind"],
    "Shares that changed hands during the last day, as connected workers tell: taken, or returned to their home.",
);
pub(super) const TAKEOVERS_TOTAL: Metric = counter(
    "swift_s3_control.takeovers",
    "{takeover}",
    &["kind"],
    "Takeovers that workers told: of a device's shares, taken or returned. After a start those of the last day again.",
);
pub(super) const FEEDS: Metric = gauge(
    "swift_s3_control.feeds",
    "{feed}",
    &[],
    "Container databases that workers follow, each once for each worker.",
);
pub(super) const CONTAINERS: Metric =
    gauge("swift_s3_control.containers", "{container}", &["mapping"], "Containers that are followed.");
pub(super) const PAUSED: Metric =
    gauge("swift_s3_control.mapping.paused", "{mapping}", &["mapping"], "Mappings that an operator holds.");
pub(super) const COMPLETE: Metric = gauge(
    "swift_s3_control.mapping.complete",
    "{mapping}",
    &["mapping"],
    "Mappings of which everything is known. Of others the lag is a lower bound.",
);
pub(super) const LAG_ROWS: Metric = gauge(
    "swift_s3_control.lag.rows",
    "{row}",
    &["mapping"],
    "Rows that are due and not done. Missing while nothing is known.",
);
pub(super) const LAG_SIZE: Metric = gauge(
    "swift_s3_control.lag.size",
    "By",
    &["mapping"],
    "Sizes of the objects of rows that are due and not done.",
);
pub(super) const LAG_AGE: Metric =
    gauge("swift_s3_control.lag.age", "s", &["mapping"], "Age of the oldest row that is due and not done.");
pub(super) const LAG_WAITING: Metric = gauge(
    "swift_s3_control.lag.rows_waiting",
    "{row}",
    &["mapping"],
    "Rows that wait until they are old enough to be carried.",
);
pub(super) const LAG_OBSERVED: Metric = gauge(
    "swift_s3_control.lag.figure_age",
    "s",
    &["mapping"],
    "How long ago the oldest of the figures was true that the lag is added up of, by the clocks of nodes.",
);
pub(super) const RATE_ROWS: Metric = gauge(
    "swift_s3_control.rate.rows",
    "{row}",
    &["mapping"],
    "Objects carried per second over the last minute.",
);
pub(super) const HELD: Metric = gauge(
    "swift_s3_control.deletes.held",
    "{row}",
    &["mapping"],
    "Deletes held by the delete limit, at least.",
);
pub(super) const PARKED: Metric = gauge(
    "swift_s3_control.parked.rows",
    "{row}",
    &["mapping"],
    "Rows set aside after failures, to be tried again.",
);
pub(super) const PARKED_BY_REASON: Metric = gauge(
    "swift_s3_control.parked.reasons",
    "{row}",
    &["reason"],
    "Rows set aside after failures, by reason; with very many, as counted up to some minutes ago.",
);
pub(super) const REQUESTS: Metric = gauge(
    "swift_s3_control.month.requests",
    "{request}",
    &["mapping", "class"],
    "Requests to remotes since the month began, in UTC, by class: write, list, read, delete.",
);
pub(super) const SENT: Metric = gauge(
    "swift_s3_control.month.sent",
    "By",
    &["mapping"],
    "Bytes sent to remotes since the month began, in UTC.",
);
pub(super) const RECEIVED: Metric = gauge(
    "swift_s3_control.month.received",
    "By",
    &["mapping"],
    "Bytes received from remotes since the month began, in UTC.",
);
pub(super) const COST: Metric = gauge(
    "swift_s3_control.month.cost",
    "{currency}",
    &["mapping", "currency"],
    "What requests and bytes have cost by the price table since the month began, in UTC; storage is not part of it.",
);
pub(super) const REVISION: Metric = gauge(
    "swift_s3_control.config.revision",
    "{revision}",
    &[],
    "The revision of the configuration in force; 0: none.",
);
pub(super) const REVISION_AGE: Metric =
    gauge("swift_s3_control.config.age", "s", &[], "Time since the configuration in force was applied.");
pub(super) const ALERTS: Metric = gauge(
    "swift_s3_control.alerts",
    "{alert}",
    &["kind", "severity"],
    "What needs a person, by kind and severity (critical, warning); the same as swift-s3ctl status tells in words.",
);
pub(super) const AUDITS: Metric = gauge(
    "swift_s3_control.audits",
    "{question}",
    &[],
    "Comparisons, counts and repairs that a worker is answering now.",
);

/// Everything that the control plane tells beside what every process tells.
pub const METRICS: &[&Metric] = &[
    &CALLS,
    &STREAMS,
    &REFUSALS,
    &SLOW_NODES,
    &PAGES,
    &BROWSERS,
    &FOLLOWERS,
    &APPLIES,
    &PUSHES,
    &ANSWERS,
    &PUSH_TIME,
    &COMMITS,
    &QUEUE,
    &STORE_SIZE,
    &HISTORY_SIZE,
    &LEADER,
    &LEADER_CHANGES,
    &FIGURES_AGE,
    &NODES,
    &SHARING,
    &SHARES_TAKEN,
    &TAKEOVERS,
    &TAKEOVERS_TOTAL,
    &FEEDS,
    &CONTAINERS,
    &PAUSED,
    &COMPLETE,
    &LAG_ROWS,
    &LAG_SIZE,
    &LAG_AGE,
    &LAG_WAITING,
    &LAG_OBSERVED,
    &RATE_ROWS,
    &HELD,
    &PARKED,
    &PARKED_BY_REASON,
    &REQUESTS,
    &SENT,
    &RECEIVED,
    &COST,
    &REVISION,
    &REVISION_AGE,
    &ALERTS,
    &AUDITS,
];

/// Those that [`super::figures`] has values of.
pub(super) const ADDED_UP: &[&Metric] = &[
    &QUEUE,
    &STORE_SIZE,
    &HISTORY_SIZE,
    &SLOW_NODES,
    &NODES,
    &SHARING,
    &SHARES_TAKEN,
    &TAKEOVERS,
    &TAKEOVERS_TOTAL,
    &FEEDS,
    &CONTAINERS,
    &PAUSED,
    &COMPLETE,
    &LAG_ROWS,
    &LAG_SIZE,
    &LAG_AGE,
    &LAG_WAITING,
    &LAG_OBSERVED,
    &RATE_ROWS,
    &HELD,
    &PARKED,
    &PARKED_BY_REASON,
    &REQUESTS,
    &SENT,
    &RECEIVED,
    &COST,
    &REVISION,
    &REVISION_AGE,
    &ALERTS,
    &AUDITS,
];
