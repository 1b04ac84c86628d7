//! Workers that end: others have their shares at once or when the lease is over, and give them back.

use std::time::Instant;

use super::*;

const VICTIM: usize = 1;

/// Objects that only the victim would carry when all are at home.
async fn put_for_victim(fleet: &EtcdFleet, stem: &str) -> Result<()> {
    for container in CONTAINERS {
        put(fleet, container, &fleet.names_of(VICTIM, container, stem, 5).await?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_workers_shares_are_taken_when_its_lease_is_over_and_go_home_again() -> Result<()> {
    let fleet = running(EtcdOptions::single(), LEASE).await?;
    put_for_victim(&fleet, "before").await?;
    wait_equal(&fleet).await?;
    let follower = fleet.follow().await?;
    let victim = &fleet.site.workers[VICTIM];
    let killed = Instant::now();
    victim.kill().await?;
    put_for_victim(&fleet, "during").await?;
    let taken = fleet.wait_taken(&follower, VICTIM, &CONTAINERS, killed, SOON).await?;
    eprintln!("taken {taken:?} after the kill");
    ensure!(taken <= LEASE + TAKEOVER, "taken only {taken:?} after the kill");
    wait_equal(&fleet).await?;
    put_for_victim(&fleet, "after").await?;
    wait_equal(&fleet).await?;
    let holders: std::collections::BTreeSet<String> = fleet.taken().await?.into_values().collect();
    eprintln!("taken by {holders:?}");

    victim.start()?;
    fleet.wait_settled().await?;
    put_for_victim(&fleet, "home").await?;
    wait_equal(&fleet).await?;
    let ownership = fleet.ownership(&follower, &CONTAINERS).await?;
    eprintln!("{ownership:?}");
    ensure!(ownership.longest_gap.is_none_or(|(gap, _)| gap <= TAKEOVER), "{ownership:?}");
    expect_nothing_twice(&fleet.site)
}

#[tokio::test]
async fn a_worker_that_is_stopped_hands_over_at_once() -> Result<()> {
    // Long enough to show that nobody waits for its end.
    let fleet = running(EtcdOptions::single(), Duration::from_secs(30)).await?;
    put_for_victim(&fleet, "before").await?;
    wait_equal(&fleet).await?;
    let follower = fleet.follow().await?;
    let victim = &fleet.site.workers[VICTIM];
    let stopped = Instant::now();
    put_for_victim(&fleet, "during").await?;
    ensure!(victim.stop().await? == 0, "it did not stop well");
    let taken = fleet.wait_taken(&follower, VICTIM, &CONTAINERS, stopped, SOON).await?;
    eprintln!("taken {taken:?} after the stop began");
    let ownership = fleet.ownership(&follower, &CONTAINERS).await?;
    let home = fleet.home_prefix(VICTIM);
    let gone = follower
        .wait_for("the end of the home", SOON, |change| {
            change.value.is_none() && change.key.starts_with(&home)
        })
        .await?;
    let after_home = taken.saturating_sub(gone.at - stopped);
    ensure!(after_home <= TAKEOVER, "taken {after_home:?} after the home was given up; {ownership:?}");
    wait_equal(&fleet).await?;
    put_for_victim(&fleet, "after").await?;
    wait_equal(&fleet).await?;
    victim.start()?;
    fleet.wait_settled().await?;
    put_for_victim(&fleet, "home").await?;
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)
}

#[tokio::test]
async fn a_worker_killed_and_started_again_at_once_loses_and_repeats_nothing() -> Result<()> {
    let fleet = running(EtcdOptions::single(), LEASE).await?;
    for round in 0..4 {
        put_for_victim(&fleet, &format!("round{round}-")).await?;
        wait_equal(&fleet).await?;
        let victim = &fleet.site.workers[VICTIM];
        victim.kill().await?;
        victim.start()?;
    }
    fleet.wait_settled().await?;
    put_for_victim(&fleet, "last").await?;
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)
}

#[tokio::test]
async fn the_last_worker_carries_everything_until_the_others_are_back() -> Result<()> {
    let fleet = running(EtcdOptions::single(), LEASE).await?;
    let [first, second, _] = fleet.site.workers.as_slice() else { anyhow::bail!("three workers") };
    first.kill().await?;
    second.kill().await?;
    for container in CONTAINERS {
        let names: Vec<String> = (0..30).map(|number| format!("o{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    first.start()?;
    second.start()?;
    fleet.wait_settled().await?;
    for container in CONTAINERS {
        let names: Vec<String> = (0..30).map(|number| format!("p{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)
}
