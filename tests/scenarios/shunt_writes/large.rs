//! Large objects come back with their segments.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use swift_s3_tests::fault_proxy::{Fault, Gate, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{SwiftClient, generated_pieces};

use super::{Front, SOON, archived, wait};
use crate::CLUSTER;

/// The smallest part that S3 takes anywhere but at the end.
const PART: u64 = 5 << 20;

/// Writes a segment; answers its content.
pub(super) async fn put_segment(
    swift: &SwiftClient,
    container: &str,
    name: &str,
    length: u64,
) -> Result<Vec<u8>> {
    let seed = name.bytes().map(u64::from).sum();
    swift.put_object_stream(container, name, length, seed, &[("Content-Type", "x/segment")]).await?;
    Ok(generated_pieces(length, seed).collect::<Vec<_>>().concat())
}

/// Writes a static large object over segments, given as paths.
pub(super) async fn put_slo(swift: &SwiftClient, name: &str, segments: &[&str]) -> Result<()> {
    let entries: Vec<Value> = segments.iter().map(|path| json!({ "path": path })).collect();
    let body = Value::from(entries).to_string();
    let headers = [("X-Object-Meta-Colour", "grün"), ("Content-Type", "video/x")];
    let query = "multipart-manifest=put";
    swift.object_request("PUT", "c", name, query, &headers, Some(body.into())).await?.success()?;
    Ok(())
}

/// A front whose account also has the containers `s_segments` and `t_segments`.
async fn front(server: S3ServerKind) -> Result<Front> {
    let front = Front::start(server).await?;
    for container in ["s_segments", "t_segments"] {
        front.site.swift.put_container(container).await?;
    }
    Ok(front)
}

async fn manifest(swift: &SwiftClient, name: &str) -> Result<Value> {
    let answer =
        swift.object_request("GET", "c", name, "multipart-manifest=get&format=raw", &[], None).await?;
    Ok(serde_json::from_slice(&answer.success()?.body)?)
}

/// Archives what is in `c`, and removes the containers for segments if they are empty.
async fn archive(front: &Front, name: &str) -> Result<()> {
    front.site.sync().await?;
    front.expect_gone(name).await?;
    for container in ["s_segments", "t_segments"] {
        front.site.swift.delete_container(container).await?;
    }
    Ok(())
}

/// Archives what came back, and fails if anything is sent for that.
async fn expect_archived_unsent(front: &Front, name: &str) -> Result<()> {
    front.site.faults.forget();
    front.site.sync().await?;
    front.expect_gone(name).await?;
    let seen = front.site.faults.seen();
    let sent: Vec<String> = seen
        .iter()
        .filter(|seen| matches!(seen.method.as_str(), "PUT" | "POST"))
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect();
    ensure!(sent.is_empty(), "{sent:?}");
    Ok(())
}

#[tokio::test]
async fn a_static_large_object_comes_back_with_its_segments() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let front = front(server).await?;
        let swift = &front.site.swift;
        let mut content = put_segment(swift, "s_segments", "1", PART).await?;
        content.extend(put_segment(swift, "t_segments", "é 2", PART).await?);
        content.extend(put_segment(swift, "s_segments", "3", 1000).await?);
        put_slo(swift, "slo", &["/s_segments/1", "/t_segments/é 2", "/s_segments/3"]).await?;
        let before = swift.head_object("c", "slo").await?;
        let manifest_before = manifest(swift, "slo").await?;
        archive(&front, "slo").await?;
        front.read("slo", &content).await.with_context(|| format!("{server:?}"))?;
        let local = front.wait_local("slo", &content).await.with_context(|| format!("{server:?}"))?;
        for header in ["etag", "content-type", "content-length", "x-static-large-object"] {
            ensure!(local.header(header) == before.header(header), "{header}: {:?}", local.header(header));
        }
        ensure!(
            local.headers.get("x-object-meta-colour") == before.headers.get("x-object-meta-colour"),
            "{:?}",
            local.headers
        );
        ensure!(manifest(swift, "slo").await? == manifest_before, "another manifest");
        expect_archived_unsent(&front, "slo").await.with_context(|| format!("{server:?}"))?;
        front.read("slo", &content).await?;
        front.wait_local("slo", &content).await?;
    }
    Ok(())
}

