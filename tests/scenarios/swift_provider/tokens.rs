//! One token for all requests: asked for once, and again when the cluster has forgotten it.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use swift_s3_store::{ErrorKind, swift};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::swift_remote::{RESELLER_ADMIN, SwiftRemote};

use super::{content, everything, metadata, put_of, remote};

fn logins(remote: &SwiftRemote) -> usize {
    remote.faults.seen().iter().filter(|seen| seen.target.starts_with("/auth/")).count()
}

#[tokio::test]
async fn many_requests_at_once_share_one_login() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    assert_eq!(logins(&remote), 0, "opening sends nothing");
    try_join_all((0..20).map(|_| store.head("c/none"))).await?;
    assert_eq!(logins(&remote), 1);
    assert_eq!(store.requests().head, 20);
    Ok(())
}

#[tokio::test]
async fn a_forgotten_token_is_replaced_without_anybody_noticing() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("x", metadata(&[], &[]))).await?;
    remote.faults.inject(Rule::new(Fault::error(401, "Unauthorized")).method("HEAD").times(3));
    try_join_all((0..3).map(|_| store.head("c/o"))).await?;
    assert_eq!(logins(&remote), 2, "one more for all three");

    // The body of an upload is gone by then: the caller sends it again, with the new token.
    remote.faults.inject(Rule::new(Fault::error(401, "Unauthorized")).method("PUT").times(1));
    let error = store.put("c/o", put_of("y", metadata(&[], &[]))).await.expect_err("refused");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(401)));
    store.put("c/o", put_of("y", metadata(&[], &[]))).await?;
    assert_eq!(&content(&*store, "c/o", None).await?[..], b"y");
    assert_eq!(logins(&remote), 3);
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_refuses_every_token_is_not_asked_for_ever() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.head("c/none").await?;
    let not_login = |seen: &swift_s3_tests::fault_proxy::Seen| !seen.target.starts_with("/auth/");
    remote.faults.inject(Rule::new(Fault::error(401, "Unauthorized")).when(not_login));
    for _ in 0..2 {
        let error = store.head("c/none").await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
    let error = store.put("c/o", put_of("y", metadata(&[], &[]))).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(logins(&remote) <= 5, "{}", logins(&remote));
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_are_denied_and_shown_nowhere() -> Result<()> {
    let (remote, _) = remote().await?;
    let mut settings = remote.settings();
    settings.credentials.key = "wrong-secret-key".to_owned();
    let store = swift::open(&settings).await?;
    let results = futures_util::future::join_all((0..5).map(|_| store.head("c/o"))).await;
    for result in results {
        let error = result.expect_err("logged in with a wrong key");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Denied, Some(401)));
        assert!(!everything(&error).contains("wrong-secret-key"), "{error:?}");
    }
    assert_eq!(logins(&remote), 1, "one failure for all who waited");
    assert!(!format!("{settings:?} {store:?}").contains("wrong-secret-key"));
    Ok(())
}

#[tokio::test]
async fn another_account_is_used_before_and_after_a_new_login() -> Result<()> {
    let (remote, own) = remote().await?;
    let mut settings = remote.settings();
    settings.remote.remote_account = Some(remote.swift.account().to_owned());
    settings.credentials = swift_s3_store::SwiftCredentials {
        user: RESELLER_ADMIN.0.to_owned(),
        key: RESELLER_ADMIN.1.to_owned(),
    };
    let store = swift::open(&settings).await?;
    let account = store.swift().context("no Swift")?;
    account.ensure_container("c", None).await?;
    store.put("c/before", put_of("x", metadata(&[], &[]))).await?;
    remote.faults.inject(Rule::new(Fault::error(401, "Unauthorized")).method("HEAD").times(1));
    store.head("c/before").await?.context("gone")?;
    store.put("c/after", put_of("x", metadata(&[], &[]))).await?;
    assert_eq!(own.list("c/", None, 10).await?.entries.len(), 2);

    // Not everybody may.
    let mut settings = remote.settings();
    settings.remote.remote_account = Some("AUTH_test".to_owned());
    let error = swift::open(&settings).await?.head("c/o").await.expect_err("somebody else's account");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Denied, Some(403)));
    Ok(())
}
