#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::*;
use crate::swift::file_stamp::FileStamp;
use crate::swift::testing::{reference, reference_command};

/// A folder of devices with one container database, and what Swift says of it.
struct Made {
    devices: tempfile::TempDir,
    expected: Value,
}

impl Made {
    fn by(function: &str) -> Self {
        let devices = folder();
        let expected = reference(function, &[devices.path().to_str().unwrap()]);
        Self { devices, expected }
    }

    fn files(&self) -> DbFiles {
        locate(self.devices.path(), "sda1", 42, self.expected["hash"].as_str().unwrap()).unwrap()
    }

    fn live(&self) -> ContainerDb {
        ContainerDb::open_read_only(&self.files().live().unwrap().path).unwrap()
    }
}

fn folder() -> tempfile::TempDir {
    let devices = tempfile::tempdir().unwrap();
    std::fs::create_dir(devices.path().join("sda1")).unwrap();
    devices
}

fn names(files: &DbFiles) -> Vec<&str> {
    files.files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect()
}

fn as_json(row: &Row) -> Value {
    json!({"rowid": row.rowid, "name": row.name, "size": row.size, "etag": row.etag,
           "content_type": row.content_type, "deleted": i32::from(row.deleted),
           "policy_index": row.policy_index, "data": row.timestamps.data.to_string(),
           "type": row.timestamps.content_type.to_string(), "metadata": row.timestamps.metadata.to_string()})
}

fn good_rows(db: &ContainerDb, after: i64) -> Vec<Row> {
    db.rows_after(after, 10_000).unwrap().into_iter().collect::<Result<_, _>>().unwrap()
}

#[test]
fn agrees_with_swift_in_every_state_of_a_container() {
    let table = [
        ("unsharded", ShardingState::Unsharded, 1),
        ("deleted", ShardingState::Unsharded, 1),
        ("recreated", ShardingState::Unsharded, 1),
        ("delete_with_objects", ShardingState::Unsharded, 1),
        ("sharding", ShardingState::Sharding, 2),
        ("sharded", ShardingState::Sharded, 1),
        ("collapsed", ShardingState::Collapsed, 1),
    ];
    for (state, sharding, file_count) in table {
        let made = Made::by(state);
        let expected = &made.expected;
        let files = made.files();
        assert_eq!(json!(names(&files)), expected["files"], "{state}");
        assert_eq!(files.files.len(), file_count, "{state}");
        let db = made.live();
        let info = db.info().unwrap();
        for (key, found) in [
            ("id", json!(info.id)),
            ("account", json!(info.account)),
            ("container", json!(info.container)),
            ("deleted", json!(info.deleted)),
        ] {
            assert_eq!(found, expected[key], "{state} {key}");
        }
        let rows: Vec<Value> = good_rows(&db, -1).iter().map(as_json).collect();
        assert_eq!(json!(rows), expected["rows"], "{state}");
        assert_eq!(sharding_state(&files, &db).unwrap(), sharding, "{state}");
        assert_eq!(
            ShardingState::from_header(expected["state"].as_str().unwrap()),
            Some(sharding),
            "{state}"
        );
        let ranges = db.shard_ranges(OwnRange::Exclude).unwrap();
        assert_eq!(ranges.problems, [], "{state}");
        let shards: Vec<String> = ranges
            .ranges
            .iter()
            .filter(|range| !range.deleted)
            .map(|range| format!("{}/{}", range.account, range.container))
            .collect();
        assert_eq!(json!(shards), expected["shards"], "{state}");
    }
}

#[test]
fn three_timestamps_of_a_row_come_apart() {
    let made = Made::by("unsharded");
    let row = made.live().row_by_name("posted").unwrap().unwrap().unwrap();
    let times = row.timestamps;
    let all = [times.data, times.content_type, times.metadata].map(|time| time.to_string());
    assert_eq!(all, ["1400000003.00000", "1400000004.00000", "1400000005.12345"]);
    let row = made.live().row_by_name("offset").unwrap().unwrap().unwrap();
    assert_eq!(row.timestamps.metadata.offset(), 3);
    let row = made.live().row_by_name("caf\u{e9}/\u{4e2d}/../%2F\n").unwrap().unwrap().unwrap();
    assert_eq!(row.policy_index, 1);
    assert!(made.live().row_by_name("gone").unwrap().unwrap().unwrap().deleted);
    assert_eq!(made.live().row_by_name("absent").unwrap(), None);
}