#[tokio::test]
async fn small_segments_ranges_and_data_come_back_too() -> Result<()> {
    let front = front(S3ServerKind::Memory).await?;
    let swift = &front.site.swift;
    let one = put_segment(swift, "s_segments", "one", 3000).await?;
    let two = put_segment(swift, "s_segments", "two", 5000).await?;
    let body = json!([{"path": "/s_segments/one"}, {"data": "eHl6"}, {"path": "/s_segments/two", "range": "10-19"}, {"path": "/s_segments/one"}]);
    let query = "multipart-manifest=put";
    swift.object_request("PUT", "c", "slo", query, &[], Some(body.to_string().into())).await?.success()?;
    let content = [one.as_slice(), b"xyz", &two[10..20], one.as_slice()].concat();
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    // The remote has a part of it only.
    ensure!(swift.head_object("s_segments", "two").await?.status == 200, "a segment is lost");
    ensure!(swift.head_object("s_segments", "one").await?.status == 404, "a segment was kept");
    front.read("slo", &content).await?;
    front.wait_local("slo", &content).await?;
    expect_archived_unsent(&front, "slo").await
}

#[tokio::test]
async fn a_dynamic_large_object_comes_back_with_its_segments() -> Result<()> {
    let front = front(S3ServerKind::Memory).await?;
    let swift = &front.site.swift;
    let mut content = put_segment(swift, "s_segments", "d/1", 300_000).await?;
    content.extend(put_segment(swift, "s_segments", "d/2", 200_000).await?);
    let headers = [("X-Object-Manifest", "s_segments/d/"), ("Content-Length", "0"), ("X-Object-Meta-A", "b")];
    swift.put_object("c", "dlo", "", &headers).await?;
    archive(&front, "dlo").await?;
    front.read("dlo", &content).await?;
    wait::until("the segments to be listed", SOON, async || {
        ensure!(swift.list("s_segments").await?.len() == 2, "not yet");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let local = front.wait_local("dlo", &content).await?;
    ensure!(local.header("x-object-manifest") == Some("s_segments/d/"), "{:?}", local.headers);
    ensure!(local.header("x-object-meta-a") == Some("b"), "{:?}", local.headers);
    expect_archived_unsent(&front, "dlo").await
}

#[tokio::test]
async fn a_segment_with_other_content_stops_the_restore() -> Result<()> {
    let front = front(S3ServerKind::Memory).await?;
    let swift = &front.site.swift;
    let mut content = put_segment(swift, "s_segments", "1", 3000).await?;
    content.extend(put_segment(swift, "s_segments", "2", 4000).await?);
    put_slo(swift, "slo", &["/s_segments/1", "/s_segments/2"]).await?;
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    swift.put_object("s_segments", "2", "theirs", &[("Content-Length", "6")]).await?;
    front.read("slo", &content).await?;
    front.wait_outcome("segment_differs").await?;
    front.expect_gone("slo").await?;
    ensure!(swift.get_object("s_segments", "2").await?.body == "theirs", "a user's object was overwritten");
    // Once it is out of the way, what is there already is used.
    swift.delete_object("s_segments", "2").await?;
    swift.put_object("s_segments", "2", content[3000..].to_vec(), &[("Content-Length", "4000")]).await?;
    front.inner.forget();
    front.read("slo", &content).await?;
    front.wait_local("slo", &content).await?;
    let written = front.written_back();
    ensure!(written.iter().all(|(target, _)| !target.contains("/s_segments/2")), "{written:?}");
    Ok(())
}

#[tokio::test]
async fn a_large_object_is_deleted_with_its_companion_and_keeps_its_etag_over_a_post() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let front = front(server).await?;
        let swift = &front.site.swift;
        let mut content = put_segment(swift, "s_segments", "1", PART).await?;
        content.extend(put_segment(swift, "s_segments", "2", 1000).await?);
        put_slo(swift, "slo", &["/s_segments/1", "/s_segments/2"]).await?;
        archive(&front, "slo").await?;
        let before = front.site.bucket.head(&front.key("slo")).await?.context("no remote copy")?;
        let posted =
            front.client.object_request("POST", "c", "slo", "", &[("X-Object-Meta-New", "n")], None).await?;
        ensure!(posted.status == 202, "{server:?}: {} {:?}", posted.status, posted.body);
        let after = front.site.bucket.head(&front.key("slo")).await?.context("no remote copy")?;
        ensure!(after.etag == before.etag, "{server:?}: {} became {}", before.etag, after.etag);
        ensure!(after.metadata.get("new").is_some_and(|value| value == "n"), "{:?}", after.metadata);
        ensure!(after.metadata.contains_key("x-static-large-object"), "{:?}", after.metadata);
        front.read("slo", &content).await?;
        front.wait_local("slo", &content).await?;
        expect_archived_unsent(&front, "slo").await.with_context(|| format!("{server:?}"))?;
        let query = "multipart-manifest=delete";
        let deleted = front.client.object_request("DELETE", "c", "slo", query, &[], None).await?;
        ensure!(deleted.status == 204, "{}", deleted.status);
        let left = front.site.bucket.keys("").await?;
        ensure!(left.is_empty(), "{server:?}: {left:?}");
        ensure!(front.client.get_object("c", "slo").await?.status == 404, "it is still readable");
    }
    Ok(())
}

