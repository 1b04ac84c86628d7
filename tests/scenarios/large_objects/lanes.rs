//! Small objects beside large ones, and what large ones need of memory.

use std::time::Duration;

use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use super::*;

#[tokio::test]
async fn small_objects_do_not_wait_for_large_ones() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    // One row at a time: a large object that kept its place would stop everything.
    site.configure(&SyncJson::new().set("workers", 1).mapping(site.mapping("c")))?;
    let mut entries = Vec::new();
    for number in 0..5_u8 {
        entries.push(segment(&site, &format!("l{number}"), filled(14 * MIB, number)).await?);
    }
    for name in ["large 1", "large 2"] {
        put_slo(&site.swift, "c", name, &entries, &[]).await?;
    }
    site.faults.inject(Rule::new(Fault::Stall).on(Operation::UploadPart));
    site.start_workers()?;
    wait::until("the large objects to be under way", Duration::from_secs(120), async || {
        let seen = site.faults.seen();
        let begun = seen.iter().filter(|seen| seen.operation == Operation::CreateMultipart).count();
        if begun >= 2 { Ok(()) } else { Err(format!("{begun} uploads")) }
    })
    .await?;
    for number in 0..20 {
        site.swift.put_object("c", &format!("small {number:02}"), "content", &[]).await?;
    }
    let keys = keys(&site);
    let prefix = keys.object_key("small ");
    wait::until("the small objects to arrive", Duration::from_secs(120), async || {
        let arrived = site.bucket.keys(&prefix).await.map_err(|error| error.to_string())?.len();
        if arrived == 20 { Ok(()) } else { Err(format!("{arrived} of 20")) }
    })
    .await?;
    ensure!(site.bucket.keys(&keys.object_key("large ")).await?.is_empty(), "the large ones were not held");
    site.faults.heal();
    for name in ["large 1", "large 2"] {
        let key = keys.object_key(name);
        wait::until("the large objects to arrive", Duration::from_secs(120), async || {
            match site.bucket.head(&key).await {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
    }
    for worker in &site.workers {
        worker.stop().await?;
    }
    expect_carried(&site, "large 1").await?;
    Ok(())
}

#[tokio::test]
async fn memory_does_not_grow_with_the_content() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let only = segment(&site, "only", filled(6 * MIB, 1)).await?;
    put_slo(&site.swift, "c", "forty times", &vec![only.clone(); 40], &[]).await?;
    put_slo(&site.swift, "c", "one", &[only], &[]).await?;
    let mut peak = 0;
    for worker in &site.workers {
        peak = peak.max(worker.run_once().await?.expect_code(0)?.usage.peak_rss_bytes);
    }
    let remote = site.bucket.head(&keys(&site).object_key("forty times")).await?.context("not sent")?;
    ensure!(remote.length == 240 * MIB as u64, "{}", remote.length);
    ensure!(peak < 160 << 20, "a worker took {} MiB for 240 MiB of content", peak >> 20);
    Ok(())
}
