//! Whatever a user does wins over a restore.

use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, FaultProxy, Gate, Rule};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::wait;

use super::restores::generated;
use super::{Front, SOON};
use crate::worker_state::expect_parked;

/// Holds what a restore writes for some seconds, until all of it is under way.
async fn restore_slowly(front: &Front, content: &[u8]) -> Result<()> {
    front.inner.inject(Rule::new(Fault::SlowRequest(1 << 20)).method("PUT"));
    front.read("o", content).await?;
    wait::until("the restore to begin", SOON, async || {
        ensure!(!front.written_back().is_empty(), "no PUT yet");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn a_put_that_began_before_the_restore_and_ends_after_it_wins() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"archived", &[]).await?;
    let slow = FaultProxy::start(&front.site.cluster.internal_url()?).await?;
    slow.inject(Rule::new(Fault::SlowRequest(1 << 20)).method("PUT"));
    let user = SwiftClient::new(&slow.endpoint(), front.site.swift.account(), None)?;
    let theirs = generated(4 << 20);
    let length = theirs.len().to_string();
    let header = [("Content-Length", length.as_str())];
    let put = user.put_object("c", "o", theirs.clone(), &header);
    let restore = async {
        wait::until("the PUT to begin", SOON, async || {
            ensure!(!slow.seen().is_empty(), "no PUT yet");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        front.read("o", b"archived").await?;
        front.wait_local("o", b"archived").await
    };
    let (put, restored) = tokio::join!(put, restore);
    restored?;
    ensure!(put?.status == 201, "the user's PUT was refused");
    front.wait_local("o", &theirs).await?;
    Ok(())
}

#[tokio::test]
async fn a_put_that_ends_while_the_restore_is_under_way_wins() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(4 << 20);
    front.archive("o", &content, &[]).await?;
    restore_slowly(&front, &content).await?;
    front.client.put_object("c", "o", "theirs", &[("Content-Length", "6")]).await?;
    front.wait_local("o", b"theirs").await?;
    wait::until("the restore to end", Duration::from_secs(60), async || {
        ensure!(
            front.written_back().iter().all(|(_, status)| status.is_some()),
            "{:?}",
            front.written_back()
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    front.wait_local("o", b"theirs").await?;
    // It is carried like any other write.
    front.site.sync().await?;
    let remote = front.site.bucket.get(&front.key("o")).await?;
    ensure!(remote.is_some_and(|remote| remote.body == "theirs"), "the remote has something else");
    Ok(())
}

#[tokio::test]
async fn a_delete_while_the_restore_is_under_way_wins() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(4 << 20);
    front.archive("o", &content, &[]).await?;
    restore_slowly(&front, &content).await?;
    let deleted = front.client.delete_object("c", "o").await?;
    ensure!(deleted.status == 204, "{}", deleted.status);
    wait::until("the restore to end", Duration::from_secs(60), async || {
        ensure!(
            front.written_back().iter().all(|(_, status)| status.is_some()),
            "{:?}",
            front.written_back()
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    front.expect_gone("o").await?;
    ensure!(front.client.get_object("c", "o").await?.status == 404, "it is still readable");
    front.site.sync().await?;
    ensure!(front.site.bucket.head(&front.key("o")).await?.is_none(), "it came back to the remote");
    Ok(())
}

#[tokio::test]
async fn what_a_user_deleted_is_streamed_and_not_brought_back() -> Result<()> {
    let keep = |mapping: swift_s3_tests::sync_json::MappingJson| {
        mapping.set("merge_writes", false).set("propagate_delete", false)
    };
    let front = Front::with(S3ServerKind::Memory, keep).await?;
    front.archive("o", b"content", &[]).await?;
    ensure!(front.client.delete_object("c", "o").await?.status == 404, "there is nothing local");
    front.read("o", b"content").await?;
    front.wait_outcome("superseded").await?;
    front.expect_gone("o").await?;
    ensure!(front.written_back().is_empty(), "{:?}", front.written_back());
    Ok(())
}

#[tokio::test]
async fn new_metadata_while_the_restore_is_under_way_are_not_lost() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(4 << 20);
    front.archive("o", &content, &[("X-Object-Meta-Mark", "old")]).await?;
    restore_slowly(&front, &content).await?;
    front.client.post_object("c", "o", &[("X-Object-Meta-Mark", "new")]).await?;
    front.wait_outcome("superseded").await?;
    front.expect_gone("o").await?;
    front.site.sync().await?;
    let seen = front.client.head_object("c", "o").await?.success()?;
    ensure!(seen.header("x-object-meta-mark") == Some("new"), "{:?}", seen.headers);
    Ok(())
}

#[tokio::test]
async fn what_is_written_and_archived_before_the_restore_looks_is_not_hidden() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"old", &[]).await?;
    // Its first question is about the container; the one about the object comes late.
    let gate = Gate::new();
    front.inner.inject(Rule::new(Fault::Hold(gate.clone())).method("HEAD").after(1).times(1));
    front.read("o", b"old").await?;
    gate.wait_held(1, SOON).await?;
    front.archive("o", b"newer", &[]).await?;
    ensure!(front.outcomes("superseded").await? == 0, "the restore did not wait");
    gate.open();
    front.wait_outcome("superseded").await?;
    ensure!(front.written_back().is_empty(), "{:?}", front.written_back());
    front.expect_gone("o").await?;
    front.site.sync().await?;
    front.read("o", b"newer").await?;
    Ok(())
}

#[tokio::test]
async fn what_came_back_never_goes_over_another_remote_copy() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"old", &[]).await?;
    front.read("o", b"old").await?;
    front.wait_local("o", b"old").await?;
    // Until then the shunt itself takes back what the remote copy went away from.
    wait::until("the restore to end", Duration::from_secs(20), async || {
        ensure!(front.shunt.log_text().contains(": restored "), "it has not ended yet");
        Ok(())
    })
    .await?;
    front.site.bucket.put(&front.key("o"), "newer", &[], None).await?;
    let mut codes = Vec::new();
    for worker in &front.site.workers {
        codes.push(worker.run_once().await?.code);
    }
    // Only nodes that know of the restored object by now, and whose turn it is, have something to set aside.
    ensure!(codes.contains(&1) && codes.iter().all(|code| [0, 1].contains(code)), "exit codes {codes:?}");
    expect_parked(&front.site, "c", &[("o", "remote_mismatch")])?;
    let remote = front.site.bucket.get(&front.key("o")).await?;
    ensure!(remote.is_some_and(|remote| remote.body == "newer"), "the remote copy was overwritten");
    front.wait_local("o", b"old").await?;
    Ok(())
}
