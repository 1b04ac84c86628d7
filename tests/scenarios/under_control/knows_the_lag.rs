//! How far behind? Counted from the databases, per mapping, and never a guess.

use swift_s3_tests::fault_proxy::{Fault, Network, Rule};
use swift_s3_tests::operation::Operation;

use super::*;

#[tokio::test]
async fn an_idle_mapping_is_at_zero_and_its_time_moves_on() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    put(&site, &["a"]).await?;
    site.wait_equal("c", SOON).await?;
    let first = wait_lag(&control, "zero", |lag| lag.rows == 0 && lag.seconds == 0.0).await?;
    let at = first.observed_at.context("no time")?.seconds;
    wait_lag(&control, "the time to move on", |lag| {
        lag.rows == 0 && lag.observed_at.is_some_and(|observed| observed.seconds > at)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn rows_bytes_and_seconds_behind_are_those_of_the_objects() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    site.faults.set_network(Network::Refuse);
    for number in 0..10 {
        site.swift.put_object("c", &format!("o{number}"), vec![b'x'; 100], &[]).await?;
    }
    let lag = wait_lag(&control, "ten rows", |lag| lag.rows == 10 && lag.seconds > 1.0).await?;
    ensure!(lag.bytes == 1_000 && !lag.is_estimate && lag.seconds < 60.0, "{lag:?}");
    site.faults.heal();
    site.wait_equal("c", SOON).await?;
    wait_lag(&control, "zero", |lag| lag.rows == 0 && lag.bytes == 0 && lag.seconds == 0.0).await?;
    Ok(())
}

#[tokio::test]
async fn rows_set_aside_and_rows_that_wait_are_told_apart() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping.set("copy_after", 3600)).await?;
    put(&site, &["young1", "young2"]).await?;
    wait_lag(&control, "two rows to wait", |lag| lag.rows_waiting == 2 && lag.rows == 0).await?;
    site.faults
        .inject(Rule::new(Fault::error(400, "InvalidArgument")).on(Operation::Put).key_containing("bad"));
    control.apply_everywhere(&config().mapping(site.mapping("c")), 3).await?;
    put(&site, &["bad"]).await?;
    wait_lag(&control, "one row set aside", |lag| {
        lag.rows_parked >= 1 && lag.rows == 0 && lag.rows_waiting == 0
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_a_silent_node_knows_is_unknown() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    put(&site, &["a"]).await?;
    site.wait_equal("c", SOON).await?;
    wait_lag(&control, "zero", |lag| lag.rows == 0).await?;
    for worker in &site.workers {
        worker.kill().await?;
    }
    wait::until("the lag to be unknown", SOON, async || {
        let mapping = control.mapping().await?;
        ensure!(mapping.lag.is_none() && !mapping.is_complete, "{mapping:?}");
        let status =
            control.status()?.get_status(swift_s3_proto::v1::GetStatusRequest {}).await?.into_inner();
        ensure!(status.lag.is_none() && !status.is_complete && !status.alerts.is_empty(), "{status:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await
}
