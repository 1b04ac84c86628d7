//! Carries out what one row asks for: gathers the facts in the cheapest order, decides, acts, proves.
//!
//! Safe to be killed at any line: an interrupted PUT is never stored, a finished one is found again by the check that rows
//! without known history get, and the local delete of an archived object comes after the proof.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swift_s3_daemon::statsd::Counters;
use swift_s3_policy::{KeyMapping, Mapping, RemoteMetadata, Timestamp, statsd_name, to_remote};
use swift_s3_store::{ErrorKind, ObjectStore, PutObject, PutReceipt, RemoteObject, StoreError, body};

use crate::decide::{
    Action, DeleteAction, Local, LocalShape, OpaqueContent, Remote, archive_timestamp, decide, decide_delete,
    is_archived_class, unfit_key,
};
use crate::feed::now;
use crate::hashing_body::{BodyError, HashingBody};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{
    LocalError, LocalHead, LocalKind, LocalObject, LocalObjects, Newest, ObjectName,
};
use crate::swift::topology::{ContainerPlace, SwiftTopology};

/// A passing fault of the remote is tried again right here this often, before the row is given up for now.
const QUICK_RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// Swift may forget deletes that are dated further back than this before its replicators have spread them: of the week of its
/// `reclaim_age`, this leaves them a day. Source: `DEFAULT_RECLAIM_AGE` in `swift/obj/diskfile.py` of Swift 2.30.1.
const TOMBSTONES_FORGOTTEN: Duration = Duration::from_secs(6 * 86_400);

/// One container of one mapping: where its objects go.
#[derive(Debug)]
pub struct Route {
    /// The mapping.
    pub mapping: Arc<Mapping>,
    /// The account as users see it.
    pub account: String,
    /// The container as users see it, also for the databases of its shards.
    pub container: String,
    /// Names of remote keys.
    pub keys: KeyMapping,
    /// The remote store.
    pub store: Arc<dyn ObjectStore>,
    metrics: Option<Metrics>,
}

#[derive(Debug)]
struct Metrics {
    copied_objects: String,
    deleted_objects: String,
    bytes: String,
}

impl Route {
    /// Joins a mapping, a container of it, and the mapping's store.
    #[must_use]
    pub fn new(
        mapping: Arc<Mapping>,
        container: &str,
        store: Arc<dyn ObjectStore>,
        counters: &Counters,
    ) -> Self {
        let metrics = counters.is_enabled().then(|| {
            let name = |metric| {
                statsd_name(
                    counters.prefix(),
                    mapping.remote.endpoint.as_deref(),
                    &mapping.account,
                    &mapping.remote.bucket,
                    mapping.custom_prefix.as_deref(),
                    container,
                    metric,
                )
            };
            Metrics {
                copied_objects: name("copied_objects"),
                deleted_objects: name("deleted_objects"),
                bytes: name("bytes"),
            }
        });
        let keys = mapping.key_mapping(container);
        Self {
            account: mapping.account.clone(),
            container: container.to_owned(),
            keys,
            mapping,
            store,
            metrics,
        }
    }
}

/// What is known about the remote side of a row before it is handled.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// A new write that nobody can have carried yet.
    Fresh,
    /// Somebody may have carried it; the remote must be asked.
    Unknown,
    /// A listing has just shown that the key is not there.
    Absent,
    /// A listing has just shown this.
    Listed {
        /// Without quotes; some clones give none.
        etag: Option<String>,
        /// Bytes.
        length: u64,
        /// When the remote stored it.
        last_modified: Option<SystemTime>,
    },
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent; this many bytes.
    Copied(u64),
    /// Metadata replaced in place.
    MetadataUpdated,
    /// Both sides agreed already.
    AlreadyThere,
    /// The remote object is gone.
    Deleted,
    /// The mapping does not want it: excluded, not selected, or deletes are not propagated.
    NotWanted,
    /// A newer write or delete exists locally; its own row will be handled.
    Superseded,
}

/// A finished row.
#[derive(Clone, Debug)]
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// True when the local copy was removed after the proof.
    pub archived: bool,
    /// Set when the local object was newer than the row: the newer row has been carried already.
    pub carried: Option<Timestamp>,
}

impl Done {
    fn plain(outcome: Outcome) -> Self {
        Self { outcome, archived: false, carried: None }
    }
}

/// Why a row could not be finished.
#[derive(Debug)]
pub enum Trouble {
    /// This object has a problem; others may go on.
    Row(Failure),
    /// The remote has a problem, probably with every object.
    Remote(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let reason = match error.kind() {
            kind if kind.is_remote_wide() => return Self::Remote(error),
            ErrorKind::Body if is_digest_error(&error) => Reason::LocalCorrupt,
            ErrorKind::Body => Reason::LocalRead,
            ErrorKind::BadDigest | ErrorKind::Precondition => Reason::RemoteMismatch,
            _ => Reason::RemoteRefused,
        };
        Self::Row(Failure::new(reason, describe(&error)))
    }
}

