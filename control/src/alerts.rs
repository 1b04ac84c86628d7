//! What needs a person, in words, most urgent first. Pure: the same facts give the same alerts.

use swift_s3_proto::v1::{CoordinationMode, MappingStatus, NodeState};

use crate::control::shown;
use crate::registry::NodeView;
use crate::time;

/// A clock that is off by more disturbs when rows are due.
const CLOCK_SKEW_SECONDS: f64 = 30.0;
/// Alerts of one kind; the rest is counted.
const EACH: usize = 10;
/// The longest alert.
const MAX_CHARACTERS: usize = 500;

/// What is known.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The revision in force; 0: none.
    pub revision: i64,
    /// All nodes.
    pub nodes: &'a [NodeView],
    /// All mappings.
    pub mappings: &'a [MappingStatus],
    /// Why the last write to the database failed.
    pub store_trouble: Option<&'a str>,
    /// Now.
    pub now_ms: i64,
}

/// The alerts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// In words, most urgent first, of each kind the first only. Empty: all is well.
    pub texts: Vec<String>,
    /// All kinds, with their severity (`critical`: something is not carried, or a person must decide; `warning`) and how many
    /// there are.
    pub counts: Vec<(&'static str, &'static str, u64)>,
}

/// The alerts.
#[must_use]
pub fn alerts(facts: &Facts<'_>) -> Alerts {
    const CRITICAL: &str = "critical";
    const WARNING: &str = "warning";
    let trouble = facts.store_trouble.map(|trouble| format!("control cannot store progress: {trouble}"));
    let none_applied = (facts.revision == 0).then(|| "no configuration was applied yet".to_owned());
    let kinds = [
        ("control_store", CRITICAL, trouble.into_iter().collect()),
        ("no_configuration", WARNING, none_applied.into_iter().collect()),
        ("held_deletes", CRITICAL, held_deletes(facts)),
        ("refused_configuration", CRITICAL, rejections(facts)),
        ("silent_node", CRITICAL, silent_nodes(facts)),
        ("refused_report", CRITICAL, refused_reports(facts)),
        ("refused_mapping", CRITICAL, refused_mappings(facts)),
        ("remote", CRITICAL, remotes(facts)),
        ("failures", WARNING, failures(facts)),
        ("clock", WARNING, clocks(facts)),
        ("coordination_fallback", WARNING, fallbacks(facts)),
    ];
    let mut all = Alerts::default();
    for (kind, severity, mut alerts) in kinds {
        all.counts.push((kind, severity, u64::try_from(alerts.len()).unwrap_or(u64::MAX)));
        let more = alerts.len().saturating_sub(EACH);
        alerts.truncate(EACH);
        all.texts.append(&mut alerts);
        if more > 0 {
            all.texts.push(format!("… and {more} more of this kind"));
        }
    }
    for alert in &mut all.texts {
        if alert.chars().count() > MAX_CHARACTERS {
            *alert = alert.chars().take(MAX_CHARACTERS).chain(['…']).collect();
        }
    }
    all
}

fn label(mapping: &MappingStatus) -> String {
    format!(
        "mapping {} ({}/{})",
        mapping.mapping_id,
        mapping.account,
        mapping.container.trim_start_matches('/')
    )
}

fn held_deletes(facts: &Facts<'_>) -> Vec<String> {
    let alert = |mapping: &MappingStatus| {
        let since = time::shown(time::milliseconds(mapping.deletes_held_at.as_ref()?));
        let held = mapping.lag.as_ref().map_or(0, |lag| lag.deletes_held);
        Some(format!(
            "{} holds {held} or more deletes since {since}: too many at once; look at them, then release or restore",
            label(mapping)
        ))
    };
    facts.mappings.iter().filter_map(alert).collect()
}

fn rejections(facts: &Facts<'_>) -> Vec<String> {
    let alert = |node: &NodeView| {
        let answer = node.answer.as_ref()?;
        let first = answer.problems.first().map_or_else(|| "it gave no reason".to_owned(), shown);
        Some(format!(
            "node {} refused some or all of revision {}: {first}",
            node.record.node_id, facts.revision
        ))
    };
    let refused = facts.nodes.iter().filter(|node| node.state(facts.revision) == NodeState::Rejected);
    refused.filter_map(alert).collect()
}

