//! PUT, overwrite, POST and DELETE of plain objects arrive in S3.

use std::time::Duration;

use anyhow::Result;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;

use crate::CLUSTER;

#[tokio::test]
async fn puts_overwrites_posts_and_deletes_arrive() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Moto).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    site.swift.put_object("c", "kept", b"one".as_slice(), &[("X-Object-Meta-Color", "red")]).await?;
    site.swift.put_object("c", "gone", b"two".as_slice(), &[]).await?;
    site.sync().await?;
    site.expect_equal("c").await?;
    site.swift.put_object("c", "kept", b"three".as_slice(), &[("X-Object-Meta-Color", "blue")]).await?;
    site.swift.delete_object("c", "gone").await?;
    site.sync().await?;
    site.expect_equal("c").await?;
    site.swift
        .post_object("c", "kept", &[("X-Object-Meta-Shape", "round, like é"), ("Content-Type", "test/blob")])
        .await?;
    site.sync().await?;
    site.expect_equal("c").await
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
