//! Containers: made once, changed by header, removed when they are empty.

use anyhow::{Context, Result};
use swift_s3_store::{ErrorKind, swift};

use super::{metadata, put_of, remote};

#[tokio::test]
async fn a_container_is_created_once_in_the_policy_asked_for() -> Result<()> {
    let (_remote, store) = remote().await?;
    let account = store.swift().context("no Swift")?;
    assert_eq!(account.head_container("new").await?, None);
    assert!(account.ensure_container("new", Some("silver")).await?);
    assert!(!account.ensure_container("new", Some("silver")).await?);
    let head = account.head_container("new").await?.context("not there")?;
    assert_eq!(head.headers["x-storage-policy"], "silver");
    assert_eq!((head.objects, head.bytes), (0, 0));
    let error = account.ensure_container("other", Some("unheard-of")).await.expect_err("unknown policy");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("Invalid X-Storage-Policy"), "{error}");
    assert_eq!(account.head_container("other").await?, None);
    Ok(())
}

#[tokio::test]
async fn headers_of_a_container_are_set_and_removed_one_by_one() -> Result<()> {
    let (remote, store) = remote().await?;
    remote
        .swift
        .put_container_with("c", &[("X-Container-Meta-Old", "1"), ("X-Container-Meta-Kept", "2")])
        .await?;
    let account = store.swift().context("no Swift")?;
    let headers =
        [("x-container-meta-old", ""), ("x-container-meta-new", "grün"), ("x-container-read", ".r:*")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    account.post_container("c", &headers).await?;
    let head = account.head_container("c").await?.context("gone")?;
    assert_eq!(head.headers.get("x-container-meta-old"), None);
    assert_eq!(head.headers["x-container-meta-kept"], "2");
    assert_eq!(head.headers["x-container-meta-new"], "grün");
    assert_eq!(head.headers["x-container-read"], ".r:*");
    let error = account.post_container("none", &headers).await.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn only_an_empty_container_is_removed() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("x", metadata(&[], &[]))).await?;
    let account = store.swift().context("no Swift")?;
    let error = account.delete_container("c").await.expect_err("it holds an object");
    assert_eq!(error.kind(), ErrorKind::Precondition);
    store.delete("c/o").await?;
    account.delete_container("c").await?;
    account.delete_container("c").await?;
    assert_eq!(account.head_container("c").await?, None);
    Ok(())
}

#[tokio::test]
async fn containers_are_listed_by_prefix_and_page() -> Result<()> {
    let (_remote, store) = remote().await?;
    let account = store.swift().context("no Swift")?;
    assert!(account.list_containers("", None, 10).await?.is_empty());
    for name in ["b", "a:1", "a:ü", "a:2"] {
        account.ensure_container(name, None).await?;
    }
    assert_eq!(account.list_containers("a:", None, 10).await?, ["a:1", "a:2", "a:ü"]);
    assert_eq!(account.list_containers("a:", Some("a:1"), 1).await?, ["a:2"]);
    assert_eq!(account.list_containers("", Some("a:ü"), 10).await?, ["b"]);
    Ok(())
}

#[tokio::test]
async fn a_check_is_about_the_container_that_matters() -> Result<()> {
    let (remote, store) = remote().await?;
    store.check().await?;
    let mut settings = remote.settings();
    settings.container = Some("c".to_owned());
    let store = swift::open(&settings).await?;
    assert_eq!(store.check().await.expect_err("no container").kind(), ErrorKind::BucketMissing);
    remote.swift.put_container("c").await?;
    store.check().await?;
    Ok(())
}
