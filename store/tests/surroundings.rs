//! What a store takes from the environment of its process: credentials, region, proxies.
//!
//! Each test runs this program again, with an environment of its own, as the ignored test [`child`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Stdio;

use support::{Answer, put_of, serve, settings};
use tokio::process::Command;

const ENDPOINT: &str = "TEST_ENDPOINT";
const WITHOUT_CREDENTIALS: &str = "TEST_WITHOUT_CREDENTIALS";
const PROXY: &str = "TEST_PROXY";

/// Puts and heads one object, and says how that went.
#[tokio::test]
#[ignore = "run by the other tests in a process of its own"]
async fn child() {
    let mut settings = settings("http://unused.example");
    settings.remote.endpoint = std::env::var(ENDPOINT).ok();
    settings.http_proxy = std::env::var(PROXY).ok();
    if std::env::var_os(WITHOUT_CREDENTIALS).is_some() {
        settings.credentials = None;
    }
    let store = swift_s3_store::open(&settings).await.unwrap();
    match store.put("key", put_of("x")).await {
        Ok(_) => println!("put: ok"),
        Err(error) => println!("put: {} {error}", error.kind()),
    }
    match store.head("key").await {
        Ok(_) => println!("head: ok"),
        Err(error) => println!("head: {} {error}", error.kind()),
    }
}

/// Runs [`child`] with nothing in its environment but `variables`; gives what it says.
async fn run_child(variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn credentials_and_region_come_from_the_default_chain_when_none_are_given() {
    let proxy = serve(|_, _| Answer::new(200)).await;
    let said = run_child(&[
        (ENDPOINT, "http://s3.amazonaws.com"),
        (WITHOUT_CREDENTIALS, "1"),
        (PROXY, &proxy.url),
        ("AWS_ACCESS_KEY_ID", "FROMCHAIN"),
        ("AWS_SECRET_ACCESS_KEY", "chain secret"),
        ("AWS_SESSION_TOKEN", "chain token"),
        ("AWS_REGION", "eu-north-1"),
    ])
    .await;
    assert!(said.contains("put: ok") && said.contains("head: ok"), "{said}");
    let requests = proxy.captured();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let authorization = request.header("authorization").unwrap();
        assert!(authorization.contains("Credential=FROMCHAIN/"), "{authorization}");
        assert!(authorization.contains("/eu-north-1/s3/"), "{authorization}");
        assert_eq!(request.header("x-amz-security-token"), Some("chain token"));
    }
}

#[tokio::test]
async fn without_any_credentials_every_request_is_denied_unsent() {
    let server = serve(|_, _| Answer::new(200)).await;
    let said = run_child(&[(ENDPOINT, &server.url), (WITHOUT_CREDENTIALS, "1")]).await;
    assert!(said.contains("put: denied"), "{said}");
    assert!(said.contains("head: denied"), "{said}");
    assert!(server.captured().is_empty());
}

#[tokio::test]
async fn the_environments_proxy_is_used_when_none_is_configured() {
    let proxy = serve(|_, _| Answer::new(200)).await;
    let said = run_child(&[(ENDPOINT, "http://clone.example"), ("http_proxy", &proxy.url)]).await;
    assert!(said.contains("put: ok") && said.contains("head: ok"), "{said}");
    let requests = proxy.captured();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].path(), "http://clone.example/bucket/key");
}

#[tokio::test]
async fn hosts_that_need_no_proxy_are_reached_without_it() {
    let proxy = serve(|_, _| Answer::new(200)).await;
    for variable in ["NO_PROXY", "no_proxy"] {
        let said = run_child(&[
            (ENDPOINT, "http://clone.invalid"),
            (PROXY, &proxy.url),
            (variable, "other.example,clone.invalid"),
        ])
        .await;
        assert!(said.contains("put: unavailable"), "{said}");
    }
    assert!(proxy.captured().is_empty());
}
