//! Nothing breaks: each change costs its own request and nothing else.

use std::cell::Cell;

use swift_s3_tests::etcd_fleet::wait_fresh;
use swift_s3_tests::mixed_load::{MixedLoad, SEED_VARIABLE, seed};
use swift_s3_tests::swift_cluster::SwiftOptions;
use swift_s3_tests::wait;

use super::*;
use crate::worker_state::expect_finished;

const OPERATIONS: u64 = 2_000;
/// Long enough for the operations and a round of Swift's replicators, in minutes.
const SLACK: f64 = 0.75;

#[tokio::test]
async fn each_change_costs_one_request_and_is_verified_by_nobody() -> Result<()> {
    let seed = seed()?;
    eprintln!("{SEED_VARIABLE}={seed}");
    let site = Site::start(SwiftOptions::default(), S3ServerKind::Memory).await?;
    for container in CONTAINERS {
        site.swift.put_container(container).await?;
    }
    site.configure(&config(&site).set("verification_slack", SLACK))?;
    let etcd = Arc::new(EtcdCluster::start(EtcdOptions::single()).await?);
    let fleet = EtcdFleet::new(site, etcd, Duration::from_secs(10)).await?;
    fleet.site.start_workers()?;
    fleet.wait_settled().await?;
    wait_fresh(&fleet.site, "a").await?;
    let before = fleet.site.faults.requests();
    let load = MixedLoad { posts: 10, ..MixedLoad::new(seed, OPERATIONS, &CONTAINERS) };
    let finished = Cell::new(false);
    let work = async {
        let outcome = load.run(&fleet.site.swift).await;
        finished.set(true);
        outcome
    };
    // Swift's replicators tell each database what the others have of it.
    let replicate = async {
        while !finished.get() {
            fleet.site.cluster.run_everywhere("container-replicator").await?;
        }
        fleet.site.cluster.run_everywhere("container-replicator").await?;
        fleet.site.cluster.run_everywhere("container-replicator").await
    };
    let (outcome, ()) = tokio::try_join!(work, replicate)?;
    wait_equal(&fleet).await?;
    outcome.expect(fleet.site.swift.account(), &fleet.site.bucket).await?;
    // Only the workers go through the fault proxy.
    let asked = fleet.site.faults.requests();
    let counts = asked.since(&before);
    eprintln!("{} changes, {} names in the end: {counts}", outcome.changes(), outcome.live());

    wait::until("the slack to be over for every row", Duration::from_secs(180), async || {
        for container in CONTAINERS {
            expect_finished(&fleet.site, container).await?;
        }
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    let later = fleet.site.faults.requests();
    // A delete also asks for the companion that the object had if it was a large one; a POST looks before it copies.
    let needed = outcome.puts + 2 * outcome.deletes + 2 * outcome.posts;
    ensure!(counts.about_objects() * 100 <= needed * 105, "{needed} requests would do: {counts}");
    ensure!(counts.of(Operation::Put) <= outcome.puts, "an object was sent twice: {counts}");
    let verified = later.since(&asked);
    ensure!(verified.about_objects() == 0, "verified: {verified}");
    Ok(())
}
