//! Pages of nodes, mappings and containers.

use swift_s3_proto::v1::{
    ContainerStatus, ListContainersRequest, ListContainersResponse, ListMappingsRequest,
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
        problems: in_force.map(|answer| answer.problems.clone()).unwrap_or_default(),
        containers,
        lag: lag.filter(|_| node.is_live),
        capabilities: record.capabilities.clone(),
        push_seconds: answer.map(|answer| answer.took.as_secs_f64()),
        coordination: node.coordination.clone(),
        ..NodeStatus::default()
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
    let ListContainersRequest { mapping_id, account, container_prefix, only_behind, .. } = request;
    let only_behind = *only_behind;
    let question = Question::new(
        "containers",
        &[mapping_id, account, container_prefix, if only_behind { "behind" } else { "" }],
    );
    let after: Option<(String, String, String)> = question.position(&request.page_token)?;
    let after = after
        .as_ref()
        .map(|(account, container, mapping)| (account.as_str(), container.as_str(), mapping.as_str()));
    let start =
        after.map_or(0, |after| overview.containers.partition_point(|total| total.position() <= after));
    let matches = |total: &&ContainerTotal| {
        (mapping_id.is_empty() || *total.mapping_id == **mapping_id)
            && (account.is_empty() || *total.account == **account)
            && total.container.starts_with(container_prefix.as_str())
            && (!only_behind || is_behind(overview, total))
    };
    let mut found = overview.containers.iter().skip(start).filter(matches).peekable();
    let page: Vec<&ContainerTotal> = found.by_ref().take(page::size(request.page_size)).collect();
    let has_more = found.peek().is_some();
    let last = page.last().filter(|_| has_more);
    let next_page_token = last.map(|total| question.token(&total.position())).unwrap_or_default();
    let containers = page.into_iter().map(|total| container_status(overview, total)).collect();
    Ok(ListContainersResponse { containers, next_page_token })
}

/// Something is to do, to look at, or unknown.
fn is_behind(overview: &Overview, total: &ContainerTotal) -> bool {
    !total.is_complete
        || total.lag.as_ref().is_none_or(|lag| lag.rows > 0)
        || total.held_since_ms.is_some()
        || !total.trouble.is_empty()
        || overview.failures(total) > 0
}

fn container_status(overview: &Overview, total: &ContainerTotal) -> ContainerStatus {
    ContainerStatus {
        mapping_id: total.mapping_id.to_string(),
        account: total.account.to_string(),
        container: total.container.to_string(),
        lag: total.lag,
        is_complete: total.is_complete,
        node_ids: total.node_ids.iter().map(ToString::to_string).collect(),
        failures: overview.failures(total),
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
