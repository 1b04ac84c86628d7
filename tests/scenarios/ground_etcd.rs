//! The etcd of the test ground works, and breaks as asked.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_client::PutOptions;
use swift_s3_tests::etcd_cluster::{EtcdCluster, EtcdOptions};
use swift_s3_tests::fault_proxy::Network;
use swift_s3_tests::tcp_gate::TcpGate;
use swift_s3_tests::wait;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_etcd_of_three_survives_the_loss_of_its_leader_and_tells_what_happens_to_keys() -> Result<()> {
    let etcd = EtcdCluster::start(EtcdOptions::default()).await?;
    let follower = etcd.follow("/a/").await?;
    let lease = etcd.client().await?.lease_grant(2, None).await?.id();
    etcd.client().await?.put("/a/leased", "x", Some(PutOptions::new().with_lease(lease))).await?;
    etcd.client().await?.put("/b/beside", "x", None).await?;
    let told = follower.wait_for("the key", SOON, |change| change.value.as_deref() == Some("x")).await?;
    ensure!(told.key == "/a/leased" && told.at <= Instant::now());
    let listed = etcd.entries("/a/").await?;
    ensure!(listed.len() == 1 && listed[0].lease == lease, "{listed:?}");
    follower.wait_for("the end of the lease", SOON, |change| change.value.is_none()).await?;

    let leader = etcd.leader().await?;
    etcd.kill_member(leader).await?;
    etcd.put("/a/without", "y").await?;
    follower.wait_for("a change without the old leader", SOON, |change| change.key == "/a/without").await?;
    ensure!(etcd.leader().await? != leader);
    etcd.start_member(leader).await?;
    let leader = etcd.leader().await?;
    etcd.freeze_member(leader)?;
    etcd.put("/a/frozen", "y").await?;
    etcd.thaw_member(leader)?;
    etcd.compact().await?;
    etcd.put("/a/compacted", "y").await?;
    follower.wait_for("a change after a compaction", SOON, |change| change.key == "/a/compacted").await?;
    etcd.wipe_member((leader + 1) % 3).await?;
    ensure!(etcd.keys("/a/").await?.len() == 3, "{:?}", etcd.keys("/a/").await?);
    etcd.wipe().await?;
    ensure!(etcd.keys("/").await?.is_empty());
    etcd.put("/a/anew", "y").await?;
    follower.wait_for("a change after a wipe", SOON, |change| change.key == "/a/anew").await?;
    Ok(())
}

#[tokio::test]
async fn an_etcd_with_tls_and_users_admits_whom_it_knows() -> Result<()> {
    let options = EtcdOptions {
        tls: true,
        client_certificates: true,
        root_password: Some("of the root".to_owned()),
        ..EtcdOptions::single()
    };
    let etcd = EtcdCluster::start(options).await?;
    etcd.add_user("worker", "s3cret", "/a/").await?;
    ensure!(etcd.client_as("worker", "wrong").await.is_err());
    let mut worker = etcd.client_as("worker", "s3cret").await?;
    worker.put("/a/allowed", "x", None).await?;
    ensure!(worker.put("/b/beside", "x", None).await.is_err());
    ensure!(etcd.keys("/").await? == ["/a/allowed"]);
    etcd.kill_member(0).await?;
    etcd.start_member(0).await?;
    ensure!(etcd.keys("/").await? == ["/a/allowed"], "it forgot");
    ensure!(etcd.authority_file()?.exists() && etcd.client_certificate_files()?.1.exists());
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_and_cuts_what_goes_through_it() -> Result<()> {
    let etcd = EtcdCluster::start(EtcdOptions::single()).await?;
    let gate = TcpGate::start(etcd.addresses()[0]).await?;
    let url = format!("http://{}", gate.address());
    let limits = etcd_client::ConnectOptions::new().with_timeout(Duration::from_secs(30));
    let mut client = etcd_client::Client::connect([url], Some(limits)).await?;
    client.put("/k", "1", None).await?;
    gate.set_network(Network::Stall);
    let mut held = client.clone();
    let held = tokio::spawn(async move { held.put("/k", "2", None).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(!held.is_finished() && etcd.entries("/k").await?[0].value == "1", "it went through");
    gate.heal();
    held.await??;
    ensure!(etcd.entries("/k").await?[0].value == "2");
    for network in [Network::Refuse, Network::Reset] {
        gate.set_network(network);
        ensure!(client.put("/k", "3", None).await.is_err(), "{network:?}");
        gate.heal();
        wait::until("calls to succeed again", SOON, async || client.put("/k", "4", None).await).await?;
    }
    Ok(())
}
