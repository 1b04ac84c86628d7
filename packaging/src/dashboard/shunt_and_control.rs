//! What is shown of shunts and of the control plane.

use super::Shape::{Lines, Number, Plain};
use super::panels::panel;
use super::{Panel, Row};

pub(super) const ROWS: &[Row] =
    &[Row { title: "Shunt", panels: SHUNT }, Row { title: "Control plane", panels: CONTROL }];

const SHUNT: &[Panel] = &[
    panel(
        "Requests of clients",
        "By class of status, Swift's own answers among them.",
        "ops",
        Lines,
        &[(
            r#"sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{job="swift-s3-shunt", instance=~"$instance"}[$__rate_interval]))"#,
            "{{http_response_status_code}}",
        )],
    ),
    panel(
        "Answers, p95",
        "From the header block until the answer is sent, by operation.",
        "s",
        Lines,
        &[(
            r#"histogram_quantile(0.95, sum by (le, operation) (rate(http_server_request_duration_seconds_bucket{job="swift-s3-shunt", instance=~"$instance"}[$__rate_interval])))"#,
            "{{operation}}",
        )],
    ),
    panel(
        "Time to the first byte, p95",
        "Of answers from a remote; and of Swift's own.",
        "s",
        Lines,
        &[
            (
                r#"histogram_quantile(0.95, sum by (le) (rate(swift_s3_shunt_first_byte_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
                "remote",
            ),
            (
                r#"histogram_quantile(0.95, sum by (le) (rate(http_client_request_duration_seconds_bucket{job="swift-s3-shunt", instance=~"$instance"}[$__rate_interval])))"#,
                "Swift",
            ),
        ],
    ),
    panel(
        "Requests and connections",
        "Open now, and connections that were refused because there were too many.",
        "short",
        Lines,
        &[
            (
                r#"sum by (door) (http_server_active_requests{job="swift-s3-shunt", instance=~"$instance"})"#,
                "requests {{door}}",
            ),
            (r#"sum by (door) (swift_s3_shunt_connections{instance=~"$instance"})"#, "connections {{door}}"),
            (
                r#"sum by (door) (increase(swift_s3_shunt_refused_connections_total{instance=~"$instance"}[$__rate_interval]))"#,
                "refused {{door}}",
            ),
        ],
    ),
    panel(
        "Content",
        "Of clients, and from remotes.",
        "Bps",
        Lines,
        &[
            (
                r#"sum by (network_io_direction) (rate(swift_s3_shunt_io_bytes_total{instance=~"$instance"}[$__rate_interval]))"#,
                "clients {{network_io_direction}}",
            ),
            (
                r#"sum(rate(swift_s3_shunt_remote_content_bytes_total{instance=~"$instance"}[$__rate_interval]))"#,
                "from remotes",
            ),
            (
                r#"sum(rate(swift_s3_shunt_restore_content_bytes_total{instance=~"$instance"}[$__rate_interval]))"#,
                "written back",
            ),
        ],
    ),
    panel(
        "Questions to remotes",
        "By outcome.",
        "ops",
        Lines,
        &[(
            r#"sum by (outcome) (rate(swift_s3_shunt_remote_requests_total{instance=~"$instance"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
    panel(
        "Restores",
        "By outcome, and those under way.",
        "short",
        Lines,
        &[
            (
                r#"sum by (outcome) (increase(swift_s3_shunt_restores_total{instance=~"$instance"}[$__rate_interval]))"#,
                "{{outcome}}",
            ),
            (r#"sum(swift_s3_shunt_restore_active{instance=~"$instance"})"#, "under way"),
            (r#"sum(swift_s3_shunt_restore_limit{instance=~"$instance"})"#, "may be under way"),
        ],
    ),
    panel(
        "One restore, p95",
        "By outcome.",
        "s",
        Lines,
        &[(
            r#"histogram_quantile(0.95, sum by (le, outcome) (rate(swift_s3_shunt_restore_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
            "{{outcome}}",
        )],
    ),
    panel(
        "Listings",
        "Rows read for merged listings, those without the remote's names, and room for lines in use.",
        "short",
        Lines,
        &[
            (
                r#"sum by (source) (rate(swift_s3_shunt_listing_rows_total{instance=~"$instance"}[$__rate_interval]))"#,
                "rows a second, {{source}}",
            ),
            (
                r#"sum(increase(swift_s3_shunt_partial_listings_total{instance=~"$instance"}[$__rate_interval]))"#,
                "partial",
            ),
            (
                r#"sum(swift_s3_shunt_listing_lines{instance=~"$instance"}) / sum(swift_s3_shunt_listing_lines_limit{instance=~"$instance"})"#,
                "part of the room in use",
            ),
        ],
    ),
    panel(
        "Bodies that broke",
        "And were resumed; pieces read ahead.",
        "short",
        Lines,
        &[
            (
                r#"sum(increase(swift_s3_shunt_resumed_total{instance=~"$instance"}[$__rate_interval]))"#,
                "resumed",
            ),
            (r#"sum(swift_s3_shunt_read_ahead_pieces{instance=~"$instance"})"#, "read ahead"),
        ],
    ),
    panel(
        "What is kept in memory",
        "Questions to it, by outcome.",
        "ops",
        Lines,
        &[(
            r#"sum by (cache, outcome) (rate(swift_s3_shunt_cache_lookups_total{instance=~"$instance"}[$__rate_interval]))"#,
            "{{cache}} {{outcome}}",
        )],
    ),
    panel(
        "Mappings that merge",
        "By state.",
        "short",
        Lines,
        &[(r#"max by (state) (swift_s3_shunt_mappings{instance=~"$instance"})"#, "{{state}}")],
    ),
];

const CONTROL: &[Panel] = &[
    panel(
        "Needs a person",
        "What swift-s3ctl status tells in words.",
        "short",
        Number(1),
        &[("sum(swift_s3_control_alerts) or vector(0)", "")],
    ),
    panel(
        "Revision",
        "Of the configuration in force.",
        "short",
        Plain,
        &[("max(swift_s3_control_config_revision)", "")],
    ),
    panel("Applied", "How long ago.", "s", Plain, &[("min(swift_s3_control_config_age_seconds)", "")]),
    panel(
        "Nodes in force",
        "Connected, with everything in force.",
        "short",
        Plain,
        &[(r#"sum(swift_s3_control_nodes{state="in_force"})"#, "")],
    ),
    panel(
        "Nodes that are not",
        "Silent, behind, or refusing.",
        "short",
        Number(1),
        &[(r#"sum(swift_s3_control_nodes{state!="in_force"}) or vector(0)"#, "")],
    ),
    panel("Leaders", "One, or nothing is served.", "short", Plain, &[("sum(swift_s3_control_leader)", "")]),
    panel(
        "Nodes",
        "By role and state.",
        "short",
        Lines,
        &[("sum by (role, state) (swift_s3_control_nodes)", "{{role}} {{state}}")],
    ),
    panel(
        "Needs a person",
        "By kind.",
        "short",
        Lines,
        &[("sum by (kind) (swift_s3_control_alerts)", "{{kind}}")],
    ),
    panel(
        "The whole fleet behind",
        "As control adds it up. A mapping that is not complete has a lower bound only.",
        "s",
        Lines,
        &[
            (r#"max by (mapping) (swift_s3_control_lag_age_seconds{mapping=~"$mapping"})"#, "{{mapping}}"),
            (
                r#"max by (mapping) (swift_s3_control_lag_figure_age_seconds{mapping=~"$mapping"})"#,
                "{{mapping}} age of the figure",
            ),
        ],
    ),
    panel(
        "Rows of the fleet",
        "Due, waiting, held, set aside.",
        "short",
        Lines,
        &[
            (r#"sum(swift_s3_control_lag_rows{mapping=~"$mapping"})"#, "due"),
            (r#"sum(swift_s3_control_lag_rows_waiting{mapping=~"$mapping"})"#, "waiting"),
            (r#"sum(swift_s3_control_deletes_held{mapping=~"$mapping"})"#, "deletes held"),
            (r#"sum(swift_s3_control_parked_rows{mapping=~"$mapping"})"#, "set aside"),
        ],
    ),
    panel(
        "Bytes of the fleet",
        "Due and not carried.",
        "bytes",
        Lines,
        &[(r#"sum by (mapping) (swift_s3_control_lag_size_bytes{mapping=~"$mapping"})"#, "{{mapping}}")],
    ),
    panel(
        "Set aside in the fleet",
        "By reason.",
        "short",
        Lines,
        &[("sum by (reason) (swift_s3_control_parked_reasons)", "{{reason}}")],
    ),
    panel(
        "Objects a second",
        "Of the whole fleet, by mapping.",
        "ops",
        Lines,
        &[(r#"sum by (mapping) (swift_s3_control_rate_rows{mapping=~"$mapping"})"#, "{{mapping}}")],
    ),
    panel(
        "Calls, p95",
        "By method.",
        "s",
        Lines,
        &[(
            "histogram_quantile(0.95, sum by (le, rpc_method) (rate(rpc_server_call_duration_seconds_bucket[$__rate_interval])))",
            "{{rpc_method}}",
        )],
    ),
    panel(
        "Calls that fail or are refused",
        "By outcome.",
        "ops",
        Lines,
        &[
            (
                r#"sum by (rpc_response_status_code) (rate(rpc_server_call_duration_seconds_count{rpc_response_status_code!="OK"}[$__rate_interval]))"#,
                "{{rpc_response_status_code}}",
            ),
            (
                "sum by (reason) (rate(swift_s3_control_rpc_refusals_total[$__rate_interval]))",
                "refused: {{reason}}",
            ),
        ],
    ),
    panel(
        "Streams",
        "By method; sessions that were cut because the node did not read.",
        "short",
        Lines,
        &[
            ("sum by (rpc_method) (swift_s3_control_rpc_streams)", "{{rpc_method}}"),
            ("sum(increase(swift_s3_control_sessions_cut_total[$__rate_interval]))", "cut"),
        ],
    ),
    panel(
        "Configuration",
        "Changes asked for, pushes, and what nodes answer.",
        "short",
        Lines,
        &[
            (
                "sum by (outcome) (increase(swift_s3_control_config_applies_total[$__rate_interval]))",
                "asked: {{outcome}}",
            ),
            ("sum(increase(swift_s3_control_config_pushes_total[$__rate_interval]))", "pushed"),
            (
                "sum by (outcome) (increase(swift_s3_control_config_answers_total[$__rate_interval]))",
                "answered: {{outcome}}",
            ),
        ],
    ),
    panel(
        "Until a node has it, p95",
        "From the push until it is in force there.",
        "s",
        Lines,
        &[(
            "histogram_quantile(0.95, sum by (le) (rate(swift_s3_control_config_push_duration_seconds_bucket[$__rate_interval])))",
            "p95",
        )],
    ),
    panel(
        "Making changes durable, p95",
        "In SQLite or etcd; and changes that wait.",
        "s",
        Lines,
        &[
            (
                "histogram_quantile(0.95, sum by (le, store, outcome) (rate(swift_s3_control_store_commit_duration_seconds_bucket[$__rate_interval])))",
                "{{store}} {{outcome}}",
            ),
            ("sum(swift_s3_control_store_queue)", "waiting"),
        ],
    ),
    panel(
        "On disk",
        "The state, and the history of lag.",
        "bytes",
        Lines,
        &[
            ("sum by (instance) (swift_s3_control_store_size_bytes)", "{{instance}} state"),
            ("sum by (instance) (swift_s3_control_history_size_bytes)", "{{instance}} history"),
        ],
    ),
    panel(
        "Web pages, p95",
        "By route; open connections and pages that follow.",
        "s",
        Lines,
        &[(
            "histogram_quantile(0.95, sum by (le, http_route) (rate(swift_s3_control_page_duration_seconds_bucket[$__rate_interval])))",
            "{{http_route}}",
        )],
    ),
    panel(
        "Browsers",
        "Open connections, and pages that follow what happens.",
        "short",
        Lines,
        &[
            ("sum(swift_s3_control_page_connections)", "connections"),
            ("sum(swift_s3_control_page_followers)", "followers"),
        ],
    ),
    panel(
        "Workers and shares",
        "By the way they share the work out; shares taken from workers that are gone.",
        "short",
        Lines,
        &[
            ("sum by (mode) (swift_s3_control_workers)", "{{mode}}"),
            ("sum(swift_s3_control_shares_taken)", "shares taken"),
            ("sum by (kind) (swift_s3_control_takeovers_day)", "shares {{kind}} within a day"),
            ("sum by (kind) (increase(swift_s3_control_takeovers_total[$__rate_interval]))", "{{kind}}"),
        ],
    ),
    panel(
        "What is followed",
        "Container databases, once for each worker; containers; audits under way.",
        "short",
        Lines,
        &[
            ("sum(swift_s3_control_feeds)", "databases"),
            (r#"sum(swift_s3_control_containers{mapping=~"$mapping"})"#, "containers"),
            ("sum(swift_s3_control_audits)", "audits"),
        ],
    ),
    panel(
        "Leadership",
        "How often somebody else led; how old the figures are.",
        "short",
        Lines,
        &[
            (
                "sum by (instance) (increase(swift_s3_control_leader_changes_total[$__rate_interval]))",
                "{{instance}} changes",
            ),
            ("max(swift_s3_control_figures_age_seconds)", "age of the figures"),
        ],
    ),
    panel(
        "Mappings",
        "Held by an operator, and those of which not everything is known.",
        "short",
        Lines,
        &[
            (r#"sum(swift_s3_control_mapping_paused{mapping=~"$mapping"})"#, "paused"),
            (
                r#"count(swift_s3_control_mapping_complete{mapping=~"$mapping"} == 0) or vector(0)"#,
                "not complete",
            ),
        ],
    ),
];
