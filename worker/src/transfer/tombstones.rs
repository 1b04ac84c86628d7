//! Carrying users' deletes to the remote.

use super::{Done, Hint, Outcome, Route, Transfer, Trouble};
use crate::decide::{DeleteAction, decide_delete, unfit_key};
use crate::swift::container_db::Row;

impl Transfer {
    /// Carries a tombstone.
    pub(super) async fn delete(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        match decide_delete(route.mapping.propagate_delete, row.timestamps.metadata) {
            DeleteAction::NotPropagated | DeleteAction::NotAUsersDelete => {
                return Ok(Done::plain(Outcome::NotWanted));
            }
            DeleteAction::Delete => {}
        }
        if route.mapping.remote.swift().is_some() {
            return self.delete_from_swift(route, row).await;
        }
        let key = route.keys.object_key(&row.name);
        // What cannot have been stored needs no delete.
        if *hint == Hint::Absent || unfit_key(&key).is_some() {
            return Ok(Done::plain(Outcome::AlreadyThere));
        }
        // Another node, or this one before a restart, has probably done it.
        if *hint == Hint::Unknown && matches!(route.store.head(&key).await, Ok(None)) {
            return Ok(Done::plain(Outcome::AlreadyThere));
        }
        if self.was_written_since(route, row).await? {
            return Ok(Done::plain(Outcome::Superseded));
        }
        // The companion manifest of a large object goes first: as long as the object is there, the delete is known to be owed.
        let manifest = route.keys.manifest_key(&row.name);
        if let Some(manifest) = manifest.filter(|key| unfit_key(key).is_none()) {
            route.store.delete(&manifest).await?;
        }
        route.store.delete(&key).await?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.deleted_objects, 1);
        }
        tracing::debug!(object = %row.name, container = %route.container, key, "deleted from the remote");
        Ok(Done::plain(Outcome::Deleted))
    }

    /// True when the tombstone is not the last word on its object.
    pub(super) async fn was_written_since(&self, route: &Route, row: &Row) -> Result<bool, Trouble> {
        // A lagging container database may still say "deleted" of an object that is there again.
        // And what was written and archived since has left a newer tombstone: the remote then holds the only copy.
        let newest = self.newest_by_majority(route, row).await?;
        Ok(newest.found.is_some_and(|head| head.data_timestamp > row.timestamps.data)
            || newest.deleted_at > Some(row.timestamps.metadata))
    }
}
