//! PUT, overwrite, POST and DELETE of plain objects arrive in S3, and nothing is done that need not be.

mod choices;
mod expiration;
mod links;
mod local_reads;
mod metadata;
mod names;
mod requests;
mod storage_classes;

use std::time::Duration;

use anyhow::{Context, Result};
use swift_s3_tests::compare::{Depth, compare};
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::{SharedCluster, SwiftOptions};

use crate::CLUSTER;

/// Every kind of storage policy, and S3 by Swift itself.
static WIDE_CLUSTER: SharedCluster = SharedCluster::new(|| SwiftOptions {
    second_policy: true,
    erasure_coding: true,
    s3api: true,
    ..SwiftOptions::default()
});

/// A site with an empty container `c`, mapped.
async fn mapped(server: S3ServerKind) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    Ok(site)
}

#[tokio::test]
async fn puts_overwrites_posts_and_deletes_arrive_in_every_kind_of_s3() -> Result<()> {
    let wide = WIDE_CLUSTER.get().await?;
    let sites = [
        mapped(S3ServerKind::Memory).await?,
        mapped(S3ServerKind::S3sFs).await?,
        mapped(S3ServerKind::Moto).await?,
        Site::with(wide.clone(), S3Server::on_swift(wide)?).await?,
    ];
    for site in &sites {
        changes_arrive(site).await.with_context(|| format!("{:?}", site.s3.kind()))?;
    }
    Ok(())
}

async fn changes_arrive(site: &Site) -> Result<()> {
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    let expect_equal = async || compare(&site.swift, "c", &site.bucket, None, Depth::Content).await?.none();
    site.swift.put_object("c", "kept", "one", &[("X-Object-Meta-Color", "red")]).await?;
    site.swift.put_object("c", "gone", "two", &[]).await?;
    site.swift.put_object("c", "empty", "", &[("Content-Length", "0")]).await?;
    site.swift.put_object_stream("c", "large", 3_000_001, 7, &[]).await?;
    site.sync().await?;
    expect_equal().await.context("put")?;
    site.swift.put_object("c", "kept", "three", &[("X-Object-Meta-Color", "blue")]).await?;
    site.swift.delete_object("c", "gone").await?.success()?;
    site.sync().await?;
    expect_equal().await.context("overwrite and delete")?;
    let posted = [("X-Object-Meta-Shape", "round, like é"), ("Content-Type", "test/blob")];
    site.swift.post_object("c", "kept", &posted).await?;
    site.sync().await?;
    expect_equal().await.context("post")
}

#[tokio::test]
async fn changes_arrive_without_waiting_for_the_poll() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::S3sFs).await?;
    site.swift.put_container("c").await?;
    site.configure(
        &swift_s3_tests::sync_json::SyncJson::new().set("poll_interval", 3600).mapping(site.mapping("c")),
    )?;
    site.start_workers()?;
    for worker in &site.workers {
        worker.wait_for_log("following a container", Duration::from_secs(20)).await?;
    }
    site.swift.put_object("c", "prompt", b"now".as_slice(), &[]).await?;
    site.wait_equal("c", Duration::from_secs(20)).await?;
    for worker in &site.workers {
        assert_eq!(worker.stop().await?, 0);
    }
    Ok(())
}
