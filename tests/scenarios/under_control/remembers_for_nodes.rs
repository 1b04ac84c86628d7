//! Progress is the control plane's to keep, and the worker's to bridge.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use swift_s3_proto::v1::ListFailuresRequest;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;

use super::*;
use crate::worker_state::entries;

fn puts(site: &Site) -> usize {
    site.faults.seen().iter().filter(|seen| seen.operation == Operation::Put).count()
}

/// Waits until the nodes have nothing left to do, verification included.
async fn settle(site: &Site, control: &Control) -> Result<()> {
    site.wait_equal("c", SOON).await?;
    wait_lag(control, "no rows behind", |lag| lag.rows == 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_lost_its_disk_goes_on_where_it_was() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    for number in 0..40 {
        site.swift.put_object("c", &format!("o{number}"), "x", &[]).await?;
    }
    settle(&site, &control).await?;
    for worker in &site.workers {
        ensure!(entries(worker, site.swift.account(), "c")?.is_empty(), "progress is on the node");
        worker.kill().await?;
        worker.forget()?;
    }
    site.faults.forget();
    site.start_workers_under(&control)?;
    control.wait_synced(3).await?;
    put(&site, &["new"]).await?;
    settle(&site, &control).await?;
    ensure!(puts(&site) == 1, "{} uploads", puts(&site));
    Ok(())
}

#[tokio::test]
async fn work_goes_on_without_the_control_plane_and_is_reported_later() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    put(&site, &["before"]).await?;
    settle(&site, &control).await?;
    control.kill().await?;
    site.faults.forget();
    put(&site, &["during1"]).await?;
    site.wait_equal("c", SOON).await?;
    // A restart in between: the last good configuration and what was not reported are on the node's disk.
    for worker in &site.workers {
        worker.kill().await?;
    }
    site.start_workers_under(&control)?;
    put(&site, &["during2"]).await?;
    site.wait_equal("c", SOON).await?;
    let unreported: usize = site
        .workers
        .iter()
        .map(|worker| entries(worker, site.swift.account(), "c").map(|found| found.len()))
        .sum::<Result<usize>>()?;
    ensure!(unreported > 0, "nothing was kept on the nodes");
    control.restart().await?;
    control.wait_synced(3).await?;
    settle(&site, &control).await?;
    wait::until("the nodes to hand over what they kept", SOON, async || {
        for worker in &site.workers {
            ensure!(
                entries(worker, site.swift.account(), "c")?.is_empty(),
                "{} keeps progress",
                worker.node_id()
            );
        }
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    ensure!(puts(&site) == 2, "{} uploads of 2 objects", puts(&site));
    Ok(())
}

#[tokio::test]
async fn a_control_plane_that_hangs_is_like_one_that_is_away() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    put(&site, &["before"]).await?;
    settle(&site, &control).await?;
    let pid = Pid::from_raw(i32::try_from(control.pid()?)?);
    kill(pid, Signal::SIGSTOP)?;
    put(&site, &["a", "b", "c"]).await?;
    let carried = site.wait_equal("c", SOON).await;
    kill(pid, Signal::SIGCONT)?;
    carried?;
    control.wait_synced(3).await?;
    settle(&site, &control).await
}

#[tokio::test]
async fn rows_set_aside_survive_the_death_of_everybody() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let rule = site
        .faults
        .inject(Rule::new(Fault::error(400, "InvalidArgument")).on(Operation::Put).key_containing("bad"));
    put(&site, &["bad", "good"]).await?;
    let failures = async || {
        let found = control.status()?.list_failures(ListFailuresRequest::default()).await?.into_inner();
        let row = found.failures.first().and_then(|failure| failure.row.clone()).context("no failure")?;
        Ok::<_, anyhow::Error>((row.object, row.reason))
    };
    let found = wait::until("the failure", SOON, failures).await?;
    ensure!(found == ("bad".to_owned(), "remote_refused".to_owned()), "{found:?}");
    control.kill().await?;
    for worker in &site.workers {
        worker.kill().await?;
        worker.forget()?;
    }
    control.restart().await?;
    ensure!(failures().await? == found, "lost");
    site.start_workers_under(&control)?;
    control.wait_synced(3).await?;
    site.faults.remove(rule);
    let told = control
        .status()?
        .retry_failures(swift_s3_proto::v1::RetryFailuresRequest::default())
        .await?
        .into_inner();
    ensure!(told.matched >= 1 && told.nodes_told >= 1, "{told:?}");
    settle(&site, &control).await
}

