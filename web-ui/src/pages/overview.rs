//! The first page: is everything mirrored, and if not, what is stuck and why.

use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use swift_s3_proto::v1::{
    ClusterStatus, FailureCount, GetStatusRequest, MappingStatus, NodeState, NodeStatus,
};

use super::history::{self, Chart};
use super::{Behind, Tone, Word, node_state};
use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::{Form, Visit};

/// Mappings in the list of those furthest behind.
const WORST: usize = 20;
/// Nodes in the list of those that are not well.
const LATE: u32 = 20;

/// Further behind than this deserves a look, in seconds. Amazon's own replication promises 15 minutes.
const LATE_SECONDS: f64 = 900.0;

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// When this was so, RFC 3339.
    pub as_of: String,
    /// One sentence.
    pub health: Health,
    /// What needs a person, most urgent first.
    pub alerts: Vec<String>,
    /// All mappings together.
    pub behind: Behind,
    /// Objects carried per second, over the last minute.
    pub rows_per_second: f64,
    /// Bytes sent per second, over the last minute.
    pub bytes_per_second: f64,
    /// The revision in force; 0: none.
    pub revision: i64,
    /// Mappings.
    pub mappings: u32,
    /// Mappings that are paused.
    pub mappings_paused: u32,
    /// Mappings whose deletes are held.
    pub mappings_holding_deletes: u32,
    /// Containers that are followed.
    pub containers: u64,
    /// Rows set aside after failures.
    pub failures: u64,
    /// Those by reason, the most frequent first.
    pub reasons: Vec<Reason>,
    /// Mappings furthest behind first; those that have nothing to do are left out.
    pub worst: Vec<Bar>,
    /// Mappings that are behind and not in `worst`.
    pub worst_left_out: usize,
    /// Nodes by state.
    pub nodes: Vec<NodesInState>,
    /// Nodes that are not well.
    pub late_nodes: Vec<LateNode>,
    /// Workers by the way they share out the work, in words.
    pub coordination: String,
    #[serde(skip)]
    rate_text: (String, String),
    #[serde(skip)]
    charts: Vec<Chart>,
}

/// How it is, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How it is meant.
    pub tone: Tone,
    /// The sentence.
    pub sentence: String,
}

/// Rows set aside for one reason.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// The class.
    pub reason: String,
    /// How many.
    pub rows: u64,
}

impl Reason {
    /// From the contract, in the order that it has there.
    #[must_use]
    pub fn all(counts: &[FailureCount]) -> Vec<Self> {
        counts.iter().map(|count| Self { reason: count.reason.clone(), rows: count.rows }).collect()
    }
}

/// A mapping in the list.
#[derive(Debug, Serialize)]
pub struct Bar {
    /// Its id.
    pub mapping_id: String,
    /// Account and container.
    pub name: String,
    /// Where it goes.
    pub remote: String,
    /// How far.
    pub behind: Behind,
    /// Of the longest bar, 0 to 100.
    pub percent: u8,
    /// Paused, holding deletes, or in trouble.
    pub notes: Vec<Word>,
}

/// Nodes in one state.
#[derive(Debug, Serialize)]
pub struct NodesInState {
    /// Which.
    pub state: Word,
    /// How many.
    pub count: u32,
}

/// A node that is not well.
#[derive(Debug, Serialize)]
pub struct LateNode {
    /// Its id.
    pub node_id: String,
    /// How it stands.
    pub state: Word,
    /// Last seen, in words.
    pub seen: String,
    /// The revision in force there.
    pub revision: i64,
}

/// `GET /`
pub async fn show(visit: Visit) -> Response {
    let has_charts = visit.form == Form::Html;
    page::show(visit, "/", Box::new(move |api| Box::pin(load(api, has_charts)))).await
}

