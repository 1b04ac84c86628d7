//! Storage classes of the remote: which one new objects get, and what happens to those that lie in an archive.

use anyhow::{Context, Result, ensure};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_client::S3Object;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;

use super::mapped;

async fn remote(site: &Site) -> Result<S3Object> {
    let key = KeyMapping::new(site.swift.account(), "c", None).object_key("o");
    site.bucket.head(&key).await?.context("the object is not in S3")
}

fn colour(object: &S3Object) -> Option<&str> {
    object.metadata.get("colour").map(String::as_str)
}

async fn paint(site: &Site, colour: &str) -> Result<()> {
    site.swift.post_object("c", "o", &[("X-Object-Meta-Colour", colour)]).await
}

#[tokio::test]
async fn new_objects_get_the_class_of_the_mapping_and_keep_it_when_metadata_change() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        site.map([site.mapping("c").set("storage_class", "STANDARD_IA")])?;
        site.swift.put_object("c", "o", "x", &[("X-Object-Meta-Colour", "red")]).await?;
        site.sync().await?;
        ensure!(remote(&site).await?.storage_class.as_deref() == Some("STANDARD_IA"), "{server:?}");
        // Whatever new objects get from now on: this one stays where it is.
        for (class, new) in [("STANDARD_IA", "green"), ("GLACIER_IR", "blue")] {
            let before = site.faults.requests();
            paint(&site, new).await?;
            site.map([site.mapping("c").set("storage_class", class)])?;
            site.sync().await?;
            let found = remote(&site).await?;
            ensure!(colour(&found) == Some(new), "{server:?}: {found:?}");
            ensure!(found.storage_class.as_deref() == Some("STANDARD_IA"), "{server:?}: {found:?}");
            let sent = site.faults.requests().since(&before);
            ensure!((sent.of(Operation::Copy), sent.of(Operation::Put)) == (1, 0), "{server:?}: {sent}");
        }
        site.swift.put_object("c", "o", "other content", &[]).await?;
        site.sync().await?;
        ensure!(remote(&site).await?.storage_class.as_deref() == Some("GLACIER_IR"), "{server:?}");
    }
    Ok(())
}

#[tokio::test]
async fn new_metadata_of_an_archived_object_send_it_again_or_are_kept_back_as_configured() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let mapping = || site.mapping("c").set("storage_class", "DEEP_ARCHIVE");
    site.map([mapping()])?;
    site.swift.put_object("c", "o", "x", &[("X-Object-Meta-Colour", "red")]).await?;
    site.sync().await?;
    let archived = remote(&site).await?;
    ensure!(archived.storage_class.as_deref() == Some("DEEP_ARCHIVE"), "{archived:?}");

    // Kept: nothing is sent, and the local copy, which is the only one with these metadata, stays.
    let before = site.faults.requests();
    paint(&site, "green").await?;
    site.map([mapping().set("remote_archived_metadata", "keep").set("retain_local", false)])?;
    site.sync().await?;
    ensure!(remote(&site).await? == archived, "the archived object was changed");
    let sent = site.faults.requests().since(&before);
    ensure!((sent.of(Operation::Copy), sent.of(Operation::Put)) == (0, 0), "{sent}");
    let local = site.swift.head_object("c", "o").await?.success()?;
    ensure!(local.header("x-object-meta-colour") == Some("green"), "{:?}", local.headers);
    let told = site.workers.iter().any(|worker| worker.log_text().contains("keeps its metadata"));
    ensure!(told, "nobody told that the remote object was kept");

    // Sent again as a whole: the original's way.
    paint(&site, "blue").await?;
    site.map([mapping()])?;
    site.sync().await?;
    let found = remote(&site).await?;
    ensure!(colour(&found) == Some("blue"), "{found:?}");
    ensure!(found.storage_class.as_deref() == Some("DEEP_ARCHIVE"), "{found:?}");
    let sent = site.faults.requests().since(&before);
    ensure!((sent.of(Operation::Copy), sent.of(Operation::Put)) == (0, 1), "{sent}");
    Ok(())
}
