//! Overwrites, changes of metadata, changes of kind and deletes of large objects.

use swift_s3_tests::operation::{Operation, RequestCounts};

use super::*;

fn bodies(requests: &RequestCounts) -> u64 {
    [Operation::Put, Operation::CreateMultipart, Operation::CompleteMultipart]
        .map(|operation| requests.of(operation))
        .iter()
        .sum()
}

async fn two_segments(site: &Site) -> Result<Vec<Value>> {
    Ok(vec![segment(site, "1", filled(5 * MIB, 1)).await?, segment(site, "2", filled(2000, 2)).await?])
}

#[tokio::test]
async fn what_is_there_already_is_not_sent_again() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = large(server).await?;
        let entries = two_segments(&site).await?;
        put_slo(&site.swift, "c", "classic", &entries, &[]).await?;
        put_slo(&site.swift, "c", "cut", &[entries[1].clone(), entries[0].clone()], &[]).await?;
        site.sync().await?;
        let companion_key = keys(&site).manifest_key("classic").context("no key")?;
        for lost_companion in [false, true] {
            for worker in &site.workers {
                worker.forget()?;
            }
            if lost_companion {
                site.bucket.delete(&companion_key).await?;
            }
            site.faults.forget();
            site.sync().await?;
            let requests = site.faults.requests();
            ensure!(bodies(&requests) == u64::from(lost_companion), "{server:?}: {requests}");
            expect_carried(&site, "classic").await?;
            expect_carried(&site, "cut").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn changed_metadata_are_set_by_copies_and_no_content_is_sent() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = large(server).await?;
        let entries = two_segments(&site).await?;
        put_slo(&site.swift, "c", "classic", &entries, &[("X-Object-Meta-A", "1")]).await?;
        put_slo(&site.swift, "c", "cut", &[entries[1].clone(), entries[0].clone()], &[]).await?;
        site.sync().await?;
        let before = remote(&site, "classic").await?;
        for name in ["classic", "cut"] {
            site.swift
                .post_object("c", name, &[("X-Object-Meta-A", "2"), ("Content-Type", "test/new")])
                .await?;
        }
        site.faults.forget();
        site.sync().await?;
        let after = expect_carried(&site, "classic").await.with_context(|| format!("{server:?}"))?;
        expect_carried(&site, "cut").await?;
        ensure!(after.etag == before.etag, "{} became {}", before.etag, after.etag);
        ensure!(after.metadata["a"] == "2" && after.metadata["x-static-large-object"] == "True");
        let sent = site.faults.seen().into_iter().filter(|seen| {
            let is_body = matches!(seen.operation, Operation::Put | Operation::UploadPart);
            is_body && seen.header("x-amz-copy-source").is_none()
        });
        let sent: Vec<String> = sent.map(|seen| seen.target).collect();
        ensure!(sent.is_empty(), "{server:?}: content was sent: {sent:?}");
        let requests = site.faults.requests();
        ensure!(requests.of(Operation::UploadPart) == 2 && requests.of(Operation::Copy) == 1, "{requests}");
    }
    Ok(())
}

#[tokio::test]
async fn objects_change_their_kind_and_leave_no_companion() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let entries = two_segments(&site).await?;
    segment(&site, "d/1", b"dynamic".to_vec()).await?;
    let dlo = [("X-Object-Manifest", "s/d/"), ("Content-Length", "0")];

    put_slo(&site.swift, "c", "o", &entries, &[]).await?;
    site.sync().await?;
    expect_carried(&site, "o").await.context("static")?;
    put_slo(&site.swift, "c", "o", &entries[1..], &[]).await?;
    site.sync().await?;
    expect_carried(&site, "o").await.context("a smaller static one")?;
    site.swift.put_object("c", "o", "", &dlo).await?;
    site.sync().await?;
    let remote_object = expect_carried(&site, "o").await.context("dynamic")?;
    ensure!(!remote_object.metadata.contains_key("x-static-large-object"), "{:?}", remote_object.metadata);
    for (content, forget) in [("plain", false), ("other", true)] {
        if forget {
            put_slo(&site.swift, "c", "o", &entries, &[]).await?;
            site.sync().await?;
            expect_carried(&site, "o").await.context("static again")?;
        }
        site.swift.put_object("c", "o", content, &[]).await?;
        if forget {
            // Nothing is known of what this replaces.
            for worker in &site.workers {
                worker.forget()?;
            }
        }
        site.sync().await?;
        site.expect_equal("c").await?;
        ensure!(companion(&site, "o").await?.is_none(), "the companion is left, forget {forget}");
    }
    put_slo(&site.swift, "c", "o", &entries, &[]).await?;
    site.sync().await?;
    site.swift.delete_object("c", "o").await?.success()?;
    site.sync().await?;
    ensure!(site.bucket.keys("").await?.is_empty(), "{:?}", site.bucket.keys("").await?);
    Ok(())
}
