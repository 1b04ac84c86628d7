//! What the worker asks of S3, and how: as few requests as can be, each as it must be.

use anyhow::{Context, Result, ensure};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::fault_proxy::FaultProxy;
use swift_s3_tests::operation::{Operation, RequestCounts};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::mapped;

fn changes(requests: &RequestCounts) -> u64 {
    [Operation::Put, Operation::Copy, Operation::Delete].map(|operation| requests.of(operation)).iter().sum()
}

fn key(site: &Site, name: &str) -> String {
    KeyMapping::new(site.swift.account(), "c", None).object_key(name)
}

#[tokio::test]
async fn unchanged_objects_are_not_sent_again_when_all_cursors_are_lost() -> Result<()> {
    // The second does not tell ETags in listings, so each object is asked for.
    for server in [S3ServerKind::Memory, S3ServerKind::S3sFs, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        let values = ["plain", "with space, and comma", "100% ~tilde", "é, ü", "=?UTF-8?Q?looks?=", "BÁR"];
        for (number, value) in values.iter().enumerate() {
            site.swift.put_object("c", &format!("o{number}"), "x", &[("X-Object-Meta-V", value)]).await?;
            site.swift.put_object("c", &format!("p{number}"), "x", &[]).await?;
            let posted = [("X-Object-Meta-V", *value), ("Content-Type", "text/plain; charset=\"utf-8\"")];
            site.swift.post_object("c", &format!("p{number}"), &posted).await?;
        }
        site.sync().await?;
        site.expect_equal("c").await?;
        for worker in &site.workers {
            worker.forget()?;
        }
        site.faults.forget();
        site.sync().await?;
        let requests = site.faults.requests();
        ensure!(changes(&requests) == 0, "{server:?}: {requests}");
        ensure!(requests.total() > 0, "{server:?}: nothing was verified");
    }
    Ok(())
}

