//! Pages of nodes, mappings and containers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use swift_s3_proto::v1::{
    ContainerOrder, ContainerStatus, ListContainersRequest, ListContainersResponse, ListMappingsRequest,
    ListMappingsResponse, ListNodesRequest, ListNodesResponse, NodeState, NodeStatus, ShareOwner,
};
use tonic::Status;

use super::page::{self, Question};
use crate::control::Control;
use crate::feeds::ContainerTotal;
use crate::overview::Overview;
use crate::registry::NodeView;
use crate::time;

pub(super) fn nodes(control: &Control, request: &ListNodesRequest) -> Result<ListNodesResponse, Status> {
    let revision = control.push.current().revision;
    let wanted = request.state();
    let question = Question::new("nodes", &[wanted.as_str_name()]);
    let after: Option<String> = question.position(&request.page_token)?;
    let size = page::size(request.page_size);
    let views = control.registry.nodes();
    let mut found = views
        .iter()
        .filter(|node| after.as_ref().is_none_or(|after| node.record.node_id > *after))
        .filter(|node| wanted == NodeState::Unspecified || node.state(revision) == wanted)
        .peekable();
    let nodes: Vec<NodeStatus> =
        found.by_ref().take(size).map(|node| node_status(control, node, revision)).collect();
    let has_more = found.peek().is_some();
    let last = nodes.last().filter(|_| has_more);
    let next_page_token = last.map(|node| question.token(&node.node_id)).unwrap_or_default();
    Ok(ListNodesResponse { nodes, next_page_token })
}

fn node_status(control: &Control, node: &NodeView, revision: i64) -> NodeStatus {
    let (containers, lag) = control.feeds().of_node(&node.record.node_id);
    let record = &node.record;
    let answer = node.answer.as_ref();
    let in_force = answer.filter(|answer| answer.revision == revision);
    NodeStatus {
        node_id: record.node_id.clone(),
        role: record.role,
        state: node.state(revision).into(),
        version: record.version.clone(),
        revision: record.revision,
        host: record.host.clone(),
        addresses: record.addresses.clone(),
        connected_at: node.connected_at_ms.map(time::timestamp),
        last_seen_at: Some(time::timestamp(record.last_seen_at_ms)),
        clock_skew_seconds: node.clock_skew_seconds,
        problems: in_force.map(|answer| answer.problems.to_vec()).unwrap_or_default(),
        containers,
        lag: lag.filter(|_| node.is_live),
        capabilities: record.capabilities.clone(),
        push_seconds: answer.map(|answer| answer.took.as_secs_f64()),
        coordination: node.coordination.clone(),
        load: node.load,
    }
}

pub(super) fn mappings(
    overview: &Overview,
    request: &ListMappingsRequest,
) -> Result<ListMappingsResponse, Status> {
    let question = Question::new("mappings", &[&request.account]);
    let after: Option<String> = question.position(&request.page_token)?;
    let start = match &after {
        None => 0,
        Some(after) => {
            let last = overview.mappings.iter().position(|mapping| mapping.mapping_id == *after);
            last.map(|last| last + 1).ok_or_else(|| {
                Status::aborted(
                    "the configuration changed since the last page; begin again with an empty page_token",
                )
            })?
        }
    };
    let mut found = overview
        .mappings
        .iter()
        .skip(start)
        .filter(|mapping| request.account.is_empty() || mapping.account == request.account)
        .peekable();
    let mappings: Vec<_> = found.by_ref().take(page::size(request.page_size)).cloned().collect();
    let has_more = found.peek().is_some();
    let last = mappings.last().filter(|_| has_more);
    let next_page_token = last.map(|mapping| question.token(&mapping.mapping_id)).unwrap_or_default();
    Ok(ListMappingsResponse { mappings, next_page_token })
}

