//! Another Swift cluster as the remote: it knows more of its objects.

use anyhow::Result;
use serde_json::json;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{Response, SwiftClient};
use swift_s3_tests::swift_cluster::SharedCluster;
use swift_s3_tests::swift_remote::{SwiftRemote, remote_options};
use swift_s3_tests::sync_json::SyncJson;

use super::semantics::{LOCAL, QUERIES, REMOTE};
use super::{get, lines, texts};
use crate::CLUSTER;

static REMOTE_CLUSTER: SharedCluster = SharedCluster::new(remote_options);

/// The container `c`, merged with the container `copies` of another cluster.
struct Pair {
    _shunt: Shunt,
    client: SwiftClient,
    site: Site,
    remote: SwiftRemote,
}

impl Pair {
    async fn start() -> Result<Self> {
        let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
        let remote = SwiftRemote::on(REMOTE_CLUSTER.get().await?).await?;
        site.swift.put_container("c").await?;
        remote.swift.put_container("copies").await?;
        let mapping = remote.mapping(site.swift.account(), "c", "copies").set("merge_namespaces", true);
        let options = ShuntOptions::new(&site.cluster.internal_url()?, SyncJson::new().mapping(mapping));
        let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
        let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
        Ok(Self { _shunt: shunt, client, site, remote })
    }

    async fn get(&self, query: &str) -> Result<Response> {
        get(&self.client, "c", query, &[]).await
    }
}

#[tokio::test]
async fn a_listing_with_another_cluster_is_swifts_own_over_all_names() -> Result<()> {
    let pair = Pair::start().await?;
    pair.site.swift.put_container("all").await?;
    for name in LOCAL {
        pair.site.swift.put_object("c", name, name, &[]).await?;
        pair.site.swift.put_object("all", name, name, &[]).await?;
    }
    for name in REMOTE {
        pair.remote.swift.put_object("copies", name, name, &[]).await?;
        pair.site.swift.put_object("all", name, name, &[]).await?;
    }
    for query in QUERIES {
        let expected = get(&pair.site.swift, "all", query, &[]).await?;
        let answer = pair.get(query).await?;
        assert_eq!(answer.status, expected.status, "?{query}");
        assert_eq!(lines(&answer)?, lines(&expected)?, "?{query}");
    }
    Ok(())
}

#[tokio::test]
async fn entries_of_another_cluster_have_their_content_type() -> Result<()> {
    let pair = Pair::start().await?;
    pair.remote.swift.put_object("copies", "o", "content", &[("Content-Type", "text/x-own")]).await?;
    pair.remote.swift.put_object("copies", "d/1", "1", &[]).await?;
    let answer = pair.get("format=json&delimiter=/").await?.success()?;
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&answer.body)?;
    assert_eq!(texts(&entries), ["d/", "o"]);
    let location = format!("{};{};copies", pair.remote.auth_url(), pair.remote.user());
    assert_eq!(entries[0], json!({"subdir": "d/", "content_location": [location]}));
    let listed = pair.remote.swift.list("copies").await?;
    let own = listed.iter().find(|entry| entry.name == "o");
    assert_eq!(entries[1]["content_type"], "text/x-own");
    assert_eq!(entries[1]["bytes"], 7);
    assert_eq!(entries[1]["hash"].as_str(), own.map(|entry| entry.hash.as_str()));
    assert_eq!(entries[1]["last_modified"].as_str(), own.map(|entry| entry.last_modified.as_str()));
    assert_eq!(entries[1]["content_location"], json!([location]));
    Ok(())
}

#[tokio::test]
async fn a_remote_container_that_is_gone_is_an_error_and_not_empty() -> Result<()> {
    let pair = Pair::start().await?;
    pair.site.swift.put_object("c", "local", "x", &[]).await?;
    pair.remote.swift.delete_container("copies").await?.success()?;
    assert_eq!(pair.get("").await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn of_a_remote_container_that_is_missing_nothing_is_known_to_be_gone() -> Result<()> {
    let pair = Pair::start().await?;
    pair.remote.swift.delete_container("copies").await?.success()?;
    assert_eq!(pair.client.get_object("c", "o").await?.status, 502);
    assert_eq!(pair.client.head_object("c", "o").await?.status, 502);
    pair.remote.swift.put_container("copies").await?;
    assert_eq!(pair.client.get_object("c", "o").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn where_all_containers_are_mapped_one_without_copies_is_listed() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let remote = SwiftRemote::on(REMOTE_CLUSTER.get().await?).await?;
    let account = site.swift.account();
    let mapping = remote.mapping(account, "/*", "copies-").set("merge_namespaces", true);
    let options = ShuntOptions::new(&site.cluster.internal_url()?, SyncJson::new().mapping(mapping));
    let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
    let client = SwiftClient::new(&shunt.url()?, account, None)?;
    for container in ["new", "old"] {
        client.put_container(container).await?;
        client.put_object(container, "here", "x", &[]).await?;
    }
    remote.swift.put_container("copies-old").await?;
    remote.swift.put_object("copies-old", "there", "x", &[]).await?;
    assert_eq!(lines(&get(&client, "new", "", &[]).await?.success()?)?, ["here"]);
    assert_eq!(lines(&get(&client, "old", "", &[]).await?.success()?)?, ["here", "there"]);
    Ok(())
}

#[tokio::test]
async fn another_cluster_that_fails_is_an_error() -> Result<()> {
    let pair = Pair::start().await?;
    pair.remote.swift.put_object("copies", "o", "x", &[]).await?;
    assert_eq!(lines(&pair.get("").await?.success()?)?, ["o"]);
    for fault in [Fault::error(503, "x"), Fault::error(403, "x"), Fault::TruncateAnswer(20)] {
        let is_listing = |seen: &swift_s3_tests::fault_proxy::Seen| seen.target.contains("limit=");
        let rule = pair.remote.faults.inject(Rule::new(fault.clone()).when(is_listing));
        assert_eq!(pair.get("").await?.status, 503, "{fault:?}");
        pair.remote.faults.remove(rule);
    }
    Ok(())
}
