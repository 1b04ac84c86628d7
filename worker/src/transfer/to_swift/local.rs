//! Large objects as they are here: their manifests, and the segments that these name.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use swift_s3_policy::large_object::manifest::Nested;
use swift_s3_policy::large_object::{
    Entry, MAX_DEPTH, Manifest, ManifestError, ObjectEntry, dlo_source, listing_etag,
};

use super::{Route, Transfer, Trouble, X_OBJECT_MANIFEST};
use crate::hashing_body::HashingBody;
use crate::reason::{Failure, Reason};
use crate::swift::local_objects::{AtLeast, LocalError, LocalHead, LocalKind, LocalObject, ObjectName};
use crate::transfer::archive::refuse_archived_home;
use crate::transfer::{content_md5, describe};

/// 100,000 entries with names of 256 bytes and what Swift notes of each. Swift's own limit is 8 MiB unless raised.
pub(super) const MAX_MANIFEST_BYTES: u64 = 48 << 20;

/// What a large object consists of.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Its segments in order.
    pub(super) manifest: Manifest,
    /// Where the segments of a dynamic one are listed.
    pub(super) prefix: Option<(String, String)>,
    /// The ETag that Swift gives to the whole.
    pub(super) etag: String,
    /// Bytes of the whole.
    pub(super) length: u64,
}

impl Transfer {
    /// Reads what a manifest names. The own bytes of a dynamic one are left in `body`.
    pub(super) async fn read_content(&self, route: &Route, object: LocalObject) -> Result<Content, Trouble> {
        if object.head.kind == LocalKind::DynamicLargeObject {
            return self.list_content(route, &object.head).await;
        }
        let manifest = read_manifest(object).await?;
        let length = manifest.length().map_err(unfit)?;
        Ok(Content { etag: manifest.etag(), manifest, prefix: None, length })
    }

    async fn list_content(&self, route: &Route, head: &LocalHead) -> Result<Content, Trouble> {
        let header = head.header(X_OBJECT_MANIFEST).unwrap_or_default();
        let Some((container, prefix)) = dlo_source(header) else {
            let message = "its X-Object-Manifest cannot be understood";
            return Err(Trouble::Row(Failure::new(Reason::LargeObject, message)));
        };
        refuse_archived_home(route, &container)?;
        let listed = self.large.segments.list(&route.account, &container, &prefix).await?;
        let etag = listing_etag(listed.iter().map(|segment| segment.etag.as_str()));
        let entries = listed.into_iter().map(Entry::Object);
        let manifest = Manifest { entries: entries.collect() };
        let length = manifest.length().map_err(unfit)?;
        Ok(Content { manifest, prefix: Some((container, prefix)), etag, length })
    }

    /// Opens a segment, whatever it is.
    pub(super) async fn open_segment(
        &self,
        account: &str,
        entry: &ObjectEntry,
    ) -> Result<LocalObject, Trouble> {
        let policy_index = self.segment_policy(account, &entry.container).await?;
        let name = segment_name(account, entry, policy_index);
        self.local.open(&name, AtLeast::default()).await.map_err(|error| of_segment(entry, error.into()))
    }

    /// Opens a plain segment that must be the one that its manifest names.
    pub(super) async fn open_exact_segment(
        &self,
        account: &str,
        entry: &ObjectEntry,
    ) -> Result<LocalObject, Trouble> {
        let object = self.open_segment(account, entry).await?;
        let head = &object.head;
        if !head.etag.eq_ignore_ascii_case(&entry.etag) || head.length != entry.bytes {
            let message = format!(
                "segment {} has ETag {} and {} bytes, the manifest says {} and {}",
                entry.path(),
                head.etag,
                head.length,
                entry.etag,
                entry.bytes
            );
            return Err(Trouble::Row(Failure::new(Reason::LocalCorrupt, message)));
        }
        Ok(object)
    }