pub(super) fn containers(
    overview: &Overview,
    request: &ListContainersRequest,
) -> Result<ListContainersResponse, Status> {
    let filter = ContainerFilter::new(request);
    if request.order() == ContainerOrder::Lag {
        if !request.page_token.is_empty() {
            return Err(Status::invalid_argument(
                "page_token: containers by lag have one page only; give none with this order",
            ));
        }
        let most = page::size(request.page_size);
        let found = furthest_behind(overview.containers.iter().filter(|total| filter.matches(total)), most);
        let containers = found.into_iter().map(container_status).collect();
        return Ok(ListContainersResponse { containers, next_page_token: String::new() });
    }
    let question = filter.question();
    let after: Option<(String, String, String)> = question.position(&request.page_token)?;
    let after = after
        .as_ref()
        .map(|(account, container, mapping)| (account.as_str(), container.as_str(), mapping.as_str()));
    let start =
        after.map_or(0, |after| overview.containers.partition_point(|total| total.position() <= after));
    let rest = overview.containers.get(start..).unwrap_or_default();
    let mut found = rest.iter().filter(|total| filter.matches(total)).peekable();
    let page: Vec<&ContainerTotal> = found.by_ref().take(page::size(request.page_size)).collect();
    let has_more = found.peek().is_some();
    let last = page.last().filter(|_| has_more);
    let next_page_token = last.map(|total| question.token(&total.position())).unwrap_or_default();
    let containers = page.into_iter().map(container_status).collect();
    Ok(ListContainersResponse { containers, next_page_token })
}

/// Which containers are asked for.
struct ContainerFilter<'a> {
    mapping_id: &'a str,
    account: &'a str,
    prefix: &'a str,
    /// In lower case.
    part: String,
    only_behind: bool,
}

impl<'a> ContainerFilter<'a> {
    fn new(request: &'a ListContainersRequest) -> Self {
        Self {
            mapping_id: &request.mapping_id,
            account: &request.account,
            prefix: &request.container_prefix,
            part: request.container_contains.to_ascii_lowercase(),
            only_behind: request.only_behind,
        }
    }

    fn question(&self) -> Question {
        let behind = if self.only_behind { "behind" } else { "" };
        Question::new("containers", &[self.mapping_id, self.account, self.prefix, behind, &self.part])
    }

    fn matches(&self, total: &ContainerTotal) -> bool {
        (self.mapping_id.is_empty() || *total.mapping_id == *self.mapping_id)
            && (self.account.is_empty() || *total.account == *self.account)
            && total.container.starts_with(self.prefix)
            && (self.part.is_empty() || total.container.to_ascii_lowercase().contains(&self.part))
            && (!self.only_behind || is_behind(total))
    }
}

/// Something is to do, to look at, or unknown.
fn is_behind(total: &ContainerTotal) -> bool {
    !total.is_complete
        || total.lag.as_ref().is_none_or(|lag| lag.rows > 0)
        || total.held_since_ms.is_some()
        || !total.trouble.is_empty()
        || total.failures > 0
}

/// How far behind, the largest first: nothing is known, seconds, rows, failures. What a node tells is not trusted to be a number.
type Rank = (bool, u64, u64, u64);

fn rank(total: &ContainerTotal) -> Rank {
    match &total.lag {
        None => (true, 0, 0, total.failures),
        // Bits of numbers that are not negative are in the order of the numbers; the sum makes 0 of -0.
        Some(lag) => (false, (lag.seconds.max(0.0) + 0.0).to_bits(), lag.rows, total.failures),
    }
}

