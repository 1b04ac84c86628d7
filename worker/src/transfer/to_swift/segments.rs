//! Sends the segments of large objects: those that the remote has are not sent again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use md5::{Digest as _, Md5};
use swift_s3_policy::large_object::{Entry, ManifestError, ObjectEntry};
use swift_s3_policy::swift_layout::{
    COMBINED_ETAG_MARKER, Expiry, ObjectRole, PlannedSegment, derived_name, outlives, plan_segments,
    same_expiry,
};
use swift_s3_policy::{RemoteMetadata, Timestamp};
use swift_s3_store::{ErrorKind, PutObject, RemoteObject, SloSegment, StoreError, body};

use super::local::unfit;
use super::proof::{combined_etag, is_own};
use super::{Route, Transfer, Trouble, Wanted, account, seconds_now, written_at};
use crate::hashing_body::HashingBody;
use crate::probe::probe;
use crate::reason::{Failure, Reason};
use crate::transfer::plain::check_receipt;
use crate::transfer::{Hint, content_md5};

/// Segments of one large object that are sent at a time: enough to fill a line over which a request takes long, few enough that each
/// object server still has others to serve.
const AT_ONCE: usize = 6;
/// Segments that are joined, or were data in a manifest, say no more about their content than this.
const DERIVED_TYPE: &str = "application/octet-stream";

/// The large object whose segments are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    /// Its name, which names of derived segments begin with.
    pub(super) object: &'a str,
    /// When it was written.
    pub(super) written: Timestamp,
    /// How long its manifest will live.
    pub(super) expiry: Expiry,
}

