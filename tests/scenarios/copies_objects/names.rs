//! Names of accounts, containers and objects arrive byte for byte.

use anyhow::{Result, ensure};
use swift_s3_tests::compare::{Depth, compare};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;

use super::mapped;
use crate::CLUSTER;
use crate::worker_state::expect_parked;

const ODD_NAMES: [&str; 18] = [
    "é",
    "unicodé/\u{1F600}",
    "two  spaces ",
    " first",
    "100%2F",
    "100%25done",
    "a+b",
    "new\nline",
    "tab\there",
    "/leading",
    "trailing/",
    "a//b",
    "a/../b",
    "./here",
    "..",
    "?query=1&r#fragment",
    "\"quoted\" <tag> & 'more'",
    "back\\slash",
];

async fn put_odd_names(site: &Site, names: &[&str]) -> Result<()> {
    for name in names {
        site.swift.put_object("c", name, (*name).to_owned(), &[]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn odd_names_arrive_and_go_again() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    put_odd_names(&site, &ODD_NAMES).await?;
    site.sync().await?;
    compare(&site.swift, "c", &site.bucket, None, Depth::Content).await?.none()?;
    for name in ODD_NAMES {
        site.swift.delete_object("c", name).await?.success()?;
    }
    site.sync().await?;
    let left = site.bucket.keys("").await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn odd_names_arrive_in_other_peoples_s3() -> Result<()> {
    let site = mapped(S3ServerKind::Moto).await?;
    // This server refuses keys with a newline, and drops a slash at the end.
    let names = ODD_NAMES.into_iter().filter(|name| !name.contains(['\n', '\t']) && !name.ends_with('/'));
    let names: Vec<&str> = names.filter(|name| !name.contains("..") && !name.starts_with("./")).collect();
    put_odd_names(&site, &names).await?;
    site.sync().await?;
    compare(&site.swift, "c", &site.bucket, None, Depth::Content).await?.none()
}

#[tokio::test]
async fn names_of_accounts_and_containers_are_in_the_keys_as_ever() -> Result<()> {
    // Keys as the Python daemon made them.
    let table = [
        ("AUTH_test", "sync-s3", "test_sync", "e5d922/AUTH_test/sync-s3/test_sync"),
        ("AUTH_test", "archive-s3", "o", "5dcc3/AUTH_test/archive-s3/o"),
        ("AUTH_test", "c98003", "a/b", "4c/AUTH_test/c98003/a/b"),
        ("AUTH_تacct", "تcl-conn-sync", "é", "d42fe1/AUTH_تacct/تcl-conn-sync/é"),
    ];
    let mut site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let mut mappings = Vec::new();
    for (account, container, object, _) in table {
        site.swift = site.cluster.internal_client(account)?;
        site.swift.put_account().await?;
        site.swift.put_container(container).await?;
        site.swift.put_object(container, object, "x", &[]).await?;
        mappings.push(site.mapping(container));
    }
    site.map(mappings)?;
    site.sync().await?;
    let mut expected = table.map(|(_, _, _, key)| key);
    expected.sort_unstable();
    ensure!(site.bucket.keys("").await? == expected, "{:?}", site.bucket.keys("").await?);
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_too_long_is_set_aside_and_without_prefix_it_fits() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let longest = format!("{}é", "n".repeat(1022));
    put_odd_names(&site, &[&longest, "short"]).await?;
    for worker in &site.workers {
        worker.run_once().await?.expect_code(1)?;
    }
    expect_parked(&site, "c", &[(&longest, "key_too_long")])?;
    let keys = site.bucket.keys("").await?;
    ensure!(keys.len() == 1 && keys[0].ends_with("/c/short"), "{keys:?}");
    site.bucket.delete_all().await?;
    site.map([site.mapping("c").set("custom_prefix", "")])?;
    site.sync().await?;
    ensure!(site.bucket.keys("").await? == [longest, "short".to_owned()]);
    compare(&site.swift, "c", &site.bucket, Some(""), Depth::Content).await?.none()
}

#[tokio::test]
async fn a_custom_prefix_is_trimmed_and_put_in_front() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    put_odd_names(&site, &["a/b", "/lead"]).await?;
    let table = [
        ("scary", ["scary//lead", "scary/a/b"]),
        ("scary/", ["scary//lead", "scary/a/b"]),
        ("/scary/idea/", ["scary/idea//lead", "scary/idea/a/b"]),
        ("", ["/lead", "a/b"]),
        ("/", ["/lead", "a/b"]),
    ];
    for (prefix, expected) in table {
        site.bucket.delete_all().await?;
        for worker in &site.workers {
            worker.forget()?;
        }
        site.map([site.mapping("c").set("custom_prefix", prefix)])?;
        site.sync().await?;
        ensure!(site.bucket.keys("").await? == expected, "{prefix:?}: {:?}", site.bucket.keys("").await?);
    }
    Ok(())
}