/// The first `most` by their rank; those of one rank in the order they come.
fn furthest_behind<'a>(
    totals: impl Iterator<Item = &'a ContainerTotal>,
    most: usize,
) -> Vec<&'a ContainerTotal> {
    // Holds the best so far, the worst of them on top: almost every container is compared with that one only.
    let mut best: BinaryHeap<Reverse<(Rank, Reverse<usize>)>> =
        BinaryHeap::with_capacity(most.saturating_add(1));
    let mut kept: HashMap<usize, &ContainerTotal> = HashMap::with_capacity(most);
    for (index, total) in totals.enumerate() {
        let rank = rank(total);
        let is_full = best.len() >= most;
        if is_full && best.peek().is_some_and(|Reverse((worst, _))| rank <= *worst) {
            continue;
        }
        best.push(Reverse((rank, Reverse(index))));
        kept.insert(index, total);
        if is_full && let Some(Reverse((_, Reverse(dropped)))) = best.pop() {
            kept.remove(&dropped);
        }
    }
    // Ascending by what is kept in reverse: the furthest behind first.
    let sorted = best.into_sorted_vec();
    sorted.into_iter().filter_map(|Reverse((_, Reverse(index)))| kept.get(&index).copied()).collect()
}

fn container_status(total: &ContainerTotal) -> ContainerStatus {
    ContainerStatus {
        mapping_id: total.mapping_id.to_string(),
        account: total.account.to_string(),
        container: total.container.to_string(),
        lag: total.lag,
        is_complete: total.is_complete,
        node_ids: total.node_ids.iter().map(ToString::to_string).collect(),
        failures: total.failures,
        deletes_held_at: total.held_since_ms.map(time::timestamp),
        deletes_held_because: total.held_because.clone(),
        trouble: total.trouble.clone(),
        owners: total
            .owners
            .iter()
            .map(|(index, node_id)| ShareOwner { index: *index, node_id: node_id.to_string() })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use swift_s3_proto::v1::Lag;

    use super::*;

    fn total(name: usize, lag: Option<(f64, u64)>, failures: u64) -> ContainerTotal {
        ContainerTotal {
            account: Arc::from("a"),
            container: Arc::from(format!("c{name}")),
            mapping_id: Arc::from("m"),
            lag: lag.map(|(seconds, rows)| Lag { seconds, rows, ..Lag::default() }),
            is_complete: true,
            owners: Vec::new(),
            node_ids: Vec::new(),
            held_since_ms: None,
            held_because: String::new(),
            trouble: String::new(),
            failures,
        }
    }

    #[test]
    fn the_furthest_behind_come_first_and_unknown_ones_before_them() {
        let totals = [
            total(0, Some((0.0, 0)), 0),
            total(1, Some((60.0, 1)), 0),
            total(2, None, 0),
            total(3, Some((60.0, 5)), 0),
            total(4, Some((0.0, 0)), 9),
            total(5, None, 1),
            total(6, Some((-1.0, 0)), 0),
            total(7, Some((f64::NAN, 0)), 0),
            total(8, Some((7_200.5, 0)), 0),
        ];
        for most in 0..12 {
            let found = furthest_behind(totals.iter(), most);
            let names: Vec<&str> = found.iter().map(|total| &*total.container).collect();
            let expected = ["c5", "c2", "c8", "c3", "c1", "c4", "c0", "c6", "c7"];
            assert_eq!(names, expected.get(..most.min(expected.len())).unwrap());
        }
    }

    #[test]
    fn the_first_of_many_are_those_that_sorting_all_gives() {
        // No two numbers of this series repeat a pattern that order could hide behind.
        let totals: Vec<ContainerTotal> = (0_u32..2_000)
            .map(|index| {
                let number = index.wrapping_mul(2_654_435_761) >> 20;
                total(
                    index as usize,
                    (number % 7 > 0).then(|| (f64::from(number % 50), (number % 3).into())),
                    0,
                )
            })
            .collect();
        let mut sorted: Vec<&ContainerTotal> = totals.iter().collect();
        sorted.sort_by_key(|total| Reverse(rank(total)));
        for most in [1, 100, 1_000] {
            let found = furthest_behind(totals.iter(), most);
            let names = |list: &[&ContainerTotal]| {
                list.iter().map(|total| Arc::clone(&total.container)).collect::<Vec<_>>()
            };
            assert_eq!(names(&found), names(sorted.get(..most).unwrap()));
        }
    }
}
