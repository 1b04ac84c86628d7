//! `nodes`, `mappings` and `containers`.

use jiff::Timestamp;
use serde_json::json;
use swift_s3_proto::v1::{
    ContainerOrder, ContainerStatus, Coordination, CoordinationMode, ListContainersRequest, ListNodesRequest,
    MappingStatus, NodeState, NodeStatus, Role,
};

use super::{Listed, PAGE, all_pages, fetch_mappings, label, mapping_id, tell_if_cut, wide};
use crate::ctl::arguments::{
    ContainerSort, ContainersArguments, MappingsArguments, NodesArguments, StateFilter,
};
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure, problem};
use crate::ctl::json::{self, Named};
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::units::{UNKNOWN, age, byte_rate, lag, row_rate, seconds};

fn print_json<M: Named>(output: &mut Output, name: &str, listed: &Listed<M>) -> Result<Exit, Failure> {
    let items = json::values(&listed.items)?;
    output.json(&json!({ name: items, "is_cut": listed.is_cut }))?;
    Ok(Exit::Done)
}

pub(super) async fn nodes(
    server: &Connection,
    arguments: &NodesArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let state = match arguments.state {
        None => NodeState::Unspecified,
        Some(StateFilter::Synced) => NodeState::Synced,
        Some(StateFilter::Stale) => NodeState::Stale,
        Some(StateFilter::Rejected) => NodeState::Rejected,
        Some(StateFilter::NotSeen) => NodeState::NotSeen,
    };
    let listed = fetch_nodes(server, state, arguments.limit.limit).await?;
    if !output.is_table() {
        return print_json(output, "nodes", &listed);
    }
    output.table(&nodes_table(&listed.items, Timestamp::now()), "no nodes")?;
    if arguments.wide && !listed.items.is_empty() {
        output.line("")?;
        output.table(&wide::loads(&listed.items), "")?;
    }
    for node in &listed.items {
        for found in &node.problems {
            output.line(&format!("{}: {}", node.node_id, problem(found)))?;
        }
    }
    tell_if_cut(&listed, None);
    Ok(Exit::Done)
}

/// Nodes in `state`, or all.
pub(super) async fn fetch_nodes(
    server: &Connection,
    state: NodeState,
    limit: Option<u32>,
) -> Result<Listed<NodeStatus>, Failure> {
    all_pages(limit, async |page_size, page_token| {
        let request = ListNodesRequest { page_size, page_token, state: state.into() };
        let answer = server.call("list nodes", server.status().list_nodes(request)).await?;
        Ok((answer.nodes, answer.next_page_token))
    })
    .await
}

/// A state in words.
pub(super) fn state_word(state: NodeState) -> (&'static str, Tone) {
    match state {
        NodeState::Unspecified => (UNKNOWN, Tone::Odd),
        NodeState::Synced => ("synced", Tone::Good),
        NodeState::Stale => ("stale", Tone::Odd),
        NodeState::Rejected => ("rejected", Tone::Bad),
        NodeState::NotSeen => ("not seen", Tone::Bad),
    }
}

fn nodes_table(nodes: &[NodeStatus], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "ROLE",
        "STATE",
        "REVISION>",
        "VERSION",
        "HOST",
        "MODE",
        "SEEN",
        "CLOCK",
        "PUSH",
        "CONTAINERS>",
        "BEHIND>",
        "ROWS>",
    ]);
    for node in nodes {
        let (word, tone) = state_word(node.state());
        let lag = lag(node.lag.as_ref(), true);
        let skew = node.clock_skew_seconds;
        let role = match node.role() {
            Role::Unspecified => UNKNOWN,
            Role::Worker => "worker",
            Role::Shunt => "shunt",
        };
        let seen = match node.last_seen_at.as_ref() {
            None => "never".to_owned(),
            Some(moment) => format!("{} ago", age(Some(moment), now)),
        };
        table.row(vec![
            node.node_id.as_str().into(),
            role.into(),
            Cell::toned(word, tone),
            node.revision.to_string().into(),
            node.version.as_str().into(),
            node.host.as_str().into(),
            node.coordination.as_ref().map_or_else(|| "".into(), mode_cell),
            seen.into(),
            skew.map_or_else(|| UNKNOWN.to_owned(), skew_word).into(),
            node.push_seconds.map_or_else(|| UNKNOWN.to_owned(), seconds).into(),
            node.containers.to_string().into(),
            lag.seconds.into(),
            lag.rows.into(),
        ]);
    }
    table
}

/// `explicit`, and how many shares were taken from others.
fn mode_cell(coordination: &Coordination) -> Cell {
    let (word, tone) = mode_word(coordination.mode());
    match coordination.shares_taken {
        0 => Cell::toned(word, tone),
        taken => Cell::toned(format!("{word}, {taken} taken"), Tone::Odd),
    }
}