fn silent_nodes(facts: &Facts<'_>) -> Vec<String> {
    let alert = |node: &NodeView| {
        let record = &node.record;
        let seconds = facts.now_ms.saturating_sub(record.last_seen_at_ms).max(0) / 1_000;
        format!(
            "node {} on host {:?} is silent for {seconds} s, since {}",
            record.node_id,
            record.host,
            time::shown(record.last_seen_at_ms)
        )
    };
    facts.nodes.iter().filter(|node| !node.is_live).map(alert).collect()
}

fn refused_reports(facts: &Facts<'_>) -> Vec<String> {
    let alert = |node: &NodeView| {
        let why = node.refused_report.as_ref()?;
        Some(format!("progress of node {} is not stored: its report was refused: {why}", node.record.node_id))
    };
    facts.nodes.iter().filter_map(alert).collect()
}

fn fallbacks(facts: &Facts<'_>) -> Vec<String> {
    let alert = |node: &NodeView| {
        let coordination = node.coordination.as_ref()?;
        (coordination.mode() == CoordinationMode::Fallback).then(|| {
            format!(
                "worker {} cannot use etcd and works by the implicit rules: {}",
                node.record.node_id, coordination.trouble
            )
        })
    };
    facts.nodes.iter().filter_map(alert).collect()
}

fn refused_mappings(facts: &Facts<'_>) -> Vec<String> {
    by_trouble(facts, |trouble| &trouble.refused, "is not in force")
}

fn remotes(facts: &Facts<'_>) -> Vec<String> {
    by_trouble(facts, |trouble| &trouble.remote_trouble, "leaves its remote alone")
}

/// One alert for each mapping: a remote that is down is down for all nodes.
fn by_trouble(
    facts: &Facts<'_>,
    text: fn(&swift_s3_proto::v1::MappingTrouble) -> &String,
    what: &str,
) -> Vec<String> {
    let alert = |mapping: &MappingStatus| {
        let mut troubles = mapping.troubles.iter().filter(|trouble| !text(trouble).is_empty());
        let first = troubles.next()?;
        let others = match troubles.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!("{} {what} on node {}{others}: {}", label(mapping), first.node_id, text(first)))
    };
    facts.mappings.iter().filter_map(alert).collect()
}

fn failures(facts: &Facts<'_>) -> Vec<String> {
    let failed = facts.mappings.iter().filter(|mapping| mapping.failures > 0);
    failed
        .map(|mapping| format!("{}: {} rows set aside after failures", label(mapping), mapping.failures))
        .collect()
}

