//! What a worker tells on `/metrics`, against what has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_proto::v1::PauseMappingRequest;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::figures::Figures;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::python::package_folder;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use crate::CLUSTER;

const SOON: Duration = Duration::from_secs(40);

/// Says who tells, by OpenTelemetry's rules for Prometheus; it is no metric of ours.
const RESOURCE: &str = "target_info";

/// What all workers together tell.
async fn told(site: &Site) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for worker in &site.workers {
        all.push(worker.figures().await?);
    }
    Ok(all)
}

/// Waits until the sum over all workers is as wanted.
async fn wait_sum(
    site: &Site,
    name: &str,
    labels: &[(&str, &str)],
    wanted: impl Fn(f64) -> bool,
) -> Result<()> {
    wait::until(&format!("{name} {labels:?}"), SOON, async || {
        let sum: f64 = told(site).await?.iter().map(|figures| figures.sum(name, labels)).sum();
        ensure!(wanted(sum), "it is {sum}");
        Ok::<(), anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn a_worker_tells_what_it_carried_and_what_it_could_not() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.workers.iter().for_each(|worker| worker.serve_admin());
    for container in ["c", "quiet"] {
        site.swift.put_container(container).await?;
    }
    let refused = Fault::error(400, "InvalidArgument");
    site.faults.inject(Rule::new(refused).on(Operation::Put).key_containing("bad"));
    // Nodes leave each other's rows alone, so that each is counted once.
    let config = SyncJson::new().set("verification_slack", 60);
    let config = config.mapping(site.mapping("c")).mapping(site.mapping("quiet"));
    let control = site.start_controlled(&config).await?;

    for name in ["one", "two", "three"] {
        site.swift.put_object("c", name, "content", &[]).await?;
    }
    site.swift.put_object("c", "bad", "content", &[]).await?;
    let carried = [("action", "copied"), ("result", "ok")];
    wait_sum(&site, "swift_s3_sync_object_actions_total", &carried, |sum| sum == 3.0).await?;
    let failed = [("action", "copied"), ("result", "remote_refused")];
    wait_sum(&site, "swift_s3_sync_object_actions_total", &failed, |sum| sum == 1.0).await?;
    wait_sum(&site, "swift_s3_sync_row_parked", &[("reason", "remote_refused")], |sum| sum == 1.0).await?;
    wait_sum(&site, "swift_s3_sync_lag_rows", &[], |sum| sum == 0.0).await?;
    let delays = "swift_s3_sync_propagation_delay_seconds";
    wait_sum(&site, &format!("{delays}_count"), &[("action", "copied")], |sum| sum == 3.0).await?;
    wait_sum(&site, &format!("{delays}_sum"), &[], |sum| sum > 0.0 && sum < 3.0 * 60.0).await?;
    let sent = [("direction", "sent")];
    wait_sum(&site, "swift_s3_sync_transfer_io_bytes_total", &sent, |sum| sum >= 4.0 * 7.0).await?;
    for (outcome, least) in [("ok", 3.0), ("invalid", 1.0)] {
        let labels = [("provider", "s3"), ("operation", "put"), ("outcome", outcome)];
        wait_sum(&site, "swift_s3_sync_remote_requests_total", &labels, |sum| sum == least).await?;
    }
    let reads = [("server", "object"), ("outcome", "ok")];
    wait_sum(&site, "swift_s3_sync_swift_request_duration_seconds_count", &reads, |sum| sum >= 4.0).await?;
    let nodes = f64::from(u32::try_from(site.workers.len())?);
    wait_sum(&site, "swift_s3_sync_config_revision", &[], |sum| sum == nodes).await?;
    wait_sum(&site, "swift_s3_sync_control_connected", &[], |sum| sum == nodes).await?;
    wait_sum(&site, "swift_s3_sync_coordination_mode", &[("mode", "implicit")], |sum| sum == nodes).await?;

    let mapping = format!("{}/quiet", site.swift.account());
    control.status()?.pause_mapping(PauseMappingRequest { mapping }).await?;
    wait_sum(&site, "swift_s3_sync_mapping_count", &[("state", "paused")], |sum| sum == nodes).await?;
    wait_sum(&site, "swift_s3_sync_mapping_count", &[("state", "running")], |sum| sum == nodes).await?;
    site.swift.put_object("quiet", "waits", "12345", &[]).await?;
    wait_sum(&site, "swift_s3_sync_lag_rows", &[], |sum| sum == 1.0).await?;
    wait_sum(&site, "swift_s3_sync_lag_size_bytes", &[], |sum| sum == 5.0).await?;

    expect_as_declared(&told(&site).await?)
}

/// What is told is what the reference says, all of it, and with no other labels.
fn expect_as_declared(all: &[Figures]) -> Result<()> {
    let reference = fs::read_to_string(package_folder().join("../docs/reference/metrics.md"))?;
    let declared = declared(&reference, &["Every process", "swift-s3-sync"]);
    ensure!(declared.len() > 30, "the reference has few metrics: {declared:?}");
    for figures in all {
        let names: BTreeSet<&String> = figures.types.keys().filter(|name| *name != RESOURCE).collect();
        ensure!(names == declared.keys().collect(), "told {names:#?}, declared {declared:#?}");
        for figure in figures.values.iter().filter(|figure| figure.name != RESOURCE) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| figure.name.strip_suffix(end));
            let name = base.filter(|name| declared.contains_key(*name)).unwrap_or(&figure.name);
            let labels = declared.get(name).with_context(|| format!("{name} is not declared"))?;
            let is_known = |label: &&String| *label == "le" || labels.contains(*label);
            ensure!(figure.labels.keys().all(|label| is_known(&label)), "{figure:?}, declared {labels:?}");
        }
    }
    Ok(())
}

/// Prometheus' names of metrics with their labels, of these sections of the reference.
fn declared(reference: &str, sections: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut is_in = false;
    let mut declared = BTreeMap::new();
    for line in reference.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            is_in = sections.contains(&title);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, _, name, _, _, labels, _, _] = cells.as_slice()
            && is_in
            && name.starts_with('`')
        {
            let word = |text: &str| text.trim().trim_matches('`').replace('.', "_");
            let labels = labels.split(',').map(word).filter(|label| !label.is_empty());
            declared.insert(word(name), labels.collect());
        }
    }
    declared
}
