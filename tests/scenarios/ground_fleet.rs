//! Simulated nodes are to the control plane what real ones are.

use anyhow::{Result, ensure};
use swift_s3_proto::v1::{GetStatusRequest, ListFailuresRequest, NodeState};
use swift_s3_tests::control_process::Control;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::simulated_fleet::{SimulatedFleet, World};
use swift_s3_tests::wait;

use super::SOON;

#[tokio::test]
async fn a_simulated_fleet_is_seen_as_a_real_one() -> Result<()> {
    let directory = RunDirectory::create("fleet")?;
    let control = Control::start(directory.folder("control")?).await?;
    let world = World { nodes: 9, mappings: 10, containers: 1_200 };
    let fleet = SimulatedFleet::start(&control.url(), None, world.scripts(&control).await?).await?;
    let seen = async |nodes: [usize; 3]| {
        wait::until("control to have seen everything", SOON, async || {
            let status = control.status()?.get_status(GetStatusRequest {}).await?.into_inner();
            let count = |state| {
                status
                    .nodes
                    .iter()
                    .find(|count| count.state() == state)
                    .map_or(0, |count| count.count as usize)
            };
            let counts = [NodeState::Synced, NodeState::Rejected, NodeState::NotSeen].map(count);
            let behind = status.lag.is_some_and(|lag| lag.rows > 0);
            ensure!(counts == nodes && status.containers == 1_200 && behind, "{status:?}");
            Ok::<_, anyhow::Error>(status)
        })
        .await
    };
    let status = seen([8, 1, 0]).await?;
    ensure!(status.is_complete && status.failures == 15, "{status:?}");
    let failures = control.status()?.list_failures(ListFailuresRequest::default()).await?.into_inner();
    ensure!(failures.failures.iter().all(|failure| failure.account == "AUTH_customer0000"), "{failures:?}");
    fleet.kill(0);
    let status = seen([7, 1, 1]).await?;
    ensure!(!status.is_complete, "{status:?}");
    Ok(())
}
