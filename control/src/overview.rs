//! The status of everything at one moment. Adding up 300,000 feeds takes a while, so the last result is used again for a time in
//! proportion to what it cost; on a small cluster that is a moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use swift_s3_proto::v1::{ClusterStatus, CoordinationCount, FailureCount, Lag, MappingStatus, NodeCount};

use crate::alerts::{self, Facts};
use crate::control::Control;
use crate::feeds::{ContainerSum, ContainerTotal, MappingIndex, add_lag};
use crate::push::Current;
use crate::refreshed::{Refreshed, Terms};
use crate::registry::NodeView;
use crate::store::{MAX_REASONS, StoreError};
use crate::time;
use crate::usage::{MonthsUsage, of_mapping};

mod mappings;

/// However many ask, it is made anew only so often; at once when an operator changed something.
const SHORTEST_REUSE: Duration = Duration::from_millis(100);
/// However large the cluster, it is made anew when it is older and somebody asks.
const LONGEST_REUSE: Duration = Duration::from_millis(800);
/// What is told is never older: a node that is gone is told to be gone within this time.
const OLDEST: Duration = Duration::from_secs(1);
/// Reasons are counted from single rows, which may take seconds; the counts are for people who look at the whole.
const LONGEST_REUSE_OF_REASONS: Duration = Duration::from_secs(60);
/// Older counts say nothing; those who ask wait for the next.
const OLDEST_REASONS: Duration = Duration::from_secs(600);
/// So long an overview waits for reasons that were never counted.
const PATIENCE_FOR_REASONS: Duration = Duration::from_millis(50);

/// Rows set aside after failures, by mapping, account and container.
type Failures = HashMap<(String, String, String), u64>;

/// Rows set aside after failures, by mapping and class.
type ReasonsByMapping = Vec<(String, FailureCount)>;

/// Everything, added up.
#[derive(Debug)]
pub struct Overview {
    /// What is in force.
    pub current: Arc<Current>,
    /// How many nodes were forgotten before.
    forgotten: u64,
    /// All nodes, by id.
    pub nodes: Vec<NodeView>,
    /// All containers, by account, container and mapping.
    pub containers: Arc<[ContainerTotal]>,
    /// All mappings, in the order of the document.
    pub mappings: Vec<MappingStatus>,
    /// One page about everything.
    pub status: ClusterStatus,
    /// Kinds of alerts, their severity, and how many there are.
    pub alert_counts: Vec<(&'static str, &'static str, u64)>,
}

/// The latest overview.
#[derive(Debug)]
pub struct OverviewCache {
    overviews: Refreshed<Overview>,
    reasons: Refreshed<ReasonsByMapping>,
    /// Counting reasons failed when it was tried last, and that was told.
    is_counting_trouble: Arc<AtomicBool>,
}

impl Default for OverviewCache {
    fn default() -> Self {
        let overviews = Terms { shortest: SHORTEST_REUSE, longest: LONGEST_REUSE, oldest: OLDEST };
        let longest = LONGEST_REUSE_OF_REASONS;
        let reasons = Terms { shortest: Duration::ZERO, longest, oldest: OLDEST_REASONS };
        Self {
            overviews: Refreshed::new(overviews),
            reasons: Refreshed::new(reasons),
            is_counting_trouble: Arc::default(),
        }
    }
}

impl OverviewCache {
    /// The overview now, or a moment ago; what an operator changed is in it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, control: &Arc<Control>) -> Result<Arc<Overview>, StoreError> {
        let generation = control.push.current().generation;
        let make = |before: Option<Arc<Overview>>| {
            let before = before.map(|overview| Arc::clone(&overview.containers));
            make(Arc::clone(control), before.unwrap_or_else(|| Arc::from([])))
        };
        let forgotten = control.registry.forgotten();
        let is_current = |overview: &Overview| {
            overview.current.generation >= generation && overview.forgotten >= forgotten
        };
        self.overviews.get(is_current, make).await
    }

    /// Rows set aside after failures by their class, now or up to a minute ago.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reasons(&self, control: &Arc<Control>) -> Result<Vec<FailureCount>, StoreError> {
        Ok(sum_reasons(&self.reasons_by_mapping(control).await?, |_| true))
    }

    async fn reasons_by_mapping(&self, control: &Arc<Control>) -> Result<Arc<ReasonsByMapping>, StoreError> {
        let reader = control.store.reader().clone();
        self.reasons
            .get(
                |_| true,
                |_| {
                    let (reader, was_told) = (reader.clone(), Arc::clone(&self.is_counting_trouble));
                    async move {
                        let counted = reader.failure_reasons_by_mapping().await;
                        let was_told = was_told.swap(counted.is_err(), Ordering::Relaxed);
                        if let (Err(error), false) = (&counted, was_told) {
                            tracing::warn!(%error, "could not count failures by reason");
                        }
                        counted
                    }
                },
            )
            .await
    }
}

