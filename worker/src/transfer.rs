//! Carries out what one row asks for: gathers the facts in the cheapest order, decides, acts, proves.
//!
//! Safe to be killed at any line: an interrupted PUT is never stored, a finished one is found again by the check that rows
//! without known history get, and the local delete of an archived object comes after the proof.

mod archive;
mod deciding;
mod large;
mod links;
mod plain;
mod restored;
mod to_swift;
mod tombstones;

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swift_s3_daemon::statsd::Counters;
use swift_s3_policy::large_object::ManifestError;
use swift_s3_policy::{
    ArchivedMetadata, KeyMapping, Mapping, RemoteMetadata, Timestamp, statsd_name, to_remote,
};
use swift_s3_store::{ErrorKind, ObjectStore, StoreError};

use crate::hashing_body::BodyError;
use crate::large::Large;
use crate::large::lane::Lane;
use crate::large::segments::{SegmentError, Segments};
use crate::reason::{Failure, Reason};
use crate::segment_use::SegmentUse;
use crate::swift::container_db::Row;
use crate::swift::container_server::ContainerServers;
use crate::swift::local_objects::{LocalError, LocalHead, LocalObjects, Newest, ObjectName};
use crate::swift::topology::SwiftTopology;

use restored::Origin;

pub(crate) use archive::{CarriedLarge, CarriedSegment};

/// A passing fault of the remote is tried again right here this often, before the row is given up for now.
pub(crate) const QUICK_RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
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
                    mapping.remote.endpoint(),
                    &mapping.account,
                    mapping.remote.bucket(),
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

impl Route {
    /// The class that new remote objects are stored in.
    #[must_use]
    pub fn storage_class(&self) -> Option<&str> {
        self.mapping.remote.s3()?.storage_class.as_deref()
    }

    /// What a change of metadata alone does to a remote object that is archived.
    #[must_use]
    pub fn archived_metadata(&self) -> ArchivedMetadata {
        self.mapping.remote.s3().map(|remote| remote.archived_metadata).unwrap_or_default()
    }
}

/// What is known about the remote side of a row before it is handled.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// A new write that nobody can have carried yet.
    Fresh,
    /// Somebody may have carried it; the remote must be asked.
    Unknown,
    /// An operator asked for this delete; no row owes it, and whatever is here now is against it.
    AskedDelete,
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

impl Hint {
    /// What is known after somebody may have handled the row meanwhile.
    pub(crate) fn stale(&self) -> Self {
        if *self == Self::AskedDelete { Self::AskedDelete } else { Self::Unknown }
    }
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
    /// Only the metadata differ, and the remote object is archived and left as it is.
    Kept,
    /// The remote object is gone.
    Deleted,
    /// The mapping does not want it: excluded, not selected, or deletes are not propagated.
    NotWanted,
    /// A newer write or delete exists locally; its own row will be handled.
    Superseded,
    /// Nothing was done: the object was restored from the remote at this time, and is not old enough to be archived again.
    Restored(Timestamp),
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
        if let Some(reason) = segment_reason(&error) {
            return Self::Row(Failure::new(reason, describe(&error)));
        }
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
        Self::Row(Failure::new(local_reason(&error), error.to_string()))
    }
}

impl From<SegmentError> for Trouble {
    fn from(error: SegmentError) -> Self {
        Self::Row(Failure::new(reason_of_segment(&error), error.to_string()))
    }
}

impl From<ManifestError> for Trouble {
    fn from(error: ManifestError) -> Self {
        Self::Row(Failure::new(Reason::LargeObject, error.to_string()))
    }
}

fn local_reason(error: &LocalError) -> Reason {
    match error {
        LocalError::Missing => Reason::LocalMissing,
        LocalError::Stale { .. } => Reason::LocalStale,
        LocalError::NeedsProxy(_) => Reason::NeedsProxy,
        LocalError::Differs { .. } => Reason::LocalCorrupt,
        LocalError::NoSegment(_) => Reason::LargeObject,
        _ => Reason::LocalUnavailable,
    }
}

fn reason_of_segment(error: &SegmentError) -> Reason {
    match error {
        // The object itself is there: only its own absence may be taken for a delete.
        SegmentError::Object { problem: LocalError::Missing, .. } => Reason::SegmentMissing,
        SegmentError::Object { problem, .. } => local_reason(problem),
        SegmentError::Manifest(_) => Reason::LargeObject,
        SegmentError::Content { .. } => Reason::LocalCorrupt,
        SegmentError::Disagreement { .. } => Reason::LocalStale,
        SegmentError::Container { .. } => Reason::LocalUnavailable,
    }
}

/// Why reading a segment failed in the middle of a request, if that is what failed it.
fn segment_reason(error: &(dyn std::error::Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(segment) = error.downcast_ref::<SegmentError>() {
            return Some(reason_of_segment(segment));
        }
        if let Some(BodyError::Digest { .. }) = error.downcast_ref::<BodyError>() {
            return Some(Reason::LocalCorrupt);
        }
        cause = error.source();
    }
    None
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
    segment_use: SegmentUse,
    large: Large,
    lane: Option<Lane>,
    metrics: crate::metrics::Metrics,
}

impl Transfer {
    /// A handler that reads objects through `local`, and asks `servers` about the containers of segments. Retries are counted in `metrics`.
    #[must_use]
    pub fn new(
        local: LocalObjects,
        topology: SwiftTopology,
        servers: ContainerServers,
        counters: Counters,
        metrics: crate::metrics::Metrics,
    ) -> Self {
        let segments = Segments::new(local.clone(), topology.clone(), servers.clone());
        let segment_use = SegmentUse::new(topology.clone(), servers, local.clone());
        Self { local, topology, counters, segment_use, large: Large::new(segments), lane: None, metrics }
    }

    /// The places of large objects, and how many there are.
    pub(crate) fn large_places(&self) -> (Arc<tokio::sync::Semaphore>, usize) {
        self.large.places()
    }

    /// The objects of this cluster.
    #[must_use]
    pub fn local(&self) -> &LocalObjects {
        &self.local
    }

    /// The same handler for one row, which can give its place back when it turns out to be long.
    #[must_use]
    pub(crate) fn in_lane(&self, lane: Lane) -> Self {
        Self { lane: Some(lane), ..self.clone() }
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
                    self.metrics.retried();
                    tokio::time::sleep(*delay).await;
                    // The failed request may have been carried out: from here on only the remote knows.
                    hint = hint.stale();
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
        let ended = match self.origin(route, row).await {
            Ok(Origin::Written) => self.copy(route, row, hint).await,
            Ok(Origin::Restored) => self.copy(route, row, &Hint::Unknown).await,
            Ok(Origin::Settled(outcome)) => Ok(Done::plain(outcome)),
            Err(trouble) => Err(trouble),
        };
        match ended {
            Err(Trouble::Row(failure)) if failure.reason == Reason::Restored => {
                Ok(Done::plain(Outcome::Superseded))
            }
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