/// A way of sharing out work in words.
pub(super) fn mode_word(mode: CoordinationMode) -> (&'static str, Tone) {
    match mode {
        CoordinationMode::Unspecified => (UNKNOWN, Tone::Odd),
        CoordinationMode::Implicit => ("implicit", Tone::Plain),
        CoordinationMode::Explicit => ("explicit", Tone::Good),
        CoordinationMode::Fallback => ("fallback", Tone::Bad),
    }
}

/// `0:a 1:b 2:b`: which node handles the names of which replica first.
fn owners(container: &ContainerStatus) -> String {
    let words = container.owners.iter().map(|owner| format!("{}:{}", owner.index, owner.node_id));
    words.collect::<Vec<_>>().join(" ")
}

fn skew_word(skew: f64) -> String {
    if skew.is_sign_negative() { seconds(skew) } else { format!("+{}", seconds(skew)) }
}

pub(super) async fn mappings(
    server: &Connection,
    arguments: &MappingsArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let account = arguments.account.as_deref().unwrap_or_default();
    let listed = fetch_mappings(server, account, arguments.limit.limit).await?;
    if !output.is_table() {
        return print_json(output, "mappings", &listed);
    }
    output.table(&mappings_table(&listed.items), "no mappings")?;
    if arguments.wide && !listed.items.is_empty() {
        output.line("")?;
        output.table(&wide::usages(&listed.items), "")?;
    }
    for line in troubles(&listed.items) {
        output.line(&line)?;
    }
    tell_if_cut(&listed, None);
    Ok(Exit::Done)
}

fn mapping_state(mapping: &MappingStatus) -> (&'static str, Tone) {
    if mapping.troubles.iter().any(|trouble| !trouble.refused.is_empty()) {
        ("refused", Tone::Bad)
    } else if mapping.deletes_held_at.is_some() {
        ("deletes held", Tone::Bad)
    } else if mapping.is_paused {
        ("paused", Tone::Odd)
    } else if !mapping.troubles.is_empty() {
        ("remote trouble", Tone::Bad)
    } else if mapping.lag.is_none() {
        (UNKNOWN, Tone::Odd)
    } else {
        ("ok", Tone::Good)
    }
}

/// Mappings for people.
pub(super) fn mappings_table(mappings: &[MappingStatus]) -> Table {
    let mut table = Table::new(&[
        "MAPPING",
        "CONTAINER",
        "STATE",
        "BEHIND>",
        "ROWS>",
        "BYTES>",
        "WAITING>",
        "FAILURES>",
        "RATE>",
        "SPEED>",
        "ETA>",
        "NODES>",
        "REMOTE",
    ]);
    for mapping in mappings {
        let (word, tone) = mapping_state(mapping);
        let words = lag(mapping.lag.as_ref(), mapping.is_complete);
        let failures = if mapping.failures == 0 { Tone::Plain } else { Tone::Bad };
        table.row(vec![
            mapping.mapping_id.as_str().into(),
            label(&mapping.account, &mapping.container).into(),
            Cell::toned(word, tone),
            words.seconds.into(),
            words.rows.into(),
            words.bytes.into(),
            mapping.lag.map_or_else(|| UNKNOWN.to_owned(), |lag| lag.rows_waiting.to_string()).into(),
            Cell::toned(mapping.failures.to_string(), failures),
            row_rate(mapping.rows_per_second).into(),
            byte_rate(mapping.bytes_per_second).into(),
            mapping.seconds_to_catch_up.map_or_else(String::new, |left| seconds(left.round())).into(),
            format!("{}/{}", mapping.nodes_applied, mapping.nodes_total).into(),
            mapping.remote.as_str().into(),
        ]);
    }
    table
}

/// What is wrong with mappings on single nodes.
pub(super) fn troubles(mappings: &[MappingStatus]) -> Vec<String> {
    let mut lines = Vec::new();
    for mapping in mappings {
        for trouble in &mapping.troubles {
            let on = format!("{} on {}", mapping.mapping_id, trouble.node_id);
            if !trouble.refused.is_empty() {
                lines.push(format!("{on} is not in force: {}", trouble.refused));
            }
            if !trouble.remote_trouble.is_empty() {
                lines.push(format!("{on} leaves its remote alone: {}", trouble.remote_trouble));
            }
        }
    }
    lines
}

