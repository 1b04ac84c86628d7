//! One cluster for all tests of a test binary.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};
use tokio::runtime::Builder;

use super::{SwiftCluster, SwiftOptions};

/// A static that starts a cluster at the first use. It is never dropped: the cluster ends with the process.
///
/// ```no_run
/// # use swift_s3_tests::swift_cluster::{SharedCluster, SwiftOptions};
/// static CLUSTER: SharedCluster = SharedCluster::new(SwiftOptions::default);
/// # async fn test() -> anyhow::Result<()> {
/// let cluster = CLUSTER.get().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SharedCluster {
    options: fn() -> SwiftOptions,
    started: Mutex<Option<std::result::Result<Arc<SwiftCluster>, String>>>,
}

impl SharedCluster {
    /// Nothing is started yet.
    pub const fn new(options: fn() -> SwiftOptions) -> Self {
        Self { options, started: Mutex::new(None) }
    }

    /// The cluster; the first caller starts it and the others wait.
    ///
    /// # Errors
    /// When it did not start; every later caller gets the same error at once.
    pub async fn get(&'static self) -> Result<Arc<SwiftCluster>> {
        // Starting blocks a thread of its own with a runtime of its own, so that nothing of the cluster depends on
        // the runtime of the test that happened to come first.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let _ = sender.send(self.get_blocking());
        });
        receiver.await.context("the cluster's start was cut off")?
    }

    fn get_blocking(&self) -> Result<Arc<SwiftCluster>> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started
            .get_or_insert_with(|| {
                block_on(SwiftCluster::start((self.options)()))
                    .map(Arc::new)
                    .map_err(|error| format!("{error:#}"))
            })
            .clone()
            .map_err(|error| anyhow!("the shared cluster did not start: {error}"))
    }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    Builder::new_current_thread().enable_all().build().context("make a runtime")?.block_on(future)
}