fn clocks(facts: &Facts<'_>) -> Vec<String> {
    let off = facts.nodes.iter().filter_map(|node| {
        let skew = node.clock_skew_seconds.filter(|skew| skew.abs() > CLOCK_SKEW_SECONDS)?;
        let way = if skew > 0.0 { "ahead of" } else { "behind" };
        let off = skew.abs();
        Some(format!("the clock of node {} is {off:.0} s {way} the clock here", node.record.node_id))
    });
    off.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use swift_s3_proto::v1::{ConfigOutcome, Lag, MappingTrouble, Problem};

    use super::*;
    use crate::registry::Answer;
    use crate::store::NodeRecord;

    const NOW: i64 = 1_700_000_060_000;

    fn node(id: &str) -> NodeView {
        NodeView {
            record: NodeRecord {
                node_id: id.to_owned(),
                role: 1,
                version: "0.1.0".to_owned(),
                host: "host".to_owned(),
                addresses: Vec::new(),
                capabilities: Vec::new(),
                revision: 7,
                last_seen_at_ms: NOW - 60_000,
                is_lost: false,
            },
            is_live: true,
            connected_at_ms: Some(NOW),
            answer: Some(Answer {
                revision: 7,
                generation: 1,
                outcome: ConfigOutcome::Applied,
                problems: Arc::default(),
                took: Duration::from_secs(1),
            }),
            health: Arc::default(),
            clock_skew_seconds: Some(0.5),
            coordination: None,
            load: None,
            refused_report: None,
        }
    }

    fn mapping() -> MappingStatus {
        MappingStatus {
            mapping_id: "abc".to_owned(),
            account: "AUTH_a".to_owned(),
            container: "/*".to_owned(),
            ..MappingStatus::default()
        }
    }

    fn told(nodes: &[NodeView], mappings: &[MappingStatus]) -> Vec<String> {
        alerts(&Facts { revision: 7, nodes, mappings, store_trouble: None, now_ms: NOW }).texts
    }

    #[test]
    fn all_is_well() {
        assert!(told(&[node("a")], &[mapping()]).is_empty());
        assert!(told(&[], &[]).is_empty());
    }

    #[test]
    fn each_kind_of_trouble_is_told_once() {
        let mut rejected = node("r");
        if let Some(answer) = &mut rejected.answer {
            answer.outcome = ConfigOutcome::PartlyApplied;
            answer.problems = Arc::from([Problem {
                path: "containers[1]".to_owned(),
                found: "x".to_owned(),
                ..Problem::default()
            }]);
        }
        let silent = NodeView { is_live: false, ..node("s") };
        let ahead = NodeView { clock_skew_seconds: Some(31.0), ..node("c") };
        let refused = NodeView { refused_report: Some("too long".to_owned()), ..node("t") };
        let trouble = |node: &str| MappingTrouble {
            node_id: node.to_owned(),
            refused: String::new(),
            remote_trouble: "no credentials".to_owned(),
        };
        let mut mapping = mapping();
        mapping.deletes_held_at = Some(time::timestamp(NOW));
        mapping.lag = Some(Lag { deletes_held: 12, ..Lag::default() });
        mapping.failures = 3;
        mapping.troubles = vec![trouble("a"), trouble("b")];
        let nodes = [ahead, rejected, silent, refused];
        let facts = Facts {
            revision: 7,
            nodes: &nodes,
            mappings: &[mapping],
            store_trouble: Some("full"),
            now_ms: NOW,
        };
        let alerts = alerts(&facts);
        let counted: u64 = alerts.counts.iter().map(|(_, _, count)| count).sum();
        assert_eq!(usize::try_from(counted).ok(), Some(alerts.texts.len()));
        assert_eq!(
            alerts.texts,
            [
                "control cannot store progress: full",
                "mapping abc (AUTH_a/*) holds 12 or more deletes since 2023-11-14 22:14:20Z: too many at once; look at them, \
                 then release or restore",
                "node r refused some or all of revision 7: containers[1]: x",
                "node s on host \"host\" is silent for 60 s, since 2023-11-14 22:13:20Z",
                "progress of node t is not stored: its report was refused: too long",
                "mapping abc (AUTH_a/*) leaves its remote alone on node a and 1 more: no credentials",
                "mapping abc (AUTH_a/*): 3 rows set aside after failures",
                "the clock of node c is 31 s ahead of the clock here",
            ]
        );
    }

    #[test]
    fn many_of_a_kind_are_counted() {
        let silent: Vec<NodeView> =
            (0..25).map(|index| NodeView { is_live: false, ..node(&format!("n{index:02}")) }).collect();
        let facts = Facts { revision: 7, nodes: &silent, mappings: &[], store_trouble: None, now_ms: NOW };
        let Alerts { texts: alerts, counts } = alerts(&facts);
        assert!(counts.contains(&("silent_node", "critical", 25)), "{counts:?}");
        assert_eq!(alerts.len(), EACH + 1);
        assert_eq!(alerts.last().map(String::as_str), Some("… and 15 more of this kind"));
    }

    #[test]
    fn without_a_configuration_nothing_else_can_be_right() {
        let facts = Facts { revision: 0, nodes: &[], mappings: &[], store_trouble: None, now_ms: NOW };
        assert_eq!(alerts(&facts).texts, ["no configuration was applied yet"]);
    }
}