#[tokio::test]
async fn the_next_control_plane_in_the_list_is_used() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let control = Control::start(site.directory().folder("control")?).await?;
    control.apply(&config().mapping(site.mapping("c"))).await?;
    for worker in &site.workers {
        worker.start_under(&["http://127.0.0.1:9".to_owned(), control.url()], &[])?;
    }
    control.wait_synced(3).await?;
    put(&site, &["a"]).await?;
    settle(&site, &control).await
}

#[tokio::test]
async fn a_second_worker_under_the_same_name_is_refused() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let [first, second, _] = site.workers.as_slice() else { anyhow::bail!("three workers") };
    second.stop().await?;
    second.start_named(&[control.url()], &first.node_id(), &[])?;
    second.wait_for_log("no contact with the control plane", SOON).await?;
    second.wait_for_log("already", SOON).await?;
    // The first one is not disturbed.
    put(&site, &["a"]).await?;
    wait::until("the first worker to be there", SOON, async || {
        let nodes = control.nodes().await?;
        let is_there =
            nodes.iter().any(|node| node.node_id == first.node_id() && node.connected_at.is_some());
        ensure!(is_there, "{nodes:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn cursors_of_a_worker_that_worked_alone_are_taken_over() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    put(&site, &["a", "b"]).await?;
    let wanted = config().mapping(site.mapping("c"));
    site.configure(&wanted)?;
    site.sync().await?;
    site.expect_equal("c").await?;
    site.faults.forget();
    let control = site.start_controlled(&wanted).await?;
    put(&site, &["c"]).await?;
    settle(&site, &control).await?;
    ensure!(puts(&site) == 1, "{} uploads", puts(&site));
    Ok(())
}

#[tokio::test]
async fn a_single_round_works_under_a_control_plane() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    for worker in &site.workers {
        worker.stop().await?;
    }
    put(&site, &["a", "b"]).await?;
    for worker in &site.workers {
        let outcome =
            worker.run(&["--control", &control.url(), "--node-id", &worker.node_id(), "--once"], &[]).await?;
        outcome.expect_code(0)?;
    }
    site.expect_equal("c").await
}

#[tokio::test]
async fn a_control_plane_that_lost_its_memory_stops_nothing_and_learns_again() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let refuse = Fault::error(400, "InvalidArgument");
    site.faults.inject(Rule::new(refuse).on(Operation::Put).key_containing("bad"));
    put(&site, &["bad", "good"]).await?;
    let failures = async || {
        let request = ListFailuresRequest { object_prefix: "bad".to_owned(), ..Default::default() };
        let found = control.status()?.list_failures(request).await?.into_inner();
        ensure!(found.total >= 1, "no failure");
        Ok::<(), anyhow::Error>(())
    };
    wait::until("the failure", SOON, failures).await?;
    control.kill().await?;
    std::fs::remove_dir_all(control.data_dir())?;
    control.restart().await?;
    wait::until("the nodes to refuse to run without mappings", SOON, async || {
        let nodes = control.nodes().await?;
        let is_told = |node: &swift_s3_proto::v1::NodeStatus| {
            node.problems.iter().any(|problem| problem.found.contains("no configuration"))
        };
        ensure!(nodes.len() == 3 && nodes.iter().all(is_told), "{nodes:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    // Nothing changes on the nodes, and all the same they tell what they know.
    wait::until("the failure to be known again", SOON, failures).await?;
    put(&site, &["still"]).await?;
    wait::until("the object", SOON, async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/still")), "{keys:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    control.apply_everywhere(&config().mapping(site.mapping("c")), 3).await?;
    ensure!(puts(&site) <= 4, "{} uploads", puts(&site));
    Ok(())
}
