//! Archiving: the local copy goes when, and only when, S3 holds exactly that write.

mod races;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use swift_s3_policy::{KeyMapping, Timestamp};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::MappingJson;

use crate::CLUSTER;
use crate::worker_state::expect_parked;

/// A site with an empty container `c` that is archived.
async fn archive(server: S3ServerKind) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    site.swift.put_container("c").await?;
    site.map([archived(&site)])?;
    Ok(site)
}

fn archived(site: &Site) -> MappingJson {
    site.mapping("c").set("retain_local", false)
}

fn key(site: &Site, name: &str) -> String {
    KeyMapping::new(site.swift.account(), "c", None).object_key(name)
}

/// Fails unless the object is gone locally, listing included, and S3 has this content and mark.
async fn expect_archived(site: &Site, name: &str, content: &str, mark: Option<&str>) -> Result<()> {
    let local = site.swift.get_object("c", name).await?;
    ensure!(local.status == 404, "{name}: {} locally", local.status);
    let listed = site.swift.list("c").await?;
    ensure!(listed.iter().all(|entry| entry.name != name), "{name} is listed");
    let remote = site.bucket.get(&key(site, name)).await?.with_context(|| format!("S3 has no {name}"))?;
    ensure!(remote.body == content, "{name}: S3 has {:?}", remote.body);
    let found = remote.metadata.get("mark").map(String::as_str);
    ensure!(found == mark, "{name}: mark {found:?}, expected {mark:?}");
    Ok(())
}

/// Fails unless the object is there locally, with this content.
async fn expect_kept(site: &Site, name: &str, content: &str) -> Result<()> {
    let local = site.swift.get_object("c", name).await?;
    ensure!(local.status == 200 && local.body == content, "{name}: {} {:?}", local.status, local.body);
    ensure!(site.swift.list("c").await?.iter().any(|entry| entry.name == name), "{name} is not listed");
    Ok(())
}

#[tokio::test]
async fn an_archived_object_is_gone_locally_and_complete_in_s3() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::S3sFs, S3ServerKind::Moto] {
        let site = archive(server).await?;
        let objects = [("plain", "content"), ("empty", ""), ("é +%25", "odd")];
        for (name, content) in objects {
            let length = content.len().to_string();
            let headers = [("X-Object-Meta-Mark", "m"), ("Content-Length", length.as_str())];
            site.swift.put_object("c", name, content, &headers).await?;
        }
        site.sync().await?;
        for (name, content) in objects {
            expect_archived(&site, name, content, Some("m")).await.with_context(|| format!("{server:?}"))?;
        }
        let head = site.swift.head_container("c").await?;
        ensure!(head.header("x-container-object-count") == Some("0"), "{:?}", head.headers);
    }
    Ok(())
}

#[tokio::test]
async fn the_local_delete_is_dated_right_after_the_archived_write() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    // Recent: of older deletes Swift keeps no trace.
    let written = format!("{}.12345", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 100);
    site.swift.put_object("c", "dated", "x", &[("X-Timestamp", &written)]).await?;
    site.sync().await?;
    expect_archived(&site, "dated", "x", None).await?;
    for node in 0..3 {
        let names = [site.swift.account(), "c", "dated"];
        let local = site.cluster.direct_object("HEAD", node, names, 0, &[]).await?;
        let tombstone = local.header("x-backend-timestamp").unwrap_or_default().to_owned();
        ensure!(tombstone == format!("{written}_0000000000000001"), "node {node}: {tombstone:?}");
        let rows = site.cluster.container_rows(site.swift.account(), "c", node).await?;
        let dated = rows.iter().map(|row| row.created_at.parse::<Timestamp>());
        let dated = dated.collect::<std::result::Result<Vec<_>, _>>()?;
        ensure!(rows.iter().all(|row| row.deleted) && dated == [tombstone.parse()?], "node {node}: {rows:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_uploaded_before_is_archived_without_another_upload() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    site.map([site.mapping("c")])?;
    site.swift.put_object("c", "known", "content", &[("X-Object-Meta-Mark", "m")]).await?;
    site.sync().await?;
    site.expect_equal("c").await?;
    site.map([archived(&site)])?;
    site.faults.forget();
    site.sync().await?;
    expect_archived(&site, "known", "content", Some("m")).await?;
    let requests = site.faults.requests();
    ensure!(requests.of(Operation::Put) + requests.of(Operation::Copy) == 0, "{requests}");
    Ok(())
}

#[tokio::test]
async fn only_selected_objects_are_archived() -> Result<()> {
    let site = archive(S3ServerKind::Memory).await?;
    let either = json!({"OR": [{"x-object-meta-msd": "boo"}, {"x-object-meta-msd": "bár"}]});
    site.map([archived(&site).set("selection_criteria", either)])?;
    let values = [("one", "boo"), ("two", "bár"), ("three", "BÁR"), ("other", "foo"), ("longer", "boo!")];
    for (name, value) in values {
        site.swift.put_object("c", name, name, &[("X-Object-Meta-Msd", value)]).await?;
    }
    site.swift.put_object("c", "without", "without", &[]).await?;
    site.faults.forget();
    site.sync().await?;
    for name in ["one", "two", "three"] {
        expect_archived(&site, name, name, None).await?;
    }
    for name in ["other", "longer", "without"] {
        expect_kept(&site, name, name).await?;
        ensure!(site.bucket.head(&key(&site, name)).await?.is_none(), "{name} is in S3");
    }
    let asked = site.faults.seen().into_iter().find(|seen| seen.key.ends_with("other"));
    ensure!(asked.is_none(), "asked for what is not selected: {asked:?}");
    Ok(())
}

#[tokio::test]
async fn the_local_copy_stays_when_s3_says_it_holds_something_else() -> Result<()> {
    let lies = [
        ("wrong etag of a put", vec![Rule::new(Fault::wrong_etag()).on(Operation::Put)]),
        (
            "an opaque etag, then another length",
            vec![
                Rule::new(Fault::AnswerHeader("etag".to_owned(), "\"opaque-1\"".to_owned()))
                    .on(Operation::Put),
                Rule::new(Fault::AnswerHeader("content-length".to_owned(), "3".to_owned()))
                    .on(Operation::Head),
            ],
        ),
        (
            "an opaque etag, then another etag",
            vec![
                Rule::new(Fault::AnswerHeader("etag".to_owned(), "\"opaque-1\"".to_owned()))
                    .on(Operation::Put),
                Rule::new(Fault::wrong_etag()).on(Operation::Head),
            ],
        ),
    ];
    let site = archive(S3ServerKind::Memory).await?;
    for (name, rules) in lies {
        site.swift.put_object("c", name, "content", &[]).await?;
        for rule in rules {
            site.faults.inject(rule);
        }
        site.workers[0].run_once().await?.expect_code(1)?;
        expect_kept(&site, name, "content").await?;
        expect_parked(&site, "c", &[(name, "remote_mismatch")])?;
        site.faults.heal();
        site.sync().await?;
        expect_archived(&site, name, "content", None).await?;
        expect_parked(&site, "c", &[])?;
    }
    Ok(())
}