async fn load(api: Api, has_charts: bool) -> Result<Overview, Failure> {
    let mut client = api.status();
    let (status, mappings, gone, refusing, stale, past) = tokio::join!(
        call(client.get_status(GetStatusRequest {})),
        api.mappings(),
        api.nodes_in(NodeState::NotSeen, LATE),
        api.nodes_in(NodeState::Rejected, LATE),
        api.nodes_in(NodeState::Stale, LATE),
        history::past_if(has_charts, &api, "")
    );
    let nodes = [gone?, refusing?, stale?].concat();
    let mut shown = overview(&status?, &mappings?, &nodes, Timestamp::now());
    // The page is worth showing without its past.
    shown.charts =
        history::charts("", history::DAY, past.as_ref(), &["lag", "rows_per_second", "bytes_per_second"]);
    Ok(shown)
}

fn overview(
    status: &ClusterStatus,
    mappings: &[MappingStatus],
    late: &[NodeStatus],
    now: Timestamp,
) -> Overview {
    let (worst, worst_left_out) = worst(mappings);
    // The sum of nothing would be a negative zero.
    let rows_per_second = mappings.iter().fold(0.0, |sum, mapping| sum + mapping.rows_per_second);
    let bytes_per_second = mappings.iter().fold(0.0, |sum, mapping| sum + mapping.bytes_per_second);
    Overview {
        as_of: now.round(jiff::Unit::Second).unwrap_or(now).to_string(),
        health: health(status, rows_per_second),
        alerts: status.alerts.clone(),
        behind: Behind::new(status.lag.as_ref(), status.is_complete),
        rows_per_second,
        bytes_per_second,
        revision: status.revision,
        mappings: status.mappings,
        mappings_paused: status.mappings_paused,
        mappings_holding_deletes: status.mappings_holding_deletes,
        containers: status.containers,
        failures: status.failures,
        reasons: Reason::all(&status.failure_reasons),
        worst,
        worst_left_out,
        nodes: status
            .nodes
            .iter()
            .map(|nodes| NodesInState { state: node_state(nodes.state()), count: nodes.count })
            .collect(),
        late_nodes: late
            .iter()
            .take(usize::try_from(LATE).unwrap_or(usize::MAX))
            .map(|node| late_node(node, now))
            .collect(),
        coordination: coordination(status),
        charts: Vec::new(),
        rate_text: (units::row_rate(rows_per_second), units::byte_rate(bytes_per_second)),
    }
}

fn late_node(node: &NodeStatus, now: Timestamp) -> LateNode {
    LateNode {
        node_id: node.node_id.clone(),
        state: node_state(node.state()),
        seen: match &node.last_seen_at {
            None => "never".to_owned(),
            Some(at) => format!("{} ago", units::age(Some(at), now)),
        },
        revision: node.revision,
    }
}

fn coordination(status: &ClusterStatus) -> String {
    let words: Vec<String> = status
        .coordination
        .iter()
        .map(|count| {
            let workers = units::count(count.workers.into(), "worker");
            format!("{workers} {}", super::coordination_mode(count.mode()).text)
        })
        .collect();
    words.join(", ")
}

