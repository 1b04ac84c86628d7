//! A full GET brings an archived object back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::swift_client::generated_pieces;
use swift_s3_tests::wait;

use super::{Front, SOON};
use crate::worker_state::expect_parked;

pub(super) fn generated(length: u64) -> Vec<u8> {
    let pieces: Vec<Bytes> = generated_pieces(length, 7).collect();
    pieces.concat()
}

fn seconds_now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

#[tokio::test]
async fn a_full_read_brings_an_object_back_as_it_was() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let front = Front::start(server).await?;
        let expires = (seconds_now()? + 100_000).to_string();
        let headers = [
            ("Content-Type", "text/html; charset=UTF-8"),
            ("Content-Encoding", "gzip"),
            ("Content-Disposition", "attachment; filename=\"x\""),
            ("X-Object-Meta-Colour", "grün"),
            ("X-Delete-At", expires.as_str()),
        ];
        let objects = [("plain", "content"), ("empty", ""), ("é +%25/../x", "odd")];
        for (name, content) in objects {
            front.archive(name, content.as_bytes(), &headers).await.with_context(|| format!("{server:?}"))?;
            let before = front.timestamp(name).await?;
            front.read(name, content.as_bytes()).await?;
            let local =
                front.wait_local(name, content.as_bytes()).await.with_context(|| format!("{server:?}"))?;
            for (header, value) in headers {
                let found = local.headers.get(header.to_lowercase());
                ensure!(
                    found.is_some_and(|found| found.as_bytes() == value.as_bytes()),
                    "{name}: {header} {found:?}"
                );
            }
            let (written, offset) = before.split_once('_').context("no tombstone of an archiver")?;
            ensure!(offset == "0000000000000001", "{before}");
            let restored = format!("{written}_0000000000000002");
            // Two of three nodes are enough for Swift's answer.
            wait::until("every node to have it", SOON, async || {
                let found = front.timestamp(name).await?;
                ensure!(found == restored, "{name}: {found}");
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            // Under load Swift tells its containers later.
            wait::until(&format!("{name} to be listed"), SOON, async || {
                let listed = front.site.swift.list("c").await?;
                ensure!(listed.iter().any(|entry| entry.name == name), "{name} is not listed");
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_object_that_came_back_is_archived_again_without_another_upload() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"content", &[("X-Object-Meta-Mark", "é")]).await?;
    for offset in [3, 5] {
        front.read("o", b"content").await?;
        front.wait_local("o", b"content").await?;
        front.site.faults.forget();
        front.site.sync().await?;
        front.expect_gone("o").await?;
        let requests = front.site.faults.requests();
        ensure!(requests.of(Operation::Put) + requests.of(Operation::Copy) == 0, "{requests}");
        let tombstone = front.timestamp("o").await?;
        ensure!(tombstone.ends_with(&format!("_{offset:016x}")), "{tombstone}");
    }
    // The archiver's tombstones are no deletes.
    front.site.sync().await?;
    ensure!(front.site.bucket.head(&front.key("o")).await?.is_some(), "the remote copy is gone");
    Ok(())
}

#[tokio::test]
async fn an_object_that_came_back_stays_for_copy_after() -> Result<()> {
    let later = |mapping: swift_s3_tests::sync_json::MappingJson| mapping.set("copy_after", 3600);
    let front = Front::with(S3ServerKind::Memory, later).await?;
    let written = format!("{}.00000", seconds_now()? - 7200);
    front.archive("o", b"content", &[("X-Timestamp", &written)]).await?;
    front.read("o", b"content").await?;
    front.wait_local("o", b"content").await?;
    for _ in 0..2 {
        front.site.faults.forget();
        // Exit code 0: waiting is no failure.
        front.site.sync().await?;
        front.wait_local("o", b"content").await?;
        expect_parked(&front.site, "c", &[("o", "restored")])?;
        ensure!(front.site.faults.requests().of(Operation::Put) == 0, "it was sent");
    }
    // A user's write is a write like any other.
    front.site.swift.post_object("c", "o", &[("X-Object-Meta-New", "1")]).await?;
    front.site.sync().await?;
    front.wait_local("o", b"content").await?;
    Ok(())
}

#[tokio::test]
async fn ranges_heads_and_conditions_that_fail_bring_nothing_back() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"content", &[]).await?;
    for (method, header, value, status) in [
        ("GET", "Range", "bytes=0-3", 206),
        ("HEAD", "X-Unused", "1", 200),
        ("GET", "If-None-Match", "9a0364b9e99bb480dd25e1f0284c8555", 304),
    ] {
        let answer = front.client.object_request(method, "c", "o", "", &[(header, value)], None).await?;
        ensure!(answer.status == status, "{method} {header}: {}", answer.status);
    }
    front.read("o", b"content").await?;
    front.wait_local("o", b"content").await?;
    ensure!(front.written_back().len() == 1, "{:?}", front.written_back());
    Ok(())
}

#[tokio::test]
async fn many_readers_bring_an_object_back_once() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(3 << 20);
    front.archive("o", &content, &[]).await?;
    front.inner.inject(Rule::new(Fault::Delay(Duration::from_millis(300))).method("HEAD"));
    let readers = (0..10).map(|_| front.read("o", &content));
    futures_util::future::try_join_all(readers).await?;
    front.wait_local("o", &content).await?;
    let written = front.written_back();
    ensure!(written.len() == 1, "{written:?}");
    Ok(())
}