impl Transfer {
    /// Makes sure that the remote has these segments; answers how a manifest names them.
    pub(super) async fn send_segments(
        &self,
        route: &Route,
        whole: Whole<'_>,
        segments: &[PlannedSegment],
        depth: usize,
    ) -> Result<Vec<SloSegment>, Trouble> {
        let home = derived_home(route, segments);
        self.ensure_homes(route, segments, &home).await?;
        let hints = self.segment_hints(route, segments).await;
        // By number, because the compiler cannot see that a future over borrowed items may change threads.
        stream::iter(0..segments.len())
            .map(|index| {
                let (hints, home) = (&hints, &home);
                async move {
                    let Some(segment) = segments.get(index) else {
                        return Err(unfit(ManifestError::TooMany));
                    };
                    match segment {
                        PlannedSegment::Own(entry) => {
                            let key = segment_key(route, entry);
                            let is_absent = hints.get(&key) == Some(&Hint::Absent);
                            self.send_own(route, whole, entry, &key, is_absent, depth).await
                        }
                        PlannedSegment::Derived { number, members } => {
                            let name = derived_name(whole.object, whole.written, *number);
                            self.send_derived(route, whole, &format!("{home}/{name}"), members).await
                        }
                    }
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// One look at each container, so that not every one of the first segments is refused.
    async fn ensure_homes(
        &self,
        route: &Route,
        segments: &[PlannedSegment],
        home: &str,
    ) -> Result<(), Trouble> {
        let mut containers = BTreeSet::new();
        for segment in segments {
            containers.insert(match segment {
                PlannedSegment::Own(entry) => segments_container(route, &entry.container),
                PlannedSegment::Derived { .. } => home.to_owned(),
            });
        }
        for container in containers {
            self.ensure_container(route, &container).await?;
        }
        Ok(())
    }

    /// What listings say of many segments. They lag, so only that one is not there is believed: it then costs an upload at worst.
    async fn segment_hints(&self, route: &Route, segments: &[PlannedSegment]) -> HashMap<String, Hint> {
        let mut by_container: HashMap<String, Vec<String>> = HashMap::new();
        for segment in segments {
            if let PlannedSegment::Own(entry) = segment {
                let key = segment_key(route, entry);
                by_container.entry(container_of(&key).to_owned()).or_default().push(key);
            }
        }
        let mut hints = HashMap::new();
        for (container, keys) in by_container {
            let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
            match probe(&*route.store, &format!("{container}/"), &asked).await {
                Ok(found) => hints.extend(keys.iter().cloned().zip(found)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    hints.extend(keys.iter().cloned().map(|key| (key, Hint::Absent)));
                }
                Err(error) => tracing::debug!(%error, "could not list segments; asking for each"),
            }
        }
        hints
    }

    async fn send_own(
        &self,
        route: &Route,
        whole: Whole<'_>,
        entry: &ObjectEntry,
        key: &str,
        is_absent: bool,
        depth: usize,
    ) -> Result<SloSegment, Trouble> {
        let named = SloSegment {
            key: key.to_owned(),
            etag: Some(entry.etag.clone()),
            bytes: Some(entry.bytes),
            range: entry
                .range
                .as_ref()
                .map(|range| format!("{}-{}", range.start, range.end.saturating_sub(1))),
        };
        // A listing that lags must not cost what only the remote has.
        let believes = is_absent && route.mapping.retain_local;
        let found = if believes { None } else { route.store.head(key).await? };
        if found.as_ref().is_some_and(|found| !is_own(found, entry)) {
            not_the_only_copy(route, key)?;
        }
        if entry.nested.is_some() {
            self.send_nested(route, whole, entry, key, found.as_ref(), depth).await?;
            return Ok(named);
        }
        let has_content = found.as_ref().filter(|found| is_own(found, entry));
        if let Some(found) = has_content
            && self.refresh(route, whole, entry, key, found).await?
        {
            return Ok(named);
        }
        let mut sent = self.put_segment(route, entry, key).await?;
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.ensure_container(route, container_of(key)).await?;
            sent = self.put_segment(route, entry, key).await?;
        }
        sent?;
        Ok(named)
    }

    /// Sees to metadata and expiry of a segment whose content is on the remote. False when it has gone meanwhile.
    async fn refresh(
        &self,
        route: &Route,
        whole: Whole<'_>,
        entry: &ObjectEntry,
        key: &str,
        found: &RemoteObject,
    ) -> Result<bool, Trouble> {
        let wanted = match self.segment_head(route, entry).await? {
            Some(head) => Wanted::of(route, &head, ObjectRole::Segment)?,
            // Archived with another large object that shares it: the remote has what there is of it.
            None => Wanted {
                metadata: own_metadata(found),
                expiry: route.mapping.expiry_on_swift(ObjectRole::Segment, None),
            },
        };
        let ends_too_soon = matches!(wanted.expiry, Expiry::After(_))
            && !outlives(&found.metadata.headers, whole.expiry, seconds_now());
        if wanted.is_on(found) && !ends_too_soon {
            return Ok(true);
        }
        match route.store.replace_metadata(key, &found.etag, &wanted.to_send(), None).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_segment(
        &self,
        route: &Route,
        entry: &ObjectEntry,
        key: &str,
    ) -> Result<Result<(), StoreError>, Trouble> {
        let object = self.open_exact_segment(&route.account, entry).await?;
        let wanted = Wanted::of(route, &object.head, ObjectRole::Segment)?;
        match self.send(route, key, &object.head, object.body, wanted.to_send()).await {
            Ok(receipt) => check_receipt(&object.head, &receipt).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// A segment that is itself a large object becomes one on the remote.
    fn send_nested<'a>(
        &'a self,
        route: &'a Route,
        whole: Whole<'a>,
        entry: &'a ObjectEntry,
        key: &'a str,
        found: Option<&'a RemoteObject>,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let expiry = route.mapping.expiry_on_swift(ObjectRole::Segment, None);
            let is_there = found.is_some_and(|found| {
                is_own(found, entry)
                    && same_expiry(expiry, &found.metadata.headers, written_at(found), seconds_now())
                    && outlives(&found.metadata.headers, whole.expiry, seconds_now())
            });
            if is_there {
                return Ok(());
            }
            let Some(deeper) = depth.checked_sub(1) else { return Err(unfit(ManifestError::TooDeep)) };
            let (head, manifest) = self.read_nested(route, entry).await?;
            let inner = Whole { object: &entry.object, written: head.data_timestamp, ..whole };
            // Nothing is joined, so that its ETag stays the one that the outer manifest names.
            let plan = plan_segments(&manifest, 0);
            let segments = self.send_segments(route, inner, &plan.segments, deeper).await?;
            let wanted = Wanted { expiry, ..Wanted::of(route, &head, ObjectRole::Segment)? };
            self.put_manifest(route, key, &segments, &wanted.to_send()).await?;
            Ok(())
        })
    }

    /// Stores a static manifest; creates its container if that is what is missing. Answers the ETag of the whole, if the remote tells.
    pub(super) async fn put_manifest(
        &self,
        route: &Route,
        key: &str,
        segments: &[SloSegment],
        metadata: &RemoteMetadata,
    ) -> Result<Option<String>, Trouble> {
        let remote = account(route)?;
        let receipt = match remote.put_slo(key, segments, metadata).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.ensure_container(route, container_of(key)).await?;
                remote.put_slo(key, segments, metadata).await?
            }
            receipt => receipt?,
        };
        Ok(receipt.etag)
    }

    /// Stores several segments as one, or data that lay in the manifest.
    async fn send_derived(
        &self,
        route: &Route,
        whole: Whole<'_>,
        key: &str,
        members: &[Entry],
    ) -> Result<SloSegment, Trouble> {
        let digest = combined_etag(members);
        let length = members.iter().map(Entry::length).fold(0_u64, u64::saturating_add);
        let has_objects = members.iter().any(|member| matches!(member, Entry::Object(_)));
        let wanted = Wanted {
            metadata: RemoteMetadata {
                content_type: DERIVED_TYPE.to_owned(),
                user: [(COMBINED_ETAG_MARKER.to_owned(), digest.clone())].into(),
                ..RemoteMetadata::default()
            },
            expiry: route.mapping.expiry_on_swift(ObjectRole::Segment, None),
        };
        if has_objects
            && let Some(found) = route.store.head(key).await?
            && found.length == length
            && found.metadata.user.get(COMBINED_ETAG_MARKER) == Some(&digest)
            && wanted.is_on(&found)
            && outlives(&found.metadata.headers, whole.expiry, seconds_now())
        {
            return Ok(derived_segment(key, found.etag, length));
        }
        let mut sent = self.put_derived(route, key, members, length, &wanted).await;
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.ensure_container(route, container_of(key)).await?;
            sent = self.put_derived(route, key, members, length, &wanted).await;
        }
        let (told, sent) = sent?;
        // The remote was not told what to expect, so its answer is compared here.
        if told.as_ref().is_none_or(|told| !told.eq_ignore_ascii_case(&sent)) {
            route.store.delete(key).await?;
            let message = format!(
                "the remote answered ETag {:?} for joined segments with MD5 {sent}",
                told.unwrap_or_default()
            );
            return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
        }
        Ok(derived_segment(key, sent, length))
    }