impl From<LocalError> for Trouble {
    fn from(error: LocalError) -> Self {
        let reason = match &error {
            LocalError::Missing => Reason::LocalMissing,
            LocalError::Stale { .. } => Reason::LocalStale,
            LocalError::NeedsProxy(_) => Reason::NeedsProxy,
            _ => Reason::LocalUnavailable,
        };
        Self::Row(Failure::new(reason, error.to_string()))
    }
}

/// The error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn is_digest_error(error: &StoreError) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(BodyError::Digest { .. }) = cause.downcast_ref::<BodyError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Handles rows. Clones share everything.
#[derive(Clone, Debug)]
pub struct Transfer {
    local: LocalObjects,
    topology: SwiftTopology,
    counters: Counters,
}

impl Transfer {
    /// A handler that reads objects through `local`.
    #[must_use]
    pub fn new(local: LocalObjects, topology: SwiftTopology, counters: Counters) -> Self {
        Self { local, topology, counters }
    }

    /// Does what `row` asks for. Passing faults of the remote are retried a little.
    ///
    /// # Errors
    /// [`Trouble`]; nothing has then been lost, and the row may be handled again at any time.
    ///
    /// # Cancel safety
    /// May be dropped at any await: whether the remote carried the last request out is then unknown, and the row must be
    /// handled again with [`Hint::Unknown`].
    pub async fn handle(&self, route: &Route, row: &Row, hint: Hint) -> Result<Done, Trouble> {
        let mut hint = hint;
        let mut delays = QUICK_RETRIES.iter();
        loop {
            match self.handle_once(route, row, &hint).await {
                Err(Trouble::Remote(error))
                    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Throttled) =>
                {
                    let Some(delay) = delays.next() else { return Err(Trouble::Remote(error)) };
                    tracing::debug!(object = %row.name, %error, "remote request failed; trying again");
                    tokio::time::sleep(*delay).await;
                    // The failed request may have been carried out: from here on only the remote knows.
                    hint = Hint::Unknown;
                }
                ended => return ended,
            }
        }
    }

    async fn handle_once(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        match route.mapping.exclude.as_ref().map(|pattern| pattern.try_excludes(&row.name)) {
            Some(Ok(true)) => return Ok(Done::plain(Outcome::NotWanted)),
            Some(Err(error)) => tracing::warn!(object = %row.name, mapping = %route.mapping.path, %error,
                "could not match the exclude_pattern; the object is treated as not excluded"),
            Some(Ok(false)) | None => {}
        }
        if row.deleted {
            return self.delete(route, row, hint).await;
        }
        match self.copy(route, row, hint).await {
            Err(Trouble::Row(failure))
                if failure.reason == Reason::LocalMissing && self.was_deleted_since(route, row).await =>
            {
                Ok(Done::plain(Outcome::Superseded))
            }
            ended => ended,
        }
    }

    /// True when the object is gone because somebody deleted it after the row was written: a container database learns of that later,
    /// a shard sometimes much later, and the delete has a row of its own.
    async fn was_deleted_since(&self, route: &Route, row: &Row) -> bool {
        match self.local.newest(&object_name(route, row)).await {
            Ok(newest) => newest.found.is_none() && newest.deleted_at > Some(row.timestamps.metadata),
            Err(_) => false,
        }
    }

    /// Carries a tombstone.
    async fn delete(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        match decide_delete(route.mapping.propagate_delete, row.timestamps.metadata) {
            DeleteAction::NotPropagated | DeleteAction::NotAUsersDelete => {
                return Ok(Done::plain(Outcome::NotWanted));
            }
            DeleteAction::Delete => {}
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
        // A lagging container database may still say "deleted" of an object that is there again.
        // And what was written and archived since has left a newer tombstone: the remote then holds the only copy.
        let newest = self.newest_by_majority(route, row).await?;
        let is_newer = newest.found.is_some_and(|head| head.data_timestamp > row.timestamps.data)
            || newest.deleted_at > Some(row.timestamps.metadata);
        if is_newer {
            return Ok(Done::plain(Outcome::Superseded));
        }
        // The companion manifest of a large object goes first: as long as the object is there, the delete is known to be owed.
        let manifest = route.keys.manifest_key(&row.name);
        if unfit_key(&manifest).is_none() {
            route.store.delete(&manifest).await?;
        }
        route.store.delete(&key).await?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.deleted_objects, 1);
        }
        tracing::debug!(object = %row.name, container = %route.container, key, "deleted from the remote");
        Ok(Done::plain(Outcome::Deleted))
    }

    /// Carries a live row.
    async fn copy(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        if route.mapping.retain_local && listing_settles(row, hint) {
            return Ok(Done::plain(Outcome::AlreadyThere));
        }
        let key = route.keys.object_key(&row.name);
        let at_least = row.timestamps.metadata;
        let name = object_name(route, row);
        // Only a plain new write can be sent unasked: a POST's row may need no transfer at all.
        let plain_write = row.timestamps.metadata == row.timestamps.data;
        let ask = match hint {
            Hint::Absent => false,
            Hint::Fresh => !plain_write,
            Hint::Unknown | Hint::Listed { .. } => true,
        };
        if !ask {
            let object = self.local.open(&name, at_least).await?;
            return self.put(route, row, &key, object, hint).await;
        }
        let head = self.local.head(&name, at_least).await?;
        let metadata = remote_metadata(&head);
        if !selected(route, &head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        let local = facts(&head, &metadata);
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
            Ok(Some(object)) => Remote::Present {
                etag: &object.etag,
                length: object.length,
                metadata: &object.metadata,
                archived_class: is_archived_class(object.storage_class.as_deref()),
                opaque: object.kms.then(|| OpaqueContent {
                    stored_after_write: stored_after(object.last_modified, row.timestamps.data),
                    must_be_proven: !route.mapping.retain_local,
                }),
            },
        };
        let action = decide(&key, &local, &remote);
        if matches!(action, Action::Put | Action::UpdateMetadata)
            && self.is_outdated(route, row, &head, &remote).await?
        {
            return Ok(Done::plain(Outcome::Superseded));
        }
        let outcome = match action {
            Action::Refuse(failure) => return Err(Trouble::Row(failure)),
            Action::Nothing => Outcome::AlreadyThere,
            Action::Put => return self.reopen_and_put(route, row, &key).await,
            Action::UpdateMetadata => match route.store.replace_metadata(&key, &head.etag, &metadata).await {
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
            },
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
    async fn is_outdated(
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
        let written = newest.found.map(|found| found.timestamp);
        Ok(written.max(newest.deleted_at) > Some(head.timestamp))
    }

    /// What the replicas know of the object. Archiving takes the word of a majority of them, so half of them at least must answer here: a
    /// node that is cut off from the others must not undo what they did.
    async fn newest_by_majority(&self, route: &Route, row: &Row) -> Result<Newest, Trouble> {
        let newest = self.local.newest(&object_name(route, row)).await?;
        if newest.unreachable.saturating_mul(2) > newest.asked {
            let message = format!(
                "{} of {} object servers cannot be asked for newer writes",
                newest.unreachable, newest.asked
            );
            return Err(Trouble::Row(Failure::new(Reason::LocalUnavailable, message)));
        }
        Ok(newest)
    }

    async fn reopen_and_put(&self, route: &Route, row: &Row, key: &str) -> Result<Done, Trouble> {
        let object = self.local.open(&object_name(route, row), row.timestamps.metadata).await?;
        self.put(route, row, key, object, &Hint::Unknown).await
    }

    /// Streams the local object to the remote, and archives it when the mapping says so.
    async fn put(
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
        if let Action::Refuse(failure) = decide(key, &facts(&head, &metadata), &Remote::NotAsked) {
            return Err(Trouble::Row(failure));
        }
        let md5 = content_md5(&head.etag);
        let read = Arc::new(AtomicU64::new(0));
        let put = PutObject {
            length: head.length,
            content_md5: md5,
            metadata,
            body: body::from_body(HashingBody::new(source, head.length, md5, Arc::clone(&read))),
            storage_class: None,
        };
        let receipt = route.store.put(key, put).await?;
        check_receipt(&head, md5.is_some(), &receipt)?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.copied_objects, 1);
            self.counters.add(&metrics.bytes, read.load(Ordering::Relaxed));
        }
        let archived = if route.mapping.retain_local {
            false
        } else {
            let proof = receipt_proves(&head, &receipt).then(|| RemoteObject {
                etag: head.etag.clone(),
                length: head.length,
                metadata: RemoteMetadata::default(),
                storage_class: None,
                last_modified: None,
                kms: receipt.kms,
            });
            self.archive(route, row, key, &head, proof).await?
        };
        tracing::debug!(object = %row.name, container = %route.container, key, bytes = head.length, archived, ?hint, "copied");
        Ok(Done { outcome: Outcome::Copied(head.length), archived, carried: newer_than_row(&head, row) })
    }

    /// Removes the local copy of exactly the write that is known to be remote. Answers whether it is gone.
    ///
    /// `proof` is what the remote holds, by its answer to our own write or by a fresh HEAD; without one the remote is asked here.
    async fn archive(
        &self,
        route: &Route,
        row: &Row,
        key: &str,
        sent: &LocalHead,
        proof: Option<RemoteObject>,
    ) -> Result<bool, Trouble> {
        // A newer write has its own row, which will be archived in its turn.
        let written = row.timestamps.metadata;
        if sent.timestamp > written {
            return Ok(false);
        }
        let proof = match proof {
            Some(proof) => proof,
            None => route.store.head(key).await?.ok_or_else(|| {
                Trouble::Row(Failure::new(
                    Reason::RemoteMismatch,
                    "the remote object vanished before the local delete",
                ))
            })?,
        };
        let same_content = proof.etag.eq_ignore_ascii_case(&sent.etag);
        if !same_content || proof.length != sent.length {
            let message = format!(
                "the local copy is kept: the remote holds ETag {} with {} bytes, the local object has {} with {}",
                proof.etag, proof.length, sent.etag, sent.length
            );
            return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
        }
        let name = object_name(route, row);
        // The object server compares with the time of the data only: a POST that came meanwhile would be lost with the object.
        let newest = self.local.newest(&name).await?;
        match &newest.found {
            None if newest.unreachable == 0 => return Ok(true),
            Some(head) if head.timestamp > written => return Ok(false),
            _ => {}
        }
        let at = archive_timestamp(written);
        // Swift forgets a tombstone of that age at once: a replica that did not hear of it would be copied back to the others.
        let all_must_hear = now().since(at) >= TOMBSTONES_FORGOTTEN;
        let too_few = if all_must_hear {
            newest.unreachable > 0
        } else {
            newest.unreachable.saturating_mul(2) >= newest.asked
        };
        if too_few {
            let message = format!(
                "the local copy is kept: {} of {} object servers cannot be asked for newer writes",
                newest.unreachable, newest.asked
            );
            return Err(Trouble::Row(Failure::new(Reason::LocalDelete, message)));
        }
        let place = self.container_place(route)?;
        tracing::info!(
            account = %route.account, container = %route.container, object = %row.name, key, bucket = %route.mapping.remote.bucket,
            etag = %proof.etag, bytes = proof.length, timestamp = %at, "removing the local copy; the remote holds it"
        );
        let deleted = self.local.delete_exactly(&name, at, &place).await?;
        if deleted.newer > 0 {
            return Ok(false);
        }
        if deleted.removed.saturating_mul(2) <= deleted.asked {
            let message =
                format!("{} of {} object servers confirmed the local delete", deleted.removed, deleted.asked);
            return Err(Trouble::Row(Failure::new(Reason::LocalDelete, message)));
        }
        Ok(true)
    }

    fn container_place(&self, route: &Route) -> Result<ContainerPlace, Trouble> {
        self.topology
            .container(&route.account, &route.container)
            .map_err(|error| Trouble::Row(Failure::new(Reason::LocalUnavailable, error.to_string())))
    }
}

