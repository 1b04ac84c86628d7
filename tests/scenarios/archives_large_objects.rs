//! Archiving large objects: the manifest goes, and of its segments those that nothing else needs.

mod interruptions;
mod shared_segments;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{SwiftClient, generated_pieces};

use crate::CLUSTER;
use crate::worker_state::expect_parked;

/// The smallest part that S3 takes anywhere but at the end.
const PART: u64 = 5 << 20;

/// A site with an archived container `c`, a container `s` for segments, and one that is not mapped, `other`.
async fn archive(server: S3ServerKind) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    for container in ["c", "s", "other"] {
        site.swift.put_container(container).await?;
    }
    site.map([site.mapping("c").set("retain_local", false)])?;
    Ok(site)
}

fn key(site: &Site, name: &str) -> String {
    KeyMapping::new(site.swift.account(), "c", None).object_key(name)
}

/// Writes segments to `s`; answers what they hold together. All but the last are 5 MiB, the last one is short.
async fn put_segments(swift: &SwiftClient, names: &[&str]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let length = if number + 1 == names.len() { 1_000 } else { PART };
        let seed = name.bytes().map(u64::from).sum();
        swift.put_object_stream("s", name, length, seed, &[]).await?;
        for piece in generated_pieces(length, seed) {
            whole.extend_from_slice(&piece);
        }
    }
    Ok(whole)
}

/// Writes the manifest of a static large object over segments in `s`.
async fn put_slo(swift: &SwiftClient, container: &str, name: &str, segments: &[&str]) -> Result<()> {
    let entries: Vec<Value> =
        segments.iter().map(|segment| json!({"path": format!("/s/{segment}")})).collect();
    let body = Value::from(entries).to_string();
    let query = "multipart-manifest=put";
    swift.object_request("PUT", container, name, query, &[], Some(body.into())).await?.success()?;
    Ok(())
}

/// Writes the manifest of a dynamic large object over `s/prefix`.
async fn put_dlo(swift: &SwiftClient, container: &str, name: &str, prefix: &str) -> Result<()> {
    let manifest = format!("s/{prefix}");
    swift
        .put_object(container, name, "", &[("X-Object-Manifest", &manifest), ("Content-Length", "0")])
        .await?;
    Ok(())
}

/// The names in a container.
async fn names(swift: &SwiftClient, container: &str) -> Result<Vec<String>> {
    Ok(swift.list(container).await?.into_iter().map(|entry| entry.name).collect())
}

/// Fails unless S3 has this content, and nothing is left of an upload.
async fn expect_remote(site: &Site, name: &str, content: &[u8]) -> Result<()> {
    let remote = site.bucket.get(&key(site, name)).await?.with_context(|| format!("S3 has no {name}"))?;
    ensure!(remote.body == content, "{name}: S3 has {} bytes, expected {}", remote.body.len(), content.len());
    let uploads = site.bucket.sdk().list_multipart_uploads().bucket(site.bucket.bucket()).send().await?;
    ensure!(uploads.uploads().is_empty(), "uploads in progress: {:?}", uploads.uploads());
    Ok(())
}

/// Fails unless the object is gone locally.
async fn expect_gone(site: &Site, name: &str) -> Result<()> {
    let local = site.swift.head_object("c", name).await?;
    ensure!(local.status == 404, "{name}: {} locally", local.status);
    ensure!(!names(&site.swift, "c").await?.iter().any(|listed| listed == name), "{name} is listed");
    Ok(())
}

/// Fails unless Swift serves this content.
async fn expect_local(swift: &SwiftClient, container: &str, name: &str, content: &[u8]) -> Result<()> {
    let local = swift.get_object(container, name).await?;
    ensure!(local.status == 200, "{container}/{name}: {}", local.status);
    ensure!(
        local.body == content,
        "{container}/{name}: {} bytes, expected {}",
        local.body.len(),
        content.len()
    );
    Ok(())
}

