//! Plain objects, their metadata, and deletes.

use anyhow::Result;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::sync_json::SyncJson;

use super::Pair;

#[tokio::test]
async fn plain_objects_arrive_with_their_metadata_as_it_is() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let headers = [
        ("X-Object-Meta-K", "MixedCase é"),
        ("Content-Type", "Text/HTML"),
        ("Content-Encoding", "x-Special"),
        ("Content-Disposition", "attachment; filename=\"A.txt\""),
        ("Cache-Control", "no-Cache"),
    ];
    pair.site.swift.put_object("c", "test_swift_sync", "one", &headers).await?;
    pair.site.swift.put_object("c", "unicodé/ x", "two", &[]).await?;
    pair.site.swift.put_object("c", "empty", "", &[("Content-Length", "0")]).await?;
    pair.site.swift.put_object_stream("c", "large", 3_000_001, 7, &[]).await?;
    pair.sync().await?;
    for name in ["test_swift_sync", "unicodé/ x", "empty", "large"] {
        pair.expect_same(name).await?;
    }
    assert_eq!(pair.names("copies").await?, ["empty", "large", "test_swift_sync", "unicodé/ x"]);
    let asked = pair.sync().await?;
    assert!(asked.iter().all(|request| !request.starts_with("P")), "nothing is left to do: {asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_new_object_costs_one_put() -> Result<()> {
    let pair = Pair::start().await?;
    let mapping = pair.remote.mapping(pair.site.swift.account(), "c", "copies");
    // One node copies; the others look at its work much later.
    let config = SyncJson::new().set("verification_slack", 3600).mapping(mapping);
    pair.site.configure(&config)?;
    pair.site.swift.put_object("c", "first", "makes the container", &[]).await?;
    pair.site.start_workers()?;
    pair.wait_for("first").await?;
    pair.remote.faults.forget();
    pair.site.swift.put_object("c", "second", "content", &[]).await?;
    pair.wait_for("second").await?;
    let about: Vec<String> = pair.asked().into_iter().filter(|request| request.contains("second")).collect();
    assert!(about.len() == 1 && about.iter().all(|request| request.starts_with("PUT ")), "{about:?}");
    Ok(())
}

#[tokio::test]
async fn a_post_is_carried_as_a_post_and_its_failure_is_not_forgotten() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    pair.site.swift.put_object("c", "o", "content", &[("X-Object-Meta-Old", "1")]).await?;
    pair.sync().await?;
    let posted = [("X-Object-Meta-New", "Two"), ("Content-Type", "Test/Blob")];
    pair.site.swift.post_object("c", "o", &posted).await?;
    pair.remote.faults.inject(Rule::new(Fault::Error { status: 503, code: "no".into() }).method("POST"));
    for worker in &pair.site.workers {
        worker.run_once().await?;
    }
    assert_eq!(pair.copy("o").await?.header("x-object-meta-old"), Some("1"), "the remote refused it");
    pair.remote.faults.heal();
    let asked = pair.sync().await?;
    pair.expect_same("o").await?;
    assert_eq!(pair.copy("o").await?.header("content-type"), Some("Test/Blob"));
    assert!(!asked.iter().any(|request| request.starts_with("PUT")), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn deletes_are_carried_and_an_object_that_is_gone_already_is_success() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    for name in ["kept", "gone", "gone there too"] {
        pair.site.swift.put_object("c", name, name, &[]).await?;
    }
    pair.sync().await?;
    pair.remote.swift.delete_object("copies", "gone there too").await?.success()?;
    for name in ["gone", "gone there too"] {
        pair.site.swift.delete_object("c", name).await?.success()?;
    }
    let asked = pair.sync().await?;
    assert_eq!(pair.names("copies").await?, ["kept"]);
    let deletes: Vec<_> = asked.iter().filter(|request| request.starts_with("DELETE")).collect();
    assert_eq!(deletes.len(), 1, "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn an_archived_object_is_on_the_remote_before_it_goes() -> Result<()> {
    let archive = |mapping: swift_s3_tests::sync_json::MappingJson| {
        mapping.set("retain_local", false).set("propagate_delete", false)
    };
    let pair = Pair::mapped(archive).await?;
    pair.site.swift.put_object("c", "o", "archived", &[("X-Object-Meta-K", "V")]).await?;
    pair.sync().await?;
    assert_eq!(pair.site.swift.get_object("c", "o").await?.status, 404);
    let copy = pair.copy("o").await?;
    assert_eq!(copy.body, "archived");
    assert_eq!(copy.header("x-object-meta-k"), Some("V"));
    Ok(())
}

impl Pair {
    async fn wait_for(&self, name: &str) -> Result<()> {
        let limit = std::time::Duration::from_secs(30);
        swift_s3_tests::wait::until("a copy", limit, async || self.expect_same(name).await).await
    }
}
