#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::swift::testing::reference;

fn hash() -> HashPath {
    HashPath { prefix: b"start".to_vec(), suffix: b"changeme".to_vec() }
}

/// Compares every answer of Swift's own ring with ours.
fn assert_agrees(ring: &Ring, expected: &Value, name: &str) {
    let replicas = expected["replica_count"].as_f64().unwrap();
    assert_eq!(f64::from(ring.replica_count()), replicas.ceil(), "{name}");
    assert_eq!(ring.partition_count(), expected["partition_count"].as_u64().unwrap(), "{name}");
    let answers = expected["answers"].as_array().unwrap();
    assert!(answers.len() > 40, "{name}");
    for answer in answers {
        let path: Vec<&str> =
            answer["path"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        let partition = ring.partition(path[0], path.get(1).copied(), path.get(2).copied(), &hash());
        assert_eq!(Value::from(partition), answer["partition"], "{name} {path:?}");
        let primaries: Vec<Value> = ring
            .primaries(partition)
            .iter()
            .map(|(index, device)| {
                json!({"index": index, "id": device.id, "ip": device.ip, "port": device.port,
                       "device": device.device, "region": device.region, "zone": device.zone})
            })
            .collect();
        assert_eq!(Value::from(primaries), answer["nodes"], "{name} {path:?}");
    }
}

#[test]
fn places_names_as_swift_does() {
    let folder = tempfile::tempdir().unwrap();
    let expected = reference("rings", &[folder.path().to_str().unwrap()]);
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 6);
    for (name, expected) in expected {
        let ring = Ring::load(&folder.path().join(format!("{name}.ring.gz"))).unwrap();
        assert_agrees(&ring, expected, name);
    }
}

#[test]
fn reads_version_2_as_newer_swift_writes_it() {
    let fixtures = PathBuf::from("tests/fixtures");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixtures.join("ring-v2.json")).unwrap()).unwrap();
    for (name, is_wide) in [("ring-v2", false), ("ring-v2-wide", true)] {
        let path = fixtures.join(format!("{name}.ring.gz"));
        let ring = Ring::load(&path).unwrap();
        assert_eq!(matches!(ring.assignments, Assignments::Long(_)), is_wide);
        assert_agrees(&ring, &expected[name], name);

        // Packed anew, the packed offsets of the index are wrong and Swift's reader gives up; ours need not.
        let folder = tempfile::tempdir().unwrap();
        let repacked = folder.path().join("ring.gz");
        std::fs::write(&repacked, pack(&unpack(&std::fs::read(&path).unwrap()))).unwrap();
        assert_agrees(&Ring::load(&repacked).unwrap(), &expected[name], name);
    }
}

fn pack(content: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut content).unwrap();
    content
}

fn load(packed: &[u8]) -> Result<Ring, RingError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("object.ring.gz");
    std::fs::write(&path, packed).unwrap();
    Ring::load(&path)
}

fn header() -> Value {
    let device = |id: u32| json!({"id": id, "ip": "10.0.0.1", "port": 6200 + id, "device": "sda", "zone": 1});
    json!({"devs": [device(0), null, device(2)], "part_shift": 31, "replica_count": 3, "byteorder": "little"})
}

fn version_1(header: &Value, rows: &[u16]) -> Vec<u8> {
    let text = serde_json::to_vec(header).unwrap();
    let mut content = b"R1NG\x00\x01".to_vec();
    content.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    content.extend(text);
    for id in rows {
        content.extend(id.to_le_bytes());
    }
    content
}

#[test]
fn a_removed_device_keeps_its_index_and_is_not_given() {
    let ring = load(&pack(&version_1(&header(), &[1, 0, 2, 2, 0, 65535]))).unwrap();
    let ids = |partition| -> Vec<(u32, u32)> {
        ring.primaries(partition).iter().map(|(index, device)| (*index, device.id)).collect()
    };
    // Partition 0: removed, 2, 0. Partition 1: 0, 2, never assigned.
    assert_eq!(ids(0), [(1, 2), (2, 0)]);
    assert_eq!(ids(1), [(0, 0), (1, 2)]);
    assert_eq!(ring.replicas_of(0), 3);
    assert_eq!(ids(2), []);
    assert_eq!(ids(u32::MAX), []);
    // Without a region, a device is in region 1.
    assert_eq!(ring.primaries(1)[0].1.region, 1);
}

#[test]
fn a_single_partition_takes_everything() {
    let mut header = header();
    header["part_shift"] = json!(32);
    header["replica_count"] = json!(1);
    let ring = load(&pack(&version_1(&header, &[2]))).unwrap();
    assert_eq!(ring.partition_of_digest(&[0xff; 16]), 0);
    assert_eq!(ring.partition_count(), 1);
}

#[test]
fn an_ipv6_device_has_brackets_in_its_authority() {
    let mut header = header();
    header["devs"][0]["ip"] = json!("fd00::1");
    let ring = load(&pack(&version_1(&header, &[0, 0, 0, 0, 0, 0]))).unwrap();
    let device = ring.primaries(0)[0].1;
    assert_eq!(device.authority.as_str(), "[fd00::1]:6200");
    assert_eq!(device.address().unwrap().to_string(), "fd00::1");
}

