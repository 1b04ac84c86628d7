//! The shunt away, the remote breaking.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use super::{archived_site, open};

/// The filter looks for a new list of containers every five seconds.
const LIST_LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn without_the_shunt_the_filter_claims_nothing_is_gone() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let open = open(Door::Filter, &site).await?;
    let client = open.client().await?;
    ensure!(client.get_object("box", "plain").await?.status == 200);
    open.shunt.stop().await?;
    for (container, name, status) in [
        ("box", "plain", 503),
        ("box", "never there", 503),
        ("box", "local", 200),
        ("desk", "other", 200),
        ("desk", "never there", 404),
    ] {
        let got = client.get_object(container, name).await?;
        ensure!(got.status == status, "{container}/{name}: {got:?}");
        let head = client.head_object(container, name).await?;
        ensure!(head.status == status && head.body.is_empty(), "{container}/{name}: {head:?}");
        ensure!(status != 503 || got.header("retry-after").is_some(), "{got:?}");
    }
    ensure!(client.list("box").await.is_err());
    ensure!(client.list("desk").await?.len() == 1);
    client.put_object("box", "new", "written meanwhile", &[]).await?;
    ensure!(client.get_object("box", "new").await?.body == "written meanwhile");
    open.shunt.restart().await?;
    ensure!(client.get_object("box", "plain").await?.body == "content of plain");
    ensure!(client.get_object("box", "never there").await?.status == 404);
    Ok(())
}

#[tokio::test]
async fn a_killed_shunt_leaves_a_socket_that_the_next_one_replaces() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let open = open(Door::Filter, &site).await?;
    let client = open.client().await?;
    ensure!(client.get_object("box", "plain").await?.status == 200);
    open.shunt.kill().await?;
    ensure!(client.get_object("box", "plain").await?.status == 503);
    open.shunt.restart().await?;
    ensure!(client.get_object("box", "plain").await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn new_mappings_reach_the_filter() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let open = open(Door::Filter, &site).await?;
    let client = open.client().await?;
    open.shunt.configure(&SyncJson::new())?;
    wait::until("the mapping gone", LIST_LIMIT, async || {
        let got = client.get_object("box", "plain").await?;
        ensure!(got.status == 404, "{}", got.status);
        Ok(())
    })
    .await?;
    let config = SyncJson::new().mapping(super::merged(&site));
    open.shunt.configure(&config)?;
    wait::until("the mapping back", LIST_LIMIT, async || {
        let got = client.get_object("box", "plain").await?;
        ensure!(got.status == 200, "{}", got.status);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_remote_that_breaks_for_good_never_gives_a_clean_short_body() -> Result<()> {
    const LENGTH: u64 = 3 << 20;
    let site = archived_site(S3ServerKind::Memory).await?;
    site.swift.put_object_stream("box", "big", LENGTH, 7, &[]).await?;
    site.sync().await?;
    ensure!(site.swift.head_object("box", "big").await?.status == 404);
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let client = open.client().await?;
        let whole = client.get_object("box", "big").await?;
        ensure!(u64::try_from(whole.body.len())? == LENGTH, "{door}");
        for at in [0, 1, 100_000, 1_000_000] {
            site.faults.inject(Rule::new(Fault::TruncateAnswer(at)).on(Operation::Get));
            let got = client.get_object("box", "big").await;
            // A content that breaks again and again is resumed as long as it comes on, which the last of these does.
            match got {
                Err(_) => {}
                Ok(got) if got.status == 200 => {
                    ensure!(got.body == whole.body, "{door}: at {at}: {}", got.body.len());
                }
                Ok(got) => ensure!((500..600).contains(&got.status), "{door}: at {at}: {}", got.status),
            }
            site.faults.heal();
        }
        // One break is made good, or is as visible as these.
        site.faults.inject(Rule::new(Fault::TruncateAnswer(1_000_000)).on(Operation::Get).times(1));
        if let Ok(got) = client.get_object("box", "big").await {
            ensure!(got.body == whole.body, "{door}: {}", got.body.len());
        }
        site.faults.heal();
        let got = client.get_object("box", "big").await.context("after the faults")?;
        ensure!(got.body == whole.body, "{door}");
    }
    Ok(())
}

#[tokio::test]
async fn a_remote_that_refuses_is_no_404_and_no_403() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let client = open.client().await?;
        for fault in [Fault::denied(), Fault::error(500, "InternalError"), Fault::Reset] {
            let shown = format!("{door}: {fault:?}");
            site.faults.inject(Rule::new(fault));
            let got = client.get_object("box", "plain").await?;
            ensure!(matches!(got.status, 502 | 503), "{shown}: {got:?}");
            let head = client.head_object("box", "plain").await?;
            ensure!(matches!(head.status, 502 | 503) && head.body.is_empty(), "{shown}: {head:?}");
            ensure!(client.get_object("box", "local").await?.status == 200, "{shown}");
            site.faults.heal();
            wait::until("the remote again", LIST_LIMIT, async || {
                let got = client.get_object("box", "plain").await?;
                ensure!(got.status == 200, "{}", got.status);
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn by_a_port_only_those_with_the_token_are_answered() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let config = SyncJson::new().mapping(super::merged(&site));
    let open = OpenDoor::open_by_port(&site, &config).await?;
    let client = open.client().await?;
    ensure!(client.get_object("box", "plain").await?.body == "content of plain");
    ensure!(client.list("box").await?.len() == 6);
    // Another user of the machine finds the port.
    let url = open.shunt.filter_url()?;
    let stranger = SwiftClient::new(&url, site.swift.account(), None)?;
    let path = format!("/v1/{}/box/plain", site.swift.account());
    site.faults.forget();
    for token in [None, Some("Bearer wrong"), Some("a-word-of-its-own"), Some("Bearer ")] {
        for path in [path.as_str(), "/shunt/v1/containers", "/shunt/v1/restore/x"] {
            let mut headers = vec![("X-Shunt-Step", "miss")];
            headers.extend(token.map(|token| ("Authorization", token)));
            let got = stranger.send_raw("GET", path, &headers, None).await?;
            ensure!(got.status == 401, "{token:?}: {path}: {got:?}");
        }
    }
    ensure!(site.faults.requests().total() == 0, "{}", site.faults.requests());
    Ok(())
}
