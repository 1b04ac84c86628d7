//! What is our own sees the truth, not what a shunt makes of it.

use anyhow::{Result, ensure};
use swift_s3_policy::{KeyMapping, SwiftAuth};
use swift_s3_store::swift;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_remote::{KEY, SwiftRemote, settings};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};

use super::archived;
use crate::CLUSTER;

#[tokio::test]
async fn a_swift_remote_behind_a_shunt_shows_only_its_own_objects() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let site = Site::on(cluster.clone(), S3ServerKind::Memory).await?;
    let remote = SwiftRemote::on(cluster.clone()).await?;
    let account = remote.swift.account();
    remote.swift.put_container("c").await?;
    remote.swift.put_object("c", "here", "local", &[("Content-Length", "5")]).await?;
    let key = KeyMapping::new(account, "c", None).object_key("archived");
    site.bucket.put(&key, "content", &[], None).await?;
    let mapping = archived(MappingJson::new(account, "c", &site.access(), site.bucket.bucket()));
    let options = ShuntOptions::new(&cluster.proxy_url(), SyncJson::new().mapping(mapping));
    let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
    let client = SwiftClient::log_in(&shunt.url()?, remote.user(), KEY).await?;
    ensure!(client.get_object("c", "archived").await?.status == 200, "clients see it");
    let auth_url = format!("{}/auth/v1.0", shunt.url()?);
    let store = swift::open(&settings(&auth_url, SwiftAuth::V1, (remote.user(), KEY))).await?;
    ensure!(store.head("c/here").await?.is_some(), "its own object is not seen");
    ensure!(store.head("c/archived").await?.is_none(), "an archived object is taken for its own");
    ensure!(store.get("c/archived", None).await?.is_none(), "an archived object is taken for its own");
    let listed = store.list("c/", None, 1000).await?;
    let names: Vec<&str> = listed.entries.iter().map(|entry| entry.key.as_str()).collect();
    ensure!(names == ["c/here"], "{names:?}");
    Ok(())
}