#[test]
fn rows_in_the_pending_file_are_told_but_not_read() {
    let made = Made::by("unsharded");
    let files = made.files();
    assert!(files.has_pending());
    let db = made.live();
    assert_eq!(db.row_by_name("pending").unwrap(), None);
    // Swift merges them when it next reads; the stamps tell that something has changed.
    let expected = reference("unsharded", &[made.devices.path().to_str().unwrap()]);
    let merged = good_rows(&db, -1);
    assert_eq!(merged.len(), expected["rows"].as_array().unwrap().len());
    let later = made.files();
    assert_ne!(later.live().unwrap().stamp, files.live().unwrap().stamp);
    assert!(later.live().unwrap().stamp.is_same_file(&files.live().unwrap().stamp));
}

#[test]
fn batches_and_what_lies_behind_add_up() {
    let made = Made::by("unsharded");
    let db = made.live();
    let all = good_rows(&db, -1);
    assert_eq!(db.info().unwrap().max_row, all.last().unwrap().rowid);
    assert_eq!(db.info().unwrap().object_count, 4, "over both policies");
    let mut seen = Vec::new();
    loop {
        let batch = db.rows_after(seen.last().map_or(-1, |row: &Row| row.rowid), 2).unwrap();
        assert!(batch.len() <= 2);
        if batch.is_empty() {
            break;
        }
        seen.extend(batch.into_iter().map(Result::unwrap));
    }
    assert_eq!(seen, all);

    let behind = db.rows_behind(all[0].rowid).unwrap();
    assert_eq!(behind.rows, u64::try_from(all.len()).unwrap() - 1);
    assert_eq!(behind.bytes, all[1..].iter().map(|row| row.size).sum::<u64>());
    assert_eq!(behind.oldest, all[1..].iter().map(|row| row.timestamps.data).min());
    assert!(!behind.is_partial);
    assert!(db.rows_behind_within(-1, 2).unwrap().is_partial);
    assert_eq!(db.rows_behind(i64::MAX).unwrap(), RowsBehind::default());
}