async fn make(control: Arc<Control>, before: Arc<[ContainerTotal]>) -> Result<Overview, StoreError> {
    let failures = control.store.reader().failure_totals().await?;
    let usage = control.usages.get(&control).await?;
    let reasons = match failures.is_empty() {
        true => Arc::default(),
        false => {
            // Without them the rest is told all the same; the log says why they are missing.
            let counting = control.overview.reasons_by_mapping(&control);
            let counted = tokio::time::timeout(PATIENCE_FOR_REASONS, counting).await;
            counted.ok().and_then(Result::ok).unwrap_or_default()
        }
    };
    let made =
        tokio::task::spawn_blocking(move || add_up(&control, &failures, &usage, before, &reasons)).await;
    made.map_err(|error| StoreError::Failed(error.to_string()))
}

fn add_up(
    control: &Control,
    failures: &Failures,
    usage: &MonthsUsage,
    before: Arc<[ContainerTotal]>,
    reasons: &ReasonsByMapping,
) -> Overview {
    let now_ms = time::now_ms();
    let current = control.push.current();
    // Before the nodes are read: what is forgotten in between is looked for again.
    let forgotten = control.registry.forgotten();
    let nodes = control.registry.nodes();
    let by_id: HashMap<&str, usize> =
        current.mappings.iter().enumerate().map(|(index, mapping)| (mapping.id.as_str(), index)).collect();
    let mut index = MappingIndex::new(&by_id);
    let mut containers = add_containers(control, &nodes, before, |id| index.of(id).is_some());
    let rates: Vec<(f64, f64)> = {
        let feeds = control.feeds();
        current.mappings.iter().map(|mapping| feeds.rate(&mapping.id, now_ms)).collect()
    };
    let mut mappings = mappings::begin(&current, &nodes, &rates);
    for ((mapping_id, account, container), count) in failures {
        let position = (account.as_str(), container.as_str(), mapping_id.as_str());
        if let Ok(index) = containers.binary_search_by(|total| total.position().cmp(&position))
            && let Some(container) = containers.get_mut(index)
        {
            container.failures = *count;
        }
        let index = by_id.get(mapping_id.as_str()).copied().unwrap_or(usize::MAX);
        if let Some(mapping) = mappings.get_mut(index) {
            mapping.failures = mapping.failures.saturating_add(*count);
        }
    }
    for container in &containers {
        let index = index.of(&container.mapping_id).unwrap_or(usize::MAX);
        if let Some(mapping) = mappings.get_mut(index) {
            add_container(mapping, container);
        }
    }
    for (mapping, info) in mappings.iter_mut().zip(&*current.mappings) {
        let asked = usage.by_mapping.get(&info.id);
        mapping.usage = asked.map(|asked| of_mapping(info, &usage.month, asked, &control.settings.prices));
    }
    for mapping in &mut mappings {
        mapping.is_complete &= mapping.lag.is_some();
        mapping.seconds_to_catch_up =
            catch_up(mapping.lag.as_ref(), mapping.rows_per_second, mapping.is_paused);
    }
    let (mut status, alert_counts) = summarize(control, &current, &nodes, &mappings, now_ms);
    if status.failures > 0 {
        status.failure_reasons = sum_reasons(reasons, |id| by_id.contains_key(id));
    }
    Overview { current, forgotten, nodes, containers: containers.into(), mappings, status, alert_counts }
}

