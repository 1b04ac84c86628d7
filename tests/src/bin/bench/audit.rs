//! A whole container against its bucket, beside the two listings alone, one after the other.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use swift_s3_policy::KeyMapping;
use swift_s3_tests::control_process::program;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::SwiftOptions;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::usage::Usage;
use swift_s3_tests::wait;

const CONTENT: &str = "content";
/// MD5 of the content.
const ETAG: &str = "9a0364b9e99bb480dd25e1f0284c8555";
/// Before the bucket was filled, so that workers find everything done.
const WRITTEN: &str = "1700000000.00000";
const AT_ONCE: usize = 64;
const CAUGHT_UP: Duration = Duration::from_secs(300);
/// An audit must not take longer than this many times the two listings alone.
const MOST: f64 = 1.2;
const ROUNDS: usize = 3;

/// Fills both sides, and compares times.
pub async fn run(names: usize) -> Result<()> {
    println!("\nbench: a container of {names} names against its bucket");
    let site = Site::start(SwiftOptions::default(), S3ServerKind::Memory).await?;
    let account = site.swift.account().to_owned();
    site.swift.put_container("c").await?;
    site.cluster.direct_container_head(&account, "c", 0).await?.success()?;
    site.cluster.insert_rows(&account, "c", names, (CONTENT.len() as u64, ETAG), WRITTEN).await?;
    let keys = KeyMapping::new(&account, "c", None);
    let puts = (0..names).map(|number| {
        let (bucket, key) = (&site.bucket, keys.object_key(&format!("o{number:08}")));
        async move { bucket.put(&key, Bytes::from_static(CONTENT.as_bytes()), &[], None).await }
    });
    let failed = stream::iter(puts)
        .buffer_unordered(AT_ONCE)
        .filter(|put| std::future::ready(put.is_err()))
        .count()
        .await;
    ensure!(failed == 0, "{failed} uploads failed");
    let control = site.start_controlled(&SyncJson::new().mapping(site.mapping("c"))).await?;
    wait::until("the workers to be done", CAUGHT_UP, async || {
        let lag = control.mapping().await?.lag.context("unknown")?;
        ensure!(lag.rows == 0, "{lag:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    let id = control.mapping().await?.mapping_id;
    let mut best = f64::MAX;
    for round in 1..=ROUNDS {
        let started = Instant::now();
        let listed = site.cluster.direct_listing(&account, "c", 0).await?;
        let local = started.elapsed();
        let started = Instant::now();
        let there = site.bucket.list(keys.key_prefix()).await?.len();
        let remote = started.elapsed();
        ensure!(listed == names && there == names, "{listed} here, {there} there");
        let mut command = Command::new(program("swift-s3ctl")?);
        command.args(["--control", &control.url(), "-o", "json", "audit", "--mapping", &id]);
        let started = Instant::now();
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let audit = started.elapsed();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && text.contains(&format!("\"equal\":{names},")), "{text}");
        let ratio = audit.as_secs_f64() / (local + remote).as_secs_f64();
        best = best.min(ratio);
        println!(
            "  round {round}: listed here {:.2} s, there {:.2} s; audit {:.2} s, {:.0} names/s; ratio {ratio:.2}",
            local.as_secs_f64(),
            remote.as_secs_f64(),
            audit.as_secs_f64(),
            names as f64 / audit.as_secs_f64(),
        );
    }
    for worker in &site.workers {
        let peak = Usage::of(worker.pid()?)?.peak_rss_bytes;
        println!("  worker {}: at most {:.1} MiB", worker.node(), crate::mebibytes(peak));
    }
    println!("  best ratio of audit to both listings one after the other: {best:.2} (at most {MOST})");
    ensure!(best <= MOST, "an audit takes longer than {MOST} times the listings");
    Ok(())
}
