//! A remote that fails: a client is told, and nothing short looks whole.

use anyhow::Result;
use swift_s3_tests::fault_proxy::{Fault, Network, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_remote::KEY;

use super::{Merged, get, header, lines};

/// Faults of the remote, the name of each, and whether the breaker notices.
fn faults() -> [(&'static str, Fault); 5] {
    [
        ("unavailable", Fault::error(503, "ServiceUnavailable")),
        ("denied", Fault::denied()),
        ("without its bucket", Fault::error(404, "NoSuchBucket")),
        ("broken", Fault::error(500, "InternalError")),
        ("cut", Fault::TruncateAnswer(100)),
    ]
}

#[tokio::test]
async fn a_remote_that_cannot_be_listed_is_an_error() -> Result<()> {
    for (name, fault) in faults() {
        let merged = Merged::start(S3ServerKind::Memory).await?;
        merged.put_local("c", ["local"]).await?;
        merged.put_remote(["archived"]).await?;
        merged.site.faults.inject(Rule::new(fault).on(Operation::List));
        let answer = merged.get("").await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 503, "{name}: {text}");
        assert!(text.contains("remote store") && !text.contains("local"), "{name}: {text}");
        assert!(!header(&answer.headers, "x-trans-id").is_empty(), "{name}");
        merged.site.faults.heal();
        // The breaker may have opened meanwhile, for a second at first.
        swift_s3_tests::wait::until(
            "the remote to be used again",
            std::time::Duration::from_secs(20),
            async || {
                anyhow::ensure!(merged.names("").await? == ["archived", "local"]);
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn by_policy_local_names_are_listed_and_marked_as_partial() -> Result<()> {
    let local = |mapping: swift_s3_tests::sync_json::MappingJson| mapping.set("merge_failure", "local");
    let merged = Merged::with(S3ServerKind::Memory, &[], local).await?;
    merged.put_local("c", ["local"]).await?;
    merged.put_remote(["archived"]).await?;
    let whole = merged.get("").await?.success()?;
    assert_eq!(header(&whole.headers, "x-cloud-sync-listing"), "");
    merged.site.faults.set_network(Network::Refuse);
    let answer = merged.get("").await?.success()?;
    assert_eq!(lines(&answer)?, ["local"]);
    assert_eq!(header(&answer.headers, "x-cloud-sync-listing"), "partial");
    Ok(())
}

#[tokio::test]
async fn a_remote_that_hangs_is_given_up() -> Result<()> {
    let merged = Merged::with(S3ServerKind::Memory, &["--listing-timeout", "2"], |mapping| mapping).await?;
    merged.put_local("c", ["local"]).await?;
    for fault in [Fault::Stall, Fault::StallAnswer(100)] {
        let rule = merged.site.faults.inject(Rule::new(fault).on(Operation::List));
        let answer = merged.get("").await?;
        assert_eq!(answer.status, 503);
        merged.site.faults.remove(rule);
    }
    Ok(())
}

#[tokio::test]
async fn a_remote_that_fails_midway_leaves_no_short_page() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    let remote: Vec<String> = (0..2_200).map(|number| format!("{number:05}")).collect();
    merged.put_remote(remote.iter().map(String::as_str)).await?;
    merged.put_local("c", ["local"]).await?;
    let rule = Rule::new(Fault::error(500, "InternalError")).on(Operation::List).after(2);
    merged.site.faults.inject(rule);
    let answer = merged.get("").await?;
    assert_eq!(answer.status, 503);
    // What the first page alone decides needs no second.
    merged.site.faults.heal();
    merged.site.faults.inject(Rule::new(Fault::error(500, "InternalError")).on(Operation::List).after(1));
    assert_eq!(merged.names("limit=500").await?.len(), 500);
    Ok(())
}

#[tokio::test]
async fn swifts_own_errors_stand_and_nothing_remote_shows() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.put_remote(["secret"]).await?;
    let absent = get(&merged.client, "other", "", &[]).await?;
    assert_eq!(absent.status, 404);
    merged.site.swift.delete_container("c").await?.success()?;
    let gone = merged.get("").await?;
    assert_eq!(gone.status, 404);
    assert!(!String::from_utf8_lossy(&gone.body).contains("secret"));
    Ok(())
}

#[tokio::test]
async fn only_who_may_list_the_container_sees_archived_names() -> Result<()> {
    use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
    use swift_s3_tests::sync_json::SyncJson;

    let merged = Merged::start(S3ServerKind::Memory).await?;
    let account = "AUTH_scenario190";
    let site = &merged.site;
    let mapping = site.mapping("c").set("account", account).set("merge_namespaces", true);
    let options = ShuntOptions::new(&site.cluster.proxy_url(), SyncJson::new().mapping(mapping));
    let shunt = Shunt::start(site.directory().folder("shunt-auth")?, options).await?;
    let owner = SwiftClient::log_in(&shunt.url()?, "scenario190:tester", KEY).await?;
    let other = SwiftClient::log_in(&shunt.url()?, "scenario191:tester", KEY).await?;
    owner.put_container("c").await?;
    let keys = swift_s3_policy::KeyMapping::new(account, "c", None);
    site.bucket.put(&keys.object_key("secret"), "x", &[], None).await?;
    let names: Vec<String> = owner.list("c").await?.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["secret"]);

    let path = format!("/v1/{account}/c?format=json");
    let before = site.faults.requests();
    let anonymous = owner.send_raw("GET", &path, &[], None).await?;
    assert_eq!(anonymous.status, 401);
    assert_eq!(site.faults.requests().since(&before).total(), 0, "the remote was asked for nobody");
    let token = other.token().unwrap_or_default().to_owned();
    let stranger = owner.send_raw("GET", &path, &[("X-Auth-Token", &token)], None).await?;
    assert_eq!(stranger.status, 403);
    for answer in [&anonymous, &stranger] {
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    // An ACL that lets everybody list lets them see archived names, too.
    owner.post_container("c", &[("X-Container-Read", ".r:*,.rlistings")]).await?.success()?;
    let listed = owner.send_raw("GET", &path, &[], None).await?.success()?;
    assert!(String::from_utf8_lossy(&listed.body).contains("secret"));
    Ok(())
}

#[tokio::test]
async fn logs_of_failing_listings_hold_no_secret() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.site.faults.inject(Rule::new(Fault::denied()).on(Operation::List));
    assert_eq!(merged.get("").await?.status, 503);
    let log = merged.shunt.log_text();
    assert!(log.contains("could not be listed"), "{log}");
    assert!(!log.contains(&merged.site.access().secret), "{log}");
    Ok(())
}