fn object_name<'a>(route: &'a Route, row: &'a Row) -> ObjectName<'a> {
    ObjectName {
        account: &route.account,
        container: &route.container,
        object: &row.name,
        policy_index: row.policy_index,
    }
}

fn remote_metadata(head: &LocalHead) -> RemoteMetadata {
    to_remote(head.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
}

fn facts<'a>(head: &'a LocalHead, metadata: &'a RemoteMetadata) -> Local<'a> {
    let kind = match head.kind {
        LocalKind::Plain => LocalShape::Plain,
        LocalKind::StaticLargeObject | LocalKind::DynamicLargeObject => LocalShape::LargeObject,
        LocalKind::Symlink => LocalShape::Symlink,
    };
    Local { etag: &head.etag, length: head.length, metadata, kind }
}

fn selected(route: &Route, head: &LocalHead) -> bool {
    if route.mapping.selection.is_empty() {
        return true;
    }
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    route.mapping.selection.matches(&headers)
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

/// True when the remote stored its object after this write. S3 tells whole seconds.
fn stored_after(modified: Option<SystemTime>, write: Timestamp) -> bool {
    let written = Duration::from_micros(write.units().saturating_mul(10));
    let stored = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    stored.is_some_and(|stored| stored.as_secs() >= written.as_secs())
}

fn newer_than_row(head: &LocalHead, row: &Row) -> Option<Timestamp> {
    (head.timestamp > row.timestamps.metadata).then_some(head.timestamp)
}

fn content_md5(etag: &str) -> Option<[u8; 16]> {
    let mut md5 = [0; 16];
    hex::decode_to_slice(etag, &mut md5).ok()?;
    Some(md5)
}

/// The remote's own word on what it stored, where its ETag is an MD5.
fn check_receipt(head: &LocalHead, md5_known: bool, receipt: &PutReceipt) -> Result<(), Trouble> {
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
