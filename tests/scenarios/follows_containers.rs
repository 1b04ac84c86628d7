//! Which rows each node carries, when, and what never holds them up.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use swift_s3_policy::{KeyMapping, owner_index};
use swift_s3_tests::compare::{Depth, compare};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::worker_process::Worker;

use crate::CLUSTER;
use crate::own_copies::OwnDevices;
use crate::worker_state::{entries, expect_parked};

const SOON: Duration = Duration::from_secs(20);
/// Rows of other nodes are left alone for an hour.
const SLACK_MINUTES: u32 = 60;

async fn new_site() -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    Ok(site)
}

fn names(prefix: &str, count: u32) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number:02}")).collect()
}

async fn put_all(site: &Site, container: &str, names: &[String]) -> Result<()> {
    for name in names {
        site.swift.put_object(container, name, name.clone(), &[]).await?;
    }
    Ok(())
}

/// The objects of container `c` that workers have uploaded since the fault proxy last forgot.
fn uploaded(site: &Site) -> BTreeSet<String> {
    let mapping = KeyMapping::new(site.swift.account(), "c", None);
    let puts = site.faults.seen().into_iter().filter(|seen| seen.operation == Operation::Put);
    puts.filter_map(|seen| mapping.object_name(&seen.key).map(str::to_owned)).collect()
}

/// Runs one worker, and answers what it uploaded.
async fn uploads_of(site: &Site, worker: &Worker) -> Result<BTreeSet<String>> {
    site.faults.forget();
    worker.run_once().await?.expect_code(0)?;
    Ok(uploaded(site))
}

fn with_slack(site: &Site, minutes: u32) -> Result<()> {
    site.configure(&SyncJson::new().set("verification_slack", minutes).mapping(site.mapping("c")))
}

/// Those of `names` that belong to `share` of three.
fn in_share(names: &[String], share: u32) -> BTreeSet<String> {
    names.iter().filter(|name| owner_index(name, 3) == share).cloned().collect()
}

/// Which share a worker has of `c`, by what it uploads of three new objects, one of each share.
async fn share_of(site: &Site, worker: &Worker) -> Result<u32> {
    let candidates = names("share", 40);
    let mut one_of_each = Vec::new();
    for share in 0..3 {
        one_of_each.extend(in_share(&candidates, share).into_iter().next());
    }
    put_all(site, "c", &one_of_each).await?;
    let uploads = uploads_of(site, worker).await?;
    assert_eq!(uploads.len(), 1, "{uploads:?}");
    Ok(uploads.first().map_or(0, |name| owner_index(name, 3)))
}

#[tokio::test]
async fn each_node_carries_its_share_and_verification_uploads_nothing_twice() -> Result<()> {
    let site = new_site().await?;
    let all = names("o", 30);
    put_all(&site, "c", &all).await?;
    with_slack(&site, SLACK_MINUTES)?;
    let mut shares = BTreeSet::new();
    for worker in &site.workers {
        let uploads = uploads_of(&site, worker).await?;
        let share = uploads.first().map(|name| owner_index(name, 3)).context("a share is not empty")?;
        assert_eq!(uploads, in_share(&all, share));
        shares.insert(share);
    }
    assert_eq!(shares.len(), 3, "every share has its node");
    site.expect_equal("c").await?;
    // Now all of them are old enough to be verified by everybody, a listing page at a time.
    let before = site.s3.requests().await?;
    with_slack(&site, 0)?;
    site.sync().await?;
    let spent = site.s3.requests().await?.since(&before);
    assert_eq!((spent.of(Operation::Put), spent.of(Operation::Head)), (0, 0), "{spent}");
    assert!(spent.about_objects() <= 3, "{spent}");
    Ok(())
}

#[tokio::test]
async fn a_new_object_costs_one_request_on_three_running_nodes() -> Result<()> {
    let site = new_site().await?;
    with_slack(&site, SLACK_MINUTES)?;
    site.start_workers()?;
    for worker in &site.workers {
        worker.wait_for_log("following a container", SOON).await?;
    }
    put_all(&site, "c", &names("o", 30)).await?;
    site.wait_equal("c", SOON).await?;
    for worker in &site.workers {
        assert_eq!(worker.stop().await?, 0);
    }
    let spent = site.faults.requests();
    assert_eq!((spent.of(Operation::Put), spent.about_objects()), (30, 30), "{spent}");
    Ok(())
}

