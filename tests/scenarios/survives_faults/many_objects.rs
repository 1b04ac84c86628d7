//! Three workers share the work on many objects.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use swift_s3_tests::compare::{Depth, compare};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::SwiftOptions;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use crate::worker_state::{entries, expect_finished};

/// Uploading them takes nearly all of the time. Set [`COUNT_VARIABLE`] for more.
const OBJECTS: u64 = 3_000;
/// Names how many objects to use instead of [`OBJECTS`].
const COUNT_VARIABLE: &str = "SWIFT_S3_TESTS_OBJECTS";
/// Requests of the uploading client at once.
const CLIENTS: usize = 24;

#[tokio::test]
async fn three_workers_carry_thousands_of_objects_with_one_request_each() -> Result<()> {
    let objects: u64 = std::env::var(COUNT_VARIABLE).map_or(Ok(OBJECTS), |count| count.parse())?;
    let options = SwiftOptions { log_requests: false, ..SwiftOptions::default() };
    let site = Site::start(options, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    // An hour: while objects come in, every worker does its own share only.
    let config = SyncJson::new().set("log_level", "info").mapping(site.mapping("c"));
    site.configure(&config.clone().set("verification_slack", 60))?;
    site.start_workers()?;

    let started = Instant::now();
    stream::iter(0..objects)
        .map(|number| {
            let swift = &site.swift;
            async move {
                let name = format!("{:04x}/{number}", number.wrapping_mul(0x9E37) & 0xffff);
                let number = number.to_string();
                swift.put_object("c", &name, name.clone(), &[("X-Object-Meta-Number", &number)]).await
            }
        })
        .buffer_unordered(CLIENTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    eprintln!("{objects} objects uploaded in {:?}", started.elapsed());
    let carried = wait::until("as many PUTs as objects", Duration::from_secs(300), async || {
        // On a slow machine object servers give container servers up, and keep the row for the updater that every
        // cluster runs. Without it the row's own worker would never see it.
        site.cluster.run_everywhere("object-updater").await?;
        let counts = site.s3.requests().await?;
        ensure!(counts.of(Operation::Put) >= objects, "{counts}");
        Ok(())
    })
    .await;
    if carried.is_err() {
        tell_what_workers_know(&site).await?;
    }
    carried?;

    // The hour is over: every worker verifies what the others did.
    for worker in &site.workers {
        ensure!(worker.stop().await? == 0, "worker {} did not stop well", worker.node());
        worker.configure(&config.clone().set("verification_slack", 0))?;
        worker.start()?;
    }
    wait::until("end of the verification", Duration::from_secs(180), async || {
        expect_finished(&site, "c").await
    })
    .await?;
    let counts = site.s3.requests().await?;
    eprintln!("{counts}; {:?} in all", started.elapsed());
    // One of these requests created the bucket.
    let total = counts.total() - counts.of(Operation::Bucket);
    ensure!(total * 10 <= objects * 11, "more than 1.1 requests for each object: {counts}");
    ensure!(counts.of(Operation::Put) == objects, "an object was sent twice: {counts}");
    ensure!(counts.of(Operation::Copy) == 0, "{counts}");
    let differences = compare(&site.swift, "c", &site.bucket, None, Depth::Names).await?;
    differences.none()?;
    expect_right_content(&site, objects).await
}

/// Prints how far each worker is and what it said last.
async fn tell_what_workers_know(site: &Site) -> Result<()> {
    for worker in &site.workers {
        let account = site.swift.account();
        let rows = site.cluster.container_rows(account, "c", worker.node()).await?;
        let entries: String = format!("{:?}", entries(worker, account, "c")?).chars().take(2_000).collect();
        eprintln!("node {}: {} rows, state {entries}", worker.node(), rows.len());
        let log = worker.log_text();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(20);
        lines.iter().skip(last).for_each(|line| eprintln!("  {line}"));
    }
    Ok(())
}

/// Reads every object of the bucket; names tell what content they have, as does the metadata.
async fn expect_right_content(site: &Site, objects: u64) -> Result<()> {
    let keys = site.bucket.keys("").await?;
    ensure!(keys.len() as u64 == objects, "{} keys", keys.len());
    stream::iter(keys)
        .map(Ok)
        .try_for_each_concurrent(CLIENTS, |key| async move {
            let object = site.bucket.get(&key).await?;
            let (_, name) = key.split_once("/c/").unwrap_or_default();
            let number = name.split_once('/').map_or("", |(_, number)| number);
            let right = object.is_some_and(|object| {
                object.body == name.as_bytes()
                    && object.metadata.get("number").is_some_and(|found| found == number)
            });
            ensure!(right, "{key} is wrong");
            Ok(())
        })
        .await
}
