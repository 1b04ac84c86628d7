//! Rules, dashboard and handbook against the metrics in the code, both ways.

use std::collections::{BTreeMap, BTreeSet};

use swift_s3_daemon::metrics::{Kind, Metric, PROCESS_METRICS};
use swift_s3_packaging::dashboard;
use swift_s3_packaging::reference::PROCESSES;

use crate::promql::{Asked, asked};
use crate::root::{name, pages, read, root};

/// What Prometheus itself adds.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];
const LABELS_OF_PROMETHEUS: [&str; 4] = ["job", "instance", "le", "alertname"];
/// Metrics that are on purpose on no panel and in no rule.
const NOT_SHOWN: [&str; 1] = [
    // Read together with the age of reports, which is shown.
    "swift_s3_sync.control.state.age",
];

fn catalogue() -> Vec<&'static Metric> {
    let mut all: Vec<&Metric> = PROCESS_METRICS.to_vec();
    for process in PROCESSES {
        all.extend(process.metrics);
    }
    all
}

/// Every name that a scrape shows, with its metric.
fn exposed() -> BTreeMap<String, Vec<&'static Metric>> {
    let mut names: BTreeMap<String, Vec<&Metric>> = BTreeMap::new();
    for metric in catalogue() {
        let name = metric.prometheus_name();
        let suffixes: &[&str] = match metric.kind {
            Kind::Histogram(_) => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        for suffix in suffixes {
            names.entry(format!("{name}{suffix}")).or_default().push(metric);
        }
    }
    names
}

fn labels_of(metric: &Metric) -> impl Iterator<Item = String> {
    metric.labels.iter().map(|label| label.replace('.', "_"))
}

/// The expressions of the rules, each with where it stands, and the names that rules record.
fn of_rules() -> (Vec<(String, String)>, BTreeSet<String>) {
    let text = read(&root().join("packaging/prometheus/swift-s3-sync.rules.yml"));
    let (mut expressions, mut recorded) = (Vec::new(), BTreeSet::new());
    let mut place = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("- record: ") {
            recorded.insert(name.to_owned());
            name.clone_into(&mut place);
        } else if let Some(name) = line.strip_prefix("- alert: ") {
            name.clone_into(&mut place);
        } else if let Some(expression) = line.strip_prefix("expr: ") {
            let mut expression = expression.trim_start_matches("|-").to_owned();
            while lines.peek().is_some_and(|next| next.starts_with("          ")) {
                expression.push(' ');
                expression.push_str(lines.next().unwrap().trim());
            }
            expressions.push((place.clone(), expression));
        }
    }
    assert!(expressions.len() > 40 && recorded.len() > 5, "{}", expressions.len());
    (expressions, recorded)
}

fn of_dashboard() -> Vec<(String, String)> {
    let panels = dashboard::rows().into_iter().flat_map(|row| row.panels);
    let queries = panels.flat_map(|panel| panel.queries.iter().map(|query| (panel.title, query.0)));
    queries.map(|(title, query)| (format!("panel {title:?}"), query.to_owned())).collect()
}

fn check(place: &str, asked: &Asked, recorded: &BTreeSet<String>, wrong: &mut Vec<String>) {
    let exposed = exposed();
    let mut known: BTreeSet<String> = LABELS_OF_PROMETHEUS.map(str::to_owned).into();
    for metric in &asked.metrics {
        match exposed.get(metric) {
            Some(metrics) => known.extend(metrics.iter().flat_map(|metric| labels_of(metric))),
            None if recorded.contains(metric) => {
                known.extend(["mapping", "reason", "currency", "action", "result"].map(str::to_owned));
            }
            None if OF_PROMETHEUS.contains(&metric.as_str()) => {}
            None => wrong.push(format!("{place}: there is no metric {metric}")),
        }
    }
    for (metric, label) in &asked.matched {
        let Some(metrics) = exposed.get(metric) else { continue };
        let has = metrics.iter().flat_map(|metric| labels_of(metric)).any(|known| known == *label);
        if !has && !LABELS_OF_PROMETHEUS.contains(&label.as_str()) {
            wrong.push(format!("{place}: {metric} has no label {label}"));
        }
    }
    for label in asked.grouped.iter().filter(|label| !known.contains(*label)) {
        wrong.push(format!("{place}: no metric of it has the label {label}"));
    }
}

#[test]
fn rules_and_dashboard_ask_for_what_exists() {
    let (rules, recorded) = of_rules();
    let mut wrong = Vec::new();
    for (place, expression) in rules.into_iter().chain(of_dashboard()) {
        check(&place, &asked(&expression), &recorded, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_exists_is_on_the_dashboard_or_in_a_rule() {
    let (rules, recorded) = of_rules();
    let asked: BTreeSet<String> = rules
        .into_iter()
        .chain(of_dashboard())
        .flat_map(|(_, expression)| asked(&expression).metrics)
        .collect();
    let exposed = exposed();
    let names = |metric: &Metric| {
        exposed.iter().filter(|(_, metrics)| metrics.contains(&metric)).any(|(name, _)| asked.contains(name))
    };
    let forgotten: BTreeSet<&str> =
        catalogue().into_iter().filter(|metric| !names(metric)).map(|metric| metric.name).collect();
    assert_eq!(forgotten, BTreeSet::from(NOT_SHOWN), "show them, or say here why not");
    let unused: Vec<&String> = recorded.iter().filter(|name| !asked.contains(*name)).collect();
    // For whoever builds dashboards of their own.
    let for_others = [
        "swift_s3_sync:lag_size_bytes:sum",
        "swift_s3_sync:object_actions:rate5m",
        "swift_s3_sync:propagation_delay_seconds:p99",
    ];
    assert_eq!(unused, for_others, "recorded for nobody");
}

#[test]
fn expressions_of_the_dashboard_are_well_formed() {
    let mut text = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, (_, expression)) in of_dashboard().into_iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m").replace('\'', "''");
        text.push_str(&format!("  - record: panel:{number}\n    expr: '{expression}'\n"));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dashboard.yml");
    std::fs::write(&path, text).unwrap();
    crate::rules::promtool(&["check", "rules", path.to_str().unwrap()]);
}

/// Names in code, such as `swift_s3_sync.lag.rows` or `swift_s3_sync_lag_rows`.
#[test]
fn the_handbook_names_metrics_that_exist() {
    let (_, recorded) = of_rules();
    let exposed: BTreeSet<String> = exposed().into_keys().chain(recorded).collect();
    let told: BTreeSet<&str> = catalogue().iter().map(|metric| metric.name).collect();
    let bases: BTreeSet<String> = catalogue().iter().map(|metric| metric.prometheus_name()).collect();
    let mut wrong = Vec::new();
    // The changelog tells of names that are gone.
    for page in pages().into_iter().filter(|page| name(page) != "CHANGELOG.md") {
        let text = read(&page);
        let pieces =
            text.split(['`', ' ', '\n', '(', '{', ',']).map(|piece| piece.trim_end_matches(['.', ')', ';']));
        for piece in pieces {
            let is_name = ["swift_s3_sync", "swift_s3_shunt", "swift_s3_control"].iter().any(|prefix| {
                piece
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with(['.', '_', ':']) && !rest.starts_with(".v1"))
            });
            let is_plain = piece.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':'));
            let is_code = piece.contains("::") || piece.contains(".mapping.id");
            if is_name
                && is_plain
                && !is_code
                && !told.contains(piece)
                && !exposed.contains(piece)
                && !bases.contains(piece)
            {
                wrong.push(format!("{}: {piece}", name(&page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
