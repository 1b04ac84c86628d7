//! Everything one scenario needs, in one call: a cluster, an S3 server behind a fault proxy, a bucket, one worker per
//! node.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::compare::{Depth, Differences, compare};
use crate::control_process::Control;
use crate::fault_proxy::FaultProxy;
use crate::run_directory::RunDirectory;
use crate::s3_client::{S3Access, S3Client};
use crate::s3_servers::{S3Server, S3ServerKind};
use crate::swift_client::SwiftClient;
use crate::swift_cluster::{SwiftCluster, SwiftOptions};
use crate::sync_json::{MappingJson, SyncJson};
use crate::wait;
use crate::web_ui::WebUi;
use crate::worker_process::{RoundOutcome, Worker};

/// The bucket's name.
const BUCKET: &str = "site";

/// See the module. Sites on one shared cluster do not see each other: each has an account of its own.
#[derive(Debug)]
pub struct Site {
    /// Workers, one per node of the cluster. Dropped before what they talk to.
    pub workers: Vec<Worker>,
    /// Between the workers and the S3 server.
    pub faults: FaultProxy,
    /// The bucket, asked directly and not through the fault proxy.
    pub bucket: S3Client,
    /// The S3 server.
    pub s3: S3Server,
    /// A client of the site's account, by the proxy without authentication.
    pub swift: SwiftClient,
    /// The cluster.
    pub cluster: Arc<SwiftCluster>,
    directory: RunDirectory,
}

impl Site {
    /// A site with a cluster of its own.
    pub async fn start(options: SwiftOptions, server: S3ServerKind) -> Result<Self> {
        let (cluster, server) = tokio::join!(SwiftCluster::start(options), S3Server::start(server));
        Self::with(Arc::new(cluster?), server?).await
    }

    /// A site on a cluster that other sites use too.
    pub async fn on(cluster: Arc<SwiftCluster>, server: S3ServerKind) -> Result<Self> {
        Self::with(cluster, S3Server::start(server).await?).await
    }

    /// A site of given parts.
    pub async fn with(cluster: Arc<SwiftCluster>, s3: S3Server) -> Result<Self> {
        let directory = RunDirectory::create("site")?;
        let bucket = s3.create_bucket(BUCKET).await?;
        let faults = FaultProxy::start(s3.endpoint()).await?;
        let number = RandomState::new().build_hasher().finish();
        let swift = cluster.internal_client(&format!("AUTH_site{number:016x}"))?;
        let mut workers = Vec::new();
        for node in cluster.nodes() {
            let folder = directory.folder(format!("worker{}", node.index()))?;
            workers.push(Worker::new(&cluster, node.index(), folder)?);
        }
        Ok(Self { workers, faults, bucket, s3, swift, cluster, directory })
    }

    /// A folder for whatever the scenario needs.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// How workers reach the S3 server: through the fault proxy.
    pub fn access(&self) -> S3Access {
        S3Access { endpoint: self.faults.endpoint(), ..self.s3.access().clone() }
    }

    /// A mapping of one of the account's containers (or `/*`) to the bucket, through the fault proxy.
    pub fn mapping(&self, container: &str) -> MappingJson {
        MappingJson::new(self.swift.account(), container, &self.access(), BUCKET)
    }

    /// Writes every worker's `sync.json`.
    pub fn configure(&self, config: &SyncJson) -> Result<()> {
        self.workers.iter().try_for_each(|worker| worker.configure(config))
    }

    /// Writes every worker's `sync.json` with these mappings and otherwise the defaults of tests.
    pub fn map(&self, mappings: impl IntoIterator<Item = MappingJson>) -> Result<()> {
        let config = mappings.into_iter().fold(SyncJson::new(), SyncJson::mapping);
        self.configure(&config)
    }

    /// Runs `--once` on every node, one after the other; fails unless each exits with 0.
    pub async fn sync(&self) -> Result<Vec<RoundOutcome>> {
        let mut outcomes = Vec::new();
        for worker in &self.workers {
            let outcome = worker.run_once().await?.expect_code(0);
            outcomes.push(outcome.with_context(|| format!("node {}", worker.node()))?);
        }
        Ok(outcomes)
    }

    /// Starts all workers in loop mode.
    pub fn start_workers(&self) -> Result<()> {
        self.workers.iter().try_for_each(Worker::start)
    }

    /// Starts a control plane with a folder of its own, and all workers under it; waits until they are registered.
    pub async fn start_controlled(&self, config: &SyncJson) -> Result<Control> {
        let control = Control::start(self.directory.folder("control")?).await?;
        control.apply(config).await?;
        self.start_workers_under(&control)?;
        control.wait_synced(self.workers.len()).await?;
        Ok(control)
    }

    /// The same with an access file and the web UI; workers have their token.
    pub async fn start_guarded(&self, config: &SyncJson) -> Result<(Control, WebUi)> {
        let folder = self.directory.folder("control")?;
        let ui = WebUi::prepare(&folder)?;
        let control = ui.start(folder, &[]).await?;
        control.apply(config).await?;
        for worker in &self.workers {
            let token_file = ui.node_token_file().to_string_lossy().into_owned();
            worker.set_arguments(["--control-token-file".to_owned(), token_file]);
        }
        self.start_workers_under(&control)?;
        control.wait_synced(self.workers.len()).await?;
        Ok((control, ui))
    }

    /// Starts all workers under a control plane.
    pub fn start_workers_under(&self, control: &Control) -> Result<()> {
        self.workers.iter().try_for_each(|worker| worker.start_under(&[control.url()], &[]))
    }

    /// Compares a container with the bucket.
    pub async fn differences(&self, container: &str) -> Result<Differences> {
        compare(&self.swift, container, &self.bucket, None, Depth::Metadata).await
    }

    /// Fails unless the bucket holds what the container holds.
    pub async fn expect_equal(&self, container: &str) -> Result<()> {
        self.differences(container).await?.none()
    }

    /// Waits until the bucket holds what the container holds.
    pub async fn wait_equal(&self, container: &str, limit: Duration) -> Result<()> {
        let what = format!("bucket equal to {container}");
        wait::until(&what, limit, async || self.expect_equal(container).await).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for worker in &self.workers {
                let log = worker.log_text();
                if !log.is_empty() {
                    eprintln!("--- worker of node {}\n{}", worker.node(), crate::process::tail(&log));
                }
            }
        }
    }
}
