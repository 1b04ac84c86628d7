//! `takeovers`: shares of the work that changed hands during the last day.

use jiff::Timestamp;
use serde_json::json;
use swift_s3_proto::v1::{NodeState, NodeStatus, Takeover};

use super::lists::fetch_nodes;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::units::{UNKNOWN, age, seconds};

pub(super) async fn run(server: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    let nodes = fetch_nodes(server, NodeState::Unspecified, None).await?.items;
    let found = sorted(&nodes);
    if output.is_table() {
        output.table(&table(&found, Timestamp::now()), "no share changed hands during the last day")?;
        return Ok(Exit::Done);
    }
    let mut items = Vec::new();
    for (node_id, takeover) in found {
        let mut item = json::value(takeover)?;
        if let Some(fields) = item.as_object_mut() {
            fields.insert("node_id".to_owned(), json!(node_id));
        }
        items.push(item);
    }
    output.json(&json!({ "takeovers": items }))?;
    Ok(Exit::Done)
}

/// By time, with the node that took or returned the shares.
fn sorted(nodes: &[NodeStatus]) -> Vec<(&str, &Takeover)> {
    let mut found: Vec<(&str, &Takeover)> = nodes
        .iter()
        .filter_map(|node| Some((node.node_id.as_str(), node.coordination.as_ref()?)))
        .flat_map(|(node_id, told)| told.takeovers.iter().map(move |takeover| (node_id, takeover)))
        .collect();
    found.sort_by_key(|(node_id, takeover)| {
        let at = takeover.at.as_ref().map(|at| (at.seconds, at.nanos));
        (at, *node_id)
    });
    found
}

fn table(found: &[(&str, &Takeover)], now: Timestamp) -> Table {
    let mut table = Table::new(&["AGO", "WORKER", "DID", "SHARES>", "OF", "DEVICE", "WITHIN"]);
    for (node_id, takeover) in found {
        let (did, tone) = if takeover.is_returned { ("returned", Tone::Good) } else { ("took", Tone::Odd) };
        let within = if takeover.is_returned { String::new() } else { seconds(takeover.seconds) };
        table.row(vec![
            takeover.at.as_ref().map_or_else(|| UNKNOWN.to_owned(), |at| age(Some(at), now)).into(),
            (*node_id).into(),
            Cell::toned(did, tone),
            takeover.shares.to_string().into(),
            takeover.home_node_id.as_str().into(),
            takeover.device.as_str().into(),
            within.into(),
        ]);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use swift_s3_proto::v1::Coordination;

    #[test]
    fn takeovers_of_all_workers_are_told_by_time() {
        let takeover = |at: i64, is_returned| Takeover {
            at: Some(prost_types::Timestamp { seconds: at, nanos: 0 }),
            is_returned,
            device: "10.0.0.1:6201/sdb1".to_owned(),
            home_node_id: "a".to_owned(),
            shares: 7,
            seconds: 1.5,
        };
        let node = |node_id: &str, takeovers| NodeStatus {
            node_id: node_id.to_owned(),
            coordination: Some(Coordination { takeovers, ..Coordination::default() }),
            ..NodeStatus::default()
        };
        let nodes = [
            node("c", vec![takeover(30, true)]),
            node("b", vec![takeover(20, false), takeover(40, true)]),
            NodeStatus::default(),
        ];
        let found = sorted(&nodes);
        let order: Vec<&str> = found.iter().map(|(node_id, _)| *node_id).collect();
        assert_eq!(order, ["b", "c", "b"]);
        let shown = table(&found, Timestamp::from_second(100).unwrap()).render(false);
        assert!(shown.contains("took") && shown.contains("returned"), "{shown}");
    }
}
