#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;

use super::*;
use crate::swift::testing::{replicas, replicas_command};

/// What Swift itself reads of all databases.
#[derive(Debug, Deserialize)]
struct State {
    replicas: Vec<Replica>,
    /// Target device, method, id of the source and its last row when it was copied.
    rsyncs: Vec<(String, String, String, i64)>,
    /// Tombstones before this time may have been forgotten.
    horizon: String,
}

#[derive(Debug, Deserialize)]
struct Replica {
    device: String,
    path: String,
    id: String,
    /// ROWID, name, time and whether it is a tombstone.
    rows: Vec<(i64, String, String, u8)>,
    points: BTreeMap<String, i64>,
}

fn devices() -> tempfile::TempDir {
    let devices = tempfile::tempdir().unwrap();
    for device in ["sda1", "sdb1", "sdc1"] {
        std::fs::create_dir(devices.path().join(device)).unwrap();
    }
    devices
}

fn made(devices: &tempfile::TempDir, function: &str) -> State {
    serde_json::from_value(replicas(function, &[devices.path().to_str().unwrap()])).unwrap()
}

fn read(path: &str) -> SyncPoints {
    ContainerDb::open_read_only(Path::new(path)).unwrap().sync_points().unwrap()
}

impl State {
    fn on(&self, device: &str) -> &Replica {
        self.replicas.iter().find(|replica| replica.device == device).unwrap()
    }
}

/// Rows at or below a point that the database which claims it neither has nor had a newer one of.
fn missing<'a>(reader: &Replica, other: &'a Replica, point: i64) -> Vec<&'a (i64, String, String, u8)> {
    let newest: BTreeMap<&str, &str> =
        reader.rows.iter().map(|row| (row.1.as_str(), row.2.as_str())).collect();
    let is_missing = |row: &&(i64, String, String, u8)| {
        row.0 <= point && newest.get(row.1.as_str()).is_none_or(|known| *known < row.2.as_str())
    };
    other.rows.iter().filter(is_missing).collect()
}

#[test]
fn tells_what_came_from_each_other_database() {
    let devices = devices();
    let state = made(&devices, "in_use");
    let (a, b, c) = (state.on("sda1"), state.on("sdb1"), state.on("sdc1"));
    assert_eq!(read(&a.path).points, BTreeMap::new());
    let found = read(&b.path);
    assert_eq!((found.database.as_str(), found.max_row), (b.id.as_str(), 7));
    assert_eq!(found.points, BTreeMap::from([(a.id.clone(), 5), (c.id.clone(), 1)]));
}

#[test]
fn equal_hashes_make_a_point_without_sending_anything() {
    let devices = devices();
    let state = made(&devices, "same_rows");
    assert!(state.rsyncs.is_empty());
    let found = read(&state.on("sdb1").path);
    assert_eq!((found.max_row, found.points), (4, BTreeMap::from([(state.on("sda1").id.clone(), 4)])));
}

#[test]
fn a_copy_has_a_new_id_and_everything_of_its_source() {
    let devices = devices();
    let state = made(&devices, "copied");
    let (source, copy) = (state.on("sda1"), state.on("sdb1"));
    assert_eq!(state.rsyncs[0].1, "complete_rsync");
    assert_ne!(source.id, copy.id);
    assert_eq!(read(&copy.path).points[&source.id], 5);
    assert!(missing(copy, source, 5).is_empty());
}

/// Why a point above the last row of the database it speaks of must not count: Swift writes such ones, and goes by them itself.
#[test]
fn after_a_merge_swift_takes_rows_for_known_that_were_never_sent() {
    let devices = devices();
    let state = made(&devices, "merged");
    let (source, merged) = (state.on("sda1"), state.on("sdb1"));
    let point = read(&merged.path).points[&source.id];
    assert!(point > source.rows.last().unwrap().0, "{point}");
    let devices = self::devices();
    let state = made(&devices, "never_sent");
    let (source, merged) = (state.on("sda1"), state.on("sdb1"));
    let point = read(&merged.path).points[&source.id];
    let names: Vec<&str> = missing(merged, source, point).iter().map(|row| row.1.as_str()).collect();
    assert_eq!(names, ["only in A"], "if this fails, Swift has mended it");
}

