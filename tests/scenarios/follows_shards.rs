//! Containers that Swift splits into shards are followed through the split, and their siblings are left alone.

use anyhow::Result;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::SwiftOptions;
use swift_s3_tests::sync_json::SyncJson;
use tokio::sync::Mutex;

use crate::CLUSTER;

/// Two sharders at once on one node get into each other's way.
static SHARDING: Mutex<()> = Mutex::const_new(());

async fn site_with(containers: &[&str], objects: u32) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in containers {
        site.swift.put_container(container).await?;
        for number in 0..objects {
            let body = format!("{container} {number}");
            site.swift.put_object(container, &format!("o{number:02}"), body, &[]).await?;
        }
    }
    Ok(site)
}

pub(crate) async fn shard(site: &Site, container: &str, rows_per_shard: u32) -> Result<()> {
    let _one_at_a_time = SHARDING.lock().await;
    site.cluster.shard_container(site.swift.account(), container, rows_per_shard).await
}

#[tokio::test]
async fn a_container_that_is_split_is_followed_on() -> Result<()> {
    let site = site_with(&["c"], 30).await?;
    site.map([site.mapping("c")])?;
    site.sync().await?;
    shard(&site, "c", 10).await?;
    for number in 30..40 {
        site.swift.put_object("c", &format!("o{number}"), format!("c {number}"), &[]).await?;
    }
    site.swift.put_object("c", "o05", "overwritten", &[]).await?;
    site.swift.delete_object("c", "o15").await?;
    site.sync().await?;
    // Right after a split, Swift may still give a row to the root; it shows in listings when the sharder has moved it.
    {
        let _one_at_a_time = SHARDING.lock().await;
        site.cluster.run_everywhere("container-sharder").await?;
    }
    site.sync().await?;
    site.expect_equal("c").await?;
    assert_eq!(site.swift.list("c").await?.len(), 39);
    let puts = site.s3.requests().await?.of(Operation::Put);
    assert_eq!(puts, 41, "rows that only moved to a shard are not sent again");
    // All shards share the status file of the container that users see.
    for worker in &site.workers {
        assert!(worker.status_dir().join(site.swift.account()).join("c").exists());
        assert!(!worker.status_dir().join(format!(".shards_{}", site.swift.account())).exists());
    }
    let before = site.s3.requests().await?;
    site.sync().await?;
    assert_eq!(site.s3.requests().await?.since(&before).about_objects(), 0);
    Ok(())
}

#[tokio::test]
async fn shards_of_a_sibling_with_a_longer_name_are_not_touched() -> Result<()> {
    let site = site_with(&["foo", "foobar"], 6).await?;
    site.map([site.mapping("foo")])?;
    site.sync().await?;
    shard(&site, "foo", 3).await?;
    shard(&site, "foobar", 3).await?;
    // Both have objects of these names; only the sibling's are changed.
    site.swift.delete_object("foobar", "o00").await?;
    site.swift.put_object("foobar", "o01", "of the sibling", &[]).await?;
    site.swift.put_object("foobar", "only-there", "x", &[]).await?;
    site.sync().await?;
    site.expect_equal("foo").await?;
    assert_eq!(site.bucket.keys("").await?.len(), 6, "nothing of the sibling is remote");
    assert_eq!(site.s3.requests().await?.of(Operation::Delete), 0);
    Ok(())
}

#[tokio::test]
async fn many_shards_are_followed_one_at_a_time() -> Result<()> {
    let site = site_with(&["c"], 24).await?;
    shard(&site, "c", 2).await?;
    let config = SyncJson::new().set("enumerator_workers", 1).set("workers", 1).set("items_chunk", 1);
    site.configure(&config.mapping(site.mapping("c")))?;
    site.sync().await?;
    site.expect_equal("c").await
}

#[tokio::test]
async fn nothing_is_missed_at_any_step_of_a_split_and_little_is_sent_twice() -> Result<()> {
    let site = site_with(&["c"], 12).await?;
    site.map([site.mapping("c")])?;
    site.sync().await?;
    let _one_at_a_time = SHARDING.lock().await;
    site.cluster.begin_sharding(site.swift.account(), "c", 4).await?;
    let mut writes = 12;
    for step in 0..30 {
        site.cluster.run_once("container-sharder", step % 3).await?;
        site.swift.put_object("c", &format!("step{step:02}"), format!("new in step {step}"), &[]).await?;
        site.swift.put_object("c", "o05", format!("overwritten in step {step}"), &[]).await?;
        writes += 2;
        site.sync().await?;
        if step >= 8 && site.cluster.is_sharded(site.swift.account(), "c").await? {
            break;
        }
    }
    assert!(site.cluster.is_sharded(site.swift.account(), "c").await?, "the split did not end");
    site.cluster.run_everywhere("container-sharder").await?;
    site.cluster.run_everywhere("container-updater").await?;
    site.sync().await?;
    site.expect_equal("c").await?;
    let puts = site.s3.requests().await?.of(Operation::Put);
    // A row that moves is in two databases for a moment, whose feeds may both find its object missing.
    assert!(puts <= writes + writes / 4, "{puts} uploads of {writes} writes");
    Ok(())
}

#[tokio::test]
async fn shards_are_followed_on_nodes_that_do_not_have_the_root() -> Result<()> {
    // With one replica each database is on one node only, and that node alone can carry its rows.
    let options = SwiftOptions { replicas: 1, ..SwiftOptions::default() };
    let site = Site::start(options, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    for number in 0..24 {
        site.swift.put_object("c", &format!("o{number:02}"), "x", &[]).await?;
    }
    site.cluster.shard_container(site.swift.account(), "c", 3).await?;
    let account = site.swift.account();
    let has_root = |node: usize| !site.cluster.container_databases(account, "c", node).is_empty();
    assert_eq!((0..3).filter(|node| has_root(*node)).count(), 1);
    site.map([site.mapping("c")])?;
    let mut carried_elsewhere = 0;
    for worker in &site.workers {
        let before = site.bucket.keys("").await?.len();
        worker.run_once().await?.expect_code(0)?;
        if !has_root(worker.node()) {
            carried_elsewhere += site.bucket.keys("").await?.len() - before;
        }
    }
    assert!(carried_elsewhere > 0, "every shard is on the node of the root");
    site.expect_equal("c").await
}
