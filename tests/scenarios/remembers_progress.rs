//! What a worker remembers of a container survives restarts, upgrades and damage, and is forgotten when it no longer holds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::compare::{Depth, compare};
use swift_s3_tests::fault_proxy::Seen;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::MappingJson;
use swift_s3_tests::worker_process::Worker;

use crate::CLUSTER;

const OBJECTS: u64 = 12;

/// A container of some objects, all of them carried by the first node.
async fn carried_site() -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    for number in 0..OBJECTS {
        site.swift.put_object("c", &name(number), format!("content {number}"), &[]).await?;
    }
    site.map([site.mapping("c")])?;
    assert_eq!(puts_of_a_round(&site).await?, OBJECTS);
    Ok(site)
}

fn name(number: u64) -> String {
    format!("o{number:02}")
}

/// Runs the first node's worker; answers how many objects it sent.
async fn puts_of_a_round(site: &Site) -> Result<u64> {
    let before = site.s3.requests().await?;
    site.workers[0].run_once().await?.expect_code(0)?;
    Ok(site.s3.requests().await?.since(&before).of(Operation::Put))
}

fn status_file(site: &Site, worker: &Worker) -> PathBuf {
    worker.status_dir().join(site.swift.account()).join("c")
}

#[tokio::test]
async fn a_changed_mapping_is_checked_anew_without_sending_what_is_there() -> Result<()> {
    let site = carried_site().await?;
    let other = site.s3.create_bucket("other").await?;
    let remove = async |bucket: &swift_s3_tests::s3_client::S3Client, prefix: Option<&str>| {
        let key = KeyMapping::new(site.swift.account(), "c", prefix).object_key(&name(3));
        bucket.delete(&key).await
    };
    remove(&site.bucket, None).await?;
    assert_eq!(puts_of_a_round(&site).await?, 0, "an unchanged mapping has nothing to check");
    let plain = || site.mapping("c");
    let changes: [(&str, MappingJson, &str, Option<&str>, u64); 8] = [
        ("deletes stay local", plain().set("propagate_delete", false), "site", None, 1),
        ("the server by another address", plain().set("aws_endpoint", site.s3.endpoint()), "site", None, 1),
        ("an exclusion", plain().set("exclude_pattern", "never$"), "site", None, 1),
        ("a selection", plain().set("selection_criteria", json!({"NOT": {"x-none": "1"}})), "site", None, 1),
        ("a prefix", plain().set("custom_prefix", "p"), "site", Some("p"), OBJECTS),
        ("another bucket", plain().set("aws_bucket", "other"), "other", None, OBJECTS),
        ("the first bucket again", plain(), "site", None, 1),
        ("another age", plain().set("copy_after", 0.001), "site", None, 1),
    ];
    for (what, mapping, bucket, prefix, expected) in changes {
        let bucket = if bucket == "other" { &other } else { &site.bucket };
        // Whoever checks finds this; whoever trusts a cursor does not.
        remove(bucket, prefix).await?;
        site.workers[0].configure(&swift_s3_tests::sync_json::SyncJson::new().mapping(mapping))?;
        assert_eq!(puts_of_a_round(&site).await?, expected, "{what}");
        compare(&site.swift, "c", bucket, prefix, Depth::Metadata).await?.none()?;
    }
    Ok(())
}

#[tokio::test]
async fn new_credentials_do_not_start_anything_anew() -> Result<()> {
    let site = carried_site().await?;
    let before = site.s3.requests().await?;
    let secret = site.directory().path().join("secret");
    fs::write(&secret, &site.access().secret)?;
    site.map([site.mapping("c").set("aws_secret", json!({"file": secret}))])?;
    site.workers[0].run_once().await?.expect_code(0)?;
    assert_eq!(site.s3.requests().await?.since(&before).about_objects(), 0);
    Ok(())
}

#[tokio::test]
async fn a_rebuilt_database_is_checked_from_its_first_row() -> Result<()> {
    let site = carried_site().await?;
    let account = site.swift.account();
    site.bucket.delete(&KeyMapping::new(account, "c", None).object_key(&name(5))).await?;
    site.cluster.direct_container_head(account, "c", 1).await?.success()?;
    site.cluster.copy_container_db(account, "c", 1, 0, true).await?;
    assert_eq!(puts_of_a_round(&site).await?, 1);
    site.expect_equal("c").await?;
    assert_eq!(puts_of_a_round(&site).await?, 0, "its cursor is remembered by the new id");
    Ok(())
}

