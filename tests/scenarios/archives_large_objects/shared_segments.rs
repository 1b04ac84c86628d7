//! No segment goes that another manifest needs.

use super::*;

#[tokio::test]
async fn a_segment_that_another_object_needs_stays() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let archived = put_segments(&site.swift, &["1", "shared", "end"]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "shared", "end"]).await?;
    put_slo(&site.swift, "other", "kept", &["shared"]).await?;
    put_dlo(&site.swift, "other", "dynamic", "en").await?;
    let shared = site.swift.get_object("s", "shared").await?.body;
    let end = site.swift.get_object("s", "end").await?.body;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &archived).await?;
    ensure!(names(&site.swift, "s").await? == ["end", "shared"]);
    expect_local(&site.swift, "other", "kept", &shared).await?;
    expect_local(&site.swift, "other", "dynamic", &end).await
}

#[tokio::test]
async fn the_last_of_two_archived_objects_takes_what_they_share() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let one = put_segments(&site.swift, &["shared", "1"]).await?;
    let two = put_segments(&site.swift, &["shared", "2"]).await?;
    put_slo(&site.swift, "c", "one", &["shared", "1"]).await?;
    put_slo(&site.swift, "c", "two", &["shared", "2"]).await?;
    site.sync().await?;
    for (name, content) in [("one", one), ("two", two)] {
        expect_gone(&site, name).await?;
        expect_remote(&site, name, &content).await?;
    }
    ensure!(names(&site.swift, "s").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_old_version_keeps_the_segments_it_needs() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    site.swift.put_container_with("versioned", &[("X-Versions-Enabled", "true")]).await?;
    let content = put_segments(&site.swift, &["1", "2"]).await?;
    put_slo(&site.swift, "versioned", "slo", &["1", "2"]).await?;
    site.swift.put_object("versioned", "slo", "newer", &[]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "2"]).await?;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &content).await?;
    ensure!(names(&site.swift, "s").await? == ["1", "2"]);
    Ok(())
}

#[tokio::test]
async fn a_segment_that_was_written_anew_stays() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let content = put_segments(&site.swift, &["1", "2"]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "2"]).await?;
    site.map([site.mapping("c")])?;
    site.sync().await?;
    site.swift.put_object("s", "2", "another object altogether", &[]).await?;
    site.map([site.mapping("c").set("retain_local", false)])?;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &content).await?;
    ensure!(names(&site.swift, "s").await? == ["2"]);
    expect_local(&site.swift, "s", "2", b"another object altogether").await
}

#[tokio::test]
async fn manifests_in_a_split_container_count() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let archived = put_segments(&site.swift, &["1", "2"]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "2"]).await?;
    put_slo(&site.swift, "other", "needs", &["1"]).await?;
    for number in 0..10 {
        site.swift.put_object("other", &format!("filler{number}"), "x", &[]).await?;
    }
    crate::follows_shards::shard(&site, "other", 3).await?;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &archived).await?;
    ensure!(names(&site.swift, "s").await? == ["1"]);
    Ok(())
}
