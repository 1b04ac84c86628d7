//! etcd itself is away, empty, without history, or slow: workers carry on by themselves and come back to it.

use swift_s3_tests::mixed_load::{MixedLoad, seed};

use super::*;

/// Does `harm` while clients write, and expects everything to be right in the end.
async fn under_load(options: EtcdOptions, harm: impl AsyncFn(&EtcdFleet) -> Result<()>) -> Result<()> {
    let fleet = running(options, LEASE).await?;
    let load = MixedLoad {
        clients: 6,
        pause: Duration::from_millis(100),
        ..MixedLoad::new(seed()?, 900, &CONTAINERS)
    };
    let (outcome, ()) = tokio::try_join!(load.run(&fleet.site.swift), harm(&fleet))?;
    wait_equal(&fleet).await?;
    outcome.expect(fleet.site.swift.account(), &fleet.site.bucket).await?;
    let asked = fleet.site.faults.requests();
    eprintln!("{} changes, {asked}", outcome.changes());
    fleet.wait_settled().await?;
    // Also what comes later goes its way, once.
    fleet.site.faults.forget();
    for container in CONTAINERS {
        let names: Vec<String> = (0..10).map(|number| format!("later{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)
}

#[tokio::test]
async fn workers_carry_on_without_etcd_and_return_to_it() -> Result<()> {
    under_load(EtcdOptions::default(), async |fleet| {
        fleet.etcd.kill_all().await?;
        let names: Vec<String> = (0..20).map(|number| format!("without{number}")).collect();
        put(fleet, "a", &names).await?;
        // The workers have nobody to ask and carry them all the same.
        swift_s3_tests::wait::until("the objects", SOON, async || {
            let keys = fleet.site.bucket.keys("").await?;
            let there = names.iter().filter(|name| keys.iter().any(|key| key.ends_with(&format!("/{name}"))));
            ensure!(there.count() == names.len(), "not all there");
            Ok::<(), anyhow::Error>(())
        })
        .await?;
        fleet.etcd.start_all().await
    })
    .await
}

#[tokio::test]
async fn an_etcd_that_was_lost_and_made_anew_is_used_again() -> Result<()> {
    under_load(EtcdOptions::single(), async |fleet| {
        fleet.etcd.wipe().await?;
        fleet.wait_settled().await
    })
    .await
}

#[tokio::test]
async fn history_that_is_compacted_away_is_missed_by_nobody() -> Result<()> {
    under_load(EtcdOptions::single(), async |fleet| {
        // A worker that hears nothing while history goes away must read everything anew.
        fleet.set_network(0, swift_s3_tests::fault_proxy::Network::Refuse);
        fleet.site.workers[1].kill().await?;
        tokio::time::sleep(LEASE).await;
        fleet.etcd.compact().await?;
        fleet.heal(0);
        fleet.site.workers[1].start()?;
        fleet.wait_settled().await?;
        fleet.etcd.compact().await
    })
    .await
}

#[tokio::test]
async fn a_leading_member_that_stands_still_is_gone_round() -> Result<()> {
    under_load(EtcdOptions::default(), async |fleet| {
        let leader = fleet.etcd.leader().await?;
        fleet.etcd.freeze_member(leader)?;
        tokio::time::sleep(LEASE * 3).await;
        fleet.etcd.thaw_member(leader)?;
        fleet.wait_settled().await
    })
    .await
}

/// Whoever deletes the keys of a running fleet breaks nothing.
#[tokio::test]
async fn keys_that_somebody_deleted_are_written_again() -> Result<()> {
    under_load(EtcdOptions::single(), async |fleet| {
        fleet.etcd.delete(fleet.prefix()).await?;
        fleet.wait_settled().await
    })
    .await
}