#[tokio::test]
async fn a_post_is_a_copy_in_place_and_no_upload() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        let both = [("X-Object-Meta-A", "1"), ("X-Object-Meta-B", "2"), ("Content-Type", "text/plain")];
        site.swift.put_object("c", "o", "content", &both).await?;
        site.sync().await?;
        for (posted, expected_type) in [
            (vec![("X-Object-Meta-A", "other")], "text/plain"),
            (vec![("X-Object-Meta-A", "other"), ("Content-Type", "test/blob")], "test/blob"),
        ] {
            site.swift.post_object("c", "o", &posted).await?;
            site.faults.forget();
            site.sync().await?;
            let requests = site.faults.requests();
            ensure!(
                (requests.of(Operation::Put), requests.of(Operation::Copy)) == (0, 1),
                "{server:?}: {requests}"
            );
            let remote = site.bucket.get(&key(&site, "o")).await?.context("gone")?;
            ensure!(
                remote.body == "content" && remote.content_type == expected_type,
                "{server:?}: {remote:?}"
            );
            let metadata: Vec<_> = remote.metadata.iter().map(|(name, value)| (&**name, &**value)).collect();
            ensure!(metadata == [("a", "other")], "{server:?}: {metadata:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_archived_storage_class_is_written_anew_instead_of_copied() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        site.swift.put_object("c", "o", "content", &[("X-Object-Meta-A", "1")]).await?;
        site.sync().await?;
        site.bucket.put(&key(&site, "o"), "content", &[("a", "1")], Some("GLACIER")).await?;
        site.swift.post_object("c", "o", &[("X-Object-Meta-A", "2")]).await?;
        site.faults.forget();
        site.sync().await?;
        let requests = site.faults.requests();
        ensure!(
            (requests.of(Operation::Put), requests.of(Operation::Copy)) == (1, 0),
            "{server:?}: {requests}"
        );
        site.expect_equal("c").await.with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_stranger_changed_in_s3_is_put_right_by_a_full_check() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    for name in ["lost", "other content", "same length", "other metadata"] {
        site.swift.put_object("c", name, "content", &[("X-Object-Meta-A", "1")]).await?;
    }
    site.sync().await?;
    site.bucket.delete(&key(&site, "lost")).await?;
    site.bucket.put(&key(&site, "other content"), "different", &[("a", "1")], None).await?;
    site.bucket.put(&key(&site, "same length"), "CONTENT", &[("a", "1")], None).await?;
    site.bucket.put(&key(&site, "other metadata"), "content", &[("a", "2")], None).await?;
    for worker in &site.workers {
        worker.forget()?;
    }
    site.faults.forget();
    site.sync().await?;
    site.expect_equal("c").await?;
    let requests = site.faults.requests();
    ensure!((requests.of(Operation::Put), requests.of(Operation::Copy)) == (3, 1), "{requests}");
    Ok(())
}

#[tokio::test]
async fn encryption_is_not_asked_of_stores_other_than_amazons() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    site.map([site.mapping("c").set("encryption", true)])?;
    site.swift.put_object("c", "o", "content", &[]).await?;
    site.sync().await?;
    site.swift.post_object("c", "o", &[("X-Object-Meta-A", "1")]).await?;
    site.sync().await?;
    let seen = site.faults.seen();
    let (puts, copies): (Vec<_>, Vec<_>) = seen
        .iter()
        .filter(|seen| matches!(seen.operation, Operation::Put | Operation::Copy))
        .partition(|seen| seen.operation == Operation::Put);
    ensure!(!puts.is_empty() && !copies.is_empty(), "{seen:?}");
    let asked = seen.iter().find(|seen| seen.header("x-amz-server-side-encryption").is_some());
    ensure!(asked.is_none(), "{asked:?}");
    // Clones refuse bodies that are signed in pieces or have checksums behind them.
    for put in puts {
        ensure!(put.header("content-md5").is_some(), "{put:?}");
        ensure!(put.header("content-encoding").is_none() && put.header("x-amz-trailer").is_none(), "{put:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_token_is_sent_and_never_logged() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    site.swift.put_object("c", "o", "content", &[]).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let mapping =
        site.mapping("c").set("aws_endpoint", endpoint).set("aws_session_token", "token-of-the-session");
    site.map([mapping])?;
    let listen = async {
        let (mut stream, _) = listener.accept().await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut head).await? > 0, "the request ended early");
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
        // Whatever else it tries is refused.
        drop(listener);
        Ok(String::from_utf8_lossy(&head).to_ascii_lowercase())
    };
    let (head, outcome) = tokio::try_join!(listen, site.workers[0].run_once())?;
    let outcome = outcome.expect_code(1)?;
    ensure!(head.contains("x-amz-security-token: token-of-the-session\r\n"), "{head}");
    ensure!(
        head.contains("x-amz-security-token,") || head.contains("x-amz-security-token;"),
        "not signed: {head}"
    );
    ensure!(!outcome.log.contains("token-of-the-session"), "{}", outcome.log);
    Ok(())
}

#[tokio::test]
async fn an_http_proxy_is_used_for_s3_and_not_for_swift() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let proxy = FaultProxy::start(site.s3.endpoint()).await?;
    // A name that only the proxy knows; this machine itself would be reached without it.
    let mapping = site
        .mapping("c")
        .set("aws_endpoint", "http://s3.example.invalid")
        .set("aws_addressing_style", "path");
    site.configure(&SyncJson::new().set("http_proxy", proxy.endpoint()).mapping(mapping))?;
    site.swift.put_object("c", "o", "content", &[]).await?;
    site.sync().await?;
    site.expect_equal("c").await?;
    let seen = proxy.seen();
    ensure!(seen.iter().any(|seen| seen.operation == Operation::Put), "{seen:?}");
    ensure!(seen.iter().all(|seen| seen.target.contains("/site")), "{seen:?}");
    ensure!(site.faults.requests().total() == 0, "S3 was asked by another way");
    Ok(())
}