#[tokio::test]
async fn the_share_of_a_host_that_is_down_is_carried_by_the_others_after_the_slack() -> Result<()> {
    let site = new_site().await?;
    let all = names("o", 30);
    put_all(&site, "c", &all).await?;
    with_slack(&site, SLACK_MINUTES)?;
    let mut carried = uploads_of(&site, &site.workers[0]).await?;
    carried.extend(uploads_of(&site, &site.workers[1]).await?);
    assert!(carried.len() < 30, "{carried:?}");
    with_slack(&site, 0)?;
    let rest = uploads_of(&site, &site.workers[0]).await?;
    assert_eq!(carried.len() + rest.len(), 30, "only what was missing: {rest:?}");
    site.expect_equal("c").await?;
    assert!(uploads_of(&site, &site.workers[1]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn rows_of_others_are_verified_only_when_they_are_older_than_the_slack() -> Result<()> {
    let site = new_site().await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let (old, young) = (names("old", 12), names("young", 12));
    for name in &old {
        let written = format!("{}.00000", now - 2 * 60 * u64::from(SLACK_MINUTES));
        site.swift.put_object("c", name, name.clone(), &[("X-Timestamp", &written)]).await?;
    }
    put_all(&site, "c", &young).await?;
    with_slack(&site, SLACK_MINUTES)?;
    let uploads = uploads_of(&site, &site.workers[0]).await?;
    let own = young.iter().find(|name| uploads.contains(*name)).map(|name| owner_index(name, 3));
    let mut expected: BTreeSet<String> = old.into_iter().collect();
    expected.extend(in_share(&young, own.context("a share is not empty")?));
    assert_eq!(uploads, expected);
    Ok(())
}

#[tokio::test]
async fn rows_of_others_do_not_hold_own_rows_behind_them() -> Result<()> {
    let site = new_site().await?;
    let config = SyncJson::new().set("verification_slack", SLACK_MINUTES).set("items_chunk", 3);
    site.configure(&config.mapping(site.mapping("c")))?;
    let worker = &site.workers[0];
    let own = share_of(&site, worker).await?;
    let foreign: Vec<String> =
        names("foreign", 30).into_iter().filter(|name| owner_index(name, 3) != own).take(10).collect();
    put_all(&site, "c", &foreign).await?;
    let last: Vec<String> = in_share(&names("last", 10), own).into_iter().take(2).collect();
    put_all(&site, "c", &last).await?;
    assert_eq!(uploads_of(&site, worker).await?, last.into_iter().collect());
    Ok(())
}

#[tokio::test]
async fn objects_that_cannot_be_stored_are_set_aside_and_do_not_hold_the_others() -> Result<()> {
    let site = new_site().await?;
    let worker = &site.workers[0];
    let prefix = "p".repeat(600);
    worker.configure(&SyncJson::new().mapping(site.mapping("c").set("custom_prefix", prefix.as_str())))?;
    let long_name = "n".repeat(500);
    put_all(&site, "c", &names("before", 5)).await?;
    site.swift.put_object("c", &long_name, "x", &[]).await?;
    let value = "v".repeat(250);
    let fields: Vec<String> = (0..10).map(|number| format!("X-Object-Meta-Field-{number}")).collect();
    let headers: Vec<(&str, &str)> = fields.iter().map(|field| (field.as_str(), value.as_str())).collect();
    site.swift.put_object("c", "much-metadata", "x", &headers).await?;
    put_all(&site, "c", &names("after", 5)).await?;

    let bad = [(long_name.as_str(), "key_too_long"), ("much-metadata", "metadata_too_large")];
    for attempts in 1..=2 {
        site.faults.forget();
        let outcome = worker.run_once().await?.expect_code(1)?;
        assert!(outcome.log.contains("1024") && outcome.log.contains("2048"), "{}", outcome.log);
        assert_eq!(uploaded(&site).len(), 0, "keys with a prefix are not of the default layout");
        let puts = site.faults.requests().of(Operation::Put);
        assert_eq!(puts, if attempts == 1 { 10 } else { 0 }, "in round {attempts}");
        expect_parked(&site, "c", &bad)?;
        for (name, _) in bad {
            let tries = entries(worker, site.swift.account(), "c")?
                .iter()
                .find_map(|entry| entry.get("parked")?.get(name)?.get("attempts").and_then(Value::as_u64));
            assert_eq!(tries, Some(attempts), "{name}");
        }
    }
    // A restarted daemon remembers them and lets them rest.
    site.faults.forget();
    worker.start()?;
    worker.wait_for_log("following a container", SOON).await?;
    site.swift.put_object("c", "later", "x", &[]).await?;
    swift_s3_tests::wait::until("the later object", SOON, async || {
        site.bucket.head(&format!("{prefix}/later")).await?.context("not there")
    })
    .await?;
    assert_eq!(worker.stop().await?, 0);
    expect_parked(&site, "c", &bad)?;

    site.swift.delete_object("c", &long_name).await?;
    site.swift.post_object("c", "much-metadata", &[("X-Object-Meta-Field-0", "short")]).await?;
    worker.run_once().await?.expect_code(0)?;
    expect_parked(&site, "c", &[])?;
    compare(&site.swift, "c", &site.bucket, Some(&prefix), Depth::Metadata).await?.none()
}

#[tokio::test]
async fn a_row_whose_object_was_deleted_meanwhile_is_no_failure() -> Result<()> {
    let site = new_site().await?;
    let worker = &site.workers[0];
    put_all(&site, "c", &names("o", 3)).await?;
    // The database of this worker does not learn of the delete.
    let own = OwnDevices::of(&site, 0)?;
    own.refresh(&site, "c").await?;
    worker.configure(&SyncJson::new().set("devices", json!(own.devices)).mapping(site.mapping("c")))?;
    site.swift.delete_object("c", "o01").await?.success()?;
    assert_eq!(uploads_of(&site, worker).await?.len(), 2);
    expect_parked(&site, "c", &[])?;
    // An object that vanished without a delete is another matter.
    let database = own.refresh(&site, "c").await?;
    rusqlite::Connection::open(database)?.execute_batch(
        "DROP TRIGGER object_update; \
         UPDATE object SET name = 'vanished', ROWID = 1000 WHERE name = 'o02'",
    )?;
    worker.run_once().await?.expect_code(1)?;
    expect_parked(&site, "c", &[("vanished", "local_missing")])
}

#[tokio::test]
async fn rows_dated_in_the_future_wait_alone() -> Result<()> {
    let site = new_site().await?;
    let worker = &site.workers[0];
    site.map([site.mapping("c")])?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let tomorrow = format!("{}.00000", now + 86_400);
    site.swift.put_object("c", "tomorrow", "x", &[("X-Timestamp", &tomorrow)]).await?;
    put_all(&site, "c", &names("today", 6)).await?;
    assert_eq!(uploads_of(&site, worker).await?, names("today", 6).into_iter().collect());
    expect_parked(&site, "c", &[("tomorrow", "future_timestamp")])?;
    // It is no failure, and stays no failure.
    assert_eq!(uploads_of(&site, worker).await?, BTreeSet::new());
    Ok(())
}

#[tokio::test]
async fn rows_that_the_server_has_not_merged_yet_are_carried() -> Result<()> {
    let site = new_site().await?;
    site.map([site.mapping("c")])?;
    site.sync().await?;
    put_all(&site, "c", &names("o", 4)).await?;
    for worker in &site.workers {
        let database = site.cluster.container_db_path(site.swift.account(), "c", worker.node())?;
        let pending = database.with_extension("db.pending");
        assert!(
            fs::metadata(&pending)?.len() > 0,
            "{} is empty: the scenario tries nothing",
            pending.display()
        );
    }
    assert_eq!(uploads_of(&site, &site.workers[0]).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_mapping_of_a_container_that_is_not_there_is_no_error() -> Result<()> {
    let site = new_site().await?;
    site.map([site.mapping("to-come"), site.mapping("c")])?;
    put_all(&site, "c", &names("o", 2)).await?;
    for outcome in site.sync().await? {
        assert!(!outcome.log.contains("ERROR") && !outcome.log.contains("WARN"), "{}", outcome.log);
    }
    site.swift.put_container("to-come").await?;
    site.swift.put_object("to-come", "o", "x", &[]).await?;
    site.sync().await?;
    site.expect_equal("to-come").await
}

#[tokio::test]
async fn two_mappings_of_one_container_both_complete() -> Result<()> {
    let site = new_site().await?;
    let second = site.s3.create_bucket("second").await?;
    let third = site.s3.create_bucket("third").await?;
    let mappings = [
        site.mapping("c"),
        site.mapping("c").set("aws_bucket", "second"),
        site.mapping("c").set("aws_bucket", "third").set("custom_prefix", "p").set("propagate_delete", false),
    ];
    site.configure(&mappings.into_iter().fold(SyncJson::new().set("items_chunk", 2), SyncJson::mapping))?;
    put_all(&site, "c", &names("o", 9)).await?;
    site.sync().await?;
    let before = site.s3.requests().await?;
    site.sync().await?;
    assert_eq!(
        site.s3.requests().await?.since(&before).about_objects(),
        0,
        "each remembers its own progress"
    );
    site.swift.delete_object("c", "o00").await?;
    site.sync().await?;
    site.expect_equal("c").await?;
    compare(&site.swift, "c", &second, None, Depth::Metadata).await?.none()?;
    assert_eq!(third.keys("p/").await?.len(), 9, "the third keeps deleted objects");
    Ok(())
}

#[tokio::test]
async fn an_account_mapping_follows_its_containers() -> Result<()> {
    let site = new_site().await?;
    site.swift.put_container("going").await?;
    put_all(&site, "c", &names("o", 3)).await?;
    put_all(&site, "going", &names("g", 2)).await?;
    site.map([site.mapping("/*")])?;
    site.sync().await?;
    site.expect_equal("c").await?;
    site.expect_equal("going").await?;
    let status =
        |worker: &Worker, container: &str| worker.status_dir().join(site.swift.account()).join(container);
    assert!(site.workers.iter().all(|worker| status(worker, "going").exists()));

    for name in names("g", 2) {
        site.swift.delete_object("going", &name).await?;
    }
    site.sync().await?;
    site.swift.delete_container("going").await?.success()?;
    site.swift.put_container("coming").await?;
    put_all(&site, "coming", &names("n", 2)).await?;
    site.sync().await?;
    site.expect_equal("coming").await?;
    for worker in &site.workers {
        assert!(
            !status(worker, "going").exists(),
            "the container is gone, and so is what was remembered of it"
        );
        assert!(status(worker, "c").exists() && status(worker, "coming").exists());
    }
    Ok(())
}

#[tokio::test]
async fn names_beyond_ascii_are_followed() -> Result<()> {
    let site = new_site().await?;
    let account = format!("AUTH_žluťoučký_日本_{}", site.swift.account());
    let client = site.cluster.internal_client(&account)?;
    client.put_account().await?;
    let (container, names) = ("cõn tåiner %2F", ["obj/é ü", "日本/語", "emoji 🦀", "a+b%20c"]);
    client.put_container(container).await?;
    for name in names {
        client.put_object(container, name, name.to_owned(), &[("X-Object-Meta-Note", "grün")]).await?;
    }
    site.map([MappingJson::new(&account, container, &site.access(), site.bucket.bucket())])?;
    site.sync().await?;
    compare(&client, container, &site.bucket, None, Depth::Content).await?.none()?;
    for worker in &site.workers {
        let path = worker.status_dir().join(&account).join(container);
        assert!(path.exists(), "{} is missing", path.display());
    }
    client.delete_object(container, names[0]).await?;
    site.sync().await?;
    compare(&client, container, &site.bucket, None, Depth::Content).await?.none()
}
