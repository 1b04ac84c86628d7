//! The tables behind `--wide`: what nodes take of their machines, and what mappings ask of remotes.

use swift_s3_proto::v1::{MappingStatus, MappingUsage, NodeStatus};

use super::label;
use crate::ctl::table::Table;
use crate::ctl::units::{UNKNOWN, bytes, seconds};

/// What each node takes of its machine.
pub(super) fn loads(nodes: &[NodeStatus]) -> Table {
    let mut table = Table::new(&["NODE", "UPTIME>", "CPU>", "MEMORY>", "FILES>", "TRANSFERS>"]);
    for node in nodes {
        let told = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned()).into();
        let load = node.load.as_ref();
        let files = load.map(|load| match load.max_open_files {
            u64::MAX => load.open_files.to_string(),
            most => format!("{}/{most}", load.open_files),
        });
        table.row(vec![
            node.node_id.as_str().into(),
            told(load.map(|load| seconds(load.uptime_seconds.round()))),
            told(load.map(|load| seconds(load.cpu_seconds.round()))),
            told(load.map(|load| bytes(load.memory_bytes))),
            told(files),
            told(load.map(|load| format!("{}/{}", load.transfers, load.max_transfers))),
        ]);
    }
    table
}

/// What was asked of each mapping's remote since the month began.
pub(super) fn usages(mappings: &[MappingStatus]) -> Table {
    let mut table = Table::new(&[
        "MAPPING",
        "CONTAINER",
        "MONTH",
        "WRITES>",
        "LISTS>",
        "READS>",
        "DELETES>",
        "SENT>",
        "RECEIVED>",
        "COST>",
    ]);
    for mapping in mappings {
        let told = mapping.usage.as_ref();
        let asked = told.and_then(|told| told.usage.as_ref());
        let number = |number: Option<u64>| {
            number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string()).into()
        };
        let size = |size: Option<u64>| size.map_or_else(|| UNKNOWN.to_owned(), bytes).into();
        table.row(vec![
            mapping.mapping_id.as_str().into(),
            label(&mapping.account, &mapping.container).into(),
            told.map_or(UNKNOWN, |told| told.month.as_str()).into(),
            number(asked.map(|asked| asked.writes)),
            number(asked.map(|asked| asked.lists)),
            number(asked.map(|asked| asked.reads)),
            number(asked.map(|asked| asked.deletes)),
            size(asked.map(|asked| asked.bytes_sent)),
            size(asked.map(|asked| asked.bytes_received)),
            told.and_then(cost).unwrap_or_else(|| UNKNOWN.to_owned()).into(),
        ]);
    }
    table
}

/// `12.34 USD`
fn cost(usage: &MappingUsage) -> Option<String> {
    let cost = usage.cost?;
    // A fraction of a cent is not nothing.
    let digits = if cost > 0.0 && cost < 0.01 { 4 } else { 2 };
    Some(format!("{cost:.digits$} {}", usage.currency))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use swift_s3_proto::v1::{NodeLoad, RemoteUsage};

    use super::*;

    #[test]
    fn what_was_not_told_is_unknown_and_a_fraction_of_a_cent_is_shown() {
        let usage = |cost| MappingUsage {
            month: "2026-11".to_owned(),
            usage: Some(RemoteUsage { writes: 12, bytes_sent: 2_048, ..RemoteUsage::default() }),
            cost,
            currency: "USD".to_owned(),
            prices_as_of: String::new(),
        };
        let mapping = |usage| MappingStatus { usage, ..MappingStatus::default() };
        let mappings = [mapping(None), mapping(Some(usage(None))), mapping(Some(usage(Some(0.00006))))];
        let shown = usages(&mappings).render(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines.get(1).unwrap().contains(UNKNOWN) && !lines.get(1).unwrap().contains("2026"),
            "{shown}"
        );
        assert!(lines.get(2).unwrap().trim_end().ends_with(UNKNOWN), "{shown}");
        assert!(lines.get(3).unwrap().contains("0.0001 USD"), "{shown}");
        let load = NodeLoad {
            open_files: 7,
            max_open_files: u64::MAX,
            transfers: 2,
            max_transfers: 4,
            ..NodeLoad::default()
        };
        let nodes = [NodeStatus { load: Some(load), ..NodeStatus::default() }, NodeStatus::default()];
        assert!(loads(&nodes).render(false).contains("2/4"));
    }
}
