//! `status`, and `status --check` for monitoring.

use jiff::Timestamp;
use serde_json::json;
use swift_s3_proto::v1::{ClusterStatus, CoordinationMode, GetStatusRequest, NodeState};

use super::lists::{mode_word, state_word};
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::table::Tone;
use crate::ctl::text::harmless;
use crate::ctl::units::{UNKNOWN, age, count, lag};

pub(super) async fn run(server: &Connection, check: bool, output: &mut Output) -> Result<Exit, Failure> {
    let status = server.call("get the status", server.status().get_status(GetStatusRequest {})).await?;
    let needs_person = !reasons(&status).is_empty();
    match (output.is_table(), check) {
        (true, true) => output.line(&verdict(&status))?,
        (true, false) => {
            output.raw(&page(&status, server.url(), Timestamp::now(), output.colours()))?;
        }
        (false, true) => {
            output.json(&json!({ "needs_person": needs_person, "status": json::value(&status)? }))?;
        }
        (false, false) => output.json(&json::value(&status)?)?,
    }
    Ok(if check && needs_person { Exit::NeedsPerson } else { Exit::Done })
}

fn nodes_in(status: &ClusterStatus, state: NodeState) -> u32 {
    status.nodes.iter().filter(|nodes| nodes.state() == state).map(|nodes| nodes.count).sum()
}

/// Why somebody should look. Control's own alerts come first; nothing being known is never taken for well.
fn reasons(status: &ClusterStatus) -> Vec<String> {
    let mut reasons = status.alerts.clone();
    let rejected = nodes_in(status, NodeState::Rejected);
    let connected = nodes_in(status, NodeState::Synced) + nodes_in(status, NodeState::Stale) + rejected;
    if reasons.is_empty() && rejected > 0 {
        reasons.push(format!("{} refused the configuration", count(u64::from(rejected), "node")));
    }
    if reasons.is_empty() && connected == 0 && status.mappings > status.mappings_paused {
        reasons.push("no node is connected".to_owned());
    }
    reasons
}

/// One line for monitoring.
fn verdict(status: &ClusterStatus) -> String {
    let reasons = reasons(status);
    if !reasons.is_empty() {
        return format!("needs a person: {}", reasons.join("; "));
    }
    let words = lag(status.lag.as_ref(), status.is_complete);
    format!("ok: revision {}, nodes: {}, behind {}", status.revision, node_words(status), words.seconds)
}

