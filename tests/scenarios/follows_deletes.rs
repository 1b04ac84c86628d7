//! What users delete goes from S3 too, if the mapping says so; nothing else ever does.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use swift_s3_policy::KeyMapping;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;

use crate::CLUSTER;
use crate::own_copies::OwnDevices;

/// A site whose container `c` has these objects, in S3 too.
async fn carried(server: S3ServerKind, names: &[&str]) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    site.swift.put_container("c").await?;
    for name in names {
        site.swift.put_object("c", name, (*name).to_owned(), &[]).await?;
    }
    site.map([site.mapping("c")])?;
    site.sync().await?;
    site.expect_equal("c").await?;
    Ok(site)
}

fn keys(site: &Site) -> KeyMapping {
    KeyMapping::new(site.swift.account(), "c", None)
}

#[tokio::test]
async fn a_delete_takes_the_object_and_its_companion_manifest() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = carried(server, &["gone", "kept"]).await?;
        let manifest = keys(&site).manifest_key("gone").context("S3 has companions")?;
        site.bucket.put(&manifest, "{}", &[], None).await?;
        site.swift.delete_object("c", "gone").await?.success()?;
        site.sync().await?;
        ensure!(site.bucket.keys("").await? == [keys(&site).object_key("kept")], "{server:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_delete_that_is_not_propagated_costs_no_request() -> Result<()> {
    let site = carried(S3ServerKind::Memory, &["gone"]).await?;
    site.map([site.mapping("c").set("propagate_delete", false)])?;
    // The changed mapping is checked from its first row.
    site.sync().await?;
    site.swift.delete_object("c", "gone").await?.success()?;
    site.faults.forget();
    site.sync().await?;
    let requests = site.faults.requests();
    ensure!(requests.about_objects() == 0, "{requests}");
    ensure!(site.bucket.keys("").await? == [keys(&site).object_key("gone")]);
    // Nor does it when nothing is known of the row.
    for worker in &site.workers {
        worker.forget()?;
    }
    site.sync().await?;
    let requests = site.faults.requests();
    ensure!(requests.about_objects() == 0, "{requests}");
    Ok(())
}

#[tokio::test]
async fn a_delete_of_what_s3_has_lost_already_is_done() -> Result<()> {
    // Every S3 server says so in its own way.
    for server in [S3ServerKind::Memory, S3ServerKind::S3sFs, S3ServerKind::Moto] {
        let site = carried(server, &["gone"]).await?;
        site.bucket.delete(&keys(&site).object_key("gone")).await?;
        site.swift.delete_object("c", "gone").await?.success()?;
        site.sync().await?;
        ensure!(site.bucket.keys("").await?.is_empty(), "{server:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_old_database_does_not_delete_what_was_written_again() -> Result<()> {
    let site = carried(S3ServerKind::Memory, &["again"]).await?;
    site.swift.delete_object("c", "again").await?.success()?;
    let stale = &site.workers[0];
    let own = OwnDevices::of(&site, 0)?;
    own.refresh(&site, "c").await?;
    site.swift.put_object("c", "again", "second", &[]).await?;
    for worker in &site.workers[1..] {
        worker.run_once().await?.expect_code(0)?;
    }
    site.expect_equal("c").await?;
    let config = SyncJson::new().mapping(site.mapping("c"));
    stale.configure(&config.clone().set("devices", json!(own.devices)))?;
    site.faults.forget();
    stale.run_once().await?.expect_code(0)?;
    let deletes = site.faults.requests().of(Operation::Delete);
    ensure!(deletes == 0, "{deletes} deletes");
    site.expect_equal("c").await
}

#[tokio::test]
async fn what_the_archiver_removed_stays_in_s3() -> Result<()> {
    let site = carried(S3ServerKind::Memory, &["a", "b"]).await?;
    let archive = site.mapping("c").set("retain_local", false).set("propagate_delete", true);
    site.map([archive])?;
    site.sync().await?;
    ensure!(site.swift.list("c").await?.is_empty(), "not archived");
    let archived = site.bucket.keys("").await?;
    ensure!(archived.len() == 2, "{archived:?}");
    // The tombstones are rows as any other, and every worker meets them without knowing their history.
    for worker in &site.workers {
        worker.forget()?;
    }
    site.sync().await?;
    ensure!(site.bucket.keys("").await? == archived, "lost as an archive");
    // Nor does it matter who wrote them when the mapping does not archive any more.
    site.map([site.mapping("c").set("retain_local", true)])?;
    site.sync().await?;
    ensure!(site.bucket.keys("").await? == archived, "lost as a mirror");
    // A user's delete of what is archived is a user's delete.
    site.swift.delete_object("c", "a").await?;
    site.sync().await?;
    ensure!(site.bucket.keys("").await? == [keys(&site).object_key("b")]);
    Ok(())
}

#[tokio::test]
async fn deletes_arrive_even_if_the_container_goes_afterwards() -> Result<()> {
    let site = carried(S3ServerKind::Memory, &["a", "b"]).await?;
    for name in ["a", "b"] {
        site.swift.delete_object("c", name).await?.success()?;
    }
    site.swift.delete_container("c").await?.success()?;
    site.sync().await?;
    let left = site.bucket.keys("").await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
