//! Large objects are not carried yet: they and their segments stay where they are.

use anyhow::{Result, ensure};
use serde_json::json;
use swift_s3_tests::s3_servers::S3ServerKind;

use super::{archive, expect_archived, key};
use crate::worker_state::expect_parked;

#[tokio::test]
async fn large_objects_are_set_aside_and_keep_their_segments() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let swift = &site.swift;
    swift.put_container("segments").await?;
    for name in ["static/1", "dynamic/1", "dynamic/2"] {
        swift.put_object("segments", name, name, &[]).await?;
    }
    let manifest = json!([{"path": "/segments/static/1"}]).to_string();
    let put =
        swift.object_request("PUT", "c", "static", "multipart-manifest=put", &[], Some(manifest.into()));
    put.await?.success()?;
    let headers = [("X-Object-Manifest", "segments/dynamic/"), ("Content-Length", "0")];
    swift.put_object("c", "dynamic", "", &headers).await?;
    swift.put_object("c", "plain", "content", &[]).await?;
    for worker in &site.workers {
        worker.run_once().await?.expect_code(1)?;
    }
    expect_parked(&site, "c", &[("static", "large_object"), ("dynamic", "large_object")])?;
    expect_archived(&site, "plain", "content", None).await?;
    for (name, content) in [("static", "static/1"), ("dynamic", "dynamic/1dynamic/2")] {
        let local = swift.get_object("c", name).await?;
        ensure!(local.status == 200 && local.body == content, "{name}: {} {:?}", local.status, local.body);
        ensure!(site.bucket.head(&key(&site, name)).await?.is_none(), "{name} is in S3");
    }
    Ok(())
}
