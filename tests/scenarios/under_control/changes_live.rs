//! The configuration changes while workers run; nothing is restarted and no transfer is lost.

use swift_s3_proto::v1::{ConfigOutcome, NodeState};
use swift_s3_tests::fault_proxy::{Fault, FaultProxy, Network, Rule};
use swift_s3_tests::operation::Operation;
use tonic::Code;

use super::*;

fn pids(site: &Site) -> Result<Vec<u32>> {
    site.workers.iter().map(|worker| worker.pid()).collect()
}

#[tokio::test]
async fn a_mapping_is_added_changed_and_removed_while_workers_run() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let before = pids(&site)?;
    site.swift.put_container("d").await?;
    put(&site, &["first"]).await?;
    site.wait_equal("c", SOON).await?;

    site.swift.put_object("d", "second", "2", &[]).await?;
    let both = config().mapping(site.mapping("c")).mapping(site.mapping("d"));
    control.apply_everywhere(&both, 3).await?;
    site.wait_equal("d", SOON).await?;

    let changed =
        config().mapping(site.mapping("c").set("exclude_pattern", "^secret")).mapping(site.mapping("d"));
    control.apply_everywhere(&changed, 3).await?;
    put(&site, &["secret", "open"]).await?;
    wait::until("the object that is not excluded", SOON, async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/open")), "{keys:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;

    control
        .apply_everywhere(&config().mapping(site.mapping("c").set("exclude_pattern", "^secret")), 3)
        .await?;
    site.swift.put_object("d", "third", "3", &[]).await?;
    put(&site, &["last"]).await?;
    wait::until("the last object", SOON, async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/last")), "{keys:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    let keys = site.bucket.keys("").await?;
    ensure!(!keys.iter().any(|key| key.ends_with("/third") || key.ends_with("/secret")), "{keys:?}");
    ensure!(before == pids(&site)?, "a worker was restarted");
    ensure!(control.nodes().await?.iter().all(|node| node.revision == 4), "not all nodes run revision 4");
    Ok(())
}

#[tokio::test]
async fn a_push_does_not_interrupt_an_upload() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    site.faults.inject(Rule::new(Fault::SlowRequest(64 * 1024)).on(Operation::Put).key_containing("slow"));
    site.swift.put_object_stream("c", "slow", 256 * 1024, 1, &[]).await?;
    wait::until("the upload to begin", SOON, async || {
        let begun = site.faults.seen().iter().any(|seen| seen.key.ends_with("slow"));
        if begun { Ok(()) } else { Err("not begun") }
    })
    .await?;
    let mapping = site.mapping("c").set("exclude_pattern", "^tmp");
    control.apply_everywhere(&config().set("workers", 3).mapping(mapping), 3).await?;
    site.wait_equal("c", SOON).await?;
    let uploads = site.faults.seen().iter().filter(|seen| seen.operation == Operation::Put).count();
    ensure!(uploads == 1, "{uploads} uploads");
    Ok(())
}

#[tokio::test]
async fn credentials_are_verified_before_the_switch() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let wrong = config().mapping(site.mapping("c").set("aws_identity", "nobody").set("aws_secret", "wr0ng"));
    control.apply(&wrong).await?;
    let nodes = wait::until("every node to refuse them", SOON, async || {
        let nodes = control.nodes().await?;
        ensure!(nodes.iter().all(|node| node.state() == NodeState::Rejected), "{nodes:?}");
        Ok::<_, anyhow::Error>(nodes)
    })
    .await?;
    for node in nodes {
        let problem = node.problems.first().context("no reason")?;
        ensure!(problem.path == "containers[0]" && problem.found.contains("last good"), "{problem:?}");
    }
    // The old ones still carry.
    put(&site, &["meanwhile"]).await?;
    site.wait_equal("c", SOON).await?;
    control.apply_everywhere(&config().mapping(site.mapping("c")), 3).await?;
    put(&site, &["after"]).await?;
    site.wait_equal("c", SOON).await
}

#[tokio::test]
async fn a_mapping_that_fails_on_one_node_is_refused_there_only() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.swift.put_container("d").await?;
    let control = Control::start(site.directory().folder("control")?).await?;
    let by_variable = site.mapping("d").set("aws_secret", serde_json::json!({"env": "SITE_SECRET"}));
    control.apply(&config().mapping(site.mapping("c"))).await?;
    let secret = site.access().secret;
    for (index, worker) in site.workers.iter().enumerate() {
        let environment = [("SITE_SECRET", secret.as_str())];
        worker.start_under(&[control.url()], if index == 0 { &[] } else { &environment })?;
    }
    control.wait_synced(3).await?;
    control.apply(&config().mapping(site.mapping("c")).mapping(by_variable)).await?;
    let nodes = wait::until("one node to refuse", SOON, async || {
        let nodes = control.nodes().await?;
        let states: Vec<_> = nodes.iter().map(|node| node.state()).collect();
        ensure!(states == [NodeState::Rejected, NodeState::Synced, NodeState::Synced], "{states:?}");
        Ok::<_, anyhow::Error>(nodes)
    })
    .await?;
    let reason = &nodes.first().and_then(|node| node.problems.first()).context("no reason")?.found;
    ensure!(reason.contains("SITE_SECRET"), "{reason}");
    wait::until("both mappings to be told apart", SOON, async || {
        let mappings = control.mappings().await?;
        let told: Vec<_> =
            mappings.iter().map(|mapping| (mapping.nodes_applied, mapping.troubles.len())).collect();
        ensure!(told == [(3, 0), (2, 1)], "{told:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    put(&site, &["fine"]).await?;
    site.wait_equal("c", SOON).await
}

#[tokio::test]
async fn each_kind_of_bad_configuration_is_refused_with_its_path() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let revision = control.revision().await?;
    for (mapping, path) in [
        (site.mapping("c").without("aws_bucket"), "containers[0].aws_bucket"),
        (site.mapping("c").set("copy_after", -1), "containers[0].copy_after"),
        (site.mapping("c").set("exclude_pattern", "("), "containers[0].exclude_pattern"),
        (
            site.mapping("c").set("limits", serde_json::json!({"bytes_per_second": 0})),
            "containers[0].limits.bytes_per_second",
        ),
        (site.mapping("c").set("delete_limit", 5), "containers[0].delete_limit"),
        (
            site.mapping("c").set("aws_secret", "***").set("aws_endpoint", "http://127.0.0.1:9"),
            "containers[0].aws_secret",
        ),
    ] {
        let refused = control.apply(&config().mapping(mapping)).await;
        let error = format!("{:#}", refused.err().with_context(|| format!("{path} was accepted"))?);
        ensure!(error.contains(path), "expected {path} in {error}");
    }
    ensure!(control.revision().await? == revision, "something was applied");
    put(&site, &["still"]).await?;
    site.wait_equal("c", SOON).await
}

#[tokio::test]
async fn nobody_overwrites_a_change_that_was_not_seen() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let document = config().mapping(site.mapping("c").set("exclude_pattern", "^x")).document(&[]).to_string();
    let request = |expected_revision| swift_s3_proto::v1::ApplyConfigRequest {
        document: document.clone(),
        expected_revision,
        ..Default::default()
    };
    let late = control.config()?.apply_config(request(0)).await;
    ensure!(late.is_err_and(|status| status.code() == Code::Aborted), "expected ABORTED");
    control.config()?.apply_config(request(1)).await?;
    Ok(())
}

#[tokio::test]
async fn limits_slow_a_mapping_down_and_are_lifted_live() -> Result<()> {
    let slow = serde_json::json!({"requests_per_second": 1});
    let (site, control) = controlled(|mapping| mapping).await?;
    control.apply_everywhere(&config(), 3).await?;
    for number in 0..60 {
        site.swift.put_object("c", &format!("o{number}"), "x", &[]).await?;
    }
    control.apply_everywhere(&config().mapping(site.mapping("c").set("limits", slow)), 3).await?;
    let lag = wait_lag(&control, "a backlog", |lag| lag.rows > 10).await?;
    ensure!(lag.bytes == lag.rows, "{lag:?}");
    control.apply_everywhere(&config().mapping(site.mapping("c")), 3).await?;
    site.wait_equal("c", SOON).await?;
    wait_lag(&control, "no backlog", |lag| lag.rows == 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_paused_mapping_carries_nothing_until_it_is_resumed() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let mapping = format!("{}/c", site.swift.account());
    let request = swift_s3_proto::v1::PauseMappingRequest { mapping: mapping.clone() };
    let paused = control.status()?.pause_mapping(request).await?.into_inner();
    ensure!(paused.changed, "it was paused already");
    control.wait_synced(3).await?;
    put(&site, &["waits"]).await?;
    wait_lag(&control, "the row to be behind", |lag| lag.rows == 1).await?;
    control.kill().await?;
    control.restart().await?;
    control.wait_synced(3).await?;
    ensure!(control.mapping().await?.is_paused, "the restart resumed it");
    ensure!(site.bucket.keys("").await?.is_empty(), "it was carried");
    let request = swift_s3_proto::v1::ResumeMappingRequest { mapping };
    control.status()?.resume_mapping(request).await?;
    site.wait_equal("c", SOON).await
}

#[tokio::test]
async fn a_rollback_is_a_new_revision_with_the_old_content() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let second = config().mapping(site.mapping("c").set("exclude_pattern", "^keep"));
    control.apply_everywhere(&second, 3).await?;
    put(&site, &["keep"]).await?;
    let request = swift_s3_proto::v1::RollbackConfigRequest {
        revision: 1,
        expected_revision: 2,
        comment: "that was wrong".to_owned(),
    };
    let applied = control.config()?.rollback_config(request).await?.into_inner();
    let revision = applied.revision.context("no revision")?;
    ensure!((revision.revision, revision.rolled_back_to) == (3, 1), "{revision:?}");
    control.wait_synced(3).await?;
    site.wait_equal("c", SOON).await?;
    let answered = control.nodes().await?.iter().all(|node| node.revision == 3);
    ensure!(answered, "expected {:?} of revision 3", ConfigOutcome::Applied);
    Ok(())
}

#[tokio::test]
async fn a_pause_holds_while_the_control_plane_is_away_and_the_worker_restarts() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    let mapping = format!("{}/c", site.swift.account());
    control
        .status()?
        .pause_mapping(swift_s3_proto::v1::PauseMappingRequest { mapping: mapping.clone() })
        .await?;
    for worker in &site.workers {
        worker.wait_for_log("an operator switched a mapping", SOON).await?;
        // The switch is on the node's disk when it is answered for.
        wait::until("the switch to be kept", SOON, async || {
            let kept = std::fs::read(worker.status_dir().join(".control-snapshot"))?;
            let snapshot = <swift_s3_proto::v1::Snapshot as prost::Message>::decode(&kept[..])?;
            ensure!(snapshot.switches.iter().any(|switch| switch.is_paused), "not yet");
            Ok::<(), anyhow::Error>(())
        })
        .await?;
    }
    control.kill().await?;
    for worker in &site.workers {
        worker.kill().await?;
    }
    put(&site, &["waits"]).await?;
    site.start_workers_under(&control)?;
    for worker in &site.workers {
        worker.wait_for_log("beginning with the last configuration", SOON).await?;
    }
    control.restart().await?;
    control.wait_synced(3).await?;
    ensure!(site.bucket.keys("").await?.is_empty(), "it was carried");
    control.status()?.resume_mapping(swift_s3_proto::v1::ResumeMappingRequest { mapping }).await?;
    site.wait_equal("c", SOON).await
}