#[tokio::test]
async fn a_damaged_status_file_is_no_state_and_is_written_anew() -> Result<()> {
    let site = carried_site().await?;
    let path = status_file(&site, &site.workers[0]);
    let good = fs::read(&path)?;
    let damages: [&[u8]; 6] =
        [b"", &good[..good.len() / 2], b"\xff\xfe\x00", b"[]", b"{\"swift_s3_sync\": 7}", b"null"];
    for damaged in damages {
        fs::write(&path, damaged)?;
        let before = site.workers[0].log_text().len();
        site.bucket.delete(&KeyMapping::new(site.swift.account(), "c", None).object_key(&name(1))).await?;
        assert_eq!(puts_of_a_round(&site).await?, 1, "{damaged:?}");
        let log = site.workers[0].log_text();
        assert!(
            log.get(before..).unwrap_or_default().contains("status file is damaged"),
            "{damaged:?}: {log}"
        );
        let written: Value = serde_json::from_slice(&fs::read(&path)?)?;
        assert!(written.get("swift_s3_sync").is_some(), "{written}");
        assert_eq!(puts_of_a_round(&site).await?, 0, "{damaged:?}");
    }
    site.expect_equal("c").await
}

#[tokio::test]
async fn the_cursor_of_the_python_daemon_is_taken_over() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    for number in 0..10 {
        site.swift.put_object("c", &name(number), "x", &[]).await?;
    }
    let account = site.swift.account();
    for worker in &site.workers {
        let rows = site.cluster.container_rows(account, "c", worker.node()).await?;
        let sixth = rows.iter().find(|row| row.name == name(5)).map(|row| row.rowid);
        let id = database_id(&site.cluster.container_db_path(account, "c", worker.node())?)?;
        let status = json!({id: {
            "aws_bucket": site.bucket.bucket(), "last_row": sixth, "last_verified_row": sixth,
            "policy": {"copy_after": 0, "retain_local": true, "propagate_delete": true},
            "metadata_hash": "d751713988987e9331980363e24189ce",
        }});
        let path = status_file(&site, worker);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, status.to_string())?;
    }
    site.map([site.mapping("c")])?;
    for outcome in site.sync().await? {
        assert!(outcome.log.contains("continuing from the cursor of the Python daemon"), "{}", outcome.log);
    }
    let mapping = KeyMapping::new(account, "c", None);
    // Nobody asked about the first six, not even by a listing.
    let about_objects = |seen: &Seen| seen.operation != Operation::Lifecycle;
    for seen in site.faults.seen().into_iter().filter(about_objects) {
        let number: u64 = mapping.object_name(&seen.key).unwrap_or("o00").trim_start_matches('o').parse()?;
        assert!(number >= 6, "{seen:?}");
    }
    assert_eq!(
        site.bucket.keys("").await?,
        (6..10).map(|number| mapping.object_key(&name(number))).collect::<Vec<_>>()
    );
    let before = site.s3.requests().await?;
    site.sync().await?;
    assert_eq!(site.s3.requests().await?.since(&before).about_objects(), 0);
    Ok(())
}

fn database_id(path: &Path) -> Result<String> {
    let database = rusqlite::Connection::open(path)?;
    Ok(database.query_row("SELECT id FROM container_info", [], |row| row.get(0))?)
}

#[tokio::test]
async fn a_removed_mapping_is_forgotten_and_nothing_else() -> Result<()> {
    let site = carried_site().await?;
    site.swift.put_container("d").await?;
    site.swift.put_object("d", "o", "x", &[]).await?;
    site.map([site.mapping("c"), site.mapping("d")])?;
    let worker = &site.workers[0];
    worker.run_once().await?.expect_code(0)?;
    let root = worker.status_dir();
    let account = site.swift.account();
    let strangers = [
        root.join("migrator.status"),
        root.join(".shards_AUTH_x").join("c"),
        root.join("AUTH_gone").join("x"),
        root.join(account).join("gone"),
    ];
    for stranger in &strangers {
        fs::create_dir_all(stranger.parent().unwrap_or(&root))?;
        fs::write(stranger, "{}")?;
    }
    site.map([site.mapping("d")])?;
    worker.run_once().await?.expect_code(0)?;
    let exists = strangers.each_ref().map(|path| path.exists());
    assert_eq!(exists, [true, true, false, false], "plain files and shard folders are not ours to remove");
    assert!(!root.join(account).join("c").exists() && root.join(account).join("d").exists());
    // The mapping comes back: everything is there, so nothing is sent again.
    site.map([site.mapping("c"), site.mapping("d")])?;
    assert_eq!(puts_of_a_round(&site).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_container_that_was_deleted_and_made_again_is_followed_anew() -> Result<()> {
    let site = carried_site().await?;
    for entry in site.swift.list("c").await? {
        site.swift.delete_object("c", &entry.name).await?.success()?;
    }
    site.sync().await?;
    ensure!(site.bucket.keys("").await?.is_empty(), "deletes are carried");
    site.swift.delete_container("c").await?.success()?;
    site.sync().await?;
    site.swift.put_container("c").await?;
    for name in ["made again", "o01"] {
        site.swift.put_object("c", name, "second life", &[]).await?;
    }
    site.sync().await?;
    site.expect_equal("c").await?;
    ensure!(site.bucket.keys("").await?.len() == 2);
    Ok(())
}
