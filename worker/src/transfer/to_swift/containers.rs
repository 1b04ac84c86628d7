//! Remote containers, which are created when something is refused because they are missing.

use super::{Route, Transfer, Trouble, account};

impl Transfer {
    /// Makes sure that a remote container is there, in the mapping's storage policy if it has to be created.
    ///
    /// # Errors
    /// When it is not there and cannot be created; an unknown policy is told in the server's words.
    pub(super) async fn ensure_container(&self, route: &Route, container: &str) -> Result<(), Trouble> {
        let policy = route.mapping.remote.swift().and_then(|remote| remote.storage_policy.as_deref());
        if account(route)?.ensure_container(container, policy).await? {
            tracing::info!(account = %route.account, container = %route.container, remote_container = container,
                storage_policy = policy, "created a remote container");
        }
        Ok(())
    }
}

/// The remote container for the objects of the route's own.
pub(super) fn object_container(route: &Route) -> &str {
    let prefix = route.keys.key_prefix();
    prefix.strip_suffix('/').unwrap_or(prefix)
}
