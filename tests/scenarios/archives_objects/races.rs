//! Users write while an object is being archived; object servers are away.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, FaultProxy, Gate, Network, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::ServerKind;
use swift_s3_tests::sync_json::SyncJson;

use super::{archive, archived, expect_archived, expect_kept, key};
use crate::worker_state::expect_parked;

const SOON: Duration = Duration::from_secs(20);

/// Puts a fault proxy between one worker and every object server; answers the proxies by node.
async fn object_server_proxies(site: &Site, worker: usize) -> Result<Vec<FaultProxy>> {
    let mut proxies = Vec::new();
    let mut ports = Vec::new();
    for node in site.cluster.nodes() {
        let server = SocketAddr::new(IpAddr::V4(node.ip()), node.port(ServerKind::Object));
        let proxy = FaultProxy::start_at(IpAddr::V4(node.ip()), server).await?;
        ports.push((server, proxy.address().port()));
        proxies.push(proxy);
    }
    let folder = site.directory().folder("redirected")?;
    site.cluster.redirect(&folder, &ports).await?;
    let worker = site.workers.get(worker).context("no such worker")?;
    let folder = folder.to_str().context("a path that is not text")?;
    worker.configure(&SyncJson::new().set("swift_dir", folder).mapping(archived(site)))?;
    Ok(proxies)
}

/// Runs worker 0 once, with the upload of the object held; does `meanwhile` while it is.
async fn during_the_upload(site: &Site, meanwhile: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    site.faults.forget();
    let gate = Gate::new();
    site.faults.inject(Rule::new(Fault::Hold(gate.clone())).on(Operation::Put).times(1));
    let round = site.workers[0].run_once();
    let between = async {
        gate.wait_held(1, SOON).await?;
        meanwhile().await?;
        gate.open();
        Ok(())
    };
    let (outcome, ()) = tokio::try_join!(round, between)?;
    outcome.expect_code(0)?;
    site.faults.heal();
    Ok(())
}

#[tokio::test]
async fn an_object_overwritten_during_its_upload_stays_and_is_archived_later() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    site.swift.put_object("c", "o", "first", &[]).await?;
    during_the_upload(&site, async || {
        site.swift.put_object("c", "o", "second", &[("X-Object-Meta-Mark", "2")]).await?;
        Ok(())
    })
    .await?;
    ensure!(site.bucket.get(&key(&site, "o")).await?.context("not in S3")?.body == "first");
    expect_kept(&site, "o", "second").await?;
    site.sync().await?;
    expect_archived(&site, "o", "second", Some("2")).await
}

#[tokio::test]
async fn metadata_posted_during_the_upload_is_not_lost() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    site.swift.put_object("c", "o", "content", &[("X-Object-Meta-Mark", "1")]).await?;
    during_the_upload(&site, async || site.swift.post_object("c", "o", &[("X-Object-Meta-Mark", "2")]).await)
        .await?;
    expect_kept(&site, "o", "content").await?;
    site.sync().await?;
    expect_archived(&site, "o", "content", Some("2")).await
}

#[tokio::test]
async fn a_user_who_deletes_during_the_upload_wins() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    site.swift.put_object("c", "o", "content", &[]).await?;
    during_the_upload(&site, async || {
        site.swift.delete_object("c", "o").await?.success()?;
        Ok(())
    })
    .await?;
    site.sync().await?;
    ensure!(site.swift.get_object("c", "o").await?.status == 404);
    ensure!(site.bucket.head(&key(&site, "o")).await?.is_none(), "S3 has what the user deleted");
    Ok(())
}

#[tokio::test]
async fn a_local_delete_that_comes_after_an_overwrite_removes_nothing() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    site.swift.put_object("c", "o", "first", &[("X-Timestamp", "1400000000.00000")]).await?;
    let proxies = object_server_proxies(&site, 0).await?;
    let gate = Gate::new();
    for proxy in &proxies {
        proxy.inject(Rule::new(Fault::Hold(gate.clone())).method("DELETE"));
    }
    let deletes = || {
        let seen = proxies.iter().flat_map(FaultProxy::seen);
        seen.filter(|seen| seen.method == "DELETE").collect::<Vec<_>>()
    };
    let round = site.workers[0].run_once();
    let overwrite = async {
        gate.wait_held(3, SOON).await?;
        let written = site.swift.put_object("c", "o", "second", &[]).await;
        gate.open();
        written
    };
    let (outcome, _) = tokio::try_join!(round, overwrite)?;
    outcome.expect_code(0)?;
    for delete in deletes() {
        let timestamp = delete.header("x-timestamp");
        ensure!(timestamp == Some("1400000000.00000_0000000000000001"), "{delete:?}");
        ensure!(delete.status == Some(409), "{delete:?}");
    }
    expect_kept(&site, "o", "second").await?;
    site.sync().await?;
    expect_archived(&site, "o", "second", None).await
}

#[tokio::test]
async fn one_absent_object_server_does_not_hold_the_archive_and_two_do() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let proxies = object_server_proxies(&site, 0).await?;
    site.swift.put_object("c", "two away", "content", &[]).await?;
    for proxy in &proxies[..2] {
        proxy.set_network(Network::Refuse);
    }
    site.workers[0].run_once().await?.expect_code(1)?;
    expect_kept(&site, "two away", "content").await?;
    expect_parked(&site, "c", &[("two away", "local_delete")])?;
    ensure!(site.bucket.head(&key(&site, "two away")).await?.is_some(), "not even uploaded");

    proxies[1].heal();
    site.workers[0].run_once().await?.expect_code(0)?;
    expect_parked(&site, "c", &[])?;
    // The replica that heard nothing of it gives way to the tombstones of the others.
    site.cluster.run_everywhere("object-replicator").await?;
    site.cluster.run_everywhere("container-replicator").await?;
    expect_archived(&site, "two away", "content", None).await
}

#[tokio::test]
async fn an_old_object_is_archived_only_when_every_object_server_hears_of_it() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let proxies = object_server_proxies(&site, 0).await?;
    // Swift forgets deletes of that age at once: a replica that missed it would be copied back to the others.
    site.swift.put_object("c", "old", "content", &[("X-Timestamp", "1400000000.00000")]).await?;
    proxies[2].set_network(Network::Refuse);
    site.workers[0].run_once().await?.expect_code(1)?;
    site.cluster.run_everywhere("object-replicator").await?;
    expect_kept(&site, "old", "content").await?;
    expect_parked(&site, "c", &[("old", "local_delete")])?;
    proxies[2].heal();
    site.workers[0].run_once().await?.expect_code(0)?;
    site.cluster.run_everywhere("object-replicator").await?;
    expect_archived(&site, "old", "content", None).await
}

#[tokio::test]
async fn a_failing_local_delete_is_tried_again() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let proxies = object_server_proxies(&site, 0).await?;
    site.swift.put_object("c", "o", "content", &[]).await?;
    for proxy in &proxies {
        proxy.inject(Rule::new(Fault::error(500, "Broken")).method("DELETE"));
    }
    site.workers[0].run_once().await?.expect_code(1)?;
    expect_kept(&site, "o", "content").await?;
    expect_parked(&site, "c", &[("o", "local_delete")])?;
    for proxy in &proxies {
        proxy.heal();
    }
    site.faults.forget();
    site.workers[0].run_once().await?.expect_code(0)?;
    expect_archived(&site, "o", "content", None).await?;
    let puts = site.faults.requests().of(Operation::Put);
    ensure!(puts == 0, "sent again");
    Ok(())
}
