//! The same with another Swift cluster as the remote.

use anyhow::{Context, Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_remote::SwiftRemote;
use swift_s3_tests::sync_json::MappingJson;

use super::large::{put_segment, put_slo};
use super::{Front, archived};
use crate::CLUSTER;
use crate::swift_remote::REMOTE;

/// A front whose container `c` is archived to the remote container `copies`, and that remote.
async fn front(change: impl FnOnce(MappingJson) -> MappingJson) -> Result<(Front, SwiftRemote)> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let remote = SwiftRemote::on(REMOTE.get().await?).await?;
    for container in ["c", "c_segments"] {
        site.swift.put_container(container).await?;
    }
    let mapping = change(archived(remote.mapping(site.swift.account(), "c", "copies")));
    Ok((Front::around(site, mapping).await?, remote))
}

/// What a worker sends to the remote in one round.
async fn sent(front: &Front, remote: &SwiftRemote) -> Result<Vec<String>> {
    remote.faults.forget();
    front.site.sync().await?;
    let seen = remote.faults.seen();
    let sent = seen.iter().filter(|seen| matches!(seen.method.as_str(), "PUT" | "POST"));
    Ok(sent.map(|seen| format!("{} {}", seen.method, seen.target)).collect())
}

#[tokio::test]
async fn plain_objects_come_back_change_and_go() -> Result<()> {
    let (front, remote) = front(|mapping| mapping).await?;
    let headers =
        [("Content-Type", "text/html"), ("X-Object-Meta-K", "MixedCase"), ("Content-Encoding", "gzip")];
    front.archive("o", b"content", &headers).await?;
    front.read("o", b"content").await?;
    let local = front.wait_local("o", b"content").await?;
    for (name, value) in headers {
        ensure!(local.header(&name.to_lowercase()) == Some(value), "{name}: {:?}", local.headers);
    }
    let sent = sent(&front, &remote).await?;
    ensure!(sent.is_empty(), "{sent:?}");
    front.expect_gone("o").await?;
    front.client.post_object("c", "o", &[("X-Object-Meta-New", "n")]).await?;
    let seen = front.client.head_object("c", "o").await?.success()?;
    ensure!(seen.header("x-object-meta-new") == Some("n"), "{:?}", seen.headers);
    ensure!(seen.header("x-object-meta-k").is_none(), "{:?}", seen.headers);
    ensure!(seen.header("content-type") == Some("text/html"), "{:?}", seen.headers);
    ensure!(front.client.delete_object("c", "o").await?.status == 204, "not deleted");
    ensure!(remote.swift.head_object("copies", "o").await?.status == 404, "the copy is still there");
    ensure!(front.client.get_object("c", "o").await?.status == 404, "it is still readable");
    Ok(())
}

#[tokio::test]
async fn a_static_large_object_comes_back_under_the_names_of_the_remote_manifest() -> Result<()> {
    let (front, remote) = front(|mapping| mapping).await?;
    let swift = &front.site.swift;
    let mut content = put_segment(swift, "c_segments", "slo/1", 3000).await?;
    content.extend(put_segment(swift, "c_segments", "slo/2", 4000).await?);
    put_slo(swift, "slo", &["/c_segments/slo/1", "/c_segments/slo/2"]).await?;
    let before = swift.head_object("c", "slo").await?;
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    swift.delete_container("c_segments").await?;
    front.read("slo", &content).await?;
    let local = front.wait_local("slo", &content).await?;
    ensure!(local.header("etag") == before.header("etag"), "{:?}", local.headers);
    let sent = sent(&front, &remote).await?;
    ensure!(sent.is_empty(), "{sent:?}");
    front.expect_gone("slo").await?;
    // Others may need the segments; only the manifest goes.
    ensure!(front.client.delete_object("c", "slo").await?.status == 204, "not deleted");
    ensure!(remote.swift.head_object("copies", "slo").await?.status == 404, "the copy is still there");
    let segments = remote.swift.list("copies_segments").await?;
    ensure!(segments.len() == 2, "{segments:?}");
    Ok(())
}

#[tokio::test]
async fn a_dynamic_large_object_comes_back() -> Result<()> {
    let (front, remote) = front(|mapping| mapping).await?;
    let swift = &front.site.swift;
    let mut content = put_segment(swift, "c_segments", "d/1", 3000).await?;
    content.extend(put_segment(swift, "c_segments", "d/2", 4000).await?);
    let headers = [("X-Object-Manifest", "c_segments/d/"), ("Content-Length", "0")];
    swift.put_object("c", "dlo", "", &headers).await?;
    front.site.sync().await?;
    front.expect_gone("dlo").await?;
    front.read("dlo", &content).await?;
    let local = front.wait_local("dlo", &content).await?;
    ensure!(local.header("x-object-manifest") == Some("c_segments/d/"), "{:?}", local.headers);
    let sent = sent(&front, &remote).await?;
    ensure!(sent.is_empty(), "{sent:?}");
    front.expect_gone("dlo").await.context("archived again")
}

#[tokio::test]
async fn what_was_joined_on_the_remote_is_streamed_only() -> Result<()> {
    let join = |mapping: MappingJson| mapping.set("convert_dlo", true).set("min_segment_size", 10_000);
    let (front, remote) = front(join).await?;
    let swift = &front.site.swift;
    let mut content = put_segment(swift, "c_segments", "slo/1", 3000).await?;
    content.extend(put_segment(swift, "c_segments", "slo/2", 4000).await?);
    put_slo(swift, "slo", &["/c_segments/slo/1", "/c_segments/slo/2"]).await?;
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    front.read("slo", &content).await?;
    front.wait_outcome("converted").await?;
    front.expect_gone("slo").await?;
    // Joined segments are nobody else's.
    ensure!(front.client.delete_object("c", "slo").await?.status == 204, "not deleted");
    let left = remote.swift.list("copies_segments").await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