/// How it is, in one sentence. Nothing being known is never taken for well.
fn health(status: &ClusterStatus, rows_per_second: f64) -> Health {
    let connected: u32 = status
        .nodes
        .iter()
        .filter(|nodes| nodes.state() != NodeState::NotSeen)
        .map(|nodes| nodes.count)
        .sum();
    let say = |tone, sentence: String| Health { tone, sentence };
    if status.revision == 0 {
        return say(Tone::Odd, "Nothing is configured yet.".to_owned());
    }
    let Some(lag) = &status.lag else {
        return match (status.mappings, connected) {
            (0, _) => say(Tone::Odd, "Nothing is mapped, so nothing is mirrored.".to_owned()),
            (_, 0) => say(
                Tone::Bad,
                "No node is connected: nothing is mirrored, and how far behind that is cannot be told."
                    .to_owned(),
            ),
            _ => say(Tone::Odd, "No node has told yet how far it is.".to_owned()),
        };
    };
    let at_least = if status.is_complete { "" } else { "at least " };
    let progress = if lag.rows == 0 {
        match status.is_complete {
            true => "Everything that is due is mirrored".to_owned(),
            false => "What is known is mirrored, but some nodes are silent or were never seen".to_owned(),
        }
    } else {
        let objects = units::count(lag.rows, "object");
        let so_far = format!(
            "Mirroring is {at_least}{} behind, with {at_least}{objects} ({}) to go",
            units::seconds(lag.seconds),
            units::bytes(lag.bytes)
        );
        let is_moving = rows_per_second > 0.0 && status.is_complete && status.mappings_paused == 0;
        #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
        let rest = lag.rows as f64 / rows_per_second.max(f64::MIN_POSITIVE);
        if is_moving {
            format!("{so_far}, about {} more at this rate", units::seconds(rest.round()))
        } else {
            so_far
        }
    };
    if let Some(first) = status.alerts.first() {
        let others = status.alerts.len().saturating_sub(1);
        let more = if others == 0 { String::new() } else { format!(" (and {others} more)") };
        return say(Tone::Bad, format!("{progress}. Needs a person: {}{more}.", first.trim_end_matches('.')));
    }
    if status.failures > 0 {
        let failures = units::count(status.failures, "change");
        return say(Tone::Odd, format!("{progress}; {failures} failed and will be tried again."));
    }
    let is_late = lag.seconds > LATE_SECONDS || status.mappings_paused > 0;
    let tone = if status.is_complete && !is_late { Tone::Good } else { Tone::Odd };
    match status.mappings_paused {
        0 => say(tone, format!("{progress}.")),
        1 => say(tone, format!("{progress}; 1 mapping is paused.")),
        paused => say(tone, format!("{progress}; {paused} mappings are paused.")),
    }
}

/// Those furthest behind, unknown ones first, and how many more there are.
fn worst(mappings: &[MappingStatus]) -> (Vec<Bar>, usize) {
    let seconds = |mapping: &MappingStatus| mapping.lag.as_ref().map_or(f64::INFINITY, |lag| lag.seconds);
    let needs_a_look = |mapping: &&MappingStatus| {
        !mapping.is_complete
            || mapping.lag.as_ref().is_none_or(|lag| lag.rows > 0)
            || mapping.failures > 0
            || mapping.deletes_held_at.is_some()
            || !mapping.troubles.is_empty()
    };
    let mut behind: Vec<&MappingStatus> = mappings.iter().filter(needs_a_look).collect();
    behind.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)).then_with(|| b.failures.cmp(&a.failures)));
    let longest = behind.iter().map(|mapping| seconds(mapping)).filter(|seconds| seconds.is_finite());
    let longest = longest.fold(0.0, f64::max);
    let bars = behind.iter().take(WORST).map(|mapping| bar(mapping, longest)).collect();
    (bars, behind.len().saturating_sub(WORST))
}

fn bar(mapping: &MappingStatus, longest: f64) -> Bar {
    let seconds = mapping.lag.as_ref().map_or(0.0, |lag| lag.seconds);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates; 0 to 100")]
    let percent = if longest > 0.0 { (seconds / longest * 100.0).clamp(0.0, 100.0).round() as u8 } else { 0 };
    Bar {
        mapping_id: mapping.mapping_id.clone(),
        name: super::mapping_name(mapping),
        remote: mapping.remote.clone(),
        behind: Behind::new(mapping.lag.as_ref(), mapping.is_complete),
        percent,
        notes: super::mapping_notes(mapping),
    }
}

crate::templates!(Overview, "overview.html", |_| "Overview".to_owned());

#[cfg(test)]
mod tests {
    use super::*;
    use swift_s3_proto::v1::{Lag, NodeCount};

