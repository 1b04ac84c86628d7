//! A storage node is away, a container database is exchanged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::SwiftOptions;

use crate::CLUSTER;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn nothing_is_lost_or_resurrected_while_a_swift_node_is_away() -> Result<()> {
    let site = Site::start(SwiftOptions::default(), S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    for number in 0..30 {
        site.swift.put_object("c", &format!("o{number}"), format!("first {number}"), &[]).await?;
    }
    site.start_workers()?;
    site.wait_equal("c", LIMIT).await?;

    site.cluster.stop_node(0).await?;
    for number in 0..10 {
        site.swift.put_object("c", &format!("o{number}"), format!("second {number}"), &[]).await?;
        site.swift.delete_object("c", &format!("o{}", 10 + number)).await?;
        site.swift.post_object("c", &format!("o{}", 20 + number), &[("X-Object-Meta-A", "b")]).await?;
        site.swift.put_object("c", &format!("late {number}"), "late", &[]).await?;
    }
    // What an object server could not tell the absent node, its neighbours learn from each other.
    for node in [1, 2] {
        site.cluster.run_once("container-replicator", node).await?;
    }
    // The absent node's share is done by the others, too.
    site.wait_equal("c", LIMIT).await.context("while the node is away")?;

    site.cluster.start_node(0).await?;
    // Its database and its objects are behind: for all it knows, nothing has been deleted or overwritten.
    let behind = site.cluster.container_rows(site.swift.account(), "c", 0).await?;
    ensure!(behind.iter().all(|row| !row.deleted), "the node has heard of the deletes");
    for worker in &site.workers {
        ensure!(worker.stop().await? == 0, "worker {} did not stop well", worker.node());
    }
    site.faults.forget();
    site.sync().await?;
    let requests = site.faults.requests();
    for operation in [Operation::Put, Operation::Copy, Operation::Delete] {
        ensure!(requests.of(operation) == 0, "by an old database: {requests}");
    }
    site.cluster.run_everywhere("container-replicator").await?;
    site.cluster.run_everywhere("object-replicator").await?;
    site.sync().await?;
    site.expect_equal("c").await.context("after replication")
}

#[tokio::test]
async fn an_old_replica_never_replaces_what_is_newer() -> Result<()> {
    let site = Site::start(SwiftOptions::default(), S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    for name in ["overwritten", "deleted", "posted"] {
        site.swift.put_object("c", name, "first", &[]).await?;
    }
    site.cluster.stop_node(0).await?;
    site.swift.put_object("c", "overwritten", "second", &[]).await?;
    site.swift.delete_object("c", "deleted").await?.success()?;
    site.swift.post_object("c", "posted", &[("X-Object-Meta-A", "b")]).await?;
    for node in [1, 2] {
        site.cluster.run_once("container-replicator", node).await?;
    }
    for worker in &site.workers[1..] {
        worker.run_once().await?.expect_code(0)?;
    }
    site.expect_equal("c").await?;
    site.cluster.start_node(0).await?;
    // This worker has done nothing yet. Its rows are old, and so are the replicas beside it.
    let newest = site.bucket.list("").await?;
    site.workers[0].run_once().await?;
    ensure!(site.bucket.list("").await? == newest, "something old came back");
    let rows = site.cluster.container_rows(site.swift.account(), "c", 0).await?;
    ensure!(rows.iter().all(|row| !row.deleted), "the node had heard of the delete");
    Ok(())
}

#[tokio::test]
async fn a_container_database_exchanged_for_a_copy_is_followed_from_its_first_row() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let account = site.swift.account().to_owned();
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    for number in 0..40 {
        site.swift.put_object("c", &format!("o{number}"), format!("first {number}"), &[]).await?;
    }
    site.start_workers()?;
    site.wait_equal("c", LIMIT).await?;
    let before = site.s3.requests().await?;
    // Rows have other numbers in the copy, and the cursor is of no use any more.
    for node in [1, 2] {
        site.cluster.copy_container_db(&account, "c", 0, node, true).await?;
    }
    for number in 0..10 {
        site.swift.put_object("c", &format!("o{number}"), format!("second {number}"), &[]).await?;
        site.swift.delete_object("c", &format!("o{}", 10 + number)).await?;
        site.swift.put_object("c", &format!("late {number}"), "late", &[]).await?;
    }
    site.wait_equal("c", LIMIT).await?;
    for worker in &site.workers {
        ensure!(worker.stop().await? == 0, "worker {} did not stop well", worker.node());
    }
    site.sync().await?;
    site.expect_equal("c").await?;
    let since = site.s3.requests().await?.since(&before);
    ensure!(since.of(Operation::Copy) == 0, "{since}");
    // Twenty objects changed. Nodes that verify at once may do the same one at the same time, but never the other thirty.
    ensure!(since.of(Operation::Put) <= 60, "unchanged objects were sent again: {since}");
    Ok(())
}

/// A replica that missed a PUT takes the POST after it, and then looks as new as the POST.
#[tokio::test]
async fn a_post_over_a_missed_put_does_not_bring_old_content_back() -> Result<()> {
    let site = Site::start(SwiftOptions::default(), S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    let names: Vec<String> = (0..24).map(|number| format!("o{number}")).collect();
    for name in &names {
        site.swift.put_object("c", name, "old", &[]).await?;
    }
    site.sync().await?;
    site.cluster.stop_node(0).await?;
    for name in &names {
        site.swift.put_object("c", name, "newer content", &[]).await?;
    }
    for worker in &site.workers[1..] {
        worker.run_once().await?;
    }
    site.cluster.start_node(0).await?;
    // The node that was away learns of the writes, but has old content yet, under new metadata.
    for node in [1, 2] {
        site.cluster.run_once("container-replicator", node).await?;
    }
    for name in &names {
        site.swift.post_object("c", name, &[("X-Object-Meta-A", "b")]).await?;
    }
    for index in [1, 2, 0] {
        site.workers[index].run_once().await?;
    }
    // Swift itself still answers with either content, until its replicators have been at work.
    let old = site.bucket.list("").await?.into_iter().filter(|entry| entry.length != 13).count();
    ensure!(old == 0, "{old} objects have old content");
    site.cluster.run_everywhere("object-replicator").await?;
    site.expect_equal("c").await
}

/// The absent node knows neither of deletes nor that nothing is left of the names remotely.
#[tokio::test]
async fn many_deletes_that_a_node_missed_are_not_undone_by_it() -> Result<()> {
    let site = Site::start(SwiftOptions::default(), S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    let names: Vec<String> = (0..90).map(|number| format!("o{number:02}")).collect();
    for name in &names {
        site.swift.put_object("c", name, "x", &[]).await?;
    }
    site.sync().await?;
    site.cluster.stop_node(0).await?;
    for name in &names {
        ensure!(site.swift.delete_object("c", name).await?.status == 204, "{name} was not deleted");
    }
    for worker in &site.workers[1..] {
        worker.run_once().await?;
    }
    site.cluster.start_node(0).await?;
    // It looks at everything again, and at so many names by listings.
    site.workers[0].forget()?;
    site.workers[0].run_once().await?;
    let keys = site.bucket.keys("").await?;
    ensure!(keys.is_empty(), "{} objects are back, such as {:?}", keys.len(), keys.first());
    Ok(())
}
