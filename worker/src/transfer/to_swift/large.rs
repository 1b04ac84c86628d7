//! Large objects: segments first, then the manifest, so that whoever reads the copy finds all of it.
//!
//! Killed anywhere before the manifest is stored, the next try finds the segments that arrived and goes on. What a manifest that was
//! overwritten needed is removed afterwards, see `removal`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use swift_s3_policy::large_object::{Entry, Manifest, coverage, flatten};
use swift_s3_policy::swift_layout::{
    DLO_ETAG_MARKER, Expiry, ObjectRole, SWIFT_SLO_ETAG_MARKER, SegmentPlan, is_same_dlo, is_same_slo,
    plan_segments, same_expiry, same_on_swift,
};
use swift_s3_policy::{RemoteMetadata, SwiftRemote};
use swift_s3_store::{ErrorKind, PutObject, RemoteObject, body};

use super::containers::object_container;
use super::local::{Content, DEEPEST, unfit};
use super::proof::Expected;
use super::removal::Kept;
use super::segments::{Whole, segments_container};
use super::{
    Done, Outcome, Route, Transfer, Trouble, Wanted, X_OBJECT_MANIFEST, is_slo, keeps_local, seconds_now,
    written_at,
};
use crate::decide::Remote;
use crate::hashing_body::HashingBody;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalObject};
use crate::transfer::{CarriedLarge, CarriedSegment, content_md5, newer_than_row};

/// What Swift would decode, or refuse, in `X-Object-Manifest`. Source: `swift/common/middleware/dlo.py` of Swift 2.30.1.
const ENCODED_IN_PREFIX: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'&');

/// A large object on its way.
struct Large {
    head: LocalHead,
    content: Content,
    wanted: Wanted,
    plan: SegmentPlan,
    key: String,
    /// It becomes a static large object.
    is_static: bool,
}

/// What is to be done with what the remote has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The manifest gets new metadata.
    Post,
    /// Everything is looked at; what the remote has of it stays.
    Send,
}

impl Transfer {
    /// Carries a static or dynamic large object; `object` is its manifest.
    pub(super) async fn copy_large_to_swift(
        &self,
        route: &Route,
        row: &Row,
        object: LocalObject,
    ) -> Result<Done, Trouble> {
        let key = route.keys.object_key(&row.name);
        let Some(remote) = route.mapping.remote.swift() else { return Ok(Done::plain(Outcome::NotWanted)) };
        let head = object.head.clone();
        let wanted = Wanted::of(route, &head, ObjectRole::Manifest)?;
        let content = self.read_content(route, object).await?;
        let Sent { plan, is_static, leaves_out } = what_is_sent(&content, remote);
        let large = Large { head, content, wanted, plan, key, is_static };
        let found = route.store.head(&large.key).await?;
        let step = large.step(route, found.as_ref());
        if step != Step::Nothing {
            let overwritten = if found.is_some() { Remote::NotAsked } else { Remote::Absent };
            if self.is_outdated(route, row, &large.head, &overwritten).await? {
                return Ok(Done::plain(Outcome::Superseded));
            }
        }
        let mut outcome = match (step, found) {
            (Step::Nothing, _) => Outcome::AlreadyThere,
            (Step::Post, Some(found)) => match self.post_large(route, &large, &found).await? {
                true => Outcome::MetadataUpdated,
                false => self.send_to_swift(route, row, &large, Some(found)).await?,
            },
            (Step::Post | Step::Send, found) => self.send_to_swift(route, row, &large, found).await?,
        };
        if outcome == Outcome::Superseded {
            return Ok(Done::plain(outcome));
        }
        let mut archived = false;
        // Empty segments that were left out are nowhere but here.
        if !leaves_out && !keeps_local(route, &large.wanted) {
            let mut proof = self.prove_large(route, row, &large).await;
            let is_wanting =
                matches!(&proof, Err(Trouble::Row(Failure { reason: Reason::RemoteMismatch, .. })));
            if is_wanting && !matches!(outcome, Outcome::Copied(_)) {
                let found = route.store.head(&large.key).await?;
                outcome = self.send_to_swift(route, row, &large, found).await?;
                if outcome == Outcome::Superseded {
                    return Ok(Done::plain(outcome));
                }
                proof = self.prove_large(route, row, &large).await;
            }
            archived = self.archive_carried(route, row, &large, proof?).await?;
        }
        tracing::debug!(object = %row.name, container = %route.container, ?outcome, archived, "large object checked");
        Ok(Done { outcome, archived, carried: newer_than_row(&large.head, row) })
    }