#[tokio::test]
async fn a_mapping_whose_remote_was_away_comes_into_force_by_itself() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    site.swift.put_container("d").await?;
    let gate = FaultProxy::start(site.s3.endpoint()).await?;
    gate.set_network(Network::Refuse);
    let endpoint = gate.endpoint();
    let away = site.mapping("d").set("aws_endpoint", endpoint.as_str());
    control.apply(&config().mapping(site.mapping("c")).mapping(away)).await?;
    wait::until("the nodes to refuse it", SOON, async || {
        let nodes = control.nodes().await?;
        ensure!(nodes.iter().all(|node| node.state() == NodeState::Rejected), "{nodes:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    gate.heal();
    site.swift.put_object("d", "x", "x", &[]).await?;
    control.wait_synced(3).await?;
    wait::until("the object", SOON, async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/x")), "{keys:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn what_failed_under_a_mapping_is_forgotten_with_it() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    site.faults
        .inject(Rule::new(Fault::error(400, "InvalidArgument")).on(Operation::Put).key_containing("bad"));
    put(&site, &["bad"]).await?;
    let failures = async || {
        let request = swift_s3_proto::v1::ListFailuresRequest::default();
        Ok::<_, anyhow::Error>(control.status()?.list_failures(request).await?.into_inner().total)
    };
    let expect = async |what: &str, wanted: u64| {
        wait::until(what, SOON, async || {
            let found = failures().await?;
            ensure!(found == wanted, "{found} failures");
            Ok::<(), anyhow::Error>(())
        })
        .await
    };
    expect("the failure", 1).await?;
    control.apply_everywhere(&config().mapping(site.mapping("c").set("exclude_pattern", "^bad")), 3).await?;
    expect("no failure", 0).await?;
    // The way back begins anew, and finds the object again.
    control.apply_everywhere(&config().mapping(site.mapping("c")), 3).await?;
    expect("the failure again", 1).await
}
