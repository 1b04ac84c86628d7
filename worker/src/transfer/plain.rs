//! Plain objects to S3: their bytes are their content, and one PUT carries them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use swift_s3_policy::RemoteMetadata;
use swift_s3_store::{ErrorKind, PutObject, PutReceipt, RemoteObject, StoreError, body};

use super::deciding::in_span;
use super::{
    Done, Hint, Outcome, Route, Transfer, Trouble, content_md5, newer_than_row, object_name, remote_metadata,
    selected, stored_after,
};
use crate::decide::{Action, Local, LocalShape, OpaqueContent, Remote, decide};
use crate::hashing_body::HashingBody;
use crate::reason::{Failure, Reason};
use crate::swift::backend::LocalBody;
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalKind, LocalObject};

impl Transfer {
    /// Carries a live row.
    pub(super) async fn copy(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        if route.mapping.remote.swift().is_some() {
            return self.copy_to_swift(route, row, hint).await;
        }
        if route.mapping.retain_local && listing_settles(row, hint) {
            return Ok(Done::plain(Outcome::AlreadyThere));
        }
        let key = route.keys.object_key(&row.name);
        if !must_ask(row, hint) {
            let object = self.open_object(route, row).await?;
            // What a listing shows to be absent may have been deleted by a write that this node has not heard of.
            if *hint == Hint::Absent && self.is_outdated(route, row, &object.head, &Remote::Absent).await? {
                return Ok(Done::plain(Outcome::Superseded));
            }
            return match object.head.kind {
                LocalKind::StaticLargeObject | LocalKind::DynamicLargeObject => {
                    self.copy_large(route, row, &key, object, hint).boxed().await
                }
                LocalKind::Plain | LocalKind::Symlink => self.put(route, row, &key, object, hint).await,
            };
        }
        let head = self.head_object(route, row).await?;
        if !selected(route, &head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        if matches!(head.kind, LocalKind::StaticLargeObject | LocalKind::DynamicLargeObject) {
            let object = self.open_object(route, row).await?;
            return self.copy_large(route, row, &key, object, hint).boxed().await;
        }
        let metadata = remote_metadata(&head);
        let local = facts(&head, &metadata);
        // Told below, when the remote has been asked.
        if let Action::Refuse(failure) = decide(&key, &local, &Remote::NotAsked) {
            return Err(Trouble::Row(failure));
        }
        let found = match route.store.head(&key).await {
            Ok(found) => Ok(found),
            // Credentials without permission to list get 403 for keys that are not there.
            Err(error) if error.kind() == ErrorKind::Denied => Err(()),
            Err(error) => return Err(error.into()),
        };
        let remote = match &found {
            Err(()) => Remote::NotAsked,
            Ok(None) => Remote::Absent,
            Ok(Some(object)) => present(route, row, object),
        };
        let action = in_span(|| decide(&key, &local, &remote));
        if matches!(action, Action::Put | Action::UpdateMetadata) {
            if self.is_outdated(route, row, &head, &remote).await? {
                return Ok(Done::plain(Outcome::Superseded));
            }
            self.forget_companion(route, row, metadata_of(&found)).await?;
        }
        let class = found.as_ref().ok().and_then(|object| object.as_ref()?.storage_class.as_deref());
        let outcome = match action {
            Action::Refuse(failure) => return Err(Trouble::Row(failure)),
            Action::Nothing => Outcome::AlreadyThere,
            Action::Keep => {
                tracing::info!(object = %row.name, container = %route.container, key,
                    "the remote object is archived and keeps its metadata, as configured; the local copy stays");
                return Ok(Done {
                    outcome: Outcome::Kept,
                    archived: false,
                    carried: newer_than_row(&head, row),
                });
            }
            Action::Put => return self.reopen_and_put(route, row, &key).await,
            Action::UpdateMetadata => {
                match route.store.replace_metadata(&key, &head.etag, &metadata, class).await {
                    Ok(()) => Outcome::MetadataUpdated,
                    // A store that cannot copy, or an object that changed meanwhile: send it whole.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::Unsupported
                                | ErrorKind::TooLarge
                                | ErrorKind::Precondition
                                | ErrorKind::NotFound
                        ) =>
                    {
                        return self.reopen_and_put(route, row, &key).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let archived = if route.mapping.retain_local {
            false
        } else {
            // `found` is fresh, and says that content and length are equal; after an update in place it is asked again.
            let proof = if outcome == Outcome::AlreadyThere { found.ok().flatten() } else { None };
            self.archive(route, row, &key, &head, proof).await?
        };
        tracing::debug!(object = %row.name, container = %route.container, ?outcome, archived, "checked");
        Ok(Done { outcome, archived, carried: newer_than_row(&head, row) })
    }

    /// True when another replica knows of a newer write or delete than `head`. A node that was away has old rows and old replicas, and what
    /// the remote holds may be right.
    pub(super) async fn is_outdated(
        &self,
        route: &Route,
        row: &Row,
        head: &LocalHead,
        remote: &Remote<'_>,
    ) -> Result<bool, Trouble> {
        let newest = match remote {
            // Nothing can be overwritten there, so whoever answers is good enough.
            Remote::Absent => self.local.newest(&object_name(route, row)).await?,
            // Credentials that may not ask say nothing about what is there.
            Remote::NotAsked | Remote::Present { .. } => self.newest_by_majority(route, row).await?,
        };
        // A POST also reaches replicas that missed the write before it: its time says nothing of the content.
        let content = |head: &LocalHead| head.data_timestamp.with_offset(0);
        let has_old_content = newest.found.as_ref().is_some_and(|found| content(found) > content(head));
        let written = newest.found.map(|found| found.timestamp);
        Ok(has_old_content || written.max(newest.deleted_at) > Some(head.timestamp))
    }

    pub(super) async fn reopen_and_put(&self, route: &Route, row: &Row, key: &str) -> Result<Done, Trouble> {
        let object = self.open_object(route, row).await?;
        self.put(route, row, key, object, &Hint::Unknown).await
    }

    /// Streams the local object to the remote, and archives it when the mapping says so.
    pub(super) async fn put(
        &self,
        route: &Route,
        row: &Row,
        key: &str,
        object: LocalObject,
        hint: &Hint,
    ) -> Result<Done, Trouble> {
        let LocalObject { head, body: source } = object;
        if !selected(route, &head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        let metadata = remote_metadata(&head);
        let action = in_span(|| decide(key, &facts(&head, &metadata), &Remote::NotAsked));
        if let Action::Refuse(failure) = action {
            return Err(Trouble::Row(failure));
        }
        let receipt = self.send(route, key, &head, source, metadata).await?;
        self.sent(route, row, key, &head, &receipt, hint, !route.mapping.retain_local).await
    }

    /// Streams a local object to the remote, once.
    pub(super) async fn send(
        &self,
        route: &Route,
        key: &str,
        head: &LocalHead,
        source: LocalBody,
        metadata: RemoteMetadata,
    ) -> Result<PutReceipt, StoreError> {
        let md5 = content_md5(&head.etag);
        let read = Arc::new(AtomicU64::new(0));
        let put = PutObject {
            length: head.length,
            content_md5: md5,
            metadata,
            body: body::from_body(HashingBody::new(source, head.length, md5, Arc::clone(&read))),
            storage_class: route.storage_class().map(str::to_owned),
        };
        let receipt = route.store.put(key, put).await?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.bytes, read.load(Ordering::Relaxed));
        }
        Ok(receipt)
    }

    /// Ends a row whose object was sent: checks the remote's answer, and archives if that `is_archived`.
    #[allow(clippy::too_many_arguments, reason = "what is known of one transfer at its end")]
    pub(super) async fn sent(
        &self,
        route: &Route,
        row: &Row,
        key: &str,
        head: &LocalHead,
        receipt: &PutReceipt,
        hint: &Hint,
        is_archived: bool,
    ) -> Result<Done, Trouble> {
        check_receipt(head, receipt)?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.copied_objects, 1);
        }
        let archived = if !is_archived {
            false
        } else {
            let proof = receipt_proves(head, receipt).then(|| RemoteObject {
                etag: head.etag.clone(),
                length: head.length,
                metadata: RemoteMetadata::default(),
                storage_class: None,
                archived: false,
                last_modified: None,
                kms: receipt.kms,
            });
            self.archive(route, row, key, head, proof).await?
        };
        tracing::debug!(object = %row.name, container = %route.container, key, bytes = head.length, archived, ?hint, "copied");
        Ok(Done { outcome: Outcome::Copied(head.length), archived, carried: newer_than_row(head, row) })
    }
}

/// The metadata of what is at the remote: none where nothing is, unknown where it may not be asked.
fn metadata_of(found: &Result<Option<RemoteObject>, ()>) -> Option<&RemoteMetadata> {
    static NOTHING: RemoteMetadata =
        RemoteMetadata { content_type: String::new(), user: BTreeMap::new(), headers: BTreeMap::new() };
    found.as_ref().ok().map(|object| object.as_ref().map_or(&NOTHING, |object| &object.metadata))
}

fn present<'a>(route: &Route, row: &Row, object: &'a RemoteObject) -> Remote<'a> {
    Remote::Present {
        etag: &object.etag,
        length: object.length,
        metadata: &object.metadata,
        archived: object.archived.then(|| route.archived_metadata()),
        opaque: object.kms.then(|| OpaqueContent {
            stored_after_write: stored_after(object.last_modified, row.timestamps.data),
            must_be_proven: !route.mapping.retain_local,
        }),
    }
}

