//! How objects are read in the cluster: large, damaged, and where an object server alone cannot serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use serde_json::Value;
use swift_s3_policy::KeyMapping;
use swift_s3_tests::compare::{Depth, compare};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::SwiftOptions;
use swift_s3_tests::sync_json::SyncJson;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{WIDE_CLUSTER, mapped};
use crate::worker_state::expect_parked;

/// Resident memory of an idle worker and a little; the object has a hundred times as much.
const MOST_MEMORY: u64 = 60 << 20;

/// An S3 server that keeps nothing: it tells the length and MD5 of every PUT, and has no object when asked.
async fn swallow(listener: TcpListener, puts: mpsc::Sender<(String, u64, String)>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let puts = puts.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let puts = puts.clone();
            async move {
                let (parts, mut body) = request.into_parts();
                let (mut length, mut hash) = (0, Md5::new());
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        length += data.len() as u64;
                        hash.update(&data);
                    }
                }
                let md5 = hex::encode(hash.finalize());
                let mut response = Response::new(Full::new(Bytes::new()));
                if parts.method == http::Method::PUT {
                    response.headers_mut().insert("etag", format!("\"{md5}\"").parse()?);
                    puts.send((parts.uri.path().to_owned(), length, md5)).await?;
                } else {
                    *response.status_mut() = http::StatusCode::NOT_FOUND;
                }
                anyhow::Ok(response)
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

#[tokio::test]
async fn a_huge_object_is_streamed_in_little_memory() -> Result<()> {
    // Not the five gibibytes that one PUT may have, because the disk of a test may be memory.
    const LENGTH: u64 = 3 << 29;
    let options = SwiftOptions { log_requests: false, ..SwiftOptions::single_node() };
    let site = Site::start(options, S3ServerKind::Memory).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let (sender, mut puts) = mpsc::channel(8);
    let server = tokio::spawn(swallow(listener, sender));
    site.swift.put_container("c").await?;
    site.map([site.mapping("c").set("aws_endpoint", endpoint)])?;
    let md5 = site.swift.put_object_stream("c", "huge", LENGTH, 1, &[]).await?;
    let outcome = site.workers[0].run_once().await?.expect_code(0)?;
    eprintln!("{LENGTH} bytes in {:?}, {:?}", outcome.elapsed, outcome.usage);
    let (path, length, received) = puts.recv().await.context("nothing arrived")?;
    ensure!(path.ends_with("/c/huge") && (length, received) == (LENGTH, md5));
    ensure!(
        outcome.usage.peak_rss_bytes > 0 && outcome.usage.peak_rss_bytes < MOST_MEMORY,
        "{:?}",
        outcome.usage
    );
    server.abort();
    Ok(())
}

/// The data file of an object on one node.
fn data_file(site: &Site, node: usize, name: &str, content: &[u8]) -> Result<PathBuf> {
    let partition = site.cluster.partition(&[site.swift.account(), "c", name]).to_string();
    let node = site.cluster.node(node);
    for device in node.device_names() {
        let partition = node.devices().join(device).join("objects").join(&partition);
        if let Some(found) = find(&partition, &|path| fs::read(path).is_ok_and(|found| found == content)) {
            return Ok(found);
        }
    }
    anyhow::bail!("node {} has no data file of {name}", node.index())
}

fn find(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            return find(&path, wanted);
        }
        (path.extension().is_some_and(|extension| extension == "data") && wanted(&path)).then_some(path)
    })
}

#[tokio::test]
async fn a_damaged_replica_never_reaches_s3_and_another_is_used() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let sound = format!("sound {} of {}", "x".repeat(200_000), site.swift.account());
    for (name, damage) in [("changed byte", true), ("cut off", false)] {
        site.swift.put_object("c", name, sound.clone(), &[]).await?;
        // The worker reads the replica of its own node first.
        let file = data_file(&site, 0, name, sound.as_bytes())?;
        let mut content = fs::read(&file)?;
        if damage {
            content[100_000] ^= 1;
            // In place: the file's attributes are its metadata.
            fs::write(&file, &content)?;
        } else {
            fs::OpenOptions::new().write(true).open(&file)?.set_len(1_000)?;
        }
        let first = site.workers[0].run_once().await?;
        let key = KeyMapping::new(site.swift.account(), "c", None).object_key(name);
        let stored = site.bucket.get(&key).await?;
        ensure!(stored.as_ref().is_none_or(|object| object.body == sound), "{name}: S3 has what is damaged");
        if first.code == 1 {
            expect_parked(&site, "c", &[(name, "local_corrupt")])?;
        } else {
            ensure!(stored.is_some(), "{name}: exit code 0, and S3 has nothing");
        }
        // Swift has put the damaged replica away by now.
        site.workers[0].run_once().await?.expect_code(0)?;
        let stored = site.bucket.get(&key).await?.with_context(|| format!("{name}: S3 has nothing"))?;
        ensure!(stored.body == sound, "{name}");
        expect_parked(&site, "c", &[])?;
    }
    Ok(())
}

#[tokio::test]
async fn erasure_coded_objects_are_read_through_the_internal_proxy() -> Result<()> {
    let site = Site::on(WIDE_CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for (container, policy) in [("coded", "coded"), ("silver", "silver")] {
        site.swift.put_container_with(container, &[("X-Storage-Policy", policy)]).await?;
        site.swift.put_object(container, "small", "content", &[("X-Object-Meta-A", "é")]).await?;
        site.swift.put_object_stream(container, "large", 300_001, 3, &[]).await?;
    }
    let both = ["coded", "silver"].map(|container| site.mapping(container));
    let without =
        both.iter().cloned().fold(SyncJson::new(), SyncJson::mapping).set("internal_url", Value::Null);
    site.configure(&without)?;
    for worker in &site.workers {
        let outcome = worker.run_once().await?.expect_code(1)?;
        ensure!(outcome.log.contains("internal_url"), "does not say what is missing:\n{}", outcome.log);
    }
    expect_parked(&site, "coded", &[("small", "needs_proxy"), ("large", "needs_proxy")])?;
    compare(&site.swift, "silver", &site.bucket, None, Depth::Content).await?.none()?;
    site.map(both)?;
    site.sync().await?;
    compare(&site.swift, "coded", &site.bucket, None, Depth::Content).await?.none()?;
    site.swift.post_object("coded", "small", &[("X-Object-Meta-A", "b")]).await?;
    site.swift.delete_object("coded", "large").await?.success()?;
    site.sync().await?;
    compare(&site.swift, "coded", &site.bucket, None, Depth::Content).await?.none()
}

#[tokio::test]
async fn a_local_object_that_cannot_be_read_now_is_set_aside_and_carried_later() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    site.swift.put_object("c", "plain", "x", &[]).await?;
    site.swift.put_object("c", "lost", "lost and found", &[]).await?;
    // All three replicas are out of sight for a while.
    let mut hidden = Vec::new();
    for node in 0..3 {
        let file = data_file(&site, node, "lost", b"lost and found")?;
        let away = file.with_extension("hidden");
        fs::rename(&file, &away)?;
        hidden.push((file, away));
    }
    site.workers[0].run_once().await?.expect_code(1)?;
    expect_parked(&site, "c", &[("lost", "local_missing")])?;
    let keys = site.bucket.keys("").await?;
    ensure!(keys.len() == 1 && keys[0].ends_with("plain"), "{keys:?}");
    for (file, away) in hidden {
        fs::rename(away, file)?;
    }
    site.workers[0].run_once().await?.expect_code(0)?;
    site.wait_equal("c", Duration::from_secs(5)).await
}