    /// The headers of a segment if it is here, and still the one that its manifest names.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(super) async fn segment_head(
        &self,
        route: &Route,
        entry: &ObjectEntry,
    ) -> Result<Option<LocalHead>, Trouble> {
        let policy_index = match self.segment_policy(&route.account, &entry.container).await {
            Err(Trouble::Row(Failure { reason: Reason::LocalMissing, .. })) => return Ok(None),
            index => index?,
        };
        let name = segment_name(&route.account, entry, policy_index);
        match self.local.head(&name, AtLeast::default()).await {
            Ok(head) => Ok(Some(head).filter(|head| head.etag.eq_ignore_ascii_case(&entry.etag))),
            Err(LocalError::Missing) => Ok(None),
            Err(error) => Err(of_segment(entry, error.into())),
        }
    }

    pub(super) async fn segment_policy(&self, account: &str, container: &str) -> Result<u32, Trouble> {
        let place = self.container_place(account, container)?;
        let index = self.segment_use.servers().policy_index(&place, account, container).await;
        let unavailable = |problem: String| Trouble::Row(Failure::new(Reason::LocalUnavailable, problem));
        let index = index.map_err(|error| unavailable(error.to_string()))?;
        index.ok_or_else(|| {
            let message = format!("the container {container} of the segments is not there");
            Trouble::Row(Failure::new(Reason::LocalMissing, message))
        })
    }

    /// Reads the manifest that an entry names, and makes sure that it is the one.
    pub(super) async fn read_nested(
        &self,
        route: &Route,
        entry: &ObjectEntry,
    ) -> Result<(LocalHead, Manifest), Trouble> {
        let object = self.open_segment(&route.account, entry).await?;
        let head = object.head.clone();
        if head.kind != LocalKind::StaticLargeObject {
            return Err(other_nested(entry, "no static large object"));
        }
        let manifest = read_manifest(object).await?;
        let etag = manifest.etag();
        if !etag.eq_ignore_ascii_case(&entry.etag) {
            return Err(other_nested(entry, &etag));
        }
        Ok((head, manifest))
    }

    /// Puts nested manifests into `manifest`, at most `depth` deep.
    pub(super) fn load_nested<'a>(
        &'a self,
        route: &'a Route,
        mut manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'a, Result<Manifest, Trouble>> {
        Box::pin(async move {
            for entry in &mut manifest.entries {
                let Entry::Object(object) = entry else { continue };
                if object.nested.is_none() {
                    continue;
                }
                let Some(deeper) = depth.checked_sub(1) else { return Err(unfit(ManifestError::TooDeep)) };
                let (head, inner) = self.read_nested(route, object).await?;
                let inner = self.load_nested(route, inner, deeper).await?;
                object.nested = Some(Nested { manifest: Some(Arc::new(inner)), object_etag: head.etag });
            }
            Ok(manifest)
        })
    }
}

/// How deep manifests may be nested in the one that is carried.
pub(super) const DEEPEST: usize = MAX_DEPTH;

fn segment_name<'a>(account: &'a str, entry: &'a ObjectEntry, policy_index: u32) -> ObjectName<'a> {
    ObjectName { account, container: &entry.container, object: &entry.object, policy_index }
}

/// Reads and parses a manifest whose bytes are what its ETag says.
async fn read_manifest(object: LocalObject) -> Result<Manifest, Trouble> {
    let LocalObject { head, body } = object;
    if head.length > MAX_MANIFEST_BYTES {
        let message =
            format!("the manifest has {} bytes, at most {MAX_MANIFEST_BYTES} are read", head.length);
        return Err(Trouble::Row(Failure::new(Reason::LargeObject, message)));
    }
    let hashed = HashingBody::new(body, head.length, content_md5(&head.etag), Arc::default());
    let content: Bytes = hashed
        .collect()
        .await
        .map_err(|error| Trouble::Row(Failure::new(Reason::LocalRead, describe(&error))))?
        .to_bytes();
    Manifest::parse(&content).map_err(unfit)
}

pub(super) fn unfit(error: ManifestError) -> Trouble {
    Trouble::Row(Failure::new(Reason::LargeObject, error.to_string()))
}

fn other_nested(entry: &ObjectEntry, found: &str) -> Trouble {
    unfit(ManifestError::OtherNested {
        name: entry.path(),
        expected: entry.etag.clone(),
        found: found.to_owned(),
    })
}

fn of_segment(entry: &ObjectEntry, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Row(failure) => Trouble::Row(Failure::new(
            failure.reason,
            format!("segment {}: {}", entry.path(), failure.message),
        )),
        remote @ Trouble::Remote(_) => remote,
    }
}
