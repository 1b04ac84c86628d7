//! Two control processes on one etcd: either may go at any time.

use swift_s3_tests::control_process::Control;
use swift_s3_tests::wait;

use super::*;

async fn two_controls() -> Result<(EtcdFleet, Vec<Control>)> {
    let fleet = fleet_on(EtcdOptions::default(), LEASE).await?;
    let controls = fleet.start_controls(2).await?;
    apply(&controls[0], &config(&fleet.site)).await?;
    fleet.start_workers_under(&controls)?;
    for control in &controls {
        control.wait_synced(3).await?;
    }
    fleet.wait_settled().await?;
    Ok((fleet, controls))
}

/// Applies when there is a leader.
async fn apply(control: &Control, config: &SyncJson) -> Result<i64> {
    wait::until("a configuration to be applied", SOON, async || {
        Ok::<_, anyhow::Error>(control.apply(config).await?.revision)
    })
    .await
}

async fn write_some(fleet: &EtcdFleet, stem: &str) -> Result<()> {
    for container in CONTAINERS {
        let names: Vec<String> = (0..10).map(|number| format!("{stem}{number}")).collect();
        put(fleet, container, &names).await?;
    }
    wait_equal(fleet).await
}

#[tokio::test]
async fn either_control_process_may_be_killed_and_the_other_serves_everybody() -> Result<()> {
    let (fleet, controls) = two_controls().await?;
    write_some(&fleet, "o").await?;
    for (lost, left) in [(0, 1), (1, 0)] {
        controls[lost].kill().await?;
        write_some(&fleet, &format!("without{lost}-")).await?;
        let workers = 3 + lost;
        let revision = apply(&controls[left], &config(&fleet.site).set("workers", workers)).await?;
        controls[left].wait_synced(3).await?;
        ensure!(controls[left].revision().await? == revision, "forgotten");
        controls[lost].restart().await?;
        controls[lost].wait_synced(3).await?;
        ensure!(controls[lost].revision().await? == revision, "the two disagree");
    }
    write_some(&fleet, "last").await?;
    expect_nothing_twice(&fleet.site)
}

#[tokio::test]
async fn a_control_process_that_stood_still_changes_nothing_when_it_goes_on() -> Result<()> {
    let (fleet, controls) = two_controls().await?;
    for (lost, left) in [(0, 1), (1, 0)] {
        controls[lost].freeze()?;
        write_some(&fleet, &format!("without{lost}-")).await?;
        let revision = apply(&controls[left], &config(&fleet.site).set("workers", 3 + lost)).await?;
        controls[left].wait_synced(3).await?;
        controls[lost].thaw()?;
        controls[lost].wait_synced(3).await?;
        for control in &controls {
            let told = wait::until("an answer", SOON, async || control.revision().await).await?;
            ensure!(told == revision, "revision {told} instead of {revision}");
        }
    }
    write_some(&fleet, "last").await?;
    expect_nothing_twice(&fleet.site)
}
