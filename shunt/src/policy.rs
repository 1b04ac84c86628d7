//! Which containers are merged, and with which remote. What was last good stays in force, whatever comes after it.

pub mod control;
pub mod file;
mod route;
mod table;

use std::sync::Arc;

use arc_swap::ArcSwap;
use swift_s3_policy::SyncConfig;
use swift_s3_store::Remotes;

pub use route::Route;
pub use table::{Found, MergedContainer, Table};

/// The policy in force. Readers never wait.
#[derive(Debug, Default)]
pub struct Policies {
    table: ArcSwap<Table>,
    remotes: Remotes,
}

impl Policies {
    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// What the shunt does for a container.
    #[must_use]
    pub fn find(&self, account: &str, container: &str) -> Found {
        self.table.load().find(account, container)
    }

    /// Puts a configuration in force. Requests that are under way end under the one they began with.
    ///
    /// A mapping whose remote cannot be opened (a secret that is not there, say) keeps the remote it had; without one its containers answer
    /// 503 where they would need it. The problems are returned and logged.
    pub async fn install(&self, config: &SyncConfig) -> Vec<String> {
        let before = self.current();
        let (table, problems) = Table::build(config, &self.remotes, &before).await;
        for problem in &problems {
            tracing::error!("{problem}");
        }
        tracing::info!(merged = table.len(), "policy in force");
        self.table.store(Arc::new(table));
        drop(before);
        self.remotes.tidy();
        problems
    }
}
