//! Symbolic links are carried as what they lead to.

use anyhow::ensure;

use super::*;
use crate::worker_state::expect_parked;

#[tokio::test]
async fn a_link_is_copied_as_what_it_leads_to() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in ["c", "target é"] {
        site.swift.put_container(container).await?;
    }
    site.map([site.mapping("c")])?;
    let headers = [("X-Object-Meta-Mark", "m"), ("Content-Type", "text/x-target")];
    site.swift.put_object("target é", "a %25 b", "content", &headers).await?;
    let link = |target: &'static str| [("X-Symlink-Target", target), ("Content-Length", "0")];
    site.swift.put_object("c", "link", "", &link("target%20%C3%A9/a%20%2525%20b")).await?;
    site.swift.put_object("c", "link to link", "", &link("c/link")).await?;
    site.swift.put_object("c", "dangling", "", &link("target%20%C3%A9/none")).await?;
    for worker in &site.workers {
        worker.run_once().await?;
    }
    for name in ["link", "link to link"] {
        let key = swift_s3_policy::KeyMapping::new(site.swift.account(), "c", None).object_key(name);
        let found = site.bucket.get(&key).await?.with_context(|| format!("S3 has no {name}"))?;
        ensure!(found.body == "content" && found.content_type == "text/x-target", "{name}: {found:?}");
        ensure!(found.metadata.get("mark").is_some_and(|mark| mark == "m"), "{name}: {found:?}");
    }
    expect_parked(&site, "c", &[("dangling", "symlink")])
}