#[test]
fn a_hostile_row_is_a_problem_of_its_own() {
    let devices = folder();
    let path = reference("hostile_rows", &[devices.path().to_str().unwrap()]);
    let db = ContainerDb::open_read_only(Path::new(path.as_str().unwrap())).unwrap();
    let rows = db.rows_after(-1, 100).unwrap();
    let good: Vec<&str> = rows.iter().flatten().map(|row| row.name.as_str()).collect();
    assert_eq!(good, ["good", "nulls", "also good"]);
    let problems: Vec<(Option<&str>, &str)> = rows
        .iter()
        .filter_map(|row| row.as_ref().err())
        .map(|problem| (problem.name.as_deref(), problem.reason.as_str()))
        .collect();
    let expected: [(Option<&str>, &str); 14] = [
        (None, "name: expected text, got Null"),
        (None, "name: expected text, got Blob"),
        (Some(""), "name: expected text, got an empty one"),
        (None, "name: expected at most 8192 bytes, got 10000"),
        (Some("no-time"), "created_at: expected text, got Null"),
        (Some("bad-time"), "created_at: "),
        (Some("long-time"), "created_at: expected at most"),
        (Some("negative"), "size: expected 0 or more within range, got -1"),
        (Some("text-size"), "size: expected a whole number, got Text"),
        (Some("no-size"), "size: expected a whole number, got Null"),
        (Some("deleted-2"), "deleted: expected 0 or 1, got 2"),
        (Some("bad-policy"), "storage_policy_index: expected 0 or more"),
        (Some("huge-policy"), "storage_policy_index: expected 0 or more"),
        (None, "name: expected UTF-8"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for ((name, reason), (expected_name, expected_reason)) in problems.iter().zip(expected) {
        assert_eq!(*name, expected_name, "{reason}");
        assert!(reason.starts_with(expected_reason), "{reason}");
    }
    // Numbers ascend over good and bad alike, so a cursor can pass the bad ones.
    let numbers: Vec<i64> =
        rows.iter().map(|row| row.as_ref().map_or_else(|problem| problem.rowid, |row| row.rowid)).collect();
    assert!(numbers.is_sorted());
    db.rows_behind(-1).unwrap();
}

#[test]
fn a_hostile_shard_range_is_a_problem_of_its_own() {
    let devices = folder();
    let made = reference("hostile_shards", &[devices.path().to_str().unwrap()]);
    let db = ContainerDb::open_read_only(Path::new(made["path"].as_str().unwrap())).unwrap();
    let ranges = db.shard_ranges(OwnRange::Include).unwrap();
    let names: Vec<&str> = ranges.ranges.iter().map(|range| range.container.as_str()).collect();
    assert_eq!(names, ["ok"]);
    assert_eq!(ranges.ranges[0].state, ShardState::Active);
    assert_eq!(Value::from(ranges.problems.len()), made["bad"], "{:?}", ranges.problems);
}

#[test]
fn a_database_from_before_policies_and_shards_is_read() {
    let devices = folder();
    let path = reference("old_schema", &[devices.path().to_str().unwrap()]);
    let db = ContainerDb::open_read_only(Path::new(path.as_str().unwrap())).unwrap();
    let info = db.info().unwrap();
    assert_eq!((info.id.as_str(), info.object_count, info.policy_index), ("old-id", 1, 0));
    assert_eq!(good_rows(&db, 0)[0].policy_index, 0);
    assert_eq!(db.shard_ranges(OwnRange::Include).unwrap(), ShardRanges::default());
}

/// Asks every question and returns the first failure.
fn first_failure(path: &Path) -> Option<DbErrorKind> {
    let ask = || -> Result<(), DbError> {
        let db = ContainerDb::open_read_only(path)?;
        db.info()?;
        db.rows_after(-1, 10_000)?;
        db.row_by_name("x")?;
        db.rows_behind(-1)?;
        db.shard_ranges(OwnRange::Include)?;
        Ok(())
    };
    ask().err().map(|error| error.kind())
}

#[test]
fn every_damage_has_its_kind() {
    let devices = folder();
    let path = reference("database", &[devices.path().to_str().unwrap()]);
    let path = PathBuf::from(path.as_str().unwrap());
    assert_eq!(first_failure(&path), None);
    let content = std::fs::read(&path).unwrap();
    let damaged = devices.path().join("damaged.db");
    let as_content = |content: &[u8]| {
        std::fs::write(&damaged, content).unwrap();
        first_failure(&damaged)
    };
    assert_eq!(first_failure(&devices.path().join("absent.db")), Some(DbErrorKind::Missing));
    assert_eq!(as_content(b""), Some(DbErrorKind::Truncated));
    assert_eq!(as_content(&vec![b'x'; 8192]), Some(DbErrorKind::Corrupt));
    for length in [1, 100, 4096, content.len() / 2, content.len() - 4096] {
        let kind = as_content(&content[..length]);
        assert!(
            matches!(kind, Some(DbErrorKind::Corrupt | DbErrorKind::Truncated)),
            "cut to {length} of {}: {kind:?}",
            content.len()
        );
    }
    // Not a container's database.
    let other = devices.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE account_stat (id TEXT)").unwrap();
    assert_eq!(first_failure(&other), Some(DbErrorKind::Corrupt));
    // A folder in the place of the file.
    assert!(matches!(first_failure(devices.path()), Some(DbErrorKind::Io | DbErrorKind::Truncated)));
}

#[test]
fn every_changed_page_is_an_answer_or_an_error() {
    let made = Made::by("unsharded");
    let content = std::fs::read(&made.files().live().unwrap().path).unwrap();
    let damaged = made.devices.path().join("damaged.db");
    for place in (0..content.len()).step_by(509) {
        let mut changed = content.clone();
        let end = (place + 64).min(changed.len());
        changed[place..end].fill(0xa5);
        std::fs::write(&damaged, &changed).unwrap();
        let _ = first_failure(&damaged);
    }
}

#[test]
fn a_journal_left_by_a_crash_is_busy_and_stays() {
    let devices = folder();
    let output =
        reference_command("die_inside_transaction", &[devices.path().to_str().unwrap()]).output().unwrap();
    let path: String = serde_json::from_slice(&output.stdout).unwrap();
    let path = PathBuf::from(path);
    let journal = PathBuf::from(format!("{}-journal", path.display()));
    let before = (FileStamp::of(&path).unwrap().unwrap(), FileStamp::of(&journal).unwrap().unwrap());
    assert_eq!(first_failure(&path), Some(DbErrorKind::Busy));
    assert_eq!(before, (FileStamp::of(&path).unwrap().unwrap(), FileStamp::of(&journal).unwrap().unwrap()));
    // Once Swift has looked after it, it can be read.
    reference("database", &[devices.path().to_str().unwrap()]);
    assert_eq!(first_failure(&path), None);
    assert!(good_rows(&ContainerDb::open_read_only(&path).unwrap(), -1).is_empty());
}

#[test]
fn a_writer_that_keeps_the_lock_makes_it_busy() {
    let devices = folder();
    let mut writer = reference_command("hold_lock", &[devices.path().to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let path: String = serde_json::from_str(&line).unwrap();
    assert_eq!(first_failure(Path::new(&path)), Some(DbErrorKind::Busy));
    drop(writer.stdin.take());
    writer.wait().unwrap();
    assert_eq!(first_failure(Path::new(&path)), None);
}

#[test]
fn reads_on_while_swift_writes() {
    let devices = folder();
    let mut writer = reference_command("keep_writing", &[devices.path().to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(writer.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let path: String = serde_json::from_str(&line).unwrap();
    let db = ContainerDb::open_read_only(Path::new(&path)).unwrap();
    let mut cursor = -1;
    let mut seen = Vec::new();
    // Being busy is a fair answer, now and then.
    fn ask<T>(question: impl Fn() -> Result<T, DbError>) -> T {
        for _ in 0..20 {
            match question() {
                Err(error) if error.kind() == DbErrorKind::Busy => {}
                other => return other.unwrap(),
            }
        }
        panic!("busy 20 times in a row");
    }
    while seen.len() < 400 {
        for row in ask(|| db.rows_after(cursor, 50)) {
            let row = row.unwrap();
            assert!(row.rowid > cursor);
            cursor = row.rowid;
            seen.push(row.name);
        }
        assert!(ask(|| db.info()).max_row >= cursor);
        ask(|| db.rows_behind(cursor));
    }
    drop(writer.stdin.take());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(writer.wait().unwrap().success());
    let expected: Value = serde_json::from_str(&rest).unwrap();
    // Everything above the cursor is still to come, everything below was seen.
    let seen: std::collections::HashSet<String> = seen.into_iter().collect();
    for row in expected["rows"].as_array().unwrap() {
        let (rowid, name) = (row[0].as_i64().unwrap(), row[1].as_str().unwrap());
        assert!(rowid > cursor || seen.contains(name), "{name} at {rowid} was passed over");
    }
    let rest: Vec<i64> = good_rows(&db, cursor).iter().map(|row| row.rowid).collect();
    let expected_rest: Vec<i64> = expected["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row[0].as_i64().unwrap())
        .filter(|rowid| *rowid > cursor)
        .take(10_000)
        .collect();
    assert_eq!(rest, expected_rest);
}

const HASH: &str = "d1d19fce608c4185b12c37767409d3ca";

#[test]
fn only_names_that_swift_makes_are_databases() {
    let devices = folder();
    let folder = devices.path().join("sda1/containers/42/3ca").join(HASH);
    std::fs::create_dir_all(&folder).unwrap();
    let others = [
        format!("{HASH}.db.pending"),
        format!("{HASH}.db-journal"),
        format!("{HASH}_.db"),
        format!("{HASH}_soon.db"),
        format!("{HASH}_-1500000000.00000.db"),
        format!("{HASH}_1500000000.00000_x.db"),
        format!("{HASH}_1500000000.00000_0000000000000001.db"),
        "0".repeat(32) + ".db",
        ".lock".to_owned(),
        "tmp123.db".to_owned(),
    ];
    for name in &others {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    std::fs::create_dir(folder.join(format!("{HASH}_1400000000.00000.db"))).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join(format!("{HASH}_1300000000.00000.db"))).unwrap();
    assert_eq!(names(&locate(devices.path(), "sda1", 42, HASH).unwrap()), Vec::<&str>::new());
    let real = [
        format!("{HASH}.db"),
        format!("{HASH}_0999999999.00000.db"),
        format!("{HASH}_1500000001.00000.db"),
        format!("{HASH}_1500000001.00001.db"),
    ];
    for name in real.iter().rev() {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    let found = locate(devices.path(), "sda1", 42, HASH).unwrap();
    assert_eq!(names(&found), real);
    assert_eq!(found.live().unwrap().epoch, Some("1500000001.00001".parse().unwrap()));
    assert!(found.has_pending());
}

#[test]
fn nothing_leads_out_of_a_device() {
    let devices = folder();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join(format!("{HASH}.db")), "x").unwrap();
    let suffix = devices.path().join("sda1/containers/42/3ca");
    std::fs::create_dir_all(&suffix).unwrap();
    std::os::unix::fs::symlink(outside.path(), suffix.join(HASH)).unwrap();
    assert_eq!(locate(devices.path(), "sda1", 42, HASH).unwrap_err().kind(), DbErrorKind::Io);
    for device in ["", ".", "..", "../sda1", "/etc", "a/b", "sda1/", "a\0b"] {
        assert!(locate(devices.path(), device, 42, HASH).is_err(), "{device:?}");
    }
    for hash in ["", "..", "d1d19fce608c4185b12c37767409d3c", &HASH.to_uppercase(), &"é".repeat(16)] {
        assert!(locate(devices.path(), "sda1", 42, hash).is_err(), "{hash:?}");
    }
    // Where nothing is, nothing is found; where a device is a link to its mount point, everything is.
    assert_eq!(locate(devices.path(), "sdb1", 42, HASH).unwrap().files, []);
    assert_eq!(locate(devices.path(), "sda1", 43, HASH).unwrap().files, []);
    let mount = outside.path().join("containers/42/3ca").join(HASH);
    std::fs::create_dir_all(&mount).unwrap();
    std::fs::write(mount.join(format!("{HASH}.db")), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), devices.path().join("sdc1")).unwrap();
    assert_eq!(locate(devices.path(), "sdc1", 42, HASH).unwrap().files.len(), 1);
}
