//! What is shown of workers, of requests to remotes, and of every process.

use super::Shape::{Lines, Number, Plain};
use super::{Panel, Row, Shape};

pub(super) const fn panel(
    title: &'static str,
    note: &'static str,
    unit: &'static str,
    shape: Shape,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, note, unit, shape, queries }
}

pub(super) const ROWS: &[Row] = &[
    Row { title: "How far behind", panels: BEHIND },
    Row { title: "Throughput", panels: THROUGHPUT },
    Row { title: "Latency, end to end", panels: LATENCY },
    Row { title: "Failures", panels: FAILURES },
    Row { title: "Remote requests and cost", panels: REMOTES },
    Row { title: "Sharing the work out", panels: SHARING },
    Row { title: "Every process", panels: PROCESSES },
];

const BEHIND: &[Panel] = &[
    panel(
        "Furthest behind",
        "For how long the oldest due change has been due.",
        "s",
        Number(3600),
        &[(r#"max(swift_s3_sync_lag_time_seconds{mapping=~"$mapping"})"#, "")],
    ),
    panel(
        "Rows behind",
        "Due and not carried.",
        "short",
        Plain,
        &[(r#"sum(swift_s3_sync_lag_rows{mapping=~"$mapping"})"#, "")],
    ),
    panel(
        "Bytes behind",
        "Their sizes.",
        "bytes",
        Plain,
        &[(r#"sum(swift_s3_sync_lag_size_bytes{mapping=~"$mapping"})"#, "")],
    ),
    panel(
        "Objects that fail",
        "Set aside after failures, and tried again by themselves.",
        "short",
        Number(1),
        &[(
            r#"sum(swift_s3_sync_row_parked{mapping=~"$mapping", reason!~"future_timestamp|restored|unsettled"}) or vector(0)"#,
            "",
        )],
    ),
    panel(
        "Deletes held",
        "By the delete limit: look at them, then release or restore.",
        "short",
        Number(1),
        &[(r#"sum(swift_s3_sync_delete_held{mapping=~"$mapping"}) or vector(0)"#, "")],
    ),
    panel(
        "Processes down",
        "Of those that Prometheus asks.",
        "short",
        Number(1),
        &[(r#"sum(1 - up{job=~"swift-s3-.*"})"#, "")],
    ),
    panel(
        "Age of the oldest due change",
        "By mapping.",
        "s",
        Lines,
        &[(r#"max by (mapping) (swift_s3_sync_lag_time_seconds{mapping=~"$mapping"})"#, "{{mapping}}")],
    ),
    panel(
        "Rows that are due",
        "By mapping, and those that wait for their age.",
        "short",
        Lines,
        &[
            (r#"sum by (mapping) (swift_s3_sync_lag_rows{mapping=~"$mapping"})"#, "{{mapping}}"),
            (r#"sum(swift_s3_sync_row_waiting{mapping=~"$mapping"})"#, "waiting for their age"),
        ],
    ),
    panel(
        "Mappings by state",
        "Running, paused, with a remote that is down, or not served.",
        "short",
        Lines,
        &[(r#"max by (state) (swift_s3_sync_mapping_count{instance=~"$instance"})"#, "{{state}}")],
    ),
];

const THROUGHPUT: &[Panel] = &[
    panel(
        "Rows handled",
        "By what was done.",
        "ops",
        Lines,
        &[(
            r#"sum by (action) (rate(swift_s3_sync_object_actions_total{mapping=~"$mapping", instance=~"$instance", result="ok"}[$__rate_interval]))"#,
            "{{action}}",
        )],
    ),
    panel(
        "Content",
        "Sent to remotes and received from them.",
        "Bps",
        Lines,
        &[(
            r#"sum by (direction) (rate(swift_s3_sync_transfer_io_bytes_total{mapping=~"$mapping", instance=~"$instance"}[$__rate_interval]))"#,
            "{{direction}}",
        )],
    ),
    panel(
        "Objects being carried",
        "And how many there is room for (the key workers).",
        "short",
        Lines,
        &[
            (r#"sum by (instance) (swift_s3_sync_transfer_active{instance=~"$instance"})"#, "{{instance}}"),
            (r#"min(swift_s3_sync_transfer_places{instance=~"$instance"})"#, "places of each"),
        ],
    ),
    panel(
        "Passes",
        "Walks over one container database: under way, and waiting for their turn.",
        "short",
        Lines,
        &[
            (r#"sum(swift_s3_sync_pass_running{instance=~"$instance"})"#, "running"),
            (r#"sum(swift_s3_sync_pass_waiting{instance=~"$instance"})"#, "waiting"),
            (r#"sum(swift_s3_sync_feed_due{instance=~"$instance"})"#, "dated"),
        ],
    ),
    panel(
        "Container databases followed",
        "By worker.",
        "short",
        Lines,
        &[(r#"sum by (instance) (swift_s3_sync_feed_count{instance=~"$instance"})"#, "{{instance}}")],
    ),
    panel(
        "Since the last good pass",
        "And since the scheduler last turned, which it does every second.",
        "s",
        Lines,
        &[
            (
                r#"time() - (swift_s3_sync_pass_last_success_time_seconds{instance=~"$instance"} > 0)"#,
                "{{instance}} pass",
            ),
            (
                r#"time() - (swift_s3_sync_scheduler_last_turn_time_seconds{instance=~"$instance"} > 0)"#,
                "{{instance}} turn",
            ),
        ],
    ),
];

const LATENCY: &[Panel] = &[
    panel(
        "From Swift to the remote",
        "From the write or delete until it is durable there.",
        "s",
        Lines,
        &[
            (
                r#"histogram_quantile(0.5, sum by (le) (rate(swift_s3_sync_propagation_delay_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
                "p50",
            ),
            (
                r#"histogram_quantile(0.95, sum by (le) (rate(swift_s3_sync_propagation_delay_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
                "p95",
            ),
            (
                r#"histogram_quantile(0.99, sum by (le) (rate(swift_s3_sync_propagation_delay_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
                "p99",
            ),
        ],
    ),
    panel(
        "One row, p95",
        "From when it had its place, by action.",
        "s",
        Lines,
        &[(
            r#"histogram_quantile(0.95, sum by (le, action) (rate(swift_s3_sync_transfer_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
            "{{action}}",
        )],
    ),
    panel(
        "One request to a remote, p95",
        "By operation.",
        "s",
        Lines,
        &[(
            r#"histogram_quantile(0.95, sum by (le, operation) (rate(swift_s3_sync_remote_request_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
            "{{operation}}",
        )],
    ),
    panel(
        "One request to Swift's servers, p95",
        "Of workers, by kind of server.",
        "s",
        Lines,
        &[(
            r#"histogram_quantile(0.95, sum by (le, server) (rate(swift_s3_sync_swift_request_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
            "{{server}}",
        )],
    ),
    panel(
        "One pass, p95",
        "By its result.",
        "s",
        Lines,
        &[(
            r#"histogram_quantile(0.95, sum by (le, result) (rate(swift_s3_sync_pass_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
            "{{result}}",
        )],
    ),
];

const FAILURES: &[Panel] = &[
    panel(
        "Lag not known",
        "Container databases that cannot be read or were not read yet, and the age of the last look at all.",
        "short",
        Lines,
        &[
            (r#"sum by (instance) (swift_s3_sync_feed_unread{mapping=~"$mapping"})"#, "unread {{instance}}"),
            (
                r#"max by (instance) (swift_s3_sync_lag_age_seconds{instance=~"$instance"})"#,
                "age, s {{instance}}",
            ),
        ],
    ),
    panel(
        "Set aside, by reason",
        "The reasons are explained in the handbook, page errors.",
        "short",
        Lines,
        &[(r#"sum by (reason) (swift_s3_sync_row_parked{mapping=~"$mapping"})"#, "{{reason}}")],
    ),
    panel(
        "Rows that failed",
        "By reason.",
        "ops",
        Lines,
        &[(
            r#"sum by (result) (rate(swift_s3_sync_object_actions_total{mapping=~"$mapping", instance=~"$instance", result!="ok"}[$__rate_interval]))"#,
            "{{result}}",
        )],
    ),
    panel(
        "Begun anew at once",
        "After a passing fault of the remote.",
        "ops",
        Lines,
        &[(
            r#"sum by (instance) (rate(swift_s3_sync_transfer_retries_total{instance=~"$instance"}[$__rate_interval]))"#,
            "{{instance}}",
        )],
    ),
    panel(
        "Deletes held",
        "By mapping.",
        "short",
        Lines,
        &[(r#"sum by (mapping) (swift_s3_sync_delete_held{mapping=~"$mapping"})"#, "{{mapping}}")],
    ),
    panel(
        "Configurations",
        "Read again or pushed, by outcome.",
        "short",
        Lines,
        &[(
            r#"sum by (job, outcome) (increase(swift_s3_sync_config_reloads_total{instance=~"$instance"}[$__rate_interval]))"#,
            "{{job}} {{outcome}}",
        )],
    ),
    panel(
        "Log lines",
        "Errors and warnings, and those that were left out because many of their kind came.",
        "ops",
        Lines,
        &[
            (
                r#"sum by (job, level) (rate(swift_s3_sync_log_lines_total{instance=~"$instance", level=~"error|warning"}[$__rate_interval]))"#,
                "{{job}} {{level}}",
            ),
            (
                r#"sum by (job) (rate(swift_s3_sync_log_left_out_total{instance=~"$instance"}[$__rate_interval]))"#,
                "{{job}} left out",
            ),
        ],
    ),
];

const REMOTES: &[Panel] = &[
    panel(
        "Requests",
        "Each try counted, by operation.",
        "ops",
        Lines,
        &[(
            r#"sum by (operation) (rate(swift_s3_sync_remote_requests_total{instance=~"$instance"}[$__rate_interval]))"#,
            "{{operation}}",
        )],
    ),
    panel(
        "Outcomes other than ok",
        "By outcome.",
        "ops",
        Lines,
        &[(
            r#"sum by (outcome) (rate(swift_s3_sync_remote_requests_total{instance=~"$instance", outcome!="ok"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
    panel(
        "As they are billed",
        "Of workers, by class.",
        "ops",
        Lines,
        &[(
            r#"sum by (class) (rate(swift_s3_sync_remote_usage_total{mapping=~"$mapping", instance=~"$instance"}[$__rate_interval]))"#,
            "{{class}}",
        )],
    ),
    panel(
        "Cost this month",
        "Of requests and traffic by the price table; storage is not part of it.",
        "short",
        Lines,
        &[(
            r#"sum by (mapping, currency) (swift_s3_control_month_cost{mapping=~"$mapping"})"#,
            "{{mapping}} {{currency}}",
        )],
    ),
    panel(
        "Requests this month",
        "By class.",
        "short",
        Lines,
        &[(r#"sum by (class) (swift_s3_control_month_requests{mapping=~"$mapping"})"#, "{{class}}")],
    ),
    panel(
        "Bytes this month",
        "Since it began, in UTC.",
        "bytes",
        Lines,
        &[
            (r#"sum(swift_s3_control_month_sent_bytes{mapping=~"$mapping"})"#, "sent"),
            (r#"sum(swift_s3_control_month_received_bytes{mapping=~"$mapping"})"#, "received"),
        ],
    ),
];

const SHARING: &[Panel] = &[
    panel(
        "Ways of sharing out",
        "Workers by mode; fallback: etcd cannot be used.",
        "short",
        Lines,
        &[("sum by (mode) (swift_s3_sync_coordination_mode)", "{{mode}}")],
    ),
    panel(
        "Shares owned through etcd",
        "Of own devices, or taken from workers that are gone.",
        "short",
        Lines,
        &[(
            r#"sum by (instance, origin) (swift_s3_sync_coordination_shares{instance=~"$instance"})"#,
            "{{instance}} {{origin}}",
        )],
    ),
    panel(
        "Takeovers",
        "Shares taken and returned.",
        "short",
        Lines,
        &[(
            "sum by (kind) (increase(swift_s3_sync_coordination_takeovers_total[$__rate_interval]))",
            "{{kind}}",
        )],
    ),
];

const PROCESSES: &[Panel] = &[
    panel(
        "Processor",
        "Cores.",
        "short",
        Lines,
        &[(
            r#"sum by (job, instance) (rate(process_cpu_time_seconds_total{job=~"$job", instance=~"$instance"}[$__rate_interval]))"#,
            "{{job}} {{instance}}",
        )],
    ),
    panel(
        "Memory",
        "Resident.",
        "bytes",
        Lines,
        &[(
            r#"sum by (job, instance) (process_memory_usage_bytes{job=~"$job", instance=~"$instance"})"#,
            "{{job}} {{instance}}",
        )],
    ),
    panel(
        "Open files",
        "The part of the limit that is in use.",
        "percentunit",
        Lines,
        &[(
            r#"process_unix_file_descriptor_count{job=~"$job", instance=~"$instance"} / swift_s3_sync_process_file_descriptor_limit"#,
            "{{job}} {{instance}}",
        )],
    ),
    panel(
        "Up since",
        "A line that falls to zero is a start.",
        "s",
        Lines,
        &[(r#"process_uptime_seconds{job=~"$job", instance=~"$instance"}"#, "{{job}} {{instance}}")],
    ),
    panel(
        "Versions",
        "Processes by program and version.",
        "short",
        Lines,
        &[(
            r#"sum by (service_name, service_version) (swift_s3_sync_build_info{job=~"$job", instance=~"$instance"})"#,
            "{{service_name}} {{service_version}}",
        )],
    ),
    panel(
        "Revisions",
        "Of the configuration in force; 0 is a file.",
        "short",
        Lines,
        &[(
            r#"max by (job, instance) (swift_s3_sync_config_revision{job=~"$job", instance=~"$instance"})"#,
            "{{job}} {{instance}}",
        )],
    ),
    panel(
        "Configuration in force",
        "For how long.",
        "s",
        Lines,
        &[(
            r#"min by (job, instance) (swift_s3_sync_config_age_seconds{job=~"$job", instance=~"$instance"})"#,
            "{{job}} {{instance}}",
        )],
    ),
    panel(
        "Contact with control",
        "1 while there is; and how long ago a report was acknowledged.",
        "short",
        Lines,
        &[
            (
                r#"sum by (job, instance) (swift_s3_sync_control_connected{job=~"$job", instance=~"$instance"})"#,
                "{{job}} {{instance}}",
            ),
            (
                r#"max by (instance) (swift_s3_sync_control_report_age_seconds{job=~"$job", instance=~"$instance"})"#,
                "{{instance}} seconds since a report",
            ),
        ],
    ),
];