/// Of these mappings together, the most frequent first.
fn sum_reasons(reasons: &[(String, FailureCount)], is_asked: impl Fn(&str) -> bool) -> Vec<FailureCount> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, count) in reasons.iter().filter(|(mapping_id, _)| is_asked(mapping_id)) {
        let sum = sums.entry(&count.reason).or_default();
        *sum = sum.saturating_add(count.rows);
    }
    let mut summed: Vec<FailureCount> =
        sums.into_iter().map(|(reason, rows)| FailureCount { reason: reason.to_owned(), rows }).collect();
    summed.sort_by_key(|count| Reverse(count.rows));
    summed.truncate(MAX_REASONS);
    summed
}

/// The lock is taken for each node anew, so that heartbeats come in between.
fn add_containers(
    control: &Control,
    nodes: &[NodeView],
    before: Arc<[ContainerTotal]>,
    mut is_in_force: impl FnMut(&Arc<str>) -> bool,
) -> Vec<ContainerTotal> {
    let is_live = |id: &str| {
        nodes
            .binary_search_by(|node| node.record.node_id.as_str().cmp(id))
            .ok()
            .and_then(|index| nodes.get(index))
            .is_some_and(|node| node.is_live)
    };
    let mut sum = ContainerSum::new(before);
    let in_order = control.feeds().in_order(is_live);
    for (node_id, is_live) in in_order {
        control.feeds().add_node(&mut sum, &node_id, is_live, &mut is_in_force);
        // Whoever waits for the lock gets it before it is taken again.
        std::thread::yield_now();
    }
    sum.finish()
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
) -> (ClusterStatus, Vec<(&'static str, &'static str, u64)>) {
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
    let alerts = alerts::alerts(&Facts {
        revision: current.revision,
        nodes,
        mappings,
        store_trouble: store_trouble.as_deref(),
        now_ms,
    });
    let status = ClusterStatus {
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
        alerts: alerts.texts,
        coordination: coordination(nodes),
        ..ClusterStatus::default()
    };
    (status, alerts.counts)
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
pub(crate) mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use swift_s3_proto::v1::{ConfigOutcome, Role};

    use super::*;
    use crate::push::{NewDocument, Push};
    use crate::registry::Answer;
    use crate::store::NodeRecord;

    /// Of one worker, where revision 1 is in force, and without mappings.
    pub(crate) fn overview() -> Overview {
        let record = NodeRecord {
            node_id: "n".to_owned(),
            role: Role::Worker.into(),
            version: "0.1.0".to_owned(),
            host: String::new(),
            addresses: Vec::new(),
            capabilities: Vec::new(),
            revision: 1,
            last_seen_at_ms: 0,
            is_lost: false,
        };
        let answer = Answer {
            revision: 1,
            generation: 1,
            outcome: ConfigOutcome::Applied,
            problems: Arc::default(),
            took: Duration::ZERO,
        };
        let node = NodeView {
            record,
            is_live: true,
            connected_at_ms: Some(0),
            answer: Some(answer),
            health: Arc::default(),
            clock_skew_seconds: None,
            coordination: None,
            load: None,
            refused_report: None,
        };
        let document = NewDocument { revision: 1, document: Bytes::new(), mappings: Arc::from([]) };
        Overview {
            current: Push::new(1, document, Vec::new(), 1).current(),
            forgotten: 0,
            nodes: vec![node],
            containers: Arc::from([]),
            mappings: Vec::new(),
            status: ClusterStatus::default(),
            alert_counts: vec![("remote", "critical", 1)],
        }
    }

    #[test]
    fn reasons_of_mappings_that_are_not_in_force_do_not_count() {
        let count =
            |id: &str, reason: &str, rows| (id.to_owned(), FailureCount { reason: reason.to_owned(), rows });
        let reasons = [count("a", "x", 1), count("a", "y", 2), count("b", "y", 3), count("gone", "x", 100)];
        let summed = sum_reasons(&reasons, |id| id != "gone");
        let summed: Vec<_> = summed.iter().map(|count| (count.reason.as_str(), count.rows)).collect();
        assert_eq!(summed, [("y", 5), ("x", 1)]);
    }

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
