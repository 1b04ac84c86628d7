//! A worker that stands still in the middle of an upload, and goes on when somebody else has its share: what it was about to
//! do must not undo what the new owner did.

use std::time::Instant;

use swift_s3_policy::KeyMapping;
use swift_s3_tests::fault_proxy::{Fault, Gate, Rule, Seen};
use swift_s3_tests::wait;

use super::*;

const VICTIM: usize = 1;
const CONTAINER: &str = "a";
/// More than the kernel's buffers hold: the worker must be awake for the end of the upload.
const BYTES: u64 = 40 * 1024 * 1024;
/// What of it passes before the worker is frozen.
const PASSED: u64 = 1024 * 1024;

/// A fleet with a worker that was frozen in the middle of an upload, and whose shares are somebody else's by now.
struct Frozen {
    fleet: EtcdFleet,
    /// What it uploads.
    name: String,
    /// Holds the upload back.
    gate: Gate,
}

async fn frozen_in_an_upload() -> Result<Frozen> {
    let fleet = running(EtcdOptions::single(), LEASE).await?;
    let names = fleet.names_of(VICTIM, CONTAINER, "big", 1).await?;
    let name = names.into_iter().next().unwrap_or_default();
    let gate = Gate::new();
    let held = Rule::new(Fault::HoldRequest(PASSED, gate.clone())).on(Operation::Put).key_containing(&name);
    fleet.site.faults.inject(held.times(1));
    fleet.site.swift.put_object_stream(CONTAINER, &name, BYTES, 1, &[]).await?;
    // Not only begun: a worker may ask about the object first, and would then be frozen before the upload.
    gate.wait_held(1, SOON).await?;
    let follower = fleet.follow().await?;
    let frozen = Instant::now();
    fleet.site.workers[VICTIM].freeze()?;
    let taken = fleet.wait_taken(&follower, VICTIM, &[CONTAINER], frozen, SOON).await?;
    ensure!(taken <= LEASE + TAKEOVER, "taken only {taken:?} after the freeze");
    Ok(Frozen { fleet, name, gate })
}

/// The first upload of a name: the one that was held up.
fn first_upload(fleet: &EtcdFleet, name: &str) -> Result<Seen> {
    let mut seen = fleet.site.faults.seen().into_iter();
    let first = seen.find(|seen| seen.operation == Operation::Put && seen.key.ends_with(name));
    first.ok_or_else(|| anyhow::anyhow!("no upload of {name}"))
}

/// The content of an object in the bucket.
async fn content(fleet: &EtcdFleet, name: &str) -> Result<Option<bytes::Bytes>> {
    let key = KeyMapping::new(fleet.site.swift.account(), CONTAINER, None).object_key(name);
    Ok(fleet.site.bucket.get(&key).await?.map(|object| object.body))
}

/// Lets the worker and its upload go on, and watches the object until everybody is at home and the upload is over.
async fn thaw_and_watch(frozen: &Frozen, wanted: Option<&str>) -> Result<()> {
    let Frozen { fleet, name, gate } = frozen;
    fleet.site.workers[VICTIM].thaw()?;
    gate.open();
    let begun = Instant::now();
    loop {
        let upload = first_upload(fleet, name)?;
        // Looked at after the upload, so that the last look is one after its end.
        let found = content(fleet, name).await?;
        ensure!(
            found.as_deref() == wanted.map(str::as_bytes),
            "{:?} after the thaw there are {:?} bytes",
            begun.elapsed(),
            found.map(|body| body.len())
        );
        if upload.over {
            ensure!(upload.status.is_none(), "the old upload was answered with {:?}", upload.status);
            break;
        }
        ensure!(begun.elapsed() < SOON, "the old upload does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fleet.wait_settled().await?;
    wait_equal(fleet).await
}

#[tokio::test]
async fn an_old_upload_does_not_replace_what_the_new_owner_sent() -> Result<()> {
    let frozen = frozen_in_an_upload().await?;
    frozen.fleet.site.swift.put_object(CONTAINER, &frozen.name, "newer", &[]).await?;
    frozen.fleet.site.wait_equal(CONTAINER, SOON).await?;
    thaw_and_watch(&frozen, Some("newer")).await
}

#[tokio::test]
async fn an_old_upload_does_not_bring_back_what_was_deleted() -> Result<()> {
    let frozen = frozen_in_an_upload().await?;
    frozen.fleet.site.swift.delete_object(CONTAINER, &frozen.name).await?;
    frozen.fleet.site.wait_equal(CONTAINER, SOON).await?;
    thaw_and_watch(&frozen, None).await
}

/// Nothing can call back a request that is on its way: whoever sent it looks again.
#[tokio::test]
async fn what_the_network_held_up_is_looked_at_again_by_whoever_sent_it() -> Result<()> {
    // A short one would be lost on a busy machine, and the requests with it.
    let lease = Duration::from_secs(10);
    let fleet = running(EtcdOptions::single(), lease).await?;
    let names = fleet.names_of(VICTIM, CONTAINER, "held", 2).await?;
    let [written, deleted] = names.as_slice() else { anyhow::bail!("two names") };
    let gate = Gate::new();
    for name in &names {
        let rule = Rule::new(Fault::Hold(gate.clone())).on(Operation::Put).key_containing(name);
        fleet.site.faults.inject(rule.times(1));
    }
    put(&fleet, CONTAINER, &names).await?;
    gate.wait_held(names.len(), SOON).await?;
    let follower = fleet.follow().await?;
    let frozen = Instant::now();
    fleet.site.workers[VICTIM].freeze()?;
    fleet.wait_taken(&follower, VICTIM, &[CONTAINER], frozen, SOON).await?;
    fleet.site.swift.put_object(CONTAINER, written, "newer", &[]).await?;
    fleet.site.swift.delete_object(CONTAINER, deleted).await?;
    fleet.site.wait_equal(CONTAINER, SOON).await?;
    gate.open();
    // Each replaced what the new owner had done: that is all that is certain, as somebody may have looked already.
    wait::until("the old requests to arrive", SOON, async || {
        for name in &names {
            let first = first_upload(&fleet, name)?;
            ensure!(first.status == Some(200), "{name} has not arrived: {:?}", first.status);
        }
        Ok(())
    })
    .await?;
    fleet.site.workers[VICTIM].thaw()?;
    fleet.site.wait_equal(CONTAINER, SOON).await?;
    fleet.wait_settled().await
}
