//! Where the shunt has its policy from, and what it does with a bad one.

use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Policy, Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use super::unique;
use crate::CLUSTER;

const LIMIT: Duration = Duration::from_secs(30);

/// A site with an archived object, and a shunt before the proxy without authentication.
async fn archived(container: &str) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container(container).await?;
    site.swift.put_object(container, "o", "content", &[]).await?;
    site.map([site.mapping(container).set("retain_local", false).set("propagate_delete", false)])?;
    site.sync().await?;
    assert_eq!(site.swift.head_object(container, "o").await?.status, 404);
    Ok(site)
}

fn merged(site: &Site, container: &str) -> SyncJson {
    SyncJson::new().mapping(
        site.mapping(container)
            .set("retain_local", false)
            .set("propagate_delete", false)
            .set("merge_namespaces", true),
    )
}

async fn wait_for_status(client: &SwiftClient, container: &str, status: u16) -> Result<()> {
    wait::until("the policy to be in force", LIMIT, async || {
        let found = client.get_object(container, "o").await?.status;
        ensure!(found == status, "status {found}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing() -> Result<()> {
    let container = unique("policy");
    let site = archived(&container).await?;
    let swift = site.cluster.internal_url()?;
    let folder = site.directory().folder("shunt")?;
    let shunt = Shunt::start(folder, ShuntOptions::new(&swift, SyncJson::new())).await?;
    let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
    assert_eq!(client.get_object(&container, "o").await?.status, 404);

    shunt.configure(&merged(&site, &container))?;
    wait_for_status(&client, &container, 200).await?;
    assert_eq!(client.get_object(&container, "o").await?.body, "content");

    let whole = std::fs::read_to_string(shunt.config_path())?;
    for broken in [whole.get(..whole.len() / 2).unwrap_or_default(), "", "[]", "{\"containers\": [{}]}"] {
        let before = shunt.log_text().matches("the configuration is not used").count();
        shunt.write_config(broken)?;
        shunt.reload()?;
        wait::until("the broken file to be told", LIMIT, async || {
            let told = shunt.log_text().matches("the configuration is not used").count();
            ensure!(told > before, "not told yet");
            Ok(())
        })
        .await?;
        assert_eq!(client.get_object(&container, "o").await?.status, 200, "after {broken:?}");
    }
    std::fs::remove_file(shunt.config_path())?;
    shunt.reload()?;
    assert_eq!(client.get_object(&container, "o").await?.status, 200);

    shunt.configure(&SyncJson::new())?;
    wait_for_status(&client, &container, 404).await
}

#[tokio::test]
async fn a_bad_file_is_refused_at_the_start_with_its_paths() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let folder = site.directory().folder("shunt")?;
    let config = SyncJson::new().mapping(
        site.mapping("c")
            .set("merge_namespaces", true)
            .set("merge_failure", "perhaps")
            .set("aws_secret", serde_json::json!({"file": "/none"})),
    );
    let Err(error) = Shunt::start(folder, ShuntOptions::new("http://127.0.0.1:9", config)).await else {
        anyhow::bail!("it started");
    };
    let told = format!("{error:#}");
    ensure!(told.contains("containers[0].merge_failure") && told.contains("perhaps"), "{told}");
    Ok(())
}

#[tokio::test]
async fn the_header_to_bypass_it_shows_swift_alone() -> Result<()> {
    let container = unique("policy-bypass");
    let site = archived(&container).await?;
    let folder = site.directory().folder("shunt")?;
    let options = ShuntOptions::new(&site.cluster.internal_url()?, merged(&site, &container));
    let shunt = Shunt::start(folder, options).await?;
    let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
    assert_eq!(client.get_object(&container, "o").await?.status, 200);
    let before = site.faults.requests().total();
    let path = format!("/v1/{}/{container}/o", site.swift.account());
    for (value, status) in [("true", 404), ("no", 404), ("", 200)] {
        let answer = client.send_raw("GET", &path, &[("X-Cloud-Sync-Shunt-Bypass", value)], None).await?;
        assert_eq!(answer.status, status, "{value:?}");
    }
    // Neither does a version that Swift does not know ask the remote.
    let other = path.replace("/v1/", "/v3/");
    assert_ne!(client.send_raw("GET", &other, &[], None).await?.status, 200);
    assert_eq!(site.faults.requests().total(), before + 1, "only the empty value was no bypass");
    Ok(())
}

#[tokio::test]
async fn a_control_plane_pushes_and_what_it_pushed_outlives_it() -> Result<()> {
    let container = unique("policy-control");
    let site = archived(&container).await?;
    let control = site.start_controlled(&SyncJson::new()).await?;
    let folder = site.directory().folder("shunt")?;
    let mut options = ShuntOptions::new(&site.cluster.internal_url()?, SyncJson::new());
    options.policy = Policy::Control(control.url());
    let shunt = Shunt::start(folder, options).await?;
    let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
    assert_eq!(client.get_object(&container, "o").await?.status, 404);

    control.apply(&merged(&site, &container)).await?;
    wait_for_status(&client, &container, 200).await?;

    control.kill().await?;
    assert_eq!(client.get_object(&container, "o").await?.status, 200);
    shunt.kill().await?;
    shunt.restart().await?;
    let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
    wait_for_status(&client, &container, 200).await?;

    control.restart().await?;
    control.apply(&SyncJson::new()).await?;
    wait_for_status(&client, &container, 404).await
}
