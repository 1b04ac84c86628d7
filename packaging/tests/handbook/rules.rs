//! The rules of Prometheus, run by its own tool.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::links::anchors;
use crate::root::{read, root};

const RULES: &str = "packaging/prometheus/swift-s3-sync.rules.yml";
const BOOK: &str = "https://github.com/swift-s3-sync/swift-s3-sync/blob/main/docs/runbooks.md#";

fn tool() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let ours = cache.map(|cache| cache.join("swift-s3-sync/tools/promtool")).filter(|path| path.is_file());
    ours.unwrap_or_else(|| PathBuf::from("promtool"))
}

/// Runs promtool; it must be content.
pub(crate) fn promtool(arguments: &[&str]) {
    let output =
        Command::new(tool()).args(arguments).output().expect("promtool, which `make setup` installs");
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {told}");
}

#[test]
fn rules_pass_their_unit_tests() {
    let folder = root().join("packaging/prometheus");
    promtool(&["check", "rules", folder.join("swift-s3-sync.rules.yml").to_str().unwrap()]);
    promtool(&["test", "rules", folder.join("swift-s3-sync.rules.test.yml").to_str().unwrap()]);
}

/// The budget in the file is none, so it is set for this.
#[test]
fn a_budget_is_told_when_it_is_spent_and_before() {
    let folder = tempfile::tempdir().unwrap();
    let rules = read(&root().join(RULES)).replace("vector(Inf)", "vector(5000)");
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let tests = "
rule_files: [rules.yml]
evaluation_interval: 5m
tests:
  - interval: 5m
    input_series:
      - series: 'swift_s3_control_month_cost{job=\"swift-s3-control\", mapping=\"m\", currency=\"USD\"}'
        values: '0+50x200'
    promql_expr_test:
      - {expr: 'group by (alertname) (ALERTS{alertstate=\"firing\"})', eval_time: 5h, exp_samples: []}
      - expr: group by (alertname) (ALERTS{alertstate=\"firing\"})
        eval_time: 15h
        exp_samples:
          - {labels: '{alertname=\"SwiftS3CostAboveBudget\"}', value: 1}
          - {labels: '{alertname=\"SwiftS3CostWillExceedBudget\"}', value: 1}
";
    let path = folder.path().join("tests.yml");
    std::fs::write(&path, tests).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()]);
}

#[test]
fn every_alert_is_tested_and_leads_to_a_runbook() {
    let rules = read(&root().join(RULES));
    // The budget's alerts are tested in this file.
    let tests =
        read(&root().join("packaging/prometheus/swift-s3-sync.rules.test.yml")) + include_str!("rules.rs");
    let tested: BTreeSet<&str> = tests.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let sections = anchors(&read(&root().join("docs/runbooks.md")));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 30);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(tested.contains(name), "no test has {name} fire");
        for part in ["for: ", "severity: ", "summary: ", "description: ", "runbook_url: "] {
            assert_eq!(alert.matches(part).count(), 1, "{name}: {part}");
        }
        let url = alert.split("runbook_url: ").nth(1).unwrap().lines().next().unwrap();
        let anchor = url.strip_prefix(BOOK).unwrap_or_else(|| panic!("{name}: {url}"));
        assert!(sections.contains(anchor), "{name}: docs/runbooks.md has no #{anchor}");
        assert!(
            read(&root().join("docs/runbooks.md")).contains(&format!("`{name}`")),
            "docs/runbooks.md does not name {name}"
        );
    }
}
