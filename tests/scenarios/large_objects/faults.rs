//! Large objects when something fails half-way.

use std::time::Duration;

use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::wait;

use super::*;
use crate::worker_state::expect_parked;

async fn three_segments(site: &Site) -> Result<Vec<Value>> {
    let mut entries = Vec::new();
    for number in 0..3_u8 {
        entries.push(segment(site, &format!("p{number}"), filled(5 * MIB, number)).await?);
    }
    Ok(entries)
}

/// The owner of the name tries once; the others find it set aside or not yet theirs.
async fn round_with_failures(site: &Site) -> Result<()> {
    let mut failed = 0;
    for worker in &site.workers {
        failed += worker.run_once().await?.code;
    }
    ensure!(failed > 0, "no worker failed");
    Ok(())
}

#[tokio::test]
async fn a_part_that_is_refused_or_arrives_wrong_ends_the_upload() -> Result<()> {
    for (fault, reason) in
        [(Fault::error(400, "InvalidRequest"), "remote_refused"), (Fault::wrong_etag(), "remote_mismatch")]
    {
        let site = large(S3ServerKind::Memory).await?;
        let entries = three_segments(&site).await?;
        put_slo(&site.swift, "c", "o", &entries, &[]).await?;
        let second =
            Rule::new(fault).on(Operation::UploadPart).when(|seen| seen.target.contains("partNumber=2"));
        site.faults.inject(second);
        round_with_failures(&site).await?;
        expect_parked(&site, "c", &[("o", reason)])?;
        expect_no_open_upload(&site).await.context(reason)?;
        let requests = site.faults.requests();
        ensure!(requests.of(Operation::CompleteMultipart) == 0, "{requests}");
        ensure!(requests.of(Operation::AbortMultipart) > 0, "{requests}");
        site.faults.heal();
        for worker in &site.workers {
            worker.forget()?;
        }
        site.sync().await?;
        expect_carried(&site, "o").await?;
    }
    Ok(())
}

#[tokio::test]
async fn parts_that_arrived_before_a_kill_are_not_sent_again() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let entries = three_segments(&site).await?;
    put_slo(&site.swift, "c", "o", &entries, &[]).await?;
    let stuck =
        Rule::new(Fault::Stall).on(Operation::UploadPart).when(|seen| seen.target.contains("partNumber=3"));
    site.faults.inject(stuck);
    site.start_workers()?;
    wait::until("two parts to arrive", Duration::from_secs(30), async || {
        let arrived = site
            .faults
            .seen()
            .iter()
            .filter(|seen| seen.operation == Operation::UploadPart && seen.status == Some(200))
            .count();
        if arrived >= 2 { Ok(()) } else { Err(format!("{arrived} parts")) }
    })
    .await?;
    for worker in &site.workers {
        worker.kill().await?;
    }
    // Metadata of an upload are settled when it begins.
    site.swift.post_object("c", "o", &[("X-Object-Meta-Late", "yes")]).await?;
    site.faults.heal();
    site.faults.forget();
    site.sync().await?;
    let remote = expect_carried(&site, "o").await?;
    ensure!(remote.metadata.get("late").map(String::as_str) == Some("yes"), "{:?}", remote.metadata);
    let sent: Vec<String> = site
        .faults
        .seen()
        .into_iter()
        .filter(|seen| seen.operation == Operation::UploadPart && seen.header("x-amz-copy-source").is_none())
        .map(|seen| seen.target)
        .collect();
    ensure!(sent.len() == 1 && sent[0].contains("partNumber=3"), "{sent:?}");
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_the_last_request_is_settled_by_looking() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let entries = three_segments(&site).await?;
    put_slo(&site.swift, "c", "o", &entries, &[]).await?;
    site.faults.inject(Rule::new(Fault::LoseAnswer).on(Operation::CompleteMultipart));
    site.sync().await?;
    expect_carried(&site, "o").await?;
    let requests = site.faults.requests();
    ensure!(requests.of(Operation::UploadPart) == 3, "{requests}");
    Ok(())
}

#[tokio::test]
async fn a_missing_or_changed_segment_sets_the_object_aside_and_nothing_is_left_open() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let entries = three_segments(&site).await?;
    put_slo(&site.swift, "c", "missing", &entries[..2], &[]).await?;
    put_slo(&site.swift, "c", "changed", &entries[1..], &[]).await?;
    site.swift.delete_object("s", "p0").await?.success()?;
    segment(&site, "p2", filled(5 * MIB, 77)).await?;
    site.swift.put_object("c", "plain", "content", &[]).await?;
    round_with_failures(&site).await?;
    expect_parked(&site, "c", &[("missing", "segment_missing"), ("changed", "local_corrupt")])?;
    expect_no_open_upload(&site).await?;
    let keys = site.bucket.keys(keys(&site).key_prefix()).await?;
    ensure!(keys.len() == 1 && keys[0].ends_with("/plain"), "{keys:?}");
    // As soon as the segments are what they were, the objects are carried.
    segment(&site, "p0", filled(5 * MIB, 0)).await?;
    segment(&site, "p2", filled(5 * MIB, 2)).await?;
    for worker in &site.workers {
        worker.forget()?;
    }
    site.sync().await?;
    for name in ["missing", "changed"] {
        expect_carried(&site, name).await?;
    }
    Ok(())
}
