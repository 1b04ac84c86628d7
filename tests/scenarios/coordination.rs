//! Workers that agree through etcd on who carries what: whatever breaks, everything arrives, and nothing twice.

mod access;
mod calm;
mod controls;
mod cut_off;
mod frozen;
mod lost_etcd;
mod lost_workers;
mod storm;
mod switches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::etcd_cluster::{EtcdCluster, EtcdOptions};
use swift_s3_tests::etcd_fleet::EtcdFleet;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;

use crate::CLUSTER;

/// What happens by itself happens within this time.
const SOON: Duration = Duration::from_secs(60);
/// Short, so that the loss of a worker is found quickly.
const LEASE: Duration = Duration::from_secs(3);
/// From the end of the lease until somebody else has the shares.
const TAKEOVER: Duration = Duration::from_secs(2);
/// The containers of a site. Several, because a share is one of a container's partition.
const CONTAINERS: [&str; 4] = ["a", "b", "c", "d"];

/// An hour of slack: what a worker leaves undone is not carried by others because they verify.
fn config(site: &Site) -> SyncJson {
    let config = SyncJson::new().set("verification_slack", 60);
    CONTAINERS.iter().fold(config, |config, container| config.mapping(site.mapping(container)))
}

/// Containers, an etcd, and workers with flags for it that are not started.
async fn fleet_on(options: EtcdOptions, lease: Duration) -> Result<EtcdFleet> {
    let (site, etcd) = tokio::join!(
        async { Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await },
        EtcdCluster::start(options)
    );
    let (site, etcd) = (site?, Arc::new(etcd?));
    for container in CONTAINERS {
        site.swift.put_container(container).await?;
    }
    site.configure(&config(&site))?;
    EtcdFleet::new(site, etcd, lease).await
}

/// The same with running workers, each at home.
async fn running(options: EtcdOptions, lease: Duration) -> Result<EtcdFleet> {
    let fleet = fleet_on(options, lease).await?;
    fleet.site.start_workers()?;
    fleet.wait_settled().await?;
    Ok(fleet)
}

async fn put(fleet: &EtcdFleet, container: &str, names: &[String]) -> Result<()> {
    for name in names {
        fleet.site.swift.put_object(container, name, name.as_bytes().to_vec(), &[]).await?;
    }
    Ok(())
}

async fn wait_equal(fleet: &EtcdFleet) -> Result<()> {
    for container in CONTAINERS {
        fleet.site.wait_equal(container, SOON).await?;
    }
    Ok(())
}

/// Keys that were sent more than once, and how often.
fn sent_twice(site: &Site) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::<String, usize>::new();
    for seen in site.faults.seen() {
        if matches!(seen.operation, Operation::Put | Operation::Copy | Operation::Delete) {
            *sent.entry(format!("{} {}", seen.operation, seen.key)).or_default() += 1;
        }
    }
    sent.retain(|_, times| *times > 1);
    sent
}

/// Fails if anything was sent or deleted more than once; every name is written once in such a scenario.
fn expect_nothing_twice(site: &Site) -> Result<()> {
    let twice = sent_twice(site);
    ensure!(twice.is_empty(), "more than once: {twice:?}; {}", site.faults.requests());
    Ok(())
}
