//! Workers under a control plane: configuration without restarts, progress that is not theirs, true lag.

mod audits;
mod changes_live;
mod holds_deletes;
mod knows_the_lag;
mod plans;
mod remembers_for_nodes;
mod tells_operators;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_proto::v1::Lag;
use swift_s3_tests::control_process::Control;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::wait;

use crate::CLUSTER;

/// What happens by itself happens within this time.
const SOON: Duration = Duration::from_secs(40);

/// Nodes leave each other's rows alone, so that each object is sent by one of them.
fn config() -> SyncJson {
    SyncJson::new().set("verification_slack", 60)
}

/// A site with one container `c` and a control plane that maps it.
async fn controlled(change: impl FnOnce(MappingJson) -> MappingJson) -> Result<(Site, Control)> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let control = site.start_controlled(&config().mapping(change(site.mapping("c")))).await?;
    Ok((site, control))
}

/// Waits until the one mapping's lag is complete and as wanted.
async fn wait_lag(control: &Control, what: &str, wanted: impl Fn(&Lag) -> bool) -> Result<Lag> {
    wait::until(what, SOON, async || {
        let mapping = control.mapping().await?;
        let lag = mapping.lag.context("unknown")?;
        ensure!(mapping.is_complete && wanted(&lag), "complete: {}, {lag:?}", mapping.is_complete);
        Ok::<Lag, anyhow::Error>(lag)
    })
    .await
}

async fn put(site: &Site, names: &[&str]) -> Result<()> {
    for name in names {
        site.swift.put_object("c", name, name.as_bytes().to_vec(), &[]).await?;
    }
    Ok(())
}
