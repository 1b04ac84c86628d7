//! Static large objects: stored from segments, read back as manifests, removed with all their segments.

use anyhow::{Context, Result};
use serde_json::Value;
use swift_s3_store::{ErrorKind, ObjectStore, SloSegment};

use super::{content, md5_hex, metadata, put_of, remote};

fn segment(key: &str, content: &[u8]) -> SloSegment {
    SloSegment {
        key: key.to_owned(),
        etag: Some(md5_hex(content)),
        bytes: Some(content.len() as u64),
        range: None,
    }
}

async fn segments(store: &dyn ObjectStore) -> Result<Vec<SloSegment>> {
    let account = store.swift().context("no Swift")?;
    account.ensure_container("c", None).await?;
    account.ensure_container("ségments", None).await?;
    let mut segments = Vec::new();
    for (name, content) in [("a \"1\"", "first"), ("a?2", "second")] {
        let key = format!("ségments/{name}");
        store.put(&key, put_of(content, metadata(&[], &[]))).await?;
        segments.push(segment(&key, content.as_bytes()));
    }
    Ok(segments)
}

#[tokio::test]
async fn a_large_object_is_the_sum_of_its_segments() -> Result<()> {
    let (remote, store) = remote().await?;
    let account = store.swift().context("no Swift")?;
    let mut segments = segments(&*store).await?;
    let receipt = account.put_slo("c/big", &segments, &metadata(&[("colour", "Red")], &[])).await?;
    let etag = md5_hex(format!("{}{}", md5_hex(b"first"), md5_hex(b"second")).as_bytes());
    assert_eq!(receipt.etag.as_deref(), Some(etag.as_str()));
    let found = store.head("c/big").await?.context("not there")?;
    assert_eq!((found.etag.as_str(), found.length), (etag.as_str(), 11));
    assert_eq!(found.metadata.user["colour"], "Red");
    assert_eq!(found.metadata.headers["x-static-large-object"], "True");
    assert_eq!(&content(&*store, "c/big", None).await?[..], b"firstsecond");
    assert_eq!(&content(&*store, "c/big", Some(3..8)).await?[..], b"stsec");
    let page = store.list("c/", None, 10).await?;
    assert_eq!((page.entries[0].etag.as_deref(), page.entries[0].length), (Some(etag.as_str()), 11));

    let manifest = account.slo_manifest("c/big", 65536).await?.context("not there")?;
    let manifest: Vec<Value> = serde_json::from_slice(&manifest)?;
    assert_eq!(manifest[0]["name"], "/ségments/a \"1\"");
    assert_eq!(manifest[1]["bytes"], 6);
    let error = account.slo_manifest("c/big", 10).await.expect_err("longer than that");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = account.slo_manifest("ségments/a?2", 65536).await.expect_err("a plain object");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(account.slo_manifest("c/none", 65536).await?.is_none());

    segments[1].range = Some("0-2".to_owned());
    account.put_slo("c/part", &segments, &metadata(&[], &[])).await?;
    assert_eq!(&content(&*store, "c/part", None).await?[..], b"firstsec");
    drop(remote);
    Ok(())
}

#[tokio::test]
async fn a_manifest_with_a_wrong_segment_is_refused_and_says_which() -> Result<()> {
    let (_remote, store) = remote().await?;
    let account = store.swift().context("no Swift")?;
    let mut segments = segments(&*store).await?;
    segments[1].etag = Some(md5_hex(b"other"));
    segments.push(segment("ségments/none", b"x"));
    let error = account.put_slo("c/big", &segments, &metadata(&[], &[])).await.expect_err("wrong segments");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Invalid, Some(400)));
    let text = error.to_string();
    assert!(
        text.contains("none") && text.contains("404 Not Found") && text.contains("Etag Mismatch"),
        "{text}"
    );
    assert_eq!(store.head("c/big").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_large_object_goes_with_its_segments() -> Result<()> {
    let (_remote, store) = remote().await?;
    let account = store.swift().context("no Swift")?;
    let segments = segments(&*store).await?;
    account.put_slo("c/big", &segments, &metadata(&[], &[])).await?;
    store.delete(&segments[0].key).await?;
    account.delete_slo("c/big").await?;
    account.delete_slo("c/big").await?;
    assert_eq!(store.head("c/big").await?, None);
    assert!(store.list("ségments/", None, 10).await?.entries.is_empty());
    // A plain delete leaves them.
    let segments = self::segments(&*store).await?;
    account.put_slo("c/big", &segments, &metadata(&[], &[])).await?;
    store.delete("c/big").await?;
    assert_eq!(store.list("ségments/", None, 10).await?.entries.len(), 2);
    // What is no large object stays.
    store.put("c/plain", put_of("x", metadata(&[], &[]))).await?;
    assert!(account.delete_slo("c/plain").await.is_err());
    assert!(store.head("c/plain").await?.is_some());
    Ok(())
}
