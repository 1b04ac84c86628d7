//! A worker that stands still in the middle of an upload, and goes on when somebody else has its share: what it was about to
//! do must not undo what the new owner did.

use std::time::Instant;

use swift_s3_policy::KeyMapping;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::wait;

use super::*;

const VICTIM: usize = 1;
const CONTAINER: &str = "a";
/// More than the kernel's buffers hold: the worker must be awake for the end of the upload.
const BYTES: u64 = 40 * 1024 * 1024;
const BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;

/// A fleet with a frozen worker in the middle of an upload, and the name that it uploads.
async fn frozen_in_an_upload() -> Result<(EtcdFleet, String)> {
    let fleet = running(EtcdOptions::single(), LEASE).await?;
    let names = fleet.names_of(VICTIM, CONTAINER, "big", 1).await?;
    let name = names.into_iter().next().unwrap_or_default();
    let slow = Rule::new(Fault::SlowRequest(BYTES_PER_SECOND)).on(Operation::Put).key_containing(&name);
    fleet.site.faults.inject(slow.times(1));
    fleet.site.swift.put_object_stream(CONTAINER, &name, BYTES, 1, &[]).await?;
    wait_begun(&fleet, &name).await?;
    let follower = fleet.follow().await?;
    let frozen = Instant::now();
    fleet.site.workers[VICTIM].freeze()?;
    let taken = fleet.wait_taken(&follower, VICTIM, &[CONTAINER], frozen, SOON).await?;
    ensure!(taken <= LEASE + TAKEOVER, "taken only {taken:?} after the freeze");
    Ok((fleet, name))
}

async fn wait_begun(fleet: &EtcdFleet, name: &str) -> Result<()> {
    wait::until("the upload to begin", SOON, async || {
        let begun = fleet.site.faults.seen().iter().any(|seen| seen.key.ends_with(name));
        ensure!(begun, "not begun");
        Ok(())
    })
    .await
}

fn key(fleet: &EtcdFleet, name: &str) -> String {
    KeyMapping::new(fleet.site.swift.account(), CONTAINER, None).object_key(name)
}

/// Lets the worker go on and watches the object until everybody is at home and the upload's time is over.
async fn thaw_and_watch(fleet: &EtcdFleet, name: &str, wanted: Option<&str>) -> Result<()> {
    fleet.site.workers[VICTIM].thaw()?;
    let thawed = Instant::now();
    let whole = Duration::from_secs(BYTES / BYTES_PER_SECOND);
    while thawed.elapsed() < whole {
        let found = fleet.site.bucket.get(&key(fleet, name)).await?.map(|object| object.body);
        ensure!(
            found.as_deref() == wanted.map(str::as_bytes),
            "{:?} after the thaw there are {:?} bytes",
            thawed.elapsed(),
            found.map(|body| body.len())
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fleet.wait_settled().await?;
    wait_equal(fleet).await
}

#[tokio::test]
async fn an_old_upload_does_not_replace_what_the_new_owner_sent() -> Result<()> {
    let (fleet, name) = frozen_in_an_upload().await?;
    fleet.site.swift.put_object(CONTAINER, &name, "newer", &[]).await?;
    fleet.site.wait_equal(CONTAINER, SOON).await?;
    thaw_and_watch(&fleet, &name, Some("newer")).await
}

#[tokio::test]
async fn an_old_upload_does_not_bring_back_what_was_deleted() -> Result<()> {
    let (fleet, name) = frozen_in_an_upload().await?;
    fleet.site.swift.delete_object(CONTAINER, &name).await?;
    fleet.site.wait_equal(CONTAINER, SOON).await?;
    thaw_and_watch(&fleet, &name, None).await
}

/// Nothing can call back a request that is on its way: whoever sent it looks again.
#[tokio::test]
async fn what_the_network_held_up_is_looked_at_again_by_whoever_sent_it() -> Result<()> {
    // A short one would be lost on a busy machine, and the requests with it.
    let lease = Duration::from_secs(10);
    let fleet = running(EtcdOptions::single(), lease).await?;
    let names = fleet.names_of(VICTIM, CONTAINER, "held", 2).await?;
    let [written, deleted] = names.as_slice() else { anyhow::bail!("two names") };
    // Longer than the lease, the takeover and what the new owner has to do, also on a busy machine; the worker stands still until it is over.
    let held_up = lease + Duration::from_secs(25);
    for name in &names {
        let rule = Rule::new(Fault::Delay(held_up)).on(Operation::Put).key_containing(name);
        fleet.site.faults.inject(rule.times(1));
    }
    put(&fleet, CONTAINER, &names).await?;
    for name in &names {
        wait_begun(&fleet, name).await?;
    }
    let follower = fleet.follow().await?;
    let frozen = Instant::now();
    fleet.site.workers[VICTIM].freeze()?;
    fleet.wait_taken(&follower, VICTIM, &[CONTAINER], frozen, SOON).await?;
    fleet.site.swift.put_object(CONTAINER, written, "newer", &[]).await?;
    fleet.site.swift.delete_object(CONTAINER, deleted).await?;
    fleet.site.wait_equal(CONTAINER, SOON).await?;
    wait::until("the old requests to arrive", SOON, async || {
        let seen = fleet.site.faults.seen();
        for name in &names {
            // The first of its name is the one that was held up.
            let first = seen
                .iter()
                .find(|seen| seen.operation == Operation::Put && seen.key.ends_with(name.as_str()));
            ensure!(first.is_some_and(|first| first.status.is_some()), "{name} has not arrived");
        }
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    fleet.site.workers[VICTIM].thaw()?;
    fleet.site.wait_equal(CONTAINER, SOON).await?;
    fleet.wait_settled().await
}