/// `3 synced, 1 not seen`
pub(super) fn node_words(status: &ClusterStatus) -> String {
    let words: Vec<String> = [NodeState::Synced, NodeState::Stale, NodeState::Rejected, NodeState::NotSeen]
        .into_iter()
        .filter_map(|state| match nodes_in(status, state) {
            0 => None,
            number => Some(format!("{number} {}", state_word(state).0)),
        })
        .collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// One page about everything.
pub(super) fn page(status: &ClusterStatus, url: &str, now: Timestamp, colours: bool) -> String {
    let up = status
        .started_at
        .as_ref()
        .map_or_else(String::new, |start| format!(", up {}", age(Some(start), now)));
    let revision = if status.revision == 0 { "none".to_owned() } else { status.revision.to_string() };
    let odd_if = |is_odd: bool| if is_odd { Tone::Odd } else { Tone::Plain };
    let bad_if = |is_bad: bool| if is_bad { Tone::Bad } else { Tone::Plain };
    let silent = nodes_in(status, NodeState::Rejected) + nodes_in(status, NodeState::NotSeen) > 0;
    let mut lines = vec![
        ("control", format!("{} at {url}{up}", status.version), Tone::Plain),
        ("revision", revision, odd_if(status.revision == 0)),
        ("nodes", node_words(status), bad_if(silent)),
        ("sharing", coordination_words(status), bad_if(has_fallback(status))),
        (
            "mappings",
            mapping_words(status),
            odd_if(status.mappings_paused + status.mappings_holding_deletes > 0),
        ),
        ("containers", status.containers.to_string(), Tone::Plain),
        ("behind", behind(status), odd_if(!status.is_complete || status.lag.is_none())),
    ];
    if let Some(lag) = &status.lag {
        lines.push(("waiting", format!("{}, until old enough", count(lag.rows_waiting, "row")), Tone::Plain));
        if lag.deletes_held > 0 {
            lines.push(("held", format!("at least {}", count(lag.deletes_held, "delete")), Tone::Bad));
        }
    }
    lines.push(("failures", status.failures.to_string(), bad_if(status.failures > 0)));
    let alerts = status.alerts.iter().map(|alert| ("alert", alert.clone(), Tone::Bad));
    lines
        .into_iter()
        .chain(alerts)
        .map(|(name, text, tone)| format!("{name:<11}  {}\n", tone.paint(&harmless(&text), colours)))
        .collect()
}

fn has_fallback(status: &ClusterStatus) -> bool {
    status.coordination.iter().any(|count| count.mode() == CoordinationMode::Fallback)
}

/// `3 workers explicit (2 shares of others taken)`
fn coordination_words(status: &ClusterStatus) -> String {
    let words: Vec<String> = status
        .coordination
        .iter()
        .map(|found| {
            let workers = count(u64::from(found.workers), "worker");
            let taken = match found.shares_taken {
                0 => String::new(),
                taken => format!(" ({} of others taken)", count(taken, "share")),
            };
            format!("{workers} {}{taken}", mode_word(found.mode()).0)
        })
        .collect();
    if words.is_empty() { UNKNOWN.to_owned() } else { words.join(", ") }
}

fn mapping_words(status: &ClusterStatus) -> String {
    let mut words = status.mappings.to_string();
    if status.mappings_paused > 0 {
        words.push_str(&format!(", {} paused", status.mappings_paused));
    }
    if status.mappings_holding_deletes > 0 {
        words.push_str(&format!(", {} holding deletes", status.mappings_holding_deletes));
    }
    words
}

fn behind(status: &ClusterStatus) -> String {
    if status.lag.is_none() {
        return UNKNOWN.to_owned();
    }
    let words = lag(status.lag.as_ref(), status.is_complete);
    let why = if status.is_complete { "" } else { " (some nodes are silent or were never seen)" };
    format!("{}, {} rows, {}{why}", words.seconds, words.rows, words.bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use swift_s3_proto::v1::{CoordinationCount, Lag, NodeCount};

    fn status(nodes: &[(NodeState, u32)]) -> ClusterStatus {
        ClusterStatus {
            version: "0.1.0".into(),
            started_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            revision: 12,
            nodes: nodes
                .iter()
                .map(|(state, count)| NodeCount { state: (*state).into(), count: *count })
                .collect(),
            lag: Some(Lag { rows: 12, bytes: 2048, seconds: 92.0, rows_waiting: 1, ..Lag::default() }),
            is_complete: true,
            mappings: 2,
            coordination: vec![
                CoordinationCount { mode: CoordinationMode::Explicit.into(), workers: 3, shares_taken: 2 },
                CoordinationCount { mode: CoordinationMode::Fallback.into(), workers: 1, shares_taken: 0 },
            ],
            ..ClusterStatus::default()
        }
    }

    fn shown(status: &ClusterStatus) -> String {
        page(status, "http://c:1", Timestamp::from_second(1_700_000_092).unwrap(), false)
    }

    #[test]
    fn a_page_tells_everything() {
        assert_eq!(
            shown(&status(&[(NodeState::Synced, 3), (NodeState::Stale, 1)])),
            "control      0.1.0 at http://c:1, up 1m 32s\nrevision     12\nnodes        3 synced, 1 stale\n\
             sharing      3 workers explicit (2 shares of others taken), 1 worker fallback\n\
             mappings     2\ncontainers   0\nbehind       1m 32s, 12 rows, 2.0 KiB\nwaiting      1 row, until old enough\n\
             failures     0\n"
        );
    }

    #[test]
    fn what_is_not_known_is_said() {
        let mut incomplete = status(&[(NodeState::NotSeen, 1)]);
        incomplete.is_complete = false;
        assert!(shown(&incomplete).contains(">=1m 32s, >=12 rows"), "{}", shown(&incomplete));
        incomplete.lag = None;
        assert!(shown(&incomplete).contains("behind       unknown\n"), "{}", shown(&incomplete));
    }

    #[test]
    fn alerts_refusals_and_silence_need_a_person() {
        let well = status(&[(NodeState::Synced, 1)]);
        assert_eq!(verdict(&well), "ok: revision 12, nodes: 1 synced, behind 1m 32s");
        let refused = status(&[(NodeState::Rejected, 2)]);
        assert_eq!(verdict(&refused), "needs a person: 2 nodes refused the configuration");
        let silent = status(&[(NodeState::NotSeen, 2)]);
        assert_eq!(verdict(&silent), "needs a person: no node is connected");
        let paused = ClusterStatus { mappings_paused: 2, ..silent };
        assert_eq!(reasons(&paused), Vec::<String>::new());
        let alerted = ClusterStatus { alerts: vec!["a".into(), "b".into()], ..well };
        assert_eq!(verdict(&alerted), "needs a person: a; b");
        assert!(shown(&alerted).ends_with("alert        a\nalert        b\n"));
    }
}
