//! Metadata and access lists of a container, carried to its counterpart on another Swift cluster.
//!
//! Every node with a replica does so at the start of its walks. The remote is asked only when the local headers have changed since
//! it was known to have them, and after a start.

use std::collections::BTreeMap;
use std::time::Duration;

use swift_s3_policy::swift_layout::container_changes;
use swift_s3_policy::{SwiftRemote, Timestamp};
use swift_s3_store::StoreError;

use super::{Feed, now};
use crate::swift::container_db::ContainerInfo;

/// What failed is tried again after this long. Rows go on meanwhile.
const RETRY: Duration = Duration::from_secs(30);

impl Feed {
    /// Gives the remote container the headers of the local one, as far as the mapping wants that. Answers when to try again, if that
    /// failed.
    pub(super) async fn carry_container_headers(&self, info: &ContainerInfo) -> Option<Timestamp> {
        let remote = self.route.mapping.remote.swift().filter(|remote| remote.container_metadata)?;
        let is_root =
            self.source.account == self.route.account && self.source.container == self.route.container;
        if !is_root || info.deleted {
            return None;
        }
        let problem = match self.read(|database| database.headers()).await {
            // Filtered, so that nothing secret is kept.
            Ok(headers) => {
                let wanted = container_changes(&headers, &BTreeMap::new(), remote.container_acl);
                let removed = headers.into_iter().filter(|(_, value)| value.is_empty());
                let known: BTreeMap<String, String> = removed.chain(wanted).collect();
                if self.headers_carried().as_ref() == Some(&known) {
                    return None;
                }
                match self.send_container_headers(remote, &known).await {
                    Ok(()) => {
                        *self.headers_carried() = Some(known);
                        return None;
                    }
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::error!(account = %self.route.account, container = %self.route.container, error = problem,
            "could not carry the container's metadata; its objects go on");
        Some(now().plus(RETRY))
    }

    async fn send_container_headers(
        &self,
        remote: &SwiftRemote,
        known: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let Some(account) = self.route.store.swift() else { return Ok(()) };
        // Nothing was ever set here: what the remote has is its own.
        if known.is_empty() {
            return Ok(());
        }
        let container = remote.object_container(&self.route.mapping.container, &self.route.container);
        let found = account.head_container(&container).await?;
        let is_missing = found.is_none();
        let changes = container_changes(known, &found.unwrap_or_default().headers, remote.container_acl);
        if changes.is_empty() {
            return Ok(());
        }
        if is_missing {
            account.ensure_container(&container, remote.storage_policy.as_deref()).await?;
        }
        account.post_container(&container, &changes).await?;
        tracing::info!(account = %self.route.account, container = %self.route.container, remote_container = container,
            headers = ?changes.keys().collect::<Vec<_>>(), "carried the container's metadata");
        Ok(())
    }

    fn headers_carried(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<String, String>>> {
        self.headers_carried.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