    /// False when the remote object has gone.
    async fn post_large(&self, route: &Route, large: &Large, found: &RemoteObject) -> Result<bool, Trouble> {
        match route.store.replace_metadata(&large.key, &found.etag, &large.to_send_on(route), None).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        // A POST has no conditions: another node may have put newer content there just before it.
        let now = route.store.head(&large.key).await?;
        if now.is_some_and(|now| now.length == found.length && large.is_this(&now)) {
            return Ok(true);
        }
        let message = "the remote object was replaced while its metadata was being changed";
        Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)))
    }

    async fn send_to_swift(
        &self,
        route: &Route,
        row: &Row,
        large: &Large,
        found: Option<RemoteObject>,
    ) -> Result<Outcome, Trouble> {
        let replaced = match &found {
            Some(found) => self.segments_of_remote(route, &large.key, found).await?,
            None => Vec::new(),
        };
        let whole =
            Whole { object: &row.name, written: large.head.data_timestamp, expiry: large.wanted.expiry };
        let segments = self.send_segments(route, whole, &large.plan.segments, DEEPEST).await?;
        // Sending took its time, in which newer content may have been carried.
        if self.is_outdated(route, row, &large.head, &Remote::NotAsked).await? {
            return Ok(Outcome::Superseded);
        }
        if large.is_static {
            let etag = self.put_manifest(route, &large.key, &segments, &large.to_send()).await?;
            if !large.plan.is_marked {
                large.expect_etag(etag.as_deref())?;
            }
        } else {
            // Without the container that it names, even an empty one is answered with 404.
            if let Some((container, _)) = large.content.prefix.as_ref().filter(|_| segments.is_empty()) {
                self.ensure_container(route, &segments_container(route, container)).await?;
            }
            self.put_dynamic(route, row, large).await?;
        }
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.copied_objects, 1);
        }
        let kept = Kept {
            keys: segments.into_iter().map(|segment| segment.key).collect(),
            homes: large.content.manifest.entries.iter().filter_map(home_of).collect(),
        };
        self.remove_replaced(route, row, replaced, &kept).await;
        Ok(Outcome::Copied(large.content.length))
    }

    /// Stores a dynamic manifest with its own bytes, which nobody sees.
    async fn put_dynamic(&self, route: &Route, row: &Row, large: &Large) -> Result<(), Trouble> {
        for is_last in [false, true] {
            let object = self.open_object(route, row).await?;
            // It was listed under the headers of another write.
            if object.head.timestamp != large.head.timestamp {
                let message = "the manifest was written again while its segments were being sent";
                return Err(Trouble::Row(Failure::new(Reason::LocalStale, message)));
            }
            let (length, md5) = (object.head.length, content_md5(&object.head.etag));
            let put = PutObject {
                length,
                content_md5: md5,
                metadata: large.to_send_on(route),
                body: body::from_body(HashingBody::new(
                    object.body,
                    length,
                    md5,
                    Arc::new(AtomicU64::new(0)),
                )),
                storage_class: None,
            };
            match route.store.put(&large.key, put).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound && !is_last => {
                    self.ensure_container(route, object_container(route)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes sure that the remote has all of it; answers the ETag that the whole must have there.
    async fn prove_large(&self, route: &Route, row: &Row, large: &Large) -> Result<String, Trouble> {
        let expected = Expected {
            key: &large.key,
            object: &row.name,
            written: large.head.data_timestamp,
            segments: &large.plan.segments,
        };
        if large.is_static {
            return self.prove_static(route, expected, DEEPEST).await;
        }
        self.prove_segments(route, expected, DEEPEST).await?;
        Ok(large.content.etag.clone())
    }

    async fn archive_carried(
        &self,
        route: &Route,
        row: &Row,
        large: &Large,
        etag: String,
    ) -> Result<bool, Trouble> {
        let manifest = self.load_nested(route, large.content.manifest.clone(), DEEPEST).await?;
        // Every segment is remote in whole, also those of which the content takes a part.
        let whole = without_ranges(manifest);
        let pieces = flatten(&whole).map_err(unfit)?;
        let covered = coverage(&whole, &pieces);
        let segments = covered
            .whole
            .into_iter()
            .chain(covered.manifests)
            .map(|(container, object, etag)| CarriedSegment { container, object, etag });
        let carried = CarriedLarge {
            key: large.key.clone(),
            etag,
            length: large.content.length,
            segments: segments.collect(),
        };
        self.archive_large(route, row, &large.head, &carried).await
    }
}

/// What of a local large object goes to the remote, and as what.
struct Sent {
    plan: SegmentPlan,
    /// It becomes a static large object.
    is_static: bool,
    /// Empty segments are not among the plan's.
    leaves_out: bool,
}

fn what_is_sent(content: &Content, remote: &SwiftRemote) -> Sent {
    let all = &content.manifest;
    if content.prefix.is_none() {
        let plan = plan_segments(all, remote.min_segment_size);
        return Sent { plan, is_static: true, leaves_out: false };
    }
    // Static large objects have at least one segment, and no empty ones.
    let with_content = all.entries.iter().filter(|entry| entry.length() > 0).cloned().collect();
    let filled = Manifest { entries: with_content };
    if !remote.convert_dlo || filled.entries.is_empty() {
        return Sent { plan: plan_segments(all, 0), is_static: false, leaves_out: false };
    }
    let mut plan = plan_segments(&filled, remote.min_segment_size);
    let leaves_out = filled.entries.len() < all.entries.len();
    plan.is_marked |= leaves_out;
    Sent { plan, is_static: true, leaves_out }
}

/// The local container of a segment.
fn home_of(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Object(object) => Some(object.container.clone()),
        Entry::Data(_) => None,
    }
}

/// The same segments, each from its first byte to its last.
fn without_ranges(mut manifest: Manifest) -> Manifest {
    for entry in &mut manifest.entries {
        if let Entry::Object(object) = entry {
            object.range = None;
        }
    }
    manifest
}

impl Large {
    /// Whether a remote object is this large object, whatever its metadata.
    fn is_this(&self, found: &RemoteObject) -> bool {
        let user = &found.metadata.user;
        let manifest = found.metadata.headers.get(X_OBJECT_MANIFEST);
        if self.content.prefix.is_some() {
            is_same_dlo(user, &self.content.etag)
                && (if self.is_static { is_slo(found) } else { manifest.is_some() })
        } else {
            is_slo(found)
                && found.length == self.content.length
                && is_same_slo(user, &found.etag, &self.head.etag, &self.content.etag)
        }
    }

    fn step(&self, route: &Route, found: Option<&RemoteObject>) -> Step {
        let Some(found) = found.filter(|found| self.is_this(found)) else { return Step::Send };
        let headers = &found.metadata.headers;
        if !self.is_static && headers.get(X_OBJECT_MANIFEST) != self.prefix_on(route).as_ref() {
            return Step::Send;
        }
        let now = seconds_now();
        let expires_well = same_expiry(self.wanted.expiry, headers, written_at(found), now);
        if expires_well && same_on_swift(&self.wanted.metadata, &found.metadata) {
            return Step::Nothing;
        }
        let segments_suffice = match self.wanted.expiry {
            Expiry::At(_) => true,
            Expiry::Never => expires_well,
            // A POST would move the manifest's end behind that of its segments, which may be older than it is.
            Expiry::After(_) => false,
        };
        if segments_suffice { Step::Post } else { Step::Send }
    }

    /// Metadata and markers for a request that is sent now.
    fn to_send(&self) -> RemoteMetadata {
        let mut metadata = self.wanted.to_send();
        if self.content.prefix.is_some() {
            metadata.user.insert(DLO_ETAG_MARKER.to_owned(), self.content.etag.clone());
        }
        if self.is_static && self.plan.is_marked {
            metadata.user.insert(SWIFT_SLO_ETAG_MARKER.to_owned(), self.head.etag.clone());
        }
        metadata
    }

    /// As [`Self::to_send`], with what makes a dynamic manifest.
    fn to_send_on(&self, route: &Route) -> RemoteMetadata {
        let mut metadata = self.to_send();
        if let Some(value) = self.prefix_on(route).filter(|_| !self.is_static) {
            metadata.headers.insert(X_OBJECT_MANIFEST.to_owned(), value);
        }
        metadata
    }

    /// Where the remote lists the segments of a dynamic large object.
    fn prefix_on(&self, route: &Route) -> Option<String> {
        let (container, prefix) = self.content.prefix.as_ref()?;
        let path = format!("{}/{prefix}", segments_container(route, container));
        Some(utf8_percent_encode(&path, ENCODED_IN_PREFIX).to_string())
    }

    /// The remote has checked every segment's ETag; the whole must then have ours.
    fn expect_etag(&self, etag: Option<&str>) -> Result<(), Trouble> {
        let expected = &self.content.manifest.etag();
        match etag {
            Some(etag) if !etag.eq_ignore_ascii_case(expected) => {
                let message = format!("the remote answered ETag {etag} for a large object with {expected}");
                Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)))
            }
            _ => Ok(()),
        }
    }
}
