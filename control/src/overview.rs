//! The status of everything at one moment. Adding up a million feeds takes a while, so the last result is used again for a
//! time in proportion to what it cost; on a small cluster that is a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use swift_s3_proto::v1::{
    ClusterStatus, CoordinationCount, Lag, MappingHealth, MappingStatus, MappingTrouble, NodeCount, NodeState,
};
use tokio::sync::Mutex;

use crate::alerts::{self, Facts};
use crate::control::Control;
use crate::documents::MappingInfo;
use crate::feeds::{ContainerTotal, add_lag};
use crate::push::Current;
use crate::registry::NodeView;
use crate::store::StoreError;
use crate::time;

/// A result is used again for so many times what it cost.
const REUSE_FACTOR: u32 = 20;
/// However many ask, it is made anew only so often; at once when an operator changed something.
const SHORTEST_REUSE: Duration = Duration::from_millis(100);
/// No result is older than this.
const LONGEST_REUSE: Duration = Duration::from_secs(3);

/// Rows set aside after failures, by mapping, account and container.
type Failures = HashMap<(String, String, String), u64>;

/// Everything, added up.
#[derive(Debug)]
pub struct Overview {
    /// What is in force.
    pub current: Arc<Current>,
    /// All nodes, by id.
    pub nodes: Vec<NodeView>,
    /// All containers, by account, container and mapping.
    pub containers: Vec<ContainerTotal>,
    /// All mappings, in the order of the document.
    pub mappings: Vec<MappingStatus>,
    /// One page about everything.
    pub status: ClusterStatus,
}

/// The latest overview.
#[derive(Debug, Default)]
pub struct OverviewCache {
    latest: Mutex<Option<(Instant, Duration, Arc<Overview>)>>,
}

impl OverviewCache {
    /// The overview now, or a moment ago.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, control: &Arc<Control>) -> Result<Arc<Overview>, StoreError> {
        // Held while it is made, so that many callers make one.
        let mut latest = self.latest.lock().await;
        if let Some((made_at, cost, overview)) = &*latest
            && overview.current.generation == control.push.current().generation
            && made_at.elapsed() < cost.saturating_mul(REUSE_FACTOR).clamp(SHORTEST_REUSE, LONGEST_REUSE)
        {
            return Ok(Arc::clone(overview));
        }
        let began = Instant::now();
        let failures = control.store.reader().failure_totals().await?;
        let control = Arc::clone(control);
        let made = tokio::task::spawn_blocking(move || make(&control, failures)).await;
        let overview = Arc::new(made.map_err(|error| StoreError::Failed(error.to_string()))?);
        *latest = Some((Instant::now(), began.elapsed(), Arc::clone(&overview)));
        Ok(overview)
    }
}

fn make(control: &Control, failures: Failures) -> Overview {
    let now_ms = time::now_ms();
    let current = control.push.current();
    let nodes = control.registry.nodes();
    let is_live = |id: &str| {
        nodes
            .binary_search_by(|node| node.record.node_id.as_str().cmp(id))
            .ok()
            .and_then(|index| nodes.get(index))
            .is_some_and(|node| node.is_live)
    };
    let by_id: HashMap<&str, usize> =
        current.mappings.iter().enumerate().map(|(index, mapping)| (mapping.id.as_str(), index)).collect();
    let (mut containers, rates) = {
        let feeds = control.feeds();
        let containers = feeds.containers(|id| by_id.contains_key(id), is_live);
        let rates: Vec<(f64, f64)> =
            current.mappings.iter().map(|mapping| feeds.rate(&mapping.id, now_ms)).collect();
        (containers, rates)
    };
    let workers: Vec<LiveWorker<'_>> =
        nodes.iter().filter(|node| node.is_live && node.is_worker()).map(LiveWorker::new).collect();
    let mut mappings: Vec<MappingStatus> = current
        .mappings
        .iter()
        .zip(rates)
        .map(|(mapping, rate)| begin_mapping(mapping, &current, &workers, rate))
        .collect();
    if !failures.is_empty() {
        for container in &mut containers {
            let (account, name, mapping) = container.position();
            let key = (mapping.to_owned(), account.to_owned(), name.to_owned());
            container.failures = failures.get(&key).copied().unwrap_or(0);
        }
    }
    for container in &containers {
        let index = by_id.get(&*container.mapping_id).copied().unwrap_or(usize::MAX);
        if let Some(mapping) = mappings.get_mut(index) {
            add_container(mapping, container);
        }
    }
    for ((mapping_id, ..), count) in &failures {
        let index = by_id.get(mapping_id.as_str()).copied().unwrap_or(usize::MAX);
        if let Some(mapping) = mappings.get_mut(index) {
            mapping.failures = mapping.failures.saturating_add(*count);
        }
    }
    for mapping in &mut mappings {
        mapping.is_complete &= mapping.lag.is_some();
        mapping.seconds_to_catch_up =
            catch_up(mapping.lag.as_ref(), mapping.rows_per_second, mapping.is_paused);
    }
    let status = summarize(control, &current, &nodes, &mappings, now_ms);
    Overview { current, nodes, containers, mappings, status }
}

/// A worker, and how its mappings fare by their ids.
struct LiveWorker<'a> {
    node: &'a NodeView,
    health: HashMap<&'a str, &'a MappingHealth>,
}

impl<'a> LiveWorker<'a> {
    fn new(node: &'a NodeView) -> Self {
        let health = node.health.iter().map(|health| (health.mapping_id.as_str(), health)).collect();
        Self { node, health }
    }
}

