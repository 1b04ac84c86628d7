#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use swift_s3_proto::v1::{Coordination, FailureCount, MappingUsage, Takeover};

use super::super::catalogue::METRICS;
use super::*;
use crate::overview::tests::overview;

const NOW: i64 = 1_700_000_000_000;

fn facts(overview: &Overview) -> Facts<'_> {
    Facts {
        overview,
        applied_at_ms: Some(NOW - 90_000),
        now_ms: NOW,
        feeds: 3,
        takeovers: (2, 1),
        slow_nodes: 4,
        audits: 5,
        queue: 6,
        store_bytes: Some(7),
        history_bytes: None,
    }
}

fn of(mappings: Vec<MappingStatus>) -> Overview {
    let mut overview = overview();
    overview.mappings = mappings;
    overview
}

/// Values by their labels' values.
fn told(figures: &Figures, metric: &Metric) -> BTreeMap<String, f64> {
    let values = figures.of(metric).iter().map(|(value, labels)| {
        let words: Vec<String> = labels.iter().map(|label| label.value.to_string()).collect();
        (words.join(" "), *value)
    });
    values.collect()
}

fn mapping(number: usize, lag: Option<Lag>) -> MappingStatus {
    MappingStatus { mapping_id: format!("m{number}"), lag, ..MappingStatus::default() }
}

#[test]
fn the_first_mappings_are_told_apart_and_the_others_together() {
    let lag = |rows, seconds| Some(Lag { rows, seconds, ..Lag::default() });
    let mut mappings: Vec<_> = (0..MAPPINGS).map(|number| mapping(number, lag(1, 1.0))).collect();
    mappings.extend([
        mapping(1_000, lag(10, 5.0)),
        mapping(1_001, None),
        MappingStatus { is_complete: true, is_paused: true, ..mapping(1_002, lag(20, 3.0)) },
    ]);
    let overview = of(mappings);
    let figures = Figures::new(&facts(&overview));
    for (metric, other) in
        [(&LAG_ROWS, 30.0), (&LAG_AGE, 5.0), (&PAUSED, 1.0), (&COMPLETE, 0.0), (&CONTAINERS, 0.0)]
    {
        let told = told(&figures, metric);
        assert_eq!(told.len(), MAPPINGS + 1, "{}", metric.name);
        assert_eq!(told.get(OTHER), Some(&other), "{}", metric.name);
    }
    assert_eq!(told(&figures, &LAG_ROWS).get("m7"), Some(&1.0));
}

#[test]
fn what_is_not_known_is_not_zero() {
    let overview = of(vec![mapping(0, None)]);
    let figures = Figures::new(&facts(&overview));
    for metric in [&LAG_ROWS, &LAG_AGE, &LAG_OBSERVED, &HELD, &REQUESTS, &COST, &HISTORY_SIZE] {
        assert!(figures.of(metric).is_empty(), "{}", metric.name);
    }
    assert_eq!(told(&figures, &PARKED), BTreeMap::from([("m0".to_owned(), 0.0)]));
    assert_eq!(told(&figures, &REVISION_AGE), BTreeMap::from([(String::new(), 90.0)]));
}

#[test]
fn costs_have_the_currency_of_the_price_table() {
    let usage = MappingUsage {
        usage: Some(RemoteUsage { writes: 3, bytes_sent: 40, ..RemoteUsage::default() }),
        cost: Some(0.5),
        currency: "EUR".to_owned(),
        ..MappingUsage::default()
    };
    let free = MappingUsage { cost: None, currency: String::new(), ..usage.clone() };
    let mappings = vec![
        MappingStatus { usage: Some(free), ..mapping(0, None) },
        MappingStatus { usage: Some(usage), ..mapping(1, None) },
    ];
    let figures = Figures::new(&facts(&of(mappings)));
    assert_eq!(told(&figures, &COST), BTreeMap::from([("m1 EUR".to_owned(), 0.5)]));
    assert_eq!(told(&figures, &REQUESTS).get("m0 write"), Some(&3.0));
    assert_eq!(told(&figures, &SENT).values().sum::<f64>(), 80.0);
}

#[test]
fn words_that_a_node_invents_are_no_labels() {
    let mut overview = overview();
    let count = |reason: &str, rows| FailureCount { reason: reason.to_owned(), rows };
    let secret = "AUTH_a/Photos of me";
    overview.status.failure_reasons = vec![
        count("remote_refused", 1),
        count(secret, 2),
        count("", 4),
        count("aaaa1", 3),
        count("other", 5),
    ];
    let figures = Figures::new(&facts(&overview));
    let expected = BTreeMap::from([("remote_refused".to_owned(), 1.0), (OTHER.to_owned(), 14.0)]);
    assert_eq!(told(&figures, &PARKED_BY_REASON), expected);
}

/// Workers may learn new reasons; then they belong here, too.
#[test]
fn reasons_that_workers_know_are_told_apart() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    let text = std::fs::read_to_string(format!("{folder}/../worker/src/reason.rs")).unwrap();
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""));
    let words: Vec<&str> = words.filter_map(|(_, rest)| rest.strip_suffix("\",")).collect();
    let known: Vec<&str> = REASONS.into_iter().chain([OTHER]).collect();
    assert_eq!(words, known);
}

#[test]
fn shares_that_changed_hands_are_counted_by_their_way() {
    let mut overview = overview();
    let takeover = |is_returned, shares| Takeover { is_returned, shares, ..Takeover::default() };
    overview.nodes.first_mut().unwrap().coordination = Some(Coordination {
        mode: CoordinationMode::Explicit.into(),
        shares_taken: 9,
        takeovers: vec![takeover(false, 5), takeover(false, 2), takeover(true, 3)],
        ..Coordination::default()
    });
    let figures = Figures::new(&facts(&overview));
    let expected = BTreeMap::from([("taken".to_owned(), 7.0), ("returned".to_owned(), 3.0)]);
    assert_eq!(told(&figures, &TAKEOVERS), expected);
    assert_eq!(told(&figures, &SHARES_TAKEN).values().sum::<f64>(), 9.0);
    assert_eq!(told(&figures, &SHARING).get("explicit"), Some(&1.0));
    assert_eq!(told(&figures, &NODES).get("worker in_force"), Some(&1.0));
    assert_eq!(told(&figures, &NODES).len(), 8);
}

#[test]
fn labels_are_those_that_are_declared() {
    let figures = Figures::new(&facts(&overview()));
    assert!(figures.values.len() > 10);
    for (name, values) in &figures.values {
        let metric = METRICS.iter().find(|metric| metric.name == *name).unwrap();
        for (_, labels) in values {
            let keys: Vec<&str> = labels.iter().map(|label| label.key.as_str()).collect();
            assert_eq!(keys, metric.labels, "{name}");
        }
    }
}
