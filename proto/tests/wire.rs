//! The contract on the wire: what was once published stays as it is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prost::Message;
use prost_reflect::{Cardinality, DescriptorPool};
use swift_s3_proto::{FILE_DESCRIPTOR_SET, v1};

const GOLDEN: &str = "tests/wire.txt";
/// Set to add what is new to the golden file.
const UPDATE: &str = "UPDATE_WIRE_CONTRACT";

/// Every method, field and enum value with what counts on the wire, one a line.
fn contract() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut lines = BTreeSet::new();
    for service in pool.services() {
        for method in service.methods() {
            let stream = |streams| if streams { "stream " } else { "" };
            lines.insert(format!(
                "rpc {}({}{}) returns {}{}",
                method.full_name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name()
            ));
        }
    }
    for message in pool.all_messages().filter(|message| message.package_name().starts_with("swift_s3_sync")) {
        for field in message.fields() {
            let label = match field.cardinality() {
                Cardinality::Repeated if field.is_map() => "map ",
                Cardinality::Repeated => "repeated ",
                _ if field.containing_oneof().is_some() => "optional ",
                _ => "",
            };
            lines.insert(format!("{} = {}: {label}{:?}", field.full_name(), field.number(), field.kind()));
        }
    }
    for value in pool.all_enums().flat_map(|kind| kind.values().collect::<Vec<_>>()) {
        lines.insert(format!("{} = {}", value.full_name(), value.number()));
    }
    lines
}

#[test]
fn nothing_that_was_published_has_changed() {
    let contract = contract();
    let path = Path::new(GOLDEN);
    let golden: BTreeSet<String> =
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
    let broken: Vec<_> = golden.difference(&contract).collect();
    assert!(broken.is_empty(), "older programs speak this, and it is gone or different: {broken:#?}");
    let added: Vec<_> = contract.difference(&golden).cloned().collect();
    if std::env::var_os(UPDATE).is_some() {
        let lines: Vec<_> = contract.into_iter().collect();
        fs::write(path, lines.join("\n") + "\n").unwrap();
        return;
    }
    assert!(added.is_empty(), "new, and not yet in {GOLDEN}; run again with {UPDATE}=1: {added:#?}");
}

#[test]
fn messages_of_an_older_program_mean_the_same() {
    // Bytes on the wire as version 0.1.0 sends them, not what this build would write.
    let heartbeat = v1::Heartbeat::decode(&hex("0a060880e2cfaa062001")[..]).unwrap();
    assert_eq!(heartbeat.sent_at.map(|at| at.seconds), Some(1_700_000_000));
    assert!(heartbeat.is_complete);
    let hello = v1::NodeMessage::decode(&hex("0a0c0a056e6f64653110011a0131")[..]).unwrap();
    let Some(v1::node_message::Message::Hello(hello)) = hello.message else { panic!("no hello") };
    assert_eq!(
        (hello.node_id.as_str(), hello.role(), hello.version.as_str()),
        ("node1", v1::Role::Worker, "1")
    );
}

#[test]
fn what_a_newer_program_adds_is_passed_over() {
    // Field 100 of every message is unknown here: as a number, and as the only content of a oneof's message.
    let unknown = [0xa0, 0x06, 0x01];
    assert_eq!(v1::ControlMessage::decode(&unknown[..]).unwrap(), v1::ControlMessage::default());
    assert_eq!(v1::FeedProgress::decode(&unknown[..]).unwrap(), v1::FeedProgress::default());
    let newer = v1::NodeStatus { state: 99, ..v1::NodeStatus::default() };
    assert_eq!(
        v1::NodeStatus::decode(&newer.encode_to_vec()[..]).unwrap().state(),
        v1::NodeState::Unspecified
    );
}

#[test]
fn everything_is_commented() {
    let folder = Path::new("swift_s3_sync/v1");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let mut before = "";
        for line in text.lines().map(str::trim) {
            let defines =
                ["message ", "enum ", "service ", "rpc ", "oneof "].iter().any(|word| line.starts_with(word))
                    || (line.contains(" = ") && line.ends_with(';') && !line.starts_with("syntax"));
            assert!(!defines || before.starts_with("//"), "{}: no comment above: {line}", path.display());
            before = line;
        }
    }
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