    /// Every member's MD5 is checked before its last bytes go on, so what is not right is never stored. Answers the remote's ETag, if it
    /// tells one, and the MD5 of what was sent.
    async fn put_derived(
        &self,
        route: &Route,
        key: &str,
        members: &[Entry],
        length: u64,
        wanted: &Wanted,
    ) -> Result<(Option<String>, String), StoreError> {
        let read = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let pieces = stream::iter(members.to_vec()).then({
            let (transfer, account, counter) = (self.clone(), route.account.clone(), Arc::clone(&read));
            move |member| {
                let (transfer, account, counter) = (transfer.clone(), account.clone(), Arc::clone(&counter));
                async move {
                    match member {
                        Entry::Data(data) => Ok::<body::Body, body::BoxError>(body::from_bytes(data)),
                        Entry::Object(entry) => {
                            let object = transfer.open_exact_segment(&account, &entry).await.map_err(told)?;
                            let md5 = content_md5(&object.head.etag);
                            Ok(body::from_body(HashingBody::new(object.body, entry.bytes, md5, counter)))
                        }
                    }
                }
            }
        });
        let digest = Arc::new(Mutex::new(Md5::new()));
        let hashing = Arc::clone(&digest);
        let frames =
            pieces.map_ok(http_body_util::BodyDataStream::new).try_flatten().inspect_ok(move |bytes| {
                hashing.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
            });
        let put = PutObject {
            length,
            content_md5: None,
            metadata: wanted.to_send(),
            body: body::from_stream(frames),
            storage_class: None,
        };
        let receipt = route.store.put(key, put).await?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.bytes, read.load(std::sync::atomic::Ordering::Relaxed));
        }
        let sent = hex::encode(digest.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize());
        Ok((receipt.etag, sent))
    }
}

/// Another content has the name of a segment that is to be sent. Where local copies are removed, that may be the only copy of what
/// another large object needs.
fn not_the_only_copy(route: &Route, key: &str) -> Result<(), Trouble> {
    if route.mapping.retain_local {
        return Ok(());
    }
    let message = format!(
        "{key} on the remote has another content, perhaps the only copy of an archived object's segment: it is not overwritten"
    );
    Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)))
}

/// Bodies cannot carry our own errors; the text is what remains.
fn told(trouble: Trouble) -> body::BoxError {
    match trouble {
        Trouble::Row(Failure { message, .. }) => message.into(),
        Trouble::Remote(error) => Box::new(error),
    }
}

fn derived_segment(key: &str, etag: String, bytes: u64) -> SloSegment {
    SloSegment {
        key: key.to_owned(),
        etag: Some(etag).filter(|etag| !etag.is_empty()),
        bytes: Some(bytes),
        range: None,
    }
}

/// The remote key of a local segment.
pub(super) fn segment_key(route: &Route, entry: &ObjectEntry) -> String {
    format!("{}/{}", segments_container(route, &entry.container), entry.object)
}

/// The remote container for segments that lie in a local one.
pub(super) fn segments_container(route: &Route, local: &str) -> String {
    match route.mapping.remote.swift() {
        Some(remote) => remote.segments_container(&route.mapping.container, local),
        None => String::new(),
    }
}

/// The remote container for segments that exist there only: that of the first local one.
pub(super) fn derived_home(route: &Route, segments: &[PlannedSegment]) -> String {
    let first = segments.iter().find_map(|segment| match segment {
        PlannedSegment::Own(entry) => Some(entry.container.clone()),
        PlannedSegment::Derived { members, .. } => members.iter().find_map(|member| match member {
            Entry::Object(entry) => Some(entry.container.clone()),
            Entry::Data(_) => None,
        }),
    });
    segments_container(route, &first.unwrap_or_else(|| format!("{}_segments", route.container)))
}

fn container_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(container, _)| container)
}

/// What the remote has of an object, without what is decided anew.
fn own_metadata(found: &RemoteObject) -> RemoteMetadata {
    let mut metadata = found.metadata.clone();
    for name in ["x-delete-at", "x-object-manifest", "x-static-large-object"] {
        metadata.headers.remove(name);
    }
    metadata
}