#[tokio::test]
async fn a_restore_that_swift_refuses_costs_the_reader_nothing() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(3 << 20);
    front.archive("o", &content, &[]).await?;
    // As over a quota.
    front.inner.inject(Rule::new(Fault::error(413, "Quota")).method("PUT").times(1));
    front.read("o", &content).await?;
    front.wait_outcome("refused").await?;
    front.expect_gone("o").await?;
    front.read("o", &content).await?;
    front.wait_local("o", &content).await?;
    Ok(())
}

#[tokio::test]
async fn a_slow_swift_never_slows_the_reader_and_gets_the_object_all_the_same() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(12 << 20);
    front.archive("o", &content, &[]).await?;
    front.inner.inject(Rule::new(Fault::SlowRequest(3 << 20)).method("PUT").times(1));
    let started = std::time::Instant::now();
    front.read("o", &content).await?;
    let taken = started.elapsed();
    ensure!(taken < Duration::from_secs(3), "the reader waited {taken:?}");
    front.expect_gone("o").await?;
    front.wait_local("o", &content).await?;
    Ok(())
}

#[tokio::test]
async fn what_a_reader_does_not_get_is_not_brought_back() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(8 << 20);
    front.archive("o", &content, &[]).await?;
    front.site.faults.inject(Rule::new(Fault::SlowAnswer(1 << 20)).method("GET").times(1));
    let read = tokio::time::timeout(Duration::from_secs(2), front.client.get_object("c", "o")).await;
    ensure!(read.is_err(), "the reader was to be gone by now");
    front.wait_outcome("client_gone").await?;
    front.expect_gone("o").await?;
    Ok(())
}

#[tokio::test]
async fn a_remote_that_breaks_or_lies_leaves_nothing_behind() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(4 << 20);
    front.archive("broken", &content, &[]).await?;
    front.archive("wrong", &content, &[]).await?;
    let of_broken = |fault| Rule::new(fault).method("GET").key_containing("broken");
    // A body that breaks once is resumed; this remote is away after that. The newest rule that strikes counts.
    front.site.faults.inject(of_broken(Fault::Reset));
    front.site.faults.inject(of_broken(Fault::TruncateAnswer(1 << 20)).times(1));
    let read = front.client.get_object("c", "broken").await;
    let told = read.as_ref().map(|answer| (answer.status, answer.body.len()));
    ensure!(read.is_err(), "a body that broke off ended well: {told:?}");
    front.wait_outcome("client_gone").await?;
    front.site.faults.heal();
    wait::until("the remote to be used again", SOON, async || {
        ensure!(front.client.head_object("c", "wrong").await?.status == 200, "not yet");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    front.site.faults.inject(Rule::new(Fault::CorruptAnswer(2 << 20)).method("GET").key_containing("wrong"));
    drop(front.client.get_object("c", "wrong").await);
    wait::until("the other restore to end", SOON, async || {
        // Whoever sees the wrong content first ends it: the reader's side, or Swift.
        let ended = front.outcomes("client_gone").await? + front.outcomes("refused").await?;
        ensure!(ended == 2, "{}", front.metrics().await?);
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    for name in ["broken", "wrong"] {
        front.expect_gone(name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_shunt_leaves_nothing_half() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    let content = generated(8 << 20);
    front.archive("o", &content, &[]).await?;
    let slow = front.inner.inject(Rule::new(Fault::SlowRequest(1 << 20)).method("PUT"));
    front.read("o", &content).await?;
    wait::until("the restore to begin", SOON, async || {
        ensure!(!front.written_back().is_empty(), "no PUT yet");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    front.shunt.kill().await?;
    front.inner.remove(slow);
    front.expect_gone("o").await?;
    front.shunt.restart().await?;
    let client = swift_s3_tests::swift_client::SwiftClient::new(
        &front.shunt.url()?,
        front.site.swift.account(),
        None,
    )?;
    ensure!(client.get_object("c", "o").await?.success()?.body == content, "another content");
    front.wait_local("o", &content).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_brought_back_through_a_gatekeeper() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"content", &[]).await?;
    // The proxy for clients has a gatekeeper, and asks for credentials.
    let config = swift_s3_tests::sync_json::SyncJson::new()
        .set("internal_url", front.site.cluster.proxy_url())
        .mapping(super::archived(front.site.mapping("c")));
    let mut options =
        swift_s3_tests::shunt_process::ShuntOptions::new(&front.site.cluster.internal_url()?, config);
    options.internal_url = Some(front.site.cluster.proxy_url());
    let folder = front.site.directory().folder("gatekept")?;
    let shunt = swift_s3_tests::shunt_process::Shunt::start(folder, options).await?;
    let client =
        swift_s3_tests::swift_client::SwiftClient::new(&shunt.url()?, front.site.swift.account(), None)?;
    for _ in 0..3 {
        ensure!(client.get_object("c", "o").await?.success()?.body == "content", "another content");
    }
    wait::until("a warning", SOON, async || {
        let warnings = shunt.log_text().matches("nothing is restored").count();
        ensure!(warnings == 1, "{warnings} warnings");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    front.expect_gone("o").await
}

#[tokio::test]
async fn containers_that_keep_versions_are_left_alone() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.site.swift.put_container("old").await?;
    front.archive("o", b"content", &[]).await?;
    front.site.swift.post_container("c", &[("X-Versions-Location", "old")]).await?.success()?;
    front.read("o", b"content").await?;
    front.wait_outcome("versioned").await?;
    front.expect_gone("o").await?;
    front.client.delete_object("c", "o").await?;
    ensure!(front.site.bucket.head(&front.key("o")).await?.is_some(), "a version was deleted on the remote");
    Ok(())
}