#[tokio::test]
async fn in_a_whole_account_segments_go_back_to_where_they_were() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in ["c", "c_segments"] {
        site.swift.put_container(container).await?;
    }
    let mapping = archived(site.mapping("/*"));
    let front = Front::around(site, mapping).await?;
    let swift = &front.site.swift;
    let mut content = put_segment(swift, "c_segments", "1", 3000).await?;
    content.extend(put_segment(swift, "c_segments", "2", 4000).await?);
    put_slo(swift, "slo", &["/c_segments/1", "/c_segments/2"]).await?;
    front.site.sync().await?;
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    front.read("slo", &content).await?;
    front.wait_local("slo", &content).await?;
    front.site.faults.forget();
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    let requests = front.site.faults.requests();
    ensure!(requests.of(Operation::Put) + requests.of(Operation::Copy) == 0, "{requests}");
    Ok(())
}

#[tokio::test]
async fn a_newer_write_that_comes_while_the_companion_is_deleted_survives() -> Result<()> {
    let front = front(S3ServerKind::Memory).await?;
    let swift = &front.site.swift;
    put_segment(swift, "s_segments", "1", 3000).await?;
    put_slo(swift, "slo", &["/s_segments/1"]).await?;
    archive(&front, "slo").await?;
    let gate = Gate::new();
    front.site.faults.inject(Rule::new(Fault::Hold(gate.clone())).on(Operation::Delete).times(1));
    let newer = async {
        gate.wait_held(1, SOON).await?;
        front.site.bucket.put(&front.key("slo"), "newer", &[], None).await?;
        gate.open();
        Ok(())
    };
    let (deleted, ()) = tokio::try_join!(front.client.delete_object("c", "slo"), newer)?;
    ensure!(deleted.status == 204, "the old one is gone");
    let remote = front.site.bucket.get(&front.key("slo")).await?;
    ensure!(remote.is_some_and(|remote| remote.body == "newer"), "the newer one was deleted");
    Ok(())
}

#[tokio::test]
async fn a_large_object_is_taken_away_again_when_a_segment_goes_meanwhile() -> Result<()> {
    let front = front(S3ServerKind::Memory).await?;
    let swift = &front.site.swift;
    let content = put_segment(swift, "s_segments", "1", 3000).await?;
    put_slo(swift, "slo", &["/s_segments/1"]).await?;
    front.site.sync().await?;
    front.expect_gone("slo").await?;
    swift.put_object("s_segments", "1", content.clone(), &[("Content-Length", "3000")]).await?;
    // Asked before: the pipeline, versions, the object, the container of the segments, and the segment.
    let gate = Gate::new();
    front.inner.inject(Rule::new(Fault::Hold(gate.clone())).method("HEAD").after(5).times(1));
    front.read("slo", &content).await?;
    front.wait_local("slo", &content).await?;
    gate.wait_held(1, SOON).await?;
    swift.delete_object("s_segments", "1").await?;
    gate.open();
    front.wait_outcome("superseded").await?;
    front.expect_gone("slo").await?;
    front.read("slo", &content).await?;
    Ok(())
}