#[tokio::test]
async fn an_archived_static_large_object_takes_its_segments_along() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = archive(server).await?;
        let content = put_segments(&site.swift, &["1", "2", "é 3"]).await?;
        put_segments(&site.swift, &["unrelated"]).await?;
        put_slo(&site.swift, "c", "slo", &["1", "2", "é 3"]).await?;
        site.sync().await?;
        expect_gone(&site, "slo").await?;
        expect_remote(&site, "slo", &content).await.with_context(|| format!("{server:?}"))?;
        ensure!(names(&site.swift, "s").await? == ["unrelated"]);
        // Their tombstones are the archiver's: the second round must not take them for users' deletes.
        site.sync().await?;
        expect_remote(&site, "slo", &content).await?;
    }
    Ok(())
}

#[tokio::test]
async fn segments_stay_when_the_mapping_says_so() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let keeping = site.mapping("c").set("retain_local", false).set("retain_local_segments", true);
    site.map([keeping])?;
    let content = put_segments(&site.swift, &["1", "2"]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "2"]).await?;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &content).await?;
    ensure!(names(&site.swift, "s").await? == ["1", "2"]);
    Ok(())
}

#[tokio::test]
async fn an_archived_dynamic_large_object_takes_what_is_under_its_prefix_and_nothing_else() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let content = put_segments(&site.swift, &["foo/1", "foo/2"]).await?;
    put_segments(&site.swift, &["foobar/x"]).await?;
    put_dlo(&site.swift, "c", "dlo", "foo/").await?;
    site.sync().await?;
    expect_gone(&site, "dlo").await?;
    expect_remote(&site, "dlo", &content).await?;
    ensure!(names(&site.swift, "s").await? == ["foobar/x"]);
    Ok(())
}

#[tokio::test]
async fn a_segment_that_cannot_be_removed_keeps_the_manifest_until_it_can() -> Result<()> {
    let site = Site::start(Default::default(), S3ServerKind::Memory).await?;
    for container in ["c", "s"] {
        site.swift.put_container(container).await?;
    }
    let content = put_segments(&site.swift, &["1", "2"]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "2"]).await?;
    site.map([site.mapping("c")])?;
    site.sync().await?;
    site.map([site.mapping("c").set("retain_local", false)])?;
    // Two of three object servers are away: nothing can be proven, so nothing goes.
    for node in [1, 2] {
        site.cluster.stop_server(node, swift_s3_tests::swift_cluster::ServerKind::Object).await?;
    }
    site.workers[0].run_once().await?.expect_code(1)?;
    ensure!(names(&site.swift, "s").await? == ["1", "2"]);
    for node in [1, 2] {
        site.cluster.start_server(node, swift_s3_tests::swift_cluster::ServerKind::Object).await?;
    }
    expect_local(&site.swift, "c", "slo", &content).await?;
    site.sync().await?;
    expect_parked(&site, "c", &[])?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &content).await?;
    ensure!(names(&site.swift, "s").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn segments_of_a_whole_account_stay_until_their_large_object_is_archived() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in ["c", "c_segments"] {
        site.swift.put_container(container).await?;
    }
    site.map([site.mapping("/*").set("retain_local", false)])?;
    site.swift.put_object_stream("c_segments", "1", PART, 1, &[]).await?;
    site.swift.put_object_stream("c_segments", "2", 1_000, 2, &[]).await?;
    site.sync().await?;
    ensure!(names(&site.swift, "c_segments").await? == ["1", "2"], "segments go with their manifest only");
    let entries = json!([{"path": "/c_segments/1"}, {"path": "/c_segments/2"}]).to_string();
    let put =
        site.swift.object_request("PUT", "c", "slo", "multipart-manifest=put", &[], Some(entries.into()));
    put.await?.success()?;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    let content: Vec<u8> = [(PART, 1), (1_000, 2)]
        .into_iter()
        .flat_map(|(length, seed)| generated_pieces(length, seed))
        .flatten()
        .collect();
    expect_remote(&site, "slo", &content).await?;
    ensure!(names(&site.swift, "c_segments").await?.is_empty());
    Ok(())
}
