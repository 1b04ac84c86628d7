//! Large objects to S3 and Google: the content becomes one remote object, the manifest its companion.
//!
//! # The order of writes
//!
//! Parts, then the companion, then the object. So an object that is there has its companion, unless another writer came between; and where
//! an object is found to be there already, its companion is looked at too. Killed between companion and object, the next attempt finds the
//! object missing or different, and sends it.

mod metadata;
mod source;

use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use md5::{Digest, Md5};
use swift_s3_policy::large_object::{Part, classic_parts, cut};
use swift_s3_policy::{DLO_MARKER, MAX_USER_METADATA_BYTES, RemoteMetadata, SLO_MARKER, user_metadata_bytes};
use swift_s3_store::{ErrorKind, NewUpload, PutObject, RemoteObject, body};

use super::deciding::in_span;
use super::{
    CarriedLarge, Done, Hint, Outcome, Route, Transfer, Trouble, describe, newer_than_row, remote_metadata,
    segment_reason, selected, stored_after,
};
use crate::decide::{Remote, unfit_key};
use crate::failpoint;
use crate::large::content::{Observed, content};
use crate::large::lane::LARGE_FROM;
use crate::large::upload::Upload;
use crate::large::verdict::{Expected, Verdict, verdict};
use crate::reason::{Failure, Reason};
use crate::swift::backend::LocalBody;
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalKind, LocalObject};
use source::Source;

/// A content of this size or less that has to be cut anew goes in a single PUT.
const MAX_SINGLE_PUT_BYTES: u64 = 64 << 20;

/// A large object on its way, and all that is known of it.
struct Carrying<'a> {
    route: &'a Route,
    row: &'a Row,
    key: &'a str,
    companion_key: String,
    head: LocalHead,
    source: Source,
    layout: Layout,
    metadata: RemoteMetadata,
}

/// How the content lies on the remote.
enum Layout {
    /// One PUT.
    Single,
    /// In parts; the ETag is known beforehand if the parts are the segments.
    Parts { parts: Vec<Part>, etag: Option<String> },
}

impl Carrying<'_> {
    fn known_etag(&self) -> Option<&str> {
        match &self.layout {
            Layout::Single => None,
            Layout::Parts { etag, .. } => etag.as_deref(),
        }
    }
}

