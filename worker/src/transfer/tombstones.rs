//! Carrying users' deletes to the remote.

use swift_s3_policy::{RowTimestamps, Timestamp};

use super::deciding::in_span;
use super::{Done, Hint, Outcome, Route, Transfer, Trouble};
use crate::decide::{DeleteAction, decide_delete, unfit_key};
use crate::swift::container_db::Row;

impl Transfer {
    /// Carries a tombstone.
    pub(super) async fn delete(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        match in_span(|| decide_delete(route.mapping.propagate_delete, row.timestamps.metadata)) {
            DeleteAction::NotPropagated | DeleteAction::NotAUsersDelete => {
                return Ok(Done::plain(Outcome::NotWanted));
            }
            DeleteAction::Delete => {}
        }
        if route.mapping.remote.swift().is_some() {
            return self.delete_from_swift(route, row, hint).await;
        }
        let key = route.keys.object_key(&row.name);
        // What cannot have been stored needs no delete.
        if *hint == Hint::Absent || unfit_key(&key).is_some() {
            return Ok(Done::plain(Outcome::AlreadyThere));
        }
        // Another node, or this one before a restart, has probably done it.
        if matches!(hint, Hint::Unknown | Hint::AskedDelete)
            && matches!(route.store.head(&key).await, Ok(None))
        {
            return Ok(Done::plain(Outcome::AlreadyThere));
        }
        if self.was_written_since(route, row, hint).await? {
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
    pub(super) async fn was_written_since(
        &self,
        route: &Route,
        row: &Row,
        hint: &Hint,
    ) -> Result<bool, Trouble> {
        // A lagging container database may still say "deleted" of an object that is there again.
        // And what was written and archived since has left a newer tombstone: the remote then holds the only copy.
        let newest = self.newest_by_majority(route, row).await?;
        let found = newest.found.map(|head| head.data_timestamp);
        Ok(outlives(found, newest.deleted_at, row.timestamps, hint))
    }
}

/// Whether what the object servers have, an object written at `found` or a tombstone of `deleted_at`, is against a delete.
fn outlives(
    found: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    tombstone: RowTimestamps,
    hint: &Hint,
) -> bool {
    // Its tombstone is made up, so its time proves nothing: any object here is against it, and any archiver's tombstone.
    let is_asked = *hint == Hint::AskedDelete;
    if is_asked && (found.is_some() || deleted_at.is_some_and(|at| at.offset() > 0)) {
        return true;
    }
    found > Some(tombstone.data) || deleted_at > Some(tombstone.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asked_delete_yields_to_any_object_and_any_archived_one() {
        let at = |seconds: u64, offset| Timestamp::new(seconds * 100_000, offset);
        let of = at(1_000, 0);
        let row = RowTimestamps { data: of, content_type: of, metadata: of };
        for (found, deleted, of_row, asked) in [
            (None, None, false, false),
            (Some(at(999, 0)), None, false, true),
            (Some(at(1_001, 0)), None, true, true),
            (None, Some(at(999, 0)), false, false),
            (None, Some(at(999, 1)), false, true),
            (None, Some(at(1_001, 0)), true, true),
            (None, Some(at(1_001, 1)), true, true),
        ] {
            assert_eq!(outlives(found, deleted, row, &Hint::Unknown), of_row, "{found:?} {deleted:?}");
            assert_eq!(outlives(found, deleted, row, &Hint::AskedDelete), asked, "{found:?} {deleted:?}");
        }
    }
}