pub(super) async fn containers(
    server: &Connection,
    arguments: &ContainersArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mapping_id = mapping_id(server, arguments.mapping.as_deref()).await?;
    let request = |page_size, page_token| ListContainersRequest {
        page_size,
        page_token,
        mapping_id: mapping_id.clone(),
        account: arguments.account.clone().unwrap_or_default(),
        container_prefix: arguments.prefix.clone().unwrap_or_default(),
        only_behind: arguments.behind,
        container_contains: arguments.search.clone().unwrap_or_default(),
        order: match arguments.sort {
            ContainerSort::Name => ContainerOrder::Unspecified,
            ContainerSort::Lag => ContainerOrder::Lag,
        }
        .into(),
    };
    let ask = async |page_size, page_token| {
        let request = request(page_size, page_token);
        let answer = server.call("list containers", server.status().list_containers(request)).await?;
        Ok((answer.containers, answer.next_page_token))
    };
    let listed = match arguments.sort {
        ContainerSort::Name => all_pages(arguments.limit.limit, ask).await?,
        ContainerSort::Lag => {
            let most = arguments.limit.limit.unwrap_or(PAGE).min(PAGE);
            let (items, _) = ask(most, String::new()).await?;
            // There may be more, of which nothing is told in this order.
            let is_cut = u32::try_from(items.len()).unwrap_or(u32::MAX) >= most;
            Listed { items, is_cut }
        }
    };
    if !output.is_table() {
        return print_json(output, "containers", &listed);
    }
    let nothing = if arguments.behind { "no containers are behind" } else { "no containers" };
    output.table(&containers_table(&listed.items, Timestamp::now()), nothing)?;
    if arguments.sort == ContainerSort::Name {
        tell_if_cut(&listed, None);
    }
    Ok(Exit::Done)
}

fn containers_table(containers: &[ContainerStatus], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "ACCOUNT",
        "CONTAINER",
        "MAPPING",
        "BEHIND>",
        "ROWS>",
        "BYTES>",
        "WAITING>",
        "FAILURES>",
        "OWNERS",
        "TROUBLE",
    ]);
    for container in containers {
        let words = lag(container.lag.as_ref(), container.is_complete);
        let failures = if container.failures == 0 { Tone::Plain } else { Tone::Bad };
        let held = container.deletes_held_at.as_ref().map(|moment| {
            format!("deletes held for {}: {}", age(Some(moment), now), container.deletes_held_because)
        });
        let trouble: Vec<String> =
            held.into_iter().chain(Some(container.trouble.clone()).filter(|text| !text.is_empty())).collect();
        table.row(vec![
            container.account.as_str().into(),
            container.container.as_str().into(),
            container.mapping_id.as_str().into(),
            words.seconds.into(),
            words.rows.into(),
            words.bytes.into(),
            container.lag.map_or_else(|| UNKNOWN.to_owned(), |lag| lag.rows_waiting.to_string()).into(),
            Cell::toned(container.failures.to_string(), failures),
            owners(container).into(),
            Cell::toned(trouble.join("; "), Tone::Bad),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use swift_s3_proto::v1::{Lag, MappingTrouble};

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_100).unwrap()
    }

    #[test]
    fn a_silent_node_is_unknown_not_zero() {
        let node =
            NodeStatus { node_id: "n1".into(), state: NodeState::NotSeen.into(), ..NodeStatus::default() };
        let text = nodes_table(&[node], now()).render(false);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("n1    unknown  not seen"), "{text}");
        assert!(line.contains("never"), "{text}");
        assert!(line.ends_with("unknown  unknown"), "{text}");
    }

    #[test]
    fn the_state_of_a_mapping_is_its_worst() {
        let well = MappingStatus { lag: Some(Lag::default()), ..MappingStatus::default() };
        let trouble = |refused: &str| MappingTrouble { refused: refused.into(), ..MappingTrouble::default() };
        let held = Some(prost_types::Timestamp::default());
        let paused = MappingStatus { is_paused: true, ..well.clone() };
        for (mapping, expected) in [
            (well.clone(), "ok"),
            (MappingStatus::default(), "unknown"),
            (paused.clone(), "paused"),
            (MappingStatus { deletes_held_at: held, ..paused.clone() }, "deletes held"),
            (MappingStatus { troubles: vec![trouble("")], ..well }, "remote trouble"),
            (
                MappingStatus { troubles: vec![trouble("no bucket")], deletes_held_at: held, ..paused },
                "refused",
            ),
        ] {
            assert_eq!(mapping_state(&mapping).0, expected);
        }
    }

    #[test]
    fn an_incomplete_lag_is_a_lower_bound() {
        let container = ContainerStatus {
            container: "photos".into(),
            lag: Some(Lag { rows: 12, bytes: 2048, seconds: 92.0, ..Lag::default() }),
            deletes_held_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            deletes_held_because: "too many".into(),
            ..ContainerStatus::default()
        };
        let text = containers_table(&[container], now()).render(false);
        for expected in [">=1m 32s", ">=12", ">=2.0 KiB", "deletes held for 1m 40s: too many"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
