//! `--wait`: how each node takes a new revision.

use std::collections::BTreeSet;
use std::time::Duration;

use swift_s3_proto::v1::{NodeState, NodeStatus};
use tokio::time::Instant;

use super::super::lists::{fetch_nodes, state_word};
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure, problem};
use crate::ctl::output::{Output, tell};
use crate::ctl::units::{count, seconds};

const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// How nodes took a revision.
pub(super) struct Arrival {
    /// All nodes, as they were last seen.
    pub(super) nodes: Vec<NodeStatus>,
    revision: i64,
}

/// Where one node stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Applied,
    Refused,
    Awaited,
    Silent,
}

fn standing(node: &NodeStatus, revision: i64) -> Standing {
    match node.state() {
        NodeState::NotSeen => Standing::Silent,
        NodeState::Rejected => Standing::Refused,
        NodeState::Synced if node.revision >= revision => Standing::Applied,
        NodeState::Synced | NodeState::Stale | NodeState::Unspecified => Standing::Awaited,
    }
}

impl Arrival {
    fn count(&self, wanted: Standing) -> usize {
        self.nodes.iter().filter(|node| standing(node, self.revision) == wanted).count()
    }

    /// True if every connected node answered and none refused.
    pub(super) fn has_converged(&self) -> bool {
        self.count(Standing::Awaited) == 0 && self.count(Standing::Refused) == 0
    }

    /// How the command ends.
    pub(super) fn exit(&self) -> Result<Exit, Failure> {
        if self.count(Standing::Refused) > 0 {
            return Ok(Exit::NeedsPerson);
        }
        let awaited = self.count(Standing::Awaited) as u64;
        if awaited == 0 {
            return Ok(Exit::Done);
        }
        Err(Failure::failed(format!(
            "revision {} is in force, but {} did not answer in time",
            self.revision,
            count(awaited, "node")
        ))
        .hint("see `swift-s3ctl nodes`, or wait longer with --wait=SECONDS"))
    }
}

/// Tells of each node as it answers, until all did or `limit` has passed.
pub(super) async fn wait_for_nodes(
    server: &Connection,
    revision: i64,
    limit: Duration,
    output: &mut Output,
) -> Result<Arrival, Failure> {
    let end = Instant::now() + limit;
    let mut told = BTreeSet::new();
    loop {
        let nodes = fetch_nodes(server, NodeState::Unspecified, None).await.map_err(|failure| {
            failure.hint(format!(
                "revision {revision} is in force; see `swift-s3ctl nodes` for how nodes take it"
            ))
        })?;
        let arrival = Arrival { nodes: nodes.items, revision };
        let is_last = arrival.count(Standing::Awaited) == 0 || Instant::now() >= end;
        for node in &arrival.nodes {
            if (is_last || answered(node, revision)) && told.insert(node.node_id.clone()) {
                tell_of(node, revision, output)?;
            }
        }
        if is_last {
            return Ok(arrival);
        }
        tokio::time::sleep_until((Instant::now() + BETWEEN_LOOKS).min(end)).await;
    }
}

fn answered(node: &NodeStatus, revision: i64) -> bool {
    matches!(standing(node, revision), Standing::Applied | Standing::Refused)
}

fn tell_of(node: &NodeStatus, revision: i64, output: &mut Output) -> Result<(), Failure> {
    let text = line(node, revision);
    if output.is_table() {
        output.line(&text)?;
    } else {
        tell(&text);
    }
    if standing(node, revision) == Standing::Refused {
        for found in &node.problems {
            tell(&format!("  {}", problem(found)));
        }
    }
    Ok(())
}

fn line(node: &NodeStatus, revision: i64) -> String {
    let took = node.push_seconds.map_or_else(String::new, |took| format!(" after {}", seconds(took)));
    let name = &node.node_id;
    match standing(node, revision) {
        Standing::Applied => format!("{name}: applied{took}"),
        Standing::Refused => format!("{name}: refused some or all of it{took}"),
        Standing::Awaited => format!("{name}: has not answered, {}", state_word(node.state()).0),
        Standing::Silent => format!("{name}: not connected; gets it when it comes back"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(state: NodeState, revision: i64) -> NodeStatus {
        NodeStatus { node_id: "n".into(), state: state.into(), revision, ..NodeStatus::default() }
    }

    #[test]
    fn silent_nodes_are_not_waited_for() {
        let all = |nodes: Vec<NodeStatus>| Arrival { nodes, revision: 5 };
        let well = all(vec![node(NodeState::Synced, 5), node(NodeState::NotSeen, 4)]);
        assert!(well.has_converged());
        assert_eq!(well.exit().unwrap(), Exit::Done);
        let refused = all(vec![node(NodeState::Rejected, 4), node(NodeState::Stale, 4)]);
        assert!(!refused.has_converged());
        assert_eq!(refused.exit().unwrap(), Exit::NeedsPerson);
        let late = all(vec![node(NodeState::Synced, 4)]);
        assert_eq!(late.exit().unwrap_err().exit(), Exit::Failed);
        assert!(all(vec![]).has_converged());
    }

    #[test]
    fn each_node_is_told_in_one_line() {
        let quick = NodeStatus { push_seconds: Some(0.25), ..node(NodeState::Synced, 5) };
        assert_eq!(line(&quick, 5), "n: applied after 0.2s");
        assert_eq!(line(&node(NodeState::Stale, 4), 5), "n: has not answered, stale");
    }
}
