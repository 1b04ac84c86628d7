//! The worker's metrics, declared.

use swift_s3_daemon::metrics::{
    Kind, LONG_SECONDS, Metric, REMOTE_REQUEST_DURATION, REMOTE_REQUESTS, SECONDS,
};

/// A metric whose kind is `$kind`, in one line of the list below.
macro_rules! metric {
    ($(#[$doc:meta])* $name:ident, $kind:expr, $told:literal, $unit:literal, [$($label:literal),*], $help:literal) => {
        $(#[$doc])*
        pub(super) const $name: Metric =
            Metric { name: $told, kind: $kind, unit: $unit, help: $help, labels: &[$($label),*] };
    };
}

metric!(
    LAG_ROWS,
    Kind::Gauge,
    "swift_s3_sync.lag.rows",
    "{row}",
    ["mapping"],
    "Rows of this worker's share that are due and not carried yet."
);
metric!(LAG_SIZE, Kind::Gauge, "swift_s3_sync.lag.size", "By", ["mapping"], "The sum of their sizes.");
metric!(
    LAG_TIME,
    Kind::Gauge,
    "swift_s3_sync.lag.time",
    "s",
    ["mapping"],
    "For how long the first of them has been due."
);
metric!(
    ROWS_WAITING,
    Kind::Gauge,
    "swift_s3_sync.row.waiting",
    "{row}",
    ["mapping"],
    "Rows that are not old enough yet, or wait for a time of their own."
);
metric!(
    ROWS_PARKED,
    Kind::Gauge,
    "swift_s3_sync.row.parked",
    "{row}",
    ["mapping", "reason"],
    "Rows set aside after a failure, by reason."
);
metric!(
    UNREAD,
    Kind::Gauge,
    "swift_s3_sync.feed.unread",
    "{feed}",
    ["mapping"],
    "Container databases of which it is not known how far they are behind now, because they were not read yet or cannot be read; what was last known of them is in the lag."
);
metric!(
    LAG_AGE,
    Kind::Gauge,
    "swift_s3_sync.lag.age",
    "s",
    [],
    "Time since all feeds were last looked at, for the lag. After two minutes in which none was looked at no lag is told."
);
metric!(
    DELETES_HELD,
    Kind::Gauge,
    "swift_s3_sync.delete.held",
    "{row}",
    ["mapping"],
    "Deletes that the delete limit holds until an operator releases them."
);
metric!(
    ACTIONS,
    Kind::Counter,
    "swift_s3_sync.object.actions",
    "{object}",
    ["mapping", "action", "result"],
    "Rows handled, by action (copied, updated, verified, kept, deleted, archived, skipped, superseded, deferred; of failures what was to be done) and result: ok, or the reason of the failure. A row counts each time it is handled; one that is archived counts as copied and as archived."
);
metric!(
    TRANSFER_IO,
    Kind::Counter,
    "swift_s3_sync.transfer.io",
    "By",
    ["mapping", "direction"],
    "Bytes of bodies sent to remotes and received from them."
);
metric!(
    TRANSFER_DURATION,
    Kind::Histogram(SECONDS),
    "swift_s3_sync.transfer.duration",
    "s",
    ["action", "result"],
    "Time that one row took, from when it had its place; of a large object the wait for a place among those is in it."
);
metric!(
    PROPAGATION,
    Kind::Histogram(LONG_SECONDS),
    "swift_s3_sync.propagation.delay",
    "s",
    ["action"],
    "Time from a write or delete in Swift, or from when copy_after was over, until it was durable at the remote; only of what was written while the worker followed the container."
);
metric!(
    RETRIES,
    Kind::Counter,
    "swift_s3_sync.transfer.retries",
    "{retry}",
    [],
    "Rows begun anew at once after a passing fault of the remote."
);
metric!(TRANSFERS, Kind::Gauge, "swift_s3_sync.transfer.active", "{transfer}", [], "Objects being carried.");
metric!(
    PLACES,
    Kind::Gauge,
    "swift_s3_sync.transfer.places",
    "{transfer}",
    [],
    "Objects that can be carried at a time."
);
metric!(
    USAGE,
    Kind::Counter,
    "swift_s3_sync.remote.usage",
    "{request}",
    ["mapping", "class"],
    "Requests to remotes as they are billed: write, list, read, delete."
);
metric!(
    SWIFT_DURATION,
    Kind::Histogram(SECONDS),
    "swift_s3_sync.swift.request.duration",
    "s",
    ["server", "outcome"],
    "Time until the head of an answer of this cluster's own servers (object, container, account, proxy) was there, by outcome: ok, absent, refused, or the kind of fault."
);
metric!(
    FEEDS,
    Kind::Gauge,
    "swift_s3_sync.feed.count",
    "{feed}",
    [],
    "Container databases that are followed."
);
metric!(
    FEEDS_DUE,
    Kind::Gauge,
    "swift_s3_sync.feed.due",
    "{feed}",
    [],
    "Feeds with a date for their next pass, in the future or now."
);
metric!(PASSES_RUNNING, Kind::Gauge, "swift_s3_sync.pass.running", "{pass}", [], "Passes under way.");
metric!(
    PASSES_WAITING,
    Kind::Gauge,
    "swift_s3_sync.pass.waiting",
    "{pass}",
    [],
    "Passes that wait for their turn."
);
metric!(
    PASS_DURATION,
    Kind::Histogram(SECONDS),
    "swift_s3_sync.pass.duration",
    "s",
    ["result"],
    "Time that passes took, by result: ok; cut_short: others had their turn, or it was paused or stopped, with rows left; broken: the database, the remote or the saving of progress failed."
);
metric!(
    LAST_PASS,
    Kind::Gauge,
    "swift_s3_sync.pass.last_success.time",
    "s",
    [],
    "When a pass last handled everything that was due, in seconds since 1970; 0 before the first."
);
metric!(
    LAST_TURN,
    Kind::Gauge,
    "swift_s3_sync.scheduler.last_turn.time",
    "s",
    [],
    "When the scheduler last did something, in seconds since 1970: at least each second, and while it looks for databases with each few that it finds; nothing before its first turn."
);
metric!(
    MAPPINGS,
    Kind::Gauge,
    "swift_s3_sync.mapping.count",
    "{mapping}",
    ["state"],
    "Mappings that are running, paused, have a remote that is down (remote_down), or cannot be served (faulty)."
);
metric!(
    MODE,
    Kind::Gauge,
    "swift_s3_sync.coordination.mode",
    "{worker}",
    ["mode"],
    "1 for the way in which names are shared out now: implicit, explicit or fallback; 0 for the others."
);
metric!(
    SHARES,
    Kind::Gauge,
    "swift_s3_sync.coordination.shares",
    "{share}",
    ["origin"],
    "Shares owned through etcd: of this worker's own devices (home), or taken from workers that are gone (taken)."
);
metric!(
    TAKEOVERS,
    Kind::Counter,
    "swift_s3_sync.coordination.takeovers",
    "{share}",
    ["kind"],
    "Shares taken from workers that are gone, and returned to them."
);
metric!(
    REVISION,
    Kind::Gauge,
    "swift_s3_sync.config.revision",
    "{revision}",
    [],
    "The control plane's revision of the configuration in force; 0 without a control plane."
);
metric!(CONFIG_AGE, Kind::Gauge, "swift_s3_sync.config.age", "s", [], "For how long it has been in force.");
metric!(
    RELOADS,
    Kind::Counter,
    "swift_s3_sync.config.reloads",
    "{reload}",
    ["outcome"],
    "Configurations read again or pushed: applied, partly_applied or refused."
);
metric!(
    CONTROL_CONNECTED,
    Kind::Gauge,
    "swift_s3_sync.control.connected",
    "{connection}",
    [],
    "1 while this worker is registered with the control plane, 0 while it is not; nothing without a control plane."
);
metric!(
    CONTROL_AGE,
    Kind::Gauge,
    "swift_s3_sync.control.state.age",
    "s",
    [],
    "For how long that has been so."
);
metric!(
    ACK_AGE,
    Kind::Gauge,
    "swift_s3_sync.control.report.age",
    "s",
    [],
    "For how long a report has waited for the control plane to acknowledge it, or one after it; 0 when none waits."
);

/// Everything that the worker tells of itself beside what every process tells.
pub const METRICS: &[&Metric] = &[
    &LAG_ROWS,
    &LAG_SIZE,
    &LAG_TIME,
    &ROWS_WAITING,
    &ROWS_PARKED,
    &UNREAD,
    &LAG_AGE,
    &DELETES_HELD,
    &ACTIONS,
    &TRANSFER_IO,
    &TRANSFER_DURATION,
    &PROPAGATION,
    &RETRIES,
    &TRANSFERS,
    &PLACES,
    &REMOTE_REQUESTS,
    &REMOTE_REQUEST_DURATION,
    &USAGE,
    &SWIFT_DURATION,
    &FEEDS,
    &FEEDS_DUE,
    &PASSES_RUNNING,
    &PASSES_WAITING,
    &PASS_DURATION,
    &LAST_PASS,
    &LAST_TURN,
    &MAPPINGS,
    &MODE,
    &SHARES,
    &TAKEOVERS,
    &REVISION,
    &CONFIG_AGE,
    &RELOADS,
    &CONTROL_CONNECTED,
    &CONTROL_AGE,
    &ACK_AGE,
];
