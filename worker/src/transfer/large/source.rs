//! What a large object consists of locally.

use bytes::Bytes;
use swift_s3_policy::large_object::{
    Coverage, Entry, Manifest, ObjectEntry, Piece, companion_of_manifest, companion_of_pieces, coverage,
    dlo_source, flatten, listing_etag,
};
use swift_s3_policy::{DLO_ETAG_MARKER, SLO_ETAG_MARKER};

use crate::large::segments::read_manifest;
use crate::reason::{Failure, Reason};
use crate::swift::backend::LocalBody;
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalKind};
use crate::transfer::archive::refuse_archived_home;
use crate::transfer::{CarriedSegment, Route, Transfer, Trouble};

/// A large object's content, its companion, and what goes with it.
pub(super) struct Source {
    /// Of a static one.
    pub manifest: Option<Manifest>,
    /// The content.
    pub pieces: Vec<Piece>,
    /// Bytes of the content.
    pub length: u64,
    /// The companion's JSON.
    pub companion: Bytes,
    /// The metadata that tells which manifest, or list of segments, the remote content was made from.
    pub marker: (&'static str, String),
    /// What the remote holds in whole once it has the content and the companion.
    pub carried: Vec<CarriedSegment>,
}

impl Transfer {
    /// Reads the manifest and finds out what it stands for. `body` is the content of the manifest object.
    pub(super) async fn source_of(
        &self,
        route: &Route,
        row: &Row,
        head: &LocalHead,
        body: LocalBody,
    ) -> Result<Source, Trouble> {
        if head.kind == LocalKind::DynamicLargeObject {
            drop(body);
            return self.dynamic_source(route, head).await;
        }
        let name = format!("/{}/{}", route.container, row.name);
        let stored = read_manifest(&name, body, &head.etag).await?;
        let mut manifest = Manifest::parse(&stored)?;
        self.large.segments.load_nested(&route.account, &mut manifest).await?;
        let pieces = flatten(&manifest)?;
        let companion = if manifest.has_nested() {
            Bytes::from(companion_of_manifest(&stored, &manifest)?)
        } else {
            stored
        };
        let Coverage { whole, manifests } = coverage(&manifest, &pieces);
        Ok(Source {
            length: manifest.length()?,
            pieces,
            companion,
            marker: (SLO_ETAG_MARKER, head.etag.clone()),
            carried: whole.into_iter().chain(manifests).map(carried_segment).collect(),
            manifest: Some(manifest),
        })
    }

    /// Bytes of a dynamic large object.
    pub(super) async fn dynamic_length(&self, route: &Route, head: &LocalHead) -> Result<u64, Trouble> {
        let segments = self.dynamic_segments(route, head).await?;
        Ok(Manifest { entries: segments.into_iter().map(Entry::Object).collect() }.length()?)
    }

    async fn dynamic_segments(&self, route: &Route, head: &LocalHead) -> Result<Vec<ObjectEntry>, Trouble> {
        let header = head.header("x-object-manifest").unwrap_or_default();
        let (container, prefix) = dlo_source(header).ok_or_else(|| {
            let header = String::from_utf8_lossy(header);
            let message = format!("X-Object-Manifest is {header:?}, expected container/prefix");
            Trouble::Row(Failure::new(Reason::LargeObject, message))
        })?;
        refuse_archived_home(route, &container)?;
        Ok(self.large.segments.list(&route.account, &container, &prefix).await?)
    }

    async fn dynamic_source(&self, route: &Route, head: &LocalHead) -> Result<Source, Trouble> {
        let segments = self.dynamic_segments(route, head).await?;
        let etag = listing_etag(segments.iter().map(|segment| segment.etag.as_str()));
        let companion = companion_of_pieces(&segments)?;
        let manifest = Manifest { entries: segments.into_iter().map(Entry::Object).collect() };
        let pieces = flatten(&manifest)?;
        let Coverage { whole, .. } = coverage(&manifest, &pieces);
        Ok(Source {
            length: manifest.length()?,
            pieces,
            companion: companion.into(),
            marker: (DLO_ETAG_MARKER, etag),
            carried: whole.into_iter().map(carried_segment).collect(),
            manifest: None,
        })
    }
}

fn carried_segment((container, object, etag): (String, String, String)) -> CarriedSegment {
    CarriedSegment { container, object, etag }
}
