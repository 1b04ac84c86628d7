//! Clusters that fail: what is sent again, what the caller is told, and what is never stored.

use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt as _;
use swift_s3_store::{ErrorKind, swift};
use swift_s3_tests::fault_proxy::{Fault, Network, Rule};
use swift_s3_tests::swift_client::generated_pieces;
use swift_s3_tests::wait;

use super::{content, metadata, put_of, remote};

#[tokio::test]
async fn passing_faults_of_reads_and_deletes_are_not_noticed() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("x", metadata(&[], &[]))).await?;
    for fault in [Fault::error(503, "x"), Fault::error(500, "x"), Fault::Reset, Fault::LoseAnswer] {
        for method in ["HEAD", "GET", "POST"] {
            remote.faults.inject(Rule::new(fault.clone()).method(method).times(2));
        }
        store.head("c/o").await?.context("gone")?;
        store.list("c/", None, 10).await?;
        store.replace_metadata("c/o", "", &metadata(&[("a", "b")], &[]), None).await?;
        remote.faults.heal();
    }
    remote.faults.inject(Rule::new(Fault::LoseAnswer).method("DELETE").times(1));
    store.delete("c/o").await?;
    assert_eq!(store.head("c/o").await?, None);
    Ok(())
}

#[tokio::test]
async fn an_upload_is_never_repeated_inside() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.head("c/o").await?;
    let faults = [
        (Fault::error(503, "x"), ErrorKind::Unavailable),
        (Fault::error(507, "x"), ErrorKind::Unavailable),
        (Fault::error(429, "x"), ErrorKind::Throttled),
        (Fault::error(498, "x"), ErrorKind::Throttled),
        (Fault::error(413, "x"), ErrorKind::TooLarge),
        (Fault::error(403, "x"), ErrorKind::Denied),
        (Fault::Reset, ErrorKind::Unavailable),
        (Fault::LoseAnswer, ErrorKind::Unavailable),
    ];
    for (fault, kind) in faults {
        remote.faults.forget();
        remote.faults.inject(Rule::new(fault.clone()).method("PUT"));
        let error = store.put("c/o", put_of("x", metadata(&[], &[]))).await.expect_err("fault unnoticed");
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert_eq!(remote.faults.seen().len(), 1, "{fault:?}");
        remote.faults.heal();
    }
    Ok(())
}

#[tokio::test]
async fn a_truncated_or_changed_upload_is_not_stored() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("old", metadata(&[], &[]))).await?;
    let content: Vec<u8> = generated_pieces(300_000, 1).flatten().collect();
    for fault in [Fault::TruncateRequest(100_000), Fault::CorruptRequest(100_000)] {
        remote.faults.inject(Rule::new(fault.clone()).method("PUT"));
        assert!(store.put("c/o", put_of(content.clone(), metadata(&[], &[]))).await.is_err(), "{fault:?}");
        remote.faults.heal();
        assert_eq!(store.head("c/o").await?.context("gone")?.length, 3, "{fault:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_download_that_breaks_off_says_so() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    let whole: Vec<u8> = generated_pieces(300_000, 2).flatten().collect();
    store.put("c/o", put_of(whole.clone(), metadata(&[], &[]))).await?;
    remote.faults.inject(Rule::new(Fault::TruncateAnswer(100_000)).method("GET").times(1));
    let got = store.get("c/o", None).await?.context("gone")?;
    assert!(got.body.collect().await.is_err());
    assert_eq!(content(&*store, "c/o", None).await?, whole);
    // Part of a listing is no listing.
    remote.faults.inject(Rule::new(Fault::TruncateAnswer(20)).method("GET"));
    assert_eq!(store.list("c/", None, 10).await.expect_err("half a page").kind(), ErrorKind::Unavailable);
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_away_is_unavailable_and_comes_back() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.head("c/o").await?;
    for network in [Network::Refuse, Network::Reset] {
        remote.faults.set_network(network);
        assert_eq!(store.head("c/o").await.expect_err("away").kind(), ErrorKind::Unavailable);
        assert_eq!(store.check().await.expect_err("away").kind(), ErrorKind::Unavailable);
        let put = store.put("c/o", put_of("x", metadata(&[], &[]))).await;
        assert_eq!(put.expect_err("away").kind(), ErrorKind::Unavailable);
        let fresh = swift::open(&remote.settings()).await?;
        assert_eq!(fresh.check().await.expect_err("away").kind(), ErrorKind::Unavailable);
        remote.faults.heal();
        let put = async || store.put("c/o", put_of("x", metadata(&[], &[]))).await;
        wait::until("an upload", Duration::from_secs(30), put).await?;
    }
    Ok(())
}