impl Transfer {
    /// Carries a static or dynamic large object; `manifest` is what Swift keeps of it under its own name.
    pub(super) async fn copy_large(
        &self,
        route: &Route,
        row: &Row,
        key: &str,
        manifest: LocalObject,
        hint: &Hint,
    ) -> Result<Done, Trouble> {
        let LocalObject { head, body } = manifest;
        if !selected(route, &head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        let body = self.take_turn(route, row, &head, body).await?;
        let source = self.source_of(route, row, &head, body).await?;
        let carrying = prepare(route, row, key, head, source)?;
        let is_plain_write = row.timestamps.metadata == row.timestamps.data;
        let ask = match hint {
            Hint::Absent => false,
            Hint::Fresh => !is_plain_write,
            Hint::Unknown | Hint::AskedDelete | Hint::Listed { .. } => true,
        };
        if !ask {
            if *hint == Hint::Absent && self.is_outdated(route, row, &carrying.head, &Remote::Absent).await? {
                return Ok(Done::plain(Outcome::Superseded));
            }
            return self.send_content(&carrying, *hint != Hint::Fresh).await;
        }
        let found = match route.store.head(key).await {
            Ok(found) => Ok(found),
            // Credentials without permission to list get 403 for keys that are not there.
            Err(error) if error.kind() == ErrorKind::Denied => Err(()),
            Err(error) => return Err(error.into()),
        };
        let verdict = in_span(|| match &found {
            Ok(Some(object)) => judge(&carrying, object),
            Ok(None) | Err(()) => Verdict::Upload,
        });
        if matches!(verdict, Verdict::Upload | Verdict::UpdateMetadata) {
            let remote = if matches!(found, Ok(None)) { Remote::Absent } else { Remote::NotAsked };
            if self.is_outdated(route, row, &carrying.head, &remote).await? {
                return Ok(Done::plain(Outcome::Superseded));
            }
        }
        let (outcome, etag) = match (verdict, found) {
            (Verdict::Nothing, Ok(Some(object))) => (Outcome::AlreadyThere, object.etag),
            (Verdict::Keep, Ok(Some(object))) => (Outcome::Kept, object.etag),
            (Verdict::UpdateMetadata, Ok(Some(object))) => {
                match self.update_in_place(&carrying, &object).await? {
                    Some(etag) => (Outcome::MetadataUpdated, etag),
                    None => return self.send_content(&carrying, true).await,
                }
            }
            _ => return self.send_content(&carrying, true).await,
        };
        self.ensure_companion(&carrying).await?;
        self.finish_carried(&carrying, outcome, etag).await
    }

    /// Waits in the lane of large objects, if it is one. Nothing is kept meanwhile: the manifest is opened again.
    async fn take_turn(
        &self,
        route: &Route,
        row: &Row,
        head: &LocalHead,
        body: LocalBody,
    ) -> Result<LocalBody, Trouble> {
        let Some(lane) = &self.lane else { return Ok(body) };
        let is_large = match head.kind {
            LocalKind::DynamicLargeObject => self.dynamic_length(route, head).await? > LARGE_FROM,
            _ => static_length(head).unwrap_or(row.size) > LARGE_FROM,
        };
        if !is_large {
            return Ok(body);
        }
        drop(body);
        lane.change(&self.large.objects).await;
        let again = self.open_object(route, row).await?;
        if again.head.etag != head.etag || again.head.timestamp != head.timestamp {
            let message = "the manifest was written again meanwhile";
            return Err(Trouble::Row(Failure::new(Reason::LocalStale, message)));
        }
        Ok(again.body)
    }

    /// Sends content and companion.
    async fn send_content(&self, carrying: &Carrying<'_>, may_resume: bool) -> Result<Done, Trouble> {
        let observed = Observed::default();
        let etag = match &carrying.layout {
            Layout::Single => self.put_single(carrying, &observed).await?,
            Layout::Parts { parts, .. } => {
                self.put_parts(carrying, parts, may_resume, observed.clone()).await?
            }
        };
        let sent = observed.bytes.load(Ordering::Relaxed);
        if let Some(metrics) = &carrying.route.metrics {
            self.counters.add(&metrics.copied_objects, 1);
            self.counters.add(&metrics.bytes, sent);
        }
        self.finish_carried(carrying, Outcome::Copied(sent), etag).await
    }

    async fn put_single(&self, carrying: &Carrying<'_>, observed: &Observed) -> Result<String, Trouble> {
        let source = &carrying.source;
        let md5 = self.digest_if_small(carrying).await?;
        self.put_companion(carrying).await?;
        let put = PutObject {
            length: source.length,
            content_md5: md5,
            metadata: carrying.metadata.clone(),
            body: content(
                &self.large.segments,
                &carrying.route.account,
                source.pieces.clone(),
                md5,
                observed,
            ),
            storage_class: carrying.route.storage_class().map(str::to_owned),
        };
        let receipt = carrying.route.store.put(carrying.key, put).await?;
        let read = observed.md5.get().map(hex::encode).or_else(|| {
            // Of an empty body nothing is read.
            (source.length == 0).then(|| hex::encode(Md5::digest([])))
        });
        let told = receipt.etag.clone().unwrap_or_default();
        let is_md5 = told.len() == 32 && !receipt.kms;
        if is_md5 && !read.as_ref().is_some_and(|read| read.eq_ignore_ascii_case(&told)) {
            let read = read.unwrap_or_default();
            let message = format!("the remote answered ETag {told} for content with MD5 {read}");
            // It has the mark of what it should be, and would be taken for it.
            carrying.route.store.delete(carrying.key).await?;
            return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
        }
        Ok(if is_md5 { told } else { read.filter(|_| told.is_empty()).unwrap_or(told) })
    }

    /// The MD5 of a content that goes in one PUT: read once more beforehand, so that the remote refuses what arrives wrong. The mark that the
    /// object gets says nothing of that.
    async fn digest_if_small(&self, carrying: &Carrying<'_>) -> Result<Option<[u8; 16]>, Trouble> {
        let source = &carrying.source;
        if let [piece] = source.pieces.as_slice()
            && let Some(md5) = piece.md5()
        {
            return Ok(Some(md5));
        }
        if source.length > MAX_SINGLE_PUT_BYTES {
            return Ok(None);
        }
        let observed = Observed::default();
        let account = &carrying.route.account;
        let mut body = content(&self.large.segments, account, source.pieces.clone(), None, &observed);
        while let Some(frame) = body.frame().await {
            if let Err(error) = frame {
                let error: &(dyn std::error::Error + 'static) = &*error;
                let reason = segment_reason(error).unwrap_or(Reason::LocalRead);
                return Err(Trouble::Row(Failure::new(reason, describe(error))));
            }
        }
        Ok(observed.md5.get().copied())
    }

    async fn put_parts(
        &self,
        carrying: &Carrying<'_>,
        parts: &[Part],
        may_resume: bool,
        observed: Observed,
    ) -> Result<String, Trouble> {
        let new = NewUpload {
            metadata: carrying.metadata.clone(),
            storage_class: carrying.route.storage_class().map(str::to_owned),
        };
        let upload = Upload {
            large: &self.large,
            store: &*carrying.route.store,
            account: &carrying.route.account,
            key: carrying.key,
            parts,
            new: &new,
            may_resume,
            observed,
        };
        let filled = upload.fill().await?;
        self.put_companion(carrying).await?;
        upload.complete(&filled).await?;
        if filled.resumed {
            // Metadata were settled when the upload began, perhaps by an older write.
            let object = carrying.route.store.head(carrying.key).await?;
            if let Some(object) = object
                && judge(carrying, &object) == Verdict::UpdateMetadata
            {
                self.update_in_place(carrying, &object).await?;
            }
        }
        Ok(filled.etag)
    }

    async fn put_companion(&self, carrying: &Carrying<'_>) -> Result<(), Trouble> {
        let json = &carrying.source.companion;
        let md5: [u8; 16] = Md5::digest(json).into();
        let put = PutObject {
            length: json.len() as u64,
            content_md5: Some(md5),
            metadata: RemoteMetadata {
                content_type: "application/json".to_owned(),
                ..RemoteMetadata::default()
            },
            body: body::from_bytes(json.clone()),
            // Whoever restores an object from an archive needs the companion first.
            storage_class: None,
        };
        carrying.route.store.put(&carrying.companion_key, put).await?;
        failpoint::reached("companion written");
        Ok(())
    }

    /// Writes the companion if it is missing or is that of another manifest.
    async fn ensure_companion(&self, carrying: &Carrying<'_>) -> Result<(), Trouble> {
        let json = &carrying.source.companion;
        let found = match carrying.route.store.head(&carrying.companion_key).await {
            Err(error) if error.kind() == ErrorKind::Denied => None,
            found => found?,
        };
        let right = found.is_some_and(|found| {
            let same = found.kms || found.etag.eq_ignore_ascii_case(&hex::encode(Md5::digest(json)));
            same && found.length == json.len() as u64
        });
        if !right {
            tracing::info!(
                key = carrying.companion_key,
                "writing the companion of a large object, which is missing or old"
            );
            self.put_companion(carrying).await?;
        }
        Ok(())
    }

    /// Before a plain object is written: the companion of a large one that it replaces goes. `remote` is the metadata of what is there.
    ///
    /// Where the remote was not asked, because the write is new, a companion may stay behind: nobody reads it without the marks of a large
    /// object, it goes when the object is deleted, and looking for it would cost a request for every new object.
    pub(super) async fn forget_companion(
        &self,
        route: &Route,
        row: &Row,
        remote: Option<&RemoteMetadata>,
    ) -> Result<(), Trouble> {
        let (Some(remote), Some(key)) = (remote, route.keys.manifest_key(&row.name)) else { return Ok(()) };
        let stale = [SLO_MARKER, DLO_MARKER].iter().any(|marker| remote.user.contains_key(*marker));
        if stale && unfit_key(&key).is_none() {
            route.store.delete(&key).await?;
        }
        Ok(())
    }

    /// The end of every way on which the remote holds the object now.
    async fn finish_carried(
        &self,
        carrying: &Carrying<'_>,
        outcome: Outcome,
        etag: String,
    ) -> Result<Done, Trouble> {
        let Carrying { route, row, key, head, source, .. } = carrying;
        let archived = if route.mapping.retain_local || outcome == Outcome::Kept {
            false
        } else {
            let carried = CarriedLarge {
                key: (*key).to_owned(),
                etag: etag.clone(),
                length: source.length,
                segments: source.carried.clone(),
            };
            let archiving: BoxFuture<'_, Result<bool, Trouble>> =
                Box::pin(self.archive_large(route, row, head, &carried));
            archiving.await?
        };
        tracing::debug!(object = %row.name, container = %route.container, key, etag, bytes = source.length, ?outcome, archived,
            "carried a large object");
        Ok(Done { outcome, archived, carried: newer_than_row(head, row) })
    }
}

/// Bytes of the content of a static large object; its row may have those of the manifest. Source: `SYSMETA_SLO_SIZE` in
/// `swift/common/middleware/slo.py` of Swift 2.30.1.
fn static_length(head: &LocalHead) -> Option<u64> {
    std::str::from_utf8(head.header("x-object-sysmeta-slo-size")?).ok()?.parse().ok()
}

/// Settles layout and metadata, or says why it cannot be carried.
fn prepare<'a>(
    route: &'a Route,
    row: &'a Row,
    key: &'a str,
    head: LocalHead,
    source: Source,
) -> Result<Carrying<'a>, Trouble> {
    let companion_key = route.keys.manifest_key(&row.name).unwrap_or_default();
    if let Some(failure) = unfit_key(key).or_else(|| unfit_key(&companion_key)) {
        return Err(Trouble::Row(failure));
    }
    let is_google = route.mapping.remote.s3().is_some_and(swift_s3_policy::S3Remote::is_google);
    let classic = if is_google { None } else { source.manifest.as_ref().and_then(classic_parts) };
    let cut_anew = cut(&source.pieces)?;
    let is_single = is_google || source.length <= MAX_SINGLE_PUT_BYTES || route.store.multipart().is_none();
    let layout = match classic.filter(|_| route.store.multipart().is_some()) {
        Some(parts) => {
            let md5s: Option<Vec<[u8; 16]>> = parts.iter().map(Part::md5).collect();
            let etag = md5s.map(|md5s| swift_s3_policy::large_object::multipart_etag(&md5s));
            Layout::Parts { parts, etag }
        }
        None if is_single => Layout::Single,
        None => Layout::Parts { parts: cut_anew, etag: None },
    };
    let mut metadata = remote_metadata(&head);
    if !matches!(layout, Layout::Parts { etag: Some(_), .. }) {
        metadata.user.insert(source.marker.0.to_owned(), source.marker.1.clone());
    }
    let bytes = user_metadata_bytes(&metadata);
    if bytes > MAX_USER_METADATA_BYTES {
        let message =
            format!("the user metadata takes {bytes} bytes, S3 stores at most {MAX_USER_METADATA_BYTES}");
        return Err(Trouble::Row(Failure::new(Reason::MetadataTooLarge, message)));
    }
    Ok(Carrying { route, row, key, companion_key, head, source, layout, metadata })
}

fn judge(carrying: &Carrying<'_>, object: &RemoteObject) -> Verdict {
    let Carrying { route, row, source, .. } = carrying;
    let expected = Expected {
        etag: carrying.known_etag(),
        marker: (source.marker.0, &source.marker.1),
        length: source.length,
        metadata: &carrying.metadata,
        opaque_is_enough: route.mapping.retain_local
            && stored_after(object.last_modified, row.timestamps.data),
        archived_metadata: route.archived_metadata(),
    };
    verdict(&expected, object, object.archived)
}
