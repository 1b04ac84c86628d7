//! A node as others see it.

use std::sync::Arc;
use std::time::Duration;

use swift_s3_proto::v1::{ConfigOutcome, Coordination, MappingHealth, NodeLoad, NodeState, Problem, Role};

use crate::store::NodeRecord;

/// What a node made of a configuration.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The revision.
    pub revision: i64,
    /// The generation.
    pub generation: u64,
    /// How it went.
    pub outcome: ConfigOutcome,
    /// Why not all of it is in force.
    pub problems: Arc<[Problem]>,
    /// From the push to the answer.
    pub took: Duration,
}

/// A node as others see it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// What is remembered of it.
    pub record: NodeRecord,
    /// True if it is connected and gave a sign of life lately.
    pub is_live: bool,
    /// Set while it is connected.
    pub connected_at_ms: Option<i64>,
    /// Its latest answer.
    pub answer: Option<Answer>,
    /// Mappings that are paused or in trouble there; of a live node.
    pub health: Arc<[MappingHealth]>,
    /// Its clock minus ours.
    pub clock_skew_seconds: Option<f64>,
    /// How it shares the work with others; of a live worker.
    pub coordination: Option<Coordination>,
    /// What it takes of its machine; of a live node.
    pub load: Option<NodeLoad>,
    /// Why its latest report was refused, if it was; of a live node.
    pub refused_report: Option<String>,
}

impl NodeView {
    /// How it stands to the revision in force.
    #[must_use]
    pub fn state(&self, revision: i64) -> NodeState {
        state(self.is_live, self.answer.as_ref().map(|answer| (answer.revision, answer.outcome)), revision)
    }

    /// True for a worker.
    #[must_use]
    pub fn is_worker(&self) -> bool {
        self.record.role == i32::from(Role::Worker)
    }
}

/// How a node stands to the revision in force.
#[must_use]
pub fn state(is_live: bool, answer: Option<(i64, ConfigOutcome)>, revision: i64) -> NodeState {
    match answer {
        _ if !is_live => NodeState::NotSeen,
        _ if revision == 0 => NodeState::Synced,
        Some((answered, ConfigOutcome::Applied)) if answered == revision => NodeState::Synced,
        Some((answered, ConfigOutcome::PartlyApplied | ConfigOutcome::Rejected)) if answered == revision => {
            NodeState::Rejected
        }
        _ => NodeState::Stale,
    }
}
