//! The shunt in front of Swift: what it lets through, what it refuses, and how it takes its policy.

mod follows_policy;
mod passes;
mod refuses;
mod segments;
mod survives;

use std::sync::Arc;

use anyhow::Result;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::SwiftCluster;
use swift_s3_tests::sync_json::SyncJson;

use crate::CLUSTER;

/// A shunt in front of the shared cluster's public proxy, and clients of one account on both sides of it.
struct Front {
    shunt: Shunt,
    through: SwiftClient,
    direct: SwiftClient,
    _cluster: Arc<SwiftCluster>,
    _folder: RunDirectory,
}

impl Front {
    /// Nothing is merged.
    async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ShuntOptions)) -> Result<Self> {
        let cluster = CLUSTER.get().await?;
        let folder = RunDirectory::create("shunt")?;
        let mut options = ShuntOptions::new(&cluster.proxy_url(), SyncJson::new());
        change(&mut options);
        let shunt = Shunt::start(folder.path().to_owned(), options).await?;
        let through = SwiftClient::log_in(&shunt.url()?, "test:tester", "testing").await?;
        let direct = SwiftClient::log_in(&cluster.proxy_url(), "test:tester", "testing").await?;
        Ok(Self { shunt, through, direct, _cluster: cluster, _folder: folder })
    }
}

/// A name that no other scenario uses.
fn unique(name: &str) -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    format!("{name}-{:016x}", std::collections::hash_map::RandomState::new().build_hasher().finish())
}
