//! Remote containers: made when they are needed, with the metadata of the local ones.

use anyhow::Result;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_remote::{KEY, RESELLER_ADMIN};

use super::Pair;

#[tokio::test]
async fn every_container_of_an_account_gets_its_own_with_the_prefix() -> Result<()> {
    let pair = Pair::start().await?;
    pair.map("/*", "crazy-target:", |mapping| mapping.set("storage_policy", "silver"))?;
    for (container, names) in [("slashc1", ["a", "b"].as_slice()), ("slashc2", ["c"].as_slice())] {
        pair.site.swift.put_container(container).await?;
        for name in names {
            pair.site.swift.put_object(container, name, *name, &[]).await?;
        }
    }
    pair.sync().await?;
    assert_eq!(pair.names("crazy-target:slashc1").await?, ["a", "b"]);
    assert_eq!(pair.names("crazy-target:slashc2").await?, ["c"]);
    let containers = pair.remote.swift.list_containers().await?;
    assert_eq!(
        containers,
        ["crazy-target:slashc1", "crazy-target:slashc2"],
        "an empty container is not carried"
    );
    let head = pair.remote.swift.head_container("crazy-target:slashc1").await?;
    assert_eq!(head.header("x-storage-policy"), Some("silver"));
    Ok(())
}

#[tokio::test]
async fn an_unknown_storage_policy_creates_nothing_and_is_tried_again() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping.set("storage_policy", "unobtainium")).await?;
    pair.site.swift.put_object("c", "o", "x", &[]).await?;
    let mut told = false;
    for worker in &pair.site.workers {
        let outcome = worker.run_once().await?;
        told |= outcome.code != 0 && worker.log_text().contains("unobtainium");
    }
    assert!(told, "some worker names the policy");
    assert_eq!(pair.remote.swift.head_container("copies").await?.status, 404);
    pair.map("c", "copies", |mapping| mapping.set("storage_policy", "silver"))?;
    pair.sync().await?;
    pair.expect_same("o").await
}

#[tokio::test]
async fn metadata_and_access_lists_of_a_container_are_carried_once() -> Result<()> {
    let pair =
        Pair::mapped(|mapping| mapping.set("sync_container_metadata", true).set("sync_container_acl", true))
            .await?;
    let set = [
        ("X-Container-Meta-Color", "Grün"),
        ("X-Container-Meta-Gone", "soon"),
        ("X-Container-Meta-Temp-URL-Key", "hunter2"),
        ("X-Container-Read", ".r:*,.rlistings"),
        ("X-Container-Write", "AUTH_x:y"),
    ];
    // Swift takes access lists from owners only, and shows them to nobody else.
    let proxy = pair.site.cluster.proxy_url();
    let admin = SwiftClient::log_in(&proxy, RESELLER_ADMIN.0, RESELLER_ADMIN.1).await?;
    let local_owner = SwiftClient::new(&proxy, pair.site.swift.account(), admin.token().map(str::to_owned))?;
    local_owner.post_container("c", &set).await?.success()?;
    pair.site.swift.put_object("c", "o", "x", &[]).await?;
    pair.sync().await?;
    let owner = SwiftClient::log_in(&pair.remote.cluster.proxy_url(), pair.remote.user(), KEY).await?;
    let head = owner.head_container("copies").await?;
    assert_eq!(head.header("x-container-meta-color"), Some("Grün"));
    assert_eq!(head.header("x-container-read"), Some(".r:*,.rlistings"));
    assert_eq!(head.header("x-container-write"), Some("AUTH_x:y"));
    assert_eq!(head.header("x-container-meta-temp-url-key"), None, "a secret stays here");
    pair.expect_same("o").await?;
    pair.site.swift.put_object("c", "p", "progress", &[]).await?;
    let posts = |asked: &[String]| asked.iter().filter(|request| request.starts_with("POST")).count();
    let asked = pair.sync().await?;
    assert_eq!(posts(&asked), 0, "{asked:?}");
    pair.site.swift.post_container("c", &[("X-Container-Meta-Gone", "")]).await?.success()?;
    pair.remote
        .swift
        .post_container("copies", &[("X-Container-Meta-Of-The-Remote", "kept")])
        .await?
        .success()?;
    pair.sync().await?;
    let head = pair.remote.swift.head_container("copies").await?;
    assert_eq!(head.header("x-container-meta-gone"), None);
    assert_eq!(head.header("x-container-meta-of-the-remote"), Some("kept"));
    Ok(())
}

#[tokio::test]
async fn what_the_mapping_does_not_want_of_a_container_stays_here() -> Result<()> {
    let set = [("X-Container-Meta-Color", "red"), ("X-Container-Read", ".r:*")];
    for (metadata, expected) in [(true, Some("red")), (false, None)] {
        let pair = Pair::mapped(|mapping| {
            mapping.set("sync_container_metadata", metadata).set("sync_container_acl", false)
        })
        .await?;
        pair.site.swift.post_container("c", &set).await?.success()?;
        pair.site.swift.put_object("c", "o", "x", &[]).await?;
        pair.sync().await?;
        let head = pair.remote.swift.head_container("copies").await?;
        assert_eq!(head.header("x-container-meta-color"), expected);
        let owner = SwiftClient::log_in(&pair.remote.cluster.proxy_url(), pair.remote.user(), KEY).await?;
        assert_eq!(owner.head_container("copies").await?.header("x-container-read"), None);
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_with_a_container_does_not_stop_its_objects() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping.set("sync_container_metadata", true)).await?;
    pair.site.swift.post_container("c", &[("X-Container-Meta-Color", "red")]).await?.success()?;
    pair.site.swift.put_object("c", "o", "x", &[]).await?;
    pair.remote.faults.inject(Rule::new(Fault::Error { status: 500, code: "no".into() }).method("POST"));
    for worker in &pair.site.workers {
        let outcome = worker.run_once().await?;
        assert_eq!(outcome.code, 1, "it is told");
    }
    pair.expect_same("o").await?;
    pair.remote.faults.heal();
    pair.sync().await?;
    let head = pair.remote.swift.head_container("copies").await?;
    assert_eq!(head.header("x-container-meta-color"), Some("red"));
    Ok(())
}
