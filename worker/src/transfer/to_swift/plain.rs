//! Plain objects: one PUT for what is new, one HEAD for what may be there.

use swift_s3_policy::swift_layout::ObjectRole;
use swift_s3_store::ErrorKind;

use super::containers::object_container;
use super::removal::Kept;
use super::{Done, Hint, Outcome, Route, Transfer, Trouble, Wanted, is_manifest, keeps_local, selected};
use crate::decide::Remote;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalKind, LocalObject};
use crate::transfer::deciding::in_span;
use crate::transfer::newer_than_row;

impl Transfer {
    /// Carries a plain object that the remote may have.
    pub(super) async fn compare_on_swift(
        &self,
        route: &Route,
        row: &Row,
        head: &LocalHead,
    ) -> Result<Done, Trouble> {
        if !selected(route, head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        let wanted = Wanted::of(route, head, ObjectRole::Plain)?;
        let key = route.keys.object_key(&row.name);
        let found = route.store.head(&key).await?;
        let same_content = found.as_ref().is_some_and(|remote| {
            !is_manifest(remote)
                && remote.etag.eq_ignore_ascii_case(&head.etag)
                && remote.length == head.length
        });
        let in_sync = in_span(|| same_content && found.as_ref().is_some_and(|remote| wanted.is_on(remote)));
        // Whatever is there may be newer than what this node knows.
        let overwritten = if found.is_some() { Remote::NotAsked } else { Remote::Absent };
        if !in_sync && self.is_outdated(route, row, head, &overwritten).await? {
            return Ok(Done::plain(Outcome::Superseded));
        }
        if !same_content {
            let replaced = match &found {
                Some(remote) => self.segments_of_remote(route, &key, remote).await?,
                None => Vec::new(),
            };
            let done = self.reopen_on_swift(route, row).await?;
            self.remove_replaced(route, row, replaced, &Kept::default()).await;
            return Ok(done);
        }
        let (outcome, proof) = if in_sync {
            (Outcome::AlreadyThere, found)
        } else {
            match route.store.replace_metadata(&key, &head.etag, &wanted.to_send(), None).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return self.reopen_on_swift(route, row).await;
                }
                Err(error) => return Err(error.into()),
            }
            // A POST has no conditions: another node may have put newer content there just before it.
            let found = route.store.head(&key).await?;
            if found.as_ref().is_none_or(|remote| !remote.etag.eq_ignore_ascii_case(&head.etag)) {
                let message = "the remote object was replaced while its metadata was being changed";
                return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
            }
            (Outcome::MetadataUpdated, found)
        };
        let archived = if keeps_local(route, &wanted) {
            false
        } else {
            self.archive(route, row, &key, head, proof).await?
        };
        tracing::debug!(object = %row.name, container = %route.container, ?outcome, archived, "checked");
        Ok(Done { outcome, archived, carried: newer_than_row(head, row) })
    }

    /// Opens the object and carries what it is by now.
    async fn reopen_on_swift(&self, route: &Route, row: &Row) -> Result<Done, Trouble> {
        let object = self.open_object(route, row).await?;
        if !selected(route, &object.head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        match object.head.kind {
            LocalKind::Plain | LocalKind::Symlink => {
                self.put_on_swift(route, row, object, &Hint::Unknown).await
            }
            LocalKind::StaticLargeObject | LocalKind::DynamicLargeObject => {
                self.copy_large_to_swift(route, row, object).await
            }
        }
    }

    /// Streams a plain object to the remote; creates its container if that is what is missing.
    pub(super) async fn put_on_swift(
        &self,
        route: &Route,
        row: &Row,
        object: LocalObject,
        hint: &Hint,
    ) -> Result<Done, Trouble> {
        let LocalObject { mut head, body } = object;
        let key = route.keys.object_key(&row.name);
        let mut wanted = Wanted::of(route, &head, ObjectRole::Plain)?;
        let mut sent = self.send(route, &key, &head, body, wanted.to_send()).await;
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.ensure_container(route, object_container(route)).await?;
            let again = self.open_object(route, row).await?;
            if again.head.timestamp != head.timestamp {
                let message = "it was written again while its remote container was being created";
                return Err(Trouble::Row(Failure::new(Reason::LocalStale, message)));
            }
            head = again.head;
            wanted = Wanted::of(route, &head, ObjectRole::Plain)?;
            sent = self.send(route, &key, &head, again.body, wanted.to_send()).await;
        }
        let archives = !keeps_local(route, &wanted);
        self.sent(route, row, &key, &head, &sent?, hint, archives).await
    }
}
