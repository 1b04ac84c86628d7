//! A burst of deletes waits for a person.

use swift_s3_proto::v1::ReleaseDeletesRequest;

use super::*;
use crate::own_copies::{OwnDevices, replace};

#[tokio::test]
async fn a_burst_of_deletes_is_held_until_an_operator_releases_it() -> Result<()> {
    let limit = serde_json::json!({"count": 6, "ratio": 0.1, "per": 3600});
    let (site, control) = controlled(|mapping| mapping.set("delete_limit", limit)).await?;
    let names: Vec<String> = (0..30).map(|number| format!("o{number}")).collect();
    for name in &names {
        site.swift.put_object("c", name, "x", &[]).await?;
    }
    site.wait_equal("c", SOON).await?;
    for name in &names {
        site.swift.delete_object("c", name).await?.success()?;
    }
    let mapping = wait::until("the deletes to be held", SOON, async || {
        let mapping = control.mapping().await?;
        ensure!(mapping.deletes_held_at.is_some(), "{mapping:?}");
        Ok::<_, anyhow::Error>(mapping)
    })
    .await?;
    // New objects pass by, and deletes that were held stay so over a restart.
    put(&site, &["new"]).await?;
    let arrived = async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/new")), "{keys:?}");
        Ok::<usize, anyhow::Error>(keys.len())
    };
    wait::until("the new object", SOON, arrived).await?;
    for worker in &site.workers {
        worker.kill().await?;
        worker.forget()?;
    }
    site.start_workers_under(&control)?;
    control.wait_synced(3).await?;
    let lag = wait_lag(&control, "the held deletes to be told", |lag| lag.deletes_held > 10).await?;
    let left = arrived().await?;
    ensure!(left > 20, "only {left} objects are left; {lag:?}");
    let request = ReleaseDeletesRequest { mapping: mapping.mapping_id };
    control.status()?.release_deletes(request).await?;
    site.wait_equal("c", SOON).await?;
    wait_lag(&control, "nothing to be held", |lag| lag.deletes_held == 0).await?;
    Ok(())
}

#[tokio::test]
async fn alone_a_worker_holds_deletes_until_the_limit_is_lifted() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let limit = serde_json::json!({"count": 3, "ratio": 0.5, "per": 3600});
    site.map([site.mapping("c").set("delete_limit", limit)])?;
    let names: Vec<String> = (0..12).map(|number| format!("o{number}")).collect();
    for name in &names {
        site.swift.put_object("c", name, "x", &[]).await?;
    }
    site.sync().await?;
    for name in &names {
        site.swift.delete_object("c", name).await?.success()?;
    }
    let mut codes = Vec::new();
    for worker in &site.workers {
        codes.push(worker.run_once().await?.code);
    }
    ensure!(codes.contains(&1), "a round that leaves deletes says so: {codes:?}");
    ensure!(!site.bucket.keys("").await?.is_empty(), "they were carried");
    site.map([site.mapping("c").set("delete_limit", false)])?;
    site.sync().await?;
    site.expect_equal("c").await
}

#[tokio::test]
async fn the_deletes_of_a_database_that_lost_its_objects_are_held() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let [worker, ..] = site.workers.as_slice() else { anyhow::bail!("no worker") };
    site.swift.put_container("c").await?;
    let names: Vec<String> = (0..110).map(|number| format!("o{number}")).collect();
    for name in &names {
        site.swift.put_object("c", name, "x", &[]).await?;
    }
    let own = OwnDevices::of(&site, worker.node())?;
    let database = own.refresh(&site, "c").await?;
    let devices = own.devices.to_str().context("a path")?;
    let with = |mapping: MappingJson| SyncJson::new().set("devices", devices).mapping(mapping);
    worker.configure(&with(site.mapping("c")))?;
    worker.start()?;
    site.wait_equal("c", SOON).await?;
    // All objects but a few go, and the database comes back under another id, as after a restore.
    for name in &names {
        site.swift.delete_object("c", name).await?.success()?;
    }
    site.swift.put_object("c", "new", "x", &[]).await?;
    site.cluster.direct_container_head(site.swift.account(), "c", worker.node()).await?.success()?;
    let changed = site.directory().path().join("changed.db");
    std::fs::copy(site.cluster.container_db_path(site.swift.account(), "c", worker.node())?, &changed)?;
    let connection = rusqlite::Connection::open(&changed)?;
    connection.pragma_update(None, "journal_mode", "delete")?;
    connection.execute("UPDATE container_info SET id = 'another'", [])?;
    drop(connection);
    replace(&database, &std::fs::read(&changed)?)?;
    worker.wait_for_log("deletes are held", SOON).await?;
    wait::until("the new object", SOON, async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/new")), "{keys:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    ensure!(site.bucket.keys("").await?.len() == 111, "deletes were carried");
    worker.stop().await?;
    let followed = worker.log_text().matches("following a container").count();
    worker.start()?;
    wait::until("the container to be followed again", SOON, async || {
        let again = worker.log_text().matches("following a container").count() > followed;
        if again { Ok(()) } else { Err("not yet") }
    })
    .await?;
    worker.configure(&with(site.mapping("c").set("delete_limit", false)))?;
    ensure!(site.bucket.keys("").await?.len() == 111, "the restart let deletes go");
    worker.reload()?;
    site.wait_equal("c", SOON).await
}