    fn status(lag: Option<Lag>, is_complete: bool) -> ClusterStatus {
        ClusterStatus {
            revision: 3,
            mappings: 1,
            lag,
            is_complete,
            nodes: vec![NodeCount { state: NodeState::Synced.into(), count: 2 }],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn one_sentence_tells_how_it_is() {
        let done = Some(Lag::default());
        let behind = Some(Lag { rows: 10, bytes: 2048, seconds: 92.0, ..Lag::default() });
        let gone = vec![NodeCount { state: NodeState::NotSeen.into(), count: 2 }];
        let cases = [
            (ClusterStatus::default(), 0.0, Tone::Odd, "Nothing is configured yet."),
            (status(done, true), 0.0, Tone::Good, "Everything that is due is mirrored."),
            (
                status(done, false),
                0.0,
                Tone::Odd,
                "What is known is mirrored, but some nodes are silent or were never seen.",
            ),
            (
                status(behind, true),
                2.0,
                Tone::Good,
                "Mirroring is 1m 32s behind, with 10 objects (2.0 KiB) to go, about 5s more at this rate.",
            ),
            (
                ClusterStatus { mappings_paused: 2, ..status(behind, true) },
                2.0,
                Tone::Odd,
                "Mirroring is 1m 32s behind, with 10 objects (2.0 KiB) to go; 2 mappings are paused.",
            ),
            (
                status(Some(Lag { seconds: 901.0, rows: 10, bytes: 2048, ..Lag::default() }), true),
                0.0,
                Tone::Odd,
                "Mirroring is 15m 1s behind, with 10 objects (2.0 KiB) to go.",
            ),
            (
                status(behind, false),
                2.0,
                Tone::Odd,
                "Mirroring is at least 1m 32s behind, with at least 10 objects (2.0 KiB) to go.",
            ),
            (
                ClusterStatus { failures: 1, ..status(done, true) },
                0.0,
                Tone::Odd,
                "Everything that is due is mirrored; 1 change failed and will be tried again.",
            ),
            (
                ClusterStatus { alerts: vec!["<b>.".into(), "b".into()], failures: 1, ..status(done, true) },
                0.0,
                Tone::Bad,
                "Everything that is due is mirrored. Needs a person: <b> (and 1 more).",
            ),
            (status(None, false), 0.0, Tone::Odd, "No node has told yet how far it is."),
            (
                ClusterStatus { nodes: gone, ..status(None, false) },
                0.0,
                Tone::Bad,
                "No node is connected: nothing is mirrored, and how far behind that is cannot be told.",
            ),
            (
                ClusterStatus { mappings: 0, ..status(None, false) },
                0.0,
                Tone::Odd,
                "Nothing is mapped, so nothing is mirrored.",
            ),
        ];
        for (status, rate, tone, sentence) in cases {
            assert_eq!(health(&status, rate), Health { tone, sentence: sentence.to_owned() });
        }
    }

    #[test]
    fn those_furthest_behind_come_first_and_unknown_ones_before_them() {
        let mapping = |container: &str, seconds: Option<f64>| MappingStatus {
            container: container.to_owned(),
            lag: seconds.map(|seconds| Lag { rows: u64::from(seconds > 0.0), seconds, ..Lag::default() }),
            is_complete: seconds.is_some(),
            ..MappingStatus::default()
        };
        let all =
            [mapping("a", Some(5.0)), mapping("b", None), mapping("c", Some(0.0)), mapping("d", Some(10.0))];
        let (bars, left_out) = worst(&all);
        let shown: Vec<(&str, u8)> = bars.iter().map(|bar| (bar.name.as_str(), bar.percent)).collect();
        assert_eq!((shown, left_out), (vec![("/b", 0), ("/d", 100), ("/a", 50)], 0));
        let many: Vec<_> = (0..30).map(|number| mapping("x", Some(f64::from(number) + 1.0))).collect();
        assert_eq!(worst(&many).1, 10);
    }
}
