//! One worker cannot reach etcd: it says so, others have its shares, and it comes back.

use std::time::Instant;

use swift_s3_tests::fault_proxy::Network;

use super::*;

const VICTIM: usize = 2;
/// What a worker logs when it goes on without etcd, and when it is back.
const ALONE: &str = "etcd cannot be used; going on by the implicit rules";
const BACK: &str = "the way of sharing out work has changed";

async fn cut_off(network: Network) -> Result<()> {
    let fleet = running(EtcdOptions::single(), LEASE).await?;
    let victim = &fleet.site.workers[VICTIM];
    let follower = fleet.follow().await?;
    let cut = Instant::now();
    fleet.set_network(VICTIM, network);
    for container in CONTAINERS {
        put(&fleet, container, &fleet.names_of(VICTIM, container, "during", 5).await?).await?;
    }
    let taken = fleet.wait_taken(&follower, VICTIM, &CONTAINERS, cut, SOON).await?;
    eprintln!("taken {taken:?} after the cut ({network:?})");
    ensure!(taken <= LEASE + TAKEOVER, "taken only {taken:?} after the cut");
    victim.wait_for_log(ALONE, SOON).await?;
    wait_equal(&fleet).await?;
    for container in CONTAINERS {
        let names: Vec<String> = (0..10).map(|number| format!("alone{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    fleet.heal(VICTIM);
    victim.wait_for_log(BACK, SOON).await?;
    fleet.wait_settled().await?;
    for container in CONTAINERS {
        put(&fleet, container, &fleet.names_of(VICTIM, container, "home", 5).await?).await?;
    }
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)
}

#[tokio::test]
async fn a_worker_whose_connections_are_refused_loses_its_shares_and_gets_them_back() -> Result<()> {
    cut_off(Network::Refuse).await
}

#[tokio::test]
async fn a_worker_whose_packets_vanish_loses_its_shares_and_gets_them_back() -> Result<()> {
    cut_off(Network::Stall).await
}
