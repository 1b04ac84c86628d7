//! What a worker remembers of a container, read from its status files.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use swift_s3_tests::site::Site;
use swift_s3_tests::worker_process::Worker;

/// The entry of every database in one worker's status file of a container.
pub fn entries(worker: &Worker, account: &str, container: &str) -> Result<Vec<Value>> {
    let path = worker.status_dir().join(account).join(container);
    let Ok(text) = fs::read(&path) else { return Ok(Vec::new()) };
    let document: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let mappings = document.pointer("/swift_s3_sync/mappings").and_then(Value::as_object);
    let databases = mappings.into_iter().flat_map(|mappings| mappings.values()).filter_map(Value::as_object);
    Ok(databases.flat_map(|databases| databases.values().cloned()).collect())
}

/// Names that any worker has set aside, with the reason; of several workers' reasons one counts.
pub fn parked(site: &Site, container: &str) -> Result<BTreeMap<String, String>> {
    let mut parked = BTreeMap::new();
    for worker in &site.workers {
        for entry in entries(worker, site.swift.account(), container)? {
            let Some(rows) = entry.get("parked").and_then(Value::as_object) else { continue };
            for (name, row) in rows {
                let reason = row.get("reason").and_then(Value::as_str).unwrap_or_default();
                parked.insert(name.clone(), reason.to_owned());
            }
        }
    }
    Ok(parked)
}

/// Fails unless exactly these names are set aside, each for its reason.
pub fn expect_parked(site: &Site, container: &str, expected: &[(&str, &str)]) -> Result<()> {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned())).collect();
    let found = parked(site, container)?;
    if found != expected {
        bail!("set aside: {found:?}, expected {expected:?}");
    }
    Ok(())
}

/// Fails unless every worker has handled every row that its node's database has now, verification included.
pub async fn expect_finished(site: &Site, container: &str) -> Result<()> {
    for worker in &site.workers {
        let account = site.swift.account();
        let rows = site.cluster.container_rows(account, container, worker.node()).await?;
        let last = rows.last().map_or(0, |row| row.rowid);
        let mut lanes = 0;
        for entry in entries(worker, account, container)? {
            for (lane, cursor) in entry.get("cursors").and_then(Value::as_object).into_iter().flatten() {
                lanes += 1;
                if cursor.as_i64().unwrap_or(0) < last {
                    bail!("node {}: lane {lane} is at row {cursor} of {last}", worker.node());
                }
            }
        }
        if lanes == 0 {
            bail!("node {} has saved nothing", worker.node());
        }
    }
    Ok(())
}
