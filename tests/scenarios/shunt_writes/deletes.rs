//! DELETE through the shunt: one rule for GET, HEAD, LIST and DELETE.

use anyhow::{Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, Gate, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::swift_client::SwiftClient;

use super::{Front, SOON};

/// Fails unless nobody sees the object any more, here or there.
async fn expect_nowhere(front: &Front, name: &str) -> Result<()> {
    front.expect_gone(name).await?;
    for method in ["GET", "HEAD", "DELETE"] {
        let answer = front.client.object_request(method, "c", name, "", &[], None).await?;
        ensure!(answer.status == 404, "{method} {name}: {}", answer.status);
    }
    let listed = front.client.list("c").await?;
    ensure!(listed.iter().all(|entry| entry.name != name), "{name} is listed");
    ensure!(front.site.bucket.head(&front.key(name)).await?.is_none(), "{name} is on the remote");
    Ok(())
}

#[tokio::test]
async fn a_deleted_object_is_gone_here_and_there() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let front = Front::start(server).await?;
        for name in ["archived", "é +%25", "restored", "local"] {
            front.archive(name, b"content", &[]).await?;
        }
        front.read("restored", b"content").await?;
        front.wait_local("restored", b"content").await?;
        front.site.swift.put_object("c", "local", "newer", &[("Content-Length", "5")]).await?;
        for name in ["archived", "é +%25", "restored", "local"] {
            let deleted = front.client.delete_object("c", name).await?;
            ensure!(deleted.status == 204, "{name}: {}", deleted.status);
            expect_nowhere(&front, name).await?;
        }
        // The workers find the tombstones, and nothing to do.
        front.site.sync().await?;
        for name in ["archived", "restored", "local"] {
            expect_nowhere(&front, name).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_newer_write_that_was_carried_meanwhile_survives() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"old", &[]).await?;
    // The delete reaches Swift, and before the remote is asked again somebody writes, and a worker carries and archives that.
    let gate = Gate::new();
    let held =
        front.site.faults.inject(Rule::new(Fault::Hold(gate.clone())).on(Operation::Head).after(1).times(1));
    let newer = async {
        gate.wait_held(1, SOON).await?;
        let copy = SwiftClient::new(&front.site.cluster.internal_url()?, front.site.swift.account(), None)?;
        copy.put_object("c", "o", "newer", &[("Content-Length", "5")]).await?;
        front.site.bucket.put(&front.key("o"), "newer", &[], None).await?;
        gate.open();
        Ok(())
    };
    let (deleted, ()) = tokio::try_join!(front.client.delete_object("c", "o"), newer)?;
    front.site.faults.remove(held);
    ensure!(deleted.status == 204, "the old one is gone");
    let remote = front.site.bucket.get(&front.key("o")).await?;
    ensure!(remote.is_some_and(|remote| remote.body == "newer"), "the newer one was deleted");
    ensure!(front.site.swift.get_object("c", "o").await?.body == "newer", "the newer one is not local");
    Ok(())
}

#[tokio::test]
async fn a_remote_that_fails_is_never_told_as_deleted() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("before", b"content", &[]).await?;
    front.archive("after", b"content", &[]).await?;
    let down = front.site.faults.inject(Rule::new(Fault::error(500, "InternalError")).on(Operation::Head));
    let refused = front.client.delete_object("c", "before").await?;
    ensure!(refused.status == 503 && refused.header("retry-after").is_some(), "{}", refused.status);
    front.site.faults.remove(down);
    let down = front.site.faults.inject(Rule::new(Fault::error(403, "AccessDenied")).on(Operation::Delete));
    let refused = front.client.delete_object("c", "after").await?;
    ensure!(refused.status == 503, "{}", refused.status);
    front.site.faults.remove(down);
    for name in ["before", "after"] {
        let deleted = super::wait::until("a delete that succeeds", SOON, async || {
            let answer = front.client.delete_object("c", name).await?;
            ensure!(answer.status == 204, "{name}: {}", answer.status);
            Ok::<_, anyhow::Error>(answer)
        });
        deleted.await?;
        expect_nowhere(&front, name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_merge_writes_the_remote_copy_stays() -> Result<()> {
    let plain = |mapping: swift_s3_tests::sync_json::MappingJson| mapping.without("merge_writes");
    let front = Front::with(S3ServerKind::Memory, plain).await?;
    front.archive("o", b"content", &[]).await?;
    ensure!(front.client.delete_object("c", "o").await?.status == 404, "Swift has nothing to delete");
    let posted = front.client.object_request("POST", "c", "o", "", &[("X-Object-Meta-A", "1")], None).await?;
    ensure!(posted.status == 404, "{}", posted.status);
    front.read("o", b"content").await?;
    Ok(())
}

#[tokio::test]
async fn whoever_swift_does_not_know_causes_no_request_to_the_remote() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"content", &[]).await?;
    let config = swift_s3_tests::sync_json::SyncJson::new().mapping(super::archived(front.site.mapping("c")));
    let options = swift_s3_tests::shunt_process::ShuntOptions::new(&front.site.cluster.proxy_url(), config);
    let folder = front.site.directory().folder("guarded")?;
    let shunt = swift_s3_tests::shunt_process::Shunt::start(folder, options).await?;
    let stranger = SwiftClient::new(&shunt.url()?, front.site.swift.account(), None)?;
    front.site.faults.forget();
    for query in ["", "multipart-manifest=delete"] {
        let refused = stranger.object_request("DELETE", "c", "o", query, &[], None).await?;
        ensure!(refused.status == 401 || refused.status == 200, "{query}: {}", refused.status);
    }
    let posted = stranger.object_request("POST", "c", "o", "", &[("X-Object-Meta-A", "1")], None).await?;
    ensure!(posted.status == 401, "{}", posted.status);
    let asked = front.site.faults.seen();
    ensure!(asked.is_empty(), "{asked:?}");
    front.read("o", b"content").await?;
    Ok(())
}
