//! The way of coordination is changed while workers run and clients write.

use swift_s3_tests::control_process::Control;
use swift_s3_tests::mixed_load::{MixedLoad, seed};
use swift_s3_tests::wait;

use super::*;

/// Waits until the workers' homes say what the configuration says.
async fn wait_homes(fleet: &EtcdFleet, implicit: bool) -> Result<()> {
    wait::until("the homes to follow the configuration", SOON, async || {
        let homes = fleet.etcd.entries(&format!("{}workers/live/homes/", fleet.prefix())).await?;
        let right = homes.iter().filter(|home| home.value.contains("implicit") == implicit).count();
        ensure!(right == 3 && homes.len() == 3, "{homes:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn coordination_is_switched_off_and_on_under_load() -> Result<()> {
    let fleet = fleet_on(EtcdOptions::single(), LEASE).await?;
    let control = Control::start(fleet.site.directory().folder("control")?).await?;
    control.apply(&config(&fleet.site)).await?;
    fleet.site.start_workers_under(&control)?;
    control.wait_synced(3).await?;
    wait_homes(&fleet, false).await?;
    let load = MixedLoad {
        clients: 6,
        pause: Duration::from_millis(100),
        ..MixedLoad::new(seed()?, 900, &CONTAINERS)
    };
    let switch = async {
        for (mode, implicit) in [("implicit", true), ("etcd", false), ("implicit", true), ("auto", false)] {
            control.apply_everywhere(&config(&fleet.site).set("coordination", mode), 3).await?;
            wait_homes(&fleet, implicit).await?;
        }
        Ok(())
    };
    let (outcome, ()) = tokio::try_join!(load.run(&fleet.site.swift), switch)?;
    wait_equal(&fleet).await?;
    outcome.expect(fleet.site.swift.account(), &fleet.site.bucket).await?;
    fleet.wait_settled().await?;
    let asked = fleet.site.faults.requests();
    eprintln!("{} changes, {asked}", outcome.changes());
    fleet.site.faults.forget();
    for container in CONTAINERS {
        let names: Vec<String> = (0..10).map(|number| format!("later{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)
}