#[test]
fn a_database_that_is_being_split_gives_no_points_but_a_shard_in_use_does() {
    for (how, files, gives) in [
        ("shard in use", 1, true),
        ("being filled", 1, false),
        ("ordered", 1, false),
        ("begun", 2, false),
        ("collapsed", 2, false),
    ] {
        let devices = devices();
        let found = replicas("split", &[devices.path().to_str().unwrap(), how]);
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), files, "{how}");
        for file in found {
            assert_eq!(file["points"], 2, "{how}: Swift has points in both");
            let points = read(file["path"].as_str().unwrap()).points;
            assert_eq!(points.len(), if gives { 2 } else { 0 }, "{how} {file}");
        }
    }
}

#[test]
fn points_that_make_no_sense_are_left_out_and_many_are_cut() {
    let devices = devices();
    let path = replicas("hostile", &[devices.path().to_str().unwrap()]);
    let found = read(path.as_str().unwrap());
    assert_eq!(found.points.len(), MAX_POINTS);
    assert!(found.points.keys().all(|id| id.starts_with("many-")));
    let connection = Connection::open(path.as_str().unwrap()).unwrap();
    connection.execute("DELETE FROM incoming_sync WHERE remote_id LIKE 'many-%'", []).unwrap();
    drop(connection);
    let found = read(path.as_str().unwrap());
    assert_eq!(found.points, BTreeMap::from([("good".to_owned(), 5)]));
}

/// Swift's own replicator at work between three replicas, on which writes, losses of disks and everything else fall at random.
#[test]
fn every_point_holds_what_swift_promises() {
    let (mut points, mut copies, mut false_points) = (0, 0, 0);
    for seed in ["1", "2"] {
        let devices = devices();
        let mut child = replicas_command("at_random", &[devices.path().to_str().unwrap(), seed, "70"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut tombstones = BTreeSet::new();
        // By source of a merge: rows that are taken for known without having been sent.
        let mut gaps: Vec<(String, i64, i64)> = Vec::new();
        let mut rsyncs = 0;
        for (step, line) in BufReader::new(child.stdout.take().unwrap()).lines().enumerate() {
            let line = line.unwrap();
            if line == "null" {
                break;
            }
            let state: State = serde_json::from_str(&line).unwrap();
            for (device, method, source, last) in &state.rsyncs[rsyncs..] {
                copies += 1;
                if method == "rsync_then_merge"
                    && let Some(target) = state.replicas.iter().find(|replica| replica.device == *device)
                {
                    gaps.push((source.clone(), *last, target.points.get(source).copied().unwrap_or(*last)));
                }
            }
            rsyncs = state.rsyncs.len();
            for row in state.replicas.iter().flat_map(|replica| &replica.rows).filter(|row| row.3 == 1) {
                tombstones.insert((row.1.clone(), row.2.clone()));
            }
            for reader in &state.replicas {
                let found = read(&reader.path);
                assert_eq!(found.max_row, reader.rows.last().map_or(0, |row| row.0));
                for other in state.replicas.iter().filter(|other| other.id != reader.id) {
                    let Some(point) = found.points.get(&other.id) else { continue };
                    points += 1;
                    for row in missing(reader, other, *point) {
                        if gaps.iter().any(|gap| gap.0 == other.id && row.0 > gap.1 && row.0 <= gap.2) {
                            false_points += 1;
                            continue;
                        }
                        let is_forgotten = |(name, time): &(String, String)| {
                            *name == row.1 && *time >= row.2 && *time < state.horizon
                        };
                        assert!(
                            tombstones.iter().any(is_forgotten),
                            "seed {seed}, step {step}: {} claims {point} of {}, but {row:?} never came",
                            reader.device,
                            other.device
                        );
                    }
                }
            }
            input.write_all(b"\n").unwrap();
        }
        drop(input);
        assert!(child.wait().unwrap().success());
    }
    println!("{points} points, {copies} copies, {false_points} rows taken for known after merges");
    assert!(points > 100 && copies > 2, "{points} points, {copies} copies: the run says nothing");
}
