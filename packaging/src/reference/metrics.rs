//! Every metric of every process.

use swift_s3_daemon::metrics::{Kind, Metric, PROCESS_METRICS};

use super::{MADE, table};

/// The metrics of one program.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMetrics {
    /// Its name.
    pub program: &'static str,
    /// What it tells beside what every process does.
    pub metrics: &'static [&'static Metric],
}

/// All programs that have metrics.
pub const PROCESSES: [ProcessMetrics; 3] = [
    ProcessMetrics { program: "swift-s3-control", metrics: swift_s3_control::metrics::METRICS },
    ProcessMetrics { program: "swift-s3-sync", metrics: swift_s3_worker::metrics::METRICS },
    ProcessMetrics { program: "swift-s3-shunt", metrics: swift_s3_shunt::metrics::METRICS },
];

const INTRODUCTION: &str = "\
Every process serves its metrics to Prometheus at `/metrics` of `--admin-listen`, and pushes them by OTLP where `--otlp-endpoint` is given. \
How to connect either, the alerts and the dashboard: [observability](../observability.md).

Names on the left are OpenTelemetry's; Prometheus knows them by the second column. Of a histogram it has `…_bucket`, `…_sum` and `…_count`. \
In labels, too, Prometheus sees `_` for `.`. Values of labels come from small fixed sets, and `mapping` has at most 200 besides `other`: no \
label is ever an account, a container or an object.
";

/// The page.
pub(super) fn page() -> String {
    let mut text = format!("# Metrics\n\n{MADE}\n\n{INTRODUCTION}");
    text.push_str(&section("Every process", PROCESS_METRICS));
    for process in PROCESSES {
        text.push_str(&section(process.program, process.metrics));
    }
    text
}

fn section(title: &str, metrics: &[&Metric]) -> String {
    let rows = metrics.iter().map(|metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        vec![
            format!("`{}`", metric.name),
            format!("`{}`", metric.prometheus_name()),
            match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            }
            .to_owned(),
            unit(metric.unit),
            labels.join(", "),
            metric.help.to_owned(),
        ]
    });
    let table = table(&["OpenTelemetry", "Prometheus", "kind", "unit", "labels", "what it says"], rows);
    format!("\n## {title}\n\n{table}")
}

/// For people: `{object}` counts objects.
fn unit(unit: &str) -> String {
    match unit {
        "s" => "seconds".to_owned(),
        "By" => "bytes".to_owned(),
        "" | "1" => String::new(),
        other => other.trim_matches(['{', '}']).replace('_', " "),
    }
}
