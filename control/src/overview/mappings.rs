//! How mappings fare on each worker. Pure: with 1,000 mappings on 1,000 workers only what is out of the ordinary is looked at.

use std::collections::{HashMap, HashSet};

use swift_s3_proto::v1::{ConfigOutcome, MappingHealth, MappingStatus, MappingTrouble, NodeState};

use crate::push::Current;
use crate::registry::NodeView;

/// What is known of each mapping before its containers are added, in the order of the configuration. `rates` are rows and bytes
/// per second, in the same order.
pub(super) fn begin(current: &Current, nodes: &[NodeView], rates: &[(f64, f64)]) -> Vec<MappingStatus> {
    let paused: HashSet<&str> = current
        .switches
        .iter()
        .filter(|switch| switch.is_paused)
        .map(|switch| switch.mapping_id.as_str())
        .collect();
    let workers = || nodes.iter().filter(|node| node.is_live && node.is_worker());
    let count = |workers: usize| u32::try_from(workers).unwrap_or(u32::MAX);
    let total = count(workers().count());
    let applied = count(workers().filter(|node| runs_the_latest(node, current.revision)).count());
    let mut statuses: Vec<MappingStatus> = current
        .mappings
        .iter()
        .enumerate()
        .map(|(index, mapping)| {
            let is_paused = paused.contains(mapping.id.as_str());
            let (rows_per_second, bytes_per_second) = rates.get(index).copied().unwrap_or_default();
            MappingStatus {
                mapping_id: mapping.id.clone(),
                account: mapping.account.clone(),
                container: mapping.container.clone(),
                remote: mapping.remote.clone(),
                retain_local: mapping.retain_local,
                is_paused,
                is_complete: true,
                rows_per_second,
                bytes_per_second,
                nodes_total: total,
                // A worker that says nothing of a mapping runs it, and has not paused it.
                nodes_applied: if is_paused { 0 } else { applied },
                ..MappingStatus::default()
            }
        })
        .collect();
    let by_id: HashMap<&str, usize> =
        current.mappings.iter().enumerate().map(|(index, mapping)| (mapping.id.as_str(), index)).collect();
    for node in workers() {
        let runs_the_latest = runs_the_latest(node, current.revision);
        for (mapping_id, out) in out_of_the_ordinary(node) {
            let index = by_id.get(mapping_id).copied().unwrap_or(usize::MAX);
            if let Some(status) = statuses.get_mut(index) {
                out.tell(node, runs_the_latest, status);
            }
        }
    }
    statuses
}

/// True if a mapping that nothing is said of is in force there in its present form.
fn runs_the_latest(node: &NodeView, revision: i64) -> bool {
    let has_answered = matches!(node.state(revision), NodeState::Synced | NodeState::Rejected);
    let runs_older = node.answer.as_ref().is_some_and(|answer| answer.outcome == ConfigOutcome::Rejected);
    has_answered && !runs_older
}

/// What a worker says of one mapping.
#[derive(Default)]
struct Out<'a> {
    health: Option<&'a MappingHealth>,
    /// A problem of its answer to the configuration is about the mapping.
    is_named: bool,
}

fn out_of_the_ordinary(node: &NodeView) -> HashMap<&str, Out<'_>> {
    let mut all: HashMap<&str, Out<'_>> = HashMap::new();
    for health in node.health.iter() {
        all.entry(&health.mapping_id).or_default().health = Some(health);
    }
    for problem in node.answer.iter().flat_map(|answer| answer.problems.iter()) {
        if !problem.mapping_id.is_empty() {
            all.entry(&problem.mapping_id).or_default().is_named = true;
        }
    }
    all
}

impl Out<'_> {
    fn tell(&self, node: &NodeView, runs_the_latest: bool, status: &mut MappingStatus) {
        let (refused, remote_trouble, is_paused) = self.health.map_or(("", "", false), |health| {
            (health.refused.as_str(), health.remote_trouble.as_str(), health.is_paused)
        });
        if runs_the_latest {
            let is_applied = !self.is_named && is_paused == status.is_paused && refused.is_empty();
            match (is_applied, status.is_paused) {
                // Counted as one that says nothing.
                (false, false) => status.nodes_applied = status.nodes_applied.saturating_sub(1),
                (true, true) => status.nodes_applied += 1,
                (true, false) | (false, true) => {}
            }
        }
        if !refused.is_empty() || !remote_trouble.is_empty() {
            status.troubles.push(MappingTrouble {
                node_id: node.record.node_id.clone(),
                refused: refused.to_owned(),
                remote_trouble: remote_trouble.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