fn facts<'a>(head: &'a LocalHead, metadata: &'a RemoteMetadata) -> Local<'a> {
    let kind = match head.kind {
        LocalKind::Plain => LocalShape::Plain,
        LocalKind::StaticLargeObject | LocalKind::DynamicLargeObject => LocalShape::LargeObject,
        LocalKind::Symlink => LocalShape::Symlink,
    };
    Local { etag: &head.etag, length: head.length, metadata, kind }
}

/// Whether the remote has to be asked before a row's object is sent.
pub(super) fn must_ask(row: &Row, hint: &Hint) -> bool {
    match hint {
        Hint::Absent => false,
        // Only a plain new write can be sent unasked: a POST's row may need no transfer at all.
        Hint::Fresh => row.timestamps.metadata != row.timestamps.data,
        Hint::Unknown | Hint::AskedDelete | Hint::Listed { .. } => true,
    }
}

/// True when a listing alone shows that the remote holds this write. Rows of a POST need a look at the metadata.
fn listing_settles(row: &Row, hint: &Hint) -> bool {
    let Hint::Listed { etag: Some(etag), length, last_modified: Some(modified) } = hint else { return false };
    // The same content may have been stored by an earlier write with other metadata: only a copy made after this write is this write's.
    row.timestamps.metadata == row.timestamps.data
        && etag.eq_ignore_ascii_case(&row.etag)
        && *length == row.size
        && stored_after(Some(*modified), row.timestamps.data)
}

