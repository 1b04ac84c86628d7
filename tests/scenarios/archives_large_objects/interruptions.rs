//! Killed, or overtaken by users, at any step: nothing is lost, and the next round ends it.

use std::fs;
use std::time::Duration;

use swift_s3_tests::wait;

use super::*;

/// The same while it sends one, before the remote holds it.
const PLACES_BEFORE: [&str; 5] =
    ["upload begun", "part sent", "part sent:2", "companion written", "upload completed"];

/// Every place where the worker may be killed while it archives a static large object, in their order.
const PLACES: [&str; 6] = [
    "large object proven",
    "segments looked for",
    "segment removed",
    "segment removed:2",
    "segments removed",
    "local copy removed",
];

#[tokio::test]
async fn a_kill_at_any_step_of_archiving_loses_nothing() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    for place in PLACES {
        let content = put_segments(&site.swift, &["1", "2", "3"]).await?;
        put_slo(&site.swift, "c", place, &["1", "2", "3"]).await?;
        let mut killed = false;
        for worker in &site.workers {
            let outcome = worker.run(&["--once"], &[("SWIFT_S3_SYNC_KILL_AT", place)]).await?;
            killed |= outcome.code != 0;
        }
        ensure!(killed, "no worker reached {place:?}");
        expect_remote(&site, place, &content).await?;
        site.sync().await?;
        expect_gone(&site, place).await?;
        expect_remote(&site, place, &content).await?;
        ensure!(names(&site.swift, "s").await?.is_empty(), "{place:?}");
        expect_parked(&site, "c", &[])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_kill_at_any_step_of_sending_leaves_the_local_copy_and_no_upload_behind() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    for place in PLACES_BEFORE {
        let content = put_segments(&site.swift, &["1", "2", "3"]).await?;
        put_slo(&site.swift, "c", place, &["1", "2", "3"]).await?;
        let mut killed = false;
        for worker in &site.workers {
            // Whoever comes later may end what the first one began.
            let outcome = worker.run(&["--once"], &[("SWIFT_S3_SYNC_KILL_AT", place)]).await?;
            if outcome.code != 0 {
                killed = true;
                break;
            }
        }
        ensure!(killed, "no worker reached {place:?}");
        expect_local(&site.swift, "c", place, &content).await?;
        site.sync().await?;
        expect_gone(&site, place).await?;
        expect_remote(&site, place, &content).await?;
        ensure!(names(&site.swift, "s").await?.is_empty(), "{place:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_object_written_anew_while_segments_are_looked_for_keeps_its_segments() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    put_segments(&site.swift, &["1", "2", "3"]).await?;
    put_slo(&site.swift, "c", "slo", &["1", "2"]).await?;
    let gate = site.directory().path().join("gate");
    let reached = gate.with_extension("reached");
    fs::write(&gate, "")?;
    let pause = format!("large object proven={}", gate.display());
    let overtake = async {
        wait::until("a worker at the gate", Duration::from_secs(60), async || {
            ensure!(reached.exists(), "no worker there yet");
            Ok(())
        })
        .await?;
        put_slo(&site.swift, "c", "slo", &["1", "2", "3"]).await?;
        let newer = site.swift.get_object("c", "slo").await?.body;
        fs::remove_file(&gate)?;
        anyhow::Ok(newer)
    };
    // Whichever node has the object in its share comes to the gate; the others find nothing to do.
    let work = async {
        for worker in &site.workers {
            worker.run(&["--once"], &[("SWIFT_S3_SYNC_PAUSE_AT", &pause)]).await?;
            if reached.exists() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let (newer, worked) = tokio::join!(overtake, work);
    let newer = newer?;
    worked?;
    expect_local(&site.swift, "c", "slo", &newer).await?;
    site.sync().await?;
    expect_gone(&site, "slo").await?;
    expect_remote(&site, "slo", &newer).await
}