fn begin_mapping(
    mapping: &MappingInfo,
    current: &Current,
    workers: &[LiveWorker<'_>],
    rate: (f64, f64),
) -> MappingStatus {
    let mut status = MappingStatus {
        mapping_id: mapping.id.clone(),
        account: mapping.account.clone(),
        container: mapping.container.clone(),
        remote: mapping.remote.clone(),
        retain_local: mapping.retain_local,
        is_paused: current.is_paused(&mapping.id),
        is_complete: true,
        rows_per_second: rate.0,
        bytes_per_second: rate.1,
        ..MappingStatus::default()
    };
    for LiveWorker { node, health } in workers {
        status.nodes_total += 1;
        let health = health.get(mapping.id.as_str()).copied();
        let (refused, remote_trouble) =
            health.map(|health| (health.refused.clone(), health.remote_trouble.clone())).unwrap_or_default();
        let is_switched = health.is_some_and(|health| health.is_paused) == status.is_paused;
        let is_named = node
            .answer
            .as_ref()
            .is_some_and(|answer| answer.problems.iter().any(|problem| problem.mapping_id == mapping.id));
        let has_answered = matches!(node.state(current.revision), NodeState::Synced | NodeState::Rejected);
        let runs_older = node
            .answer
            .as_ref()
            .is_some_and(|answer| answer.outcome == swift_s3_proto::v1::ConfigOutcome::Rejected);
        if has_answered && !runs_older && !is_named && is_switched && refused.is_empty() {
            status.nodes_applied += 1;
        }
        if !refused.is_empty() || !remote_trouble.is_empty() {
            status.troubles.push(MappingTrouble {
                node_id: node.record.node_id.clone(),
                refused,
                remote_trouble,
            });
        }
    }
    status
}

fn add_container(mapping: &mut MappingStatus, container: &ContainerTotal) {
    mapping.containers += 1;
    mapping.is_complete &= container.is_complete;
    if let Some(lag) = &container.lag {
        add_lag(&mut mapping.lag, lag);
    }
    if let Some(since) = container.held_since_ms {
        let earlier = mapping.deletes_held_at.as_ref().map_or(since, |at| time::milliseconds(at).min(since));
        mapping.deletes_held_at = Some(time::timestamp(earlier));
    }
}

/// When it has caught up at this rate.
#[allow(clippy::cast_precision_loss, reason = "an estimate for people")]
fn catch_up(lag: Option<&Lag>, rows_per_second: f64, is_paused: bool) -> Option<f64> {
    let rows = lag?.rows;
    (rows > 0 && rows_per_second > 0.0 && !is_paused).then(|| rows as f64 / rows_per_second)
}

fn summarize(
    control: &Control,
    current: &Current,
    nodes: &[NodeView],
    mappings: &[MappingStatus],
    now_ms: i64,
) -> ClusterStatus {
    let mut counts: BTreeMap<i32, u32> = BTreeMap::new();
    for node in nodes {
        *counts.entry(node.state(current.revision).into()).or_default() += 1;
    }
    let mut lag = None;
    for mapping in mappings {
        if let Some(seen) = &mapping.lag {
            add_lag(&mut lag, seen);
        }
    }
    let store_trouble = control.store.trouble();
    let count = |is_so: fn(&MappingStatus) -> bool| {
        u32::try_from(mappings.iter().filter(|mapping| is_so(mapping)).count()).unwrap_or(u32::MAX)
    };
    ClusterStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Some(time::timestamp(control.started_at_ms)),
        revision: current.revision,
        nodes: counts.into_iter().map(|(state, count)| NodeCount { state, count }).collect(),
        is_complete: lag.is_some()
            && mappings.iter().all(|mapping| mapping.is_complete)
            && nodes.iter().all(|node| node.is_live || !node.is_worker()),
        lag,
        mappings: u32::try_from(mappings.len()).unwrap_or(u32::MAX),
        mappings_paused: count(|mapping| mapping.is_paused),
        mappings_holding_deletes: count(|mapping| mapping.deletes_held_at.is_some()),
        containers: mappings.iter().map(|mapping| mapping.containers).sum(),
        failures: mappings.iter().map(|mapping| mapping.failures).sum(),
        alerts: alerts::alerts(&Facts {
            revision: current.revision,
            nodes,
            mappings,
            store_trouble: store_trouble.as_deref(),
            now_ms,
        }),
        coordination: coordination(nodes),
        ..ClusterStatus::default()
    }
}

/// Workers by the way they share out the work.
fn coordination(nodes: &[NodeView]) -> Vec<CoordinationCount> {
    let mut counts: BTreeMap<i32, CoordinationCount> = BTreeMap::new();
    for told in nodes.iter().filter_map(|node| node.coordination.as_ref()) {
        let count = counts
            .entry(told.mode)
            .or_insert_with(|| CoordinationCount { mode: told.mode, ..CoordinationCount::default() });
        count.workers += 1;
        count.shares_taken = count.shares_taken.saturating_add(told.shares_taken);
    }
    counts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catching_up_takes_as_long_as_the_last_minutes_rate_says() {
        let lag = |rows| Some(Lag { rows, ..Lag::default() });
        for (lag, rate, is_paused, expected) in [
            (None, 5.0, false, None),
            (lag(0), 5.0, false, None),
            (lag(10), 0.0, false, None),
            (lag(10), 5.0, true, None),
            (lag(10), 5.0, false, Some(2.0)),
        ] {
            assert_eq!(catch_up(lag.as_ref(), rate, is_paused), expected);
        }
    }
}