/// The remote's own word on what it stored, where its ETag is an MD5.
pub(super) fn check_receipt(head: &LocalHead, receipt: &PutReceipt) -> Result<(), Trouble> {
    let md5_known = content_md5(&head.etag).is_some();
    let Some(etag) = &receipt.etag else { return Ok(()) };
    if md5_known && !receipt.kms && content_md5(etag).is_some() && !etag.eq_ignore_ascii_case(&head.etag) {
        let message = format!("the remote answered ETag {etag} for content with MD5 {}", head.etag);
        return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
    }
    Ok(())
}

/// True when the answer to our PUT shows that the remote has this content: its ETag is the MD5, or, where a key management service makes ETags
/// opaque, it accepted our Content-MD5.
fn receipt_proves(head: &LocalHead, receipt: &PutReceipt) -> bool {
    let matches = receipt.etag.as_ref().is_some_and(|etag| etag.eq_ignore_ascii_case(&head.etag));
    matches || (receipt.kms && content_md5(&head.etag).is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use swift_s3_policy::RowTimestamps;

    fn row(created_at: &str) -> Row {
        Row {
            rowid: 1,
            name: "o".into(),
            timestamps: RowTimestamps::parse(created_at).unwrap(),
            size: 5,
            content_type: "text/plain".into(),
            etag: "5d41402abc4b2a76b9719d911017c592".into(),
            deleted: false,
            policy_index: 0,
        }
    }

    fn listed(etag: &str, length: u64, seconds: u64) -> Hint {
        Hint::Listed {
            etag: Some(etag.to_owned()),
            length,
            last_modified: Some(UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn a_listing_settles_only_what_it_shows() {
        let etag = "5d41402abc4b2a76b9719d911017c592";
        let written = row("1700000000.50000");
        assert!(listing_settles(&written, &listed(etag, 5, 1_700_000_000)));
        assert!(!listing_settles(&written, &listed(etag, 5, 1_699_999_999)), "stored before this write");
        assert!(!listing_settles(&written, &listed(etag, 6, 1_700_000_000)), "other length");
        assert!(!listing_settles(&written, &listed("00", 5, 1_700_000_000)), "other content");
        let posted = row("1700000000.50000+0+186a0");
        assert!(!listing_settles(&posted, &listed(etag, 5, 1_800_000_000)), "a POST changes metadata only");
        assert!(!listing_settles(&written, &Hint::Unknown));
    }
}