#[test]
fn refuses_what_is_no_ring_and_says_what_belongs_there() {
    let changed = |key: &str, value: Value| {
        let mut header = header();
        header[key] = value;
        pack(&version_1(&header, &[0, 0, 0, 0, 0, 0]))
    };
    let device = |key: &str, value: Value| {
        let mut header = header();
        header["devs"][0][key] = value;
        pack(&version_1(&header, &[0, 0, 0, 0, 0, 0]))
    };
    let good = version_1(&header(), &[0, 0, 0, 0, 0, 0]);
    let mut endless = good.clone();
    endless[6..10].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut version_3 = good.clone();
    version_3[5] = 3;
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no bytes at all", vec![], "reading ring"),
        ("an empty stream", pack(b""), "starts with R1NG, got nothing"),
        ("an old pickle", pack(b"\x80\x02}q\x01"), "starts with R1NG"),
        ("no gzip", b"R1NG\x00\x01 and so on, which is longer than a header".to_vec(), "reading ring"),
        ("version 3", pack(&version_3), "version 1 or 2, got 3"),
        ("only the magic", pack(b"R1NG"), "the format version"),
        ("no header length", pack(b"R1NG\x00\x01\x00"), "the length of the JSON header"),
        ("an endless header", pack(&endless), "bytes of the JSON header, got 4294967295"),
        ("half a header", pack(&good[..20]), "bytes of the JSON header"),
        ("no JSON", pack(b"R1NG\x00\x01\x00\x00\x00\x02{]"), "as JSON"),
        ("part_shift 33", changed("part_shift", json!(33)), "part_shift 0 to 32, got 33"),
        ("a negative part_shift", changed("part_shift", json!(-1)), "as JSON"),
        ("2^32 partitions", changed("part_shift", json!(0)), "4294967296 ids of 2 bytes"),
        ("no replicas", changed("replica_count", json!(0)), "at least one replica"),
        ("too many replicas", changed("replica_count", json!(4_000_000_000u32)), "at most 1024 replicas"),
        ("a replica too many", changed("replica_count", json!(4)), "replica 3 of 4, got 0 bytes"),
        ("mixed byte order", changed("byteorder", json!("middle")), "byteorder big or little"),
        ("devices as a map", changed("devs", json!({})), "as JSON"),
        ("a device without ip", device("ip", Value::Null), "as JSON"),
        ("an empty ip", device("ip", json!("")), "an address of device 0"),
        ("an ip with a path", device("ip", json!("10.0.0.1/x")), "an address of device 0"),
        ("an ip with a user", device("ip", json!("u@10.0.0.1")), "an address of device 0"),
        ("an ip with a line break", device("ip", json!("10.0.0.1\r\nX: y")), "an address of device 0"),
        ("port 0", device("port", json!(0)), "a port of device 0"),
        ("port 65536", device("port", json!(65536)), "a port of device 0"),
        ("an unknown device", pack(&version_1(&header(), &[0, 0, 0, 3, 0, 0])), "device ids below 3, got 3"),
        ("half an id", pack(&good[..good.len() - 1]), "ids of 2 bytes for replica 2 of 3, got 3 bytes"),
        ("a short middle row", pack(&good[..good.len() - 6]), "replica 1 of 3, got 2 bytes"),
        ("a cut stream", pack(&good)[..60].to_vec(), "reading ring"),
    ];
    for (name, content, expected) in table {
        let error = load(&content).expect_err(name);
        let text = error.to_string();
        assert!(text.contains(expected), "{name}: {text}");
        assert!(text.contains("object.ring.gz"), "{name}: {text}");
    }
    let missing = Ring::load(Path::new("/nonexistent/object.ring.gz")).unwrap_err();
    assert!(matches!(missing, RingError::Missing { .. }));
}

#[test]
fn notices_a_changed_byte_in_either_version() {
    let mut packed = pack(&version_1(&header(), &[0, 0, 0, 0, 0, 0]));
    let place = packed.len() - 6;
    packed[place] ^= 1;
    assert!(load(&packed).is_err(), "the checksum of the file");

    let path = PathBuf::from("tests/fixtures/ring-v2.ring.gz");
    let content = unpack(&std::fs::read(path).unwrap());
    load(&pack(&content)).unwrap();
    for place in (6..content.len()).step_by(7) {
        let mut changed = content.clone();
        changed[place] ^= 1;
        // The index itself has no checksum beside the file's: its packed offsets and its own place, told twice, do not
        // matter here. Everything that a section says does.
        let index_start = usize::try_from(u64::from_be_bytes(
            content[content.len() - 16..content.len() - 8].try_into().unwrap(),
        ))
        .unwrap();
        if place < index_start {
            assert!(load(&pack(&changed)).is_err(), "byte {place}");
        } else {
            let _ = load(&pack(&changed));
        }
    }
}

#[test]
fn a_cut_or_mangled_ring_never_panics() {
    let path = PathBuf::from("tests/fixtures/ring-v2-wide.ring.gz");
    let packed = std::fs::read(path).unwrap();
    for end in 0..packed.len() {
        assert!(load(&packed[..end]).is_err(), "cut at {end}");
    }
    let content = unpack(&packed);
    for end in 0..content.len() {
        assert!(load(&pack(&content[..end])).is_err(), "unpacked, cut at {end}");
    }
}
