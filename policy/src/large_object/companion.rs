//! The companion of a remote large object: a JSON document under a key of its own, from which, together with the remote object, the
//! segments and manifests can be made again.
//!
//! # Form
//!
//! The manifest as Swift stores it, byte for byte: a list of entries with `name` (`/container/object`), `hash`, `bytes`, and what else Swift
//! keeps. Where a manifest is nested (`sub_slo`), the entry has two members more: `segments`, the nested manifest in the same form, and
//! `manifest_hash`, the MD5 of its JSON.
//!
//! For a dynamic large object it is the list of segments in the same form. The remote object's metadata tells which of the two it is.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::manifest::{Entry, Manifest, ObjectEntry};
use super::pieces::{Piece, flatten};
use super::{MAX_DEPTH, MAX_PIECES, ManifestError};

/// The companion of a static large object: `stored` itself, the JSON of `manifest`, with every nested manifest put in.
///
/// # Errors
/// [`ManifestError::NotLoaded`] and the bounds.
pub fn companion_of_manifest(stored: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    if !manifest.has_nested() {
        return Ok(stored.to_vec());
    }
    let mut left = MAX_PIECES;
    let value = in_full(manifest, &mut left, MAX_DEPTH)?;
    serde_json::to_vec(&value).map_err(|error| ManifestError::Json(error.to_string()))
}

/// The companion of a dynamic large object, or of any list of plain objects.
///
/// # Errors
/// [`ManifestError::Json`].
pub fn companion_of_pieces(segments: &[ObjectEntry]) -> Result<Vec<u8>, ManifestError> {
    let list: Vec<Value> = segments.iter().map(|segment| Value::Object(fields(segment))).collect();
    serde_json::to_vec(&list).map_err(|error| ManifestError::Json(error.to_string()))
}

fn in_full(manifest: &Manifest, left: &mut usize, depth: usize) -> Result<Value, ManifestError> {
    let depth = depth.checked_sub(1).ok_or(ManifestError::TooDeep)?;
    *left = left.checked_sub(manifest.entries.len()).ok_or(ManifestError::TooMany)?;
    let mut list = Vec::with_capacity(manifest.entries.len());
    for entry in &manifest.entries {
        list.push(match entry {
            Entry::Data(data) => json!({ "data": encode(data) }),
            Entry::Object(entry) => {
                let mut fields = fields(entry);
                if let Some(nested) = &entry.nested {
                    let inner =
                        nested.manifest.as_ref().ok_or_else(|| ManifestError::NotLoaded(entry.path()))?;
                    fields.insert("sub_slo".to_owned(), Value::Bool(true));
                    fields.insert("manifest_hash".to_owned(), json!(nested.object_etag));
                    fields.insert("segments".to_owned(), in_full(inner, left, depth)?);
                }
                Value::Object(fields)
            }
        });
    }
    Ok(Value::Array(list))
}

fn encode(data: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(data)
}

fn fields(entry: &ObjectEntry) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(entry.path()));
    fields.insert("bytes".to_owned(), json!(entry.bytes));
    fields.insert("hash".to_owned(), json!(entry.etag));
    for (name, value) in [("content_type", &entry.content_type), ("last_modified", &entry.last_modified)] {
        if let Some(value) = value {
            fields.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(range) = &entry.range {
        let text = format!("{}-{}", range.start, range.end.saturating_sub(1));
        fields.insert("range".to_owned(), json!(text));
    }
    fields
}

/// What has to be written to a Swift cluster so that a large object is there again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Plain objects, each once; none is missing unless the content never held it in whole (see [`Rebuilt::incomplete`]).
    pub segments: Vec<RebuiltSegment>,
    /// Nested manifests, inner ones first.
    pub nested: Vec<RebuiltManifest>,
    /// The manifest itself.
    pub manifest: Manifest,
    /// `/container/object` of segments of which the manifest takes a part only: the remote object does not have the rest.
    pub incomplete: Vec<String>,
}

/// A segment to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltSegment {
    /// Its container.
    pub container: String,
    /// Its name.
    pub object: String,
    /// The MD5 of its content.
    pub etag: String,
    /// Its content type, if it is known.
    pub content_type: Option<String>,
    /// Which bytes of the remote object make its content, in order.
    pub content: Vec<Range<u64>>,
}

/// A nested manifest to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltManifest {
    /// Its container.
    pub container: String,
    /// Its name.
    pub object: String,
    /// Its content type, if it is known.
    pub content_type: Option<String>,
    /// Its entries.
    pub manifest: Manifest,
}

/// A segment as far as it was met: what it is, and where its bytes are in the remote object.
struct Found<'a> {
    bytes: u64,
    extents: Vec<(Range<u64>, u64)>,
    entry: Option<&'a ObjectEntry>,
}

/// Works out how to make a large object again from its companion and a remote object of `length` bytes.
///
/// # Errors
/// [`ManifestError::Length`] when the two do not belong together; others when the companion cannot be read.
pub fn rebuild(companion: &[u8], length: u64) -> Result<Rebuilt, ManifestError> {
    let manifest = Manifest::parse(companion)?;
    let expected = manifest.length()?;
    if expected != length {
        return Err(ManifestError::Length { expected, found: length });
    }
    let pieces = flatten(&manifest)?;
    let mut found: BTreeMap<(String, String, String), Found<'_>> = BTreeMap::new();
    let mut offset = 0u64;
    for piece in &pieces {
        if let Piece::Object { container, object, etag: Some(etag), bytes, range } = piece {
            let name = (container.clone(), object.clone(), etag.clone());
            let known = found.entry(name).or_insert_with(|| Found {
                bytes: *bytes,
                extents: Vec::new(),
                entry: None,
            });
            known.extents.push((range.clone(), offset));
        }
        offset = offset.saturating_add(piece.length());
    }
    let mut nested = Vec::new();
    describe(&manifest, MAX_DEPTH, &mut found, &mut BTreeSet::new(), &mut nested);
    let mut rebuilt = Rebuilt { nested, ..Rebuilt::default() };
    for ((container, object, etag), mut known) in found {
        match assemble(&mut known.extents, known.bytes) {
            Some(content) => {
                let content_type = known.entry.and_then(|entry| entry.content_type.clone());
                rebuilt.segments.push(RebuiltSegment { container, object, etag, content_type, content });
            }
            None => rebuilt.incomplete.push(format!("/{container}/{object}")),
        }
    }
    rebuilt.manifest = manifest;
    Ok(rebuilt)
}

/// The remote ranges that make bytes `0..bytes` of a segment, or `None` if some are nowhere.
fn assemble(extents: &mut [(Range<u64>, u64)], bytes: u64) -> Option<Vec<Range<u64>>> {
    extents.sort_unstable_by_key(|(range, remote)| (range.start, u64::MAX - range.end, *remote));
    let mut reached = 0u64;
    let mut content = Vec::new();
    for (range, remote) in extents.iter() {
        if range.start > reached {
            return None;
        }
        if range.end > reached {
            let skip = reached.saturating_sub(range.start);
            let start = remote.saturating_add(skip);
            content.push(start..start.saturating_add(range.end.saturating_sub(reached)));
            reached = range.end;
        }
    }
    (reached >= bytes).then_some(content)
}

/// Notes content types, empty segments, and nested manifests, inner ones first.
fn describe<'a>(
    manifest: &'a Manifest,
    depth: usize,
    found: &mut BTreeMap<(String, String, String), Found<'a>>,
    met: &mut BTreeSet<(&'a str, &'a str)>,
    nested: &mut Vec<RebuiltManifest>,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in &manifest.entries {
        let Entry::Object(entry) = entry else { continue };
        let Some(inner) = entry.nested.as_ref() else {
            let name = (entry.container.clone(), entry.object.clone(), entry.etag.clone());
            match found.entry(name) {
                Slot::Occupied(mut known) => {
                    known.get_mut().entry.get_or_insert(entry);
                }
                // Not a byte of it is in the content: it is empty, or skipped by the range of an outer manifest.
                Slot::Vacant(slot) => {
                    slot.insert(Found { bytes: entry.bytes, extents: Vec::new(), entry: Some(entry) });
                }
            }
            continue;
        };
        if met.insert((&entry.container, &entry.object))
            && let Some(inner) = &inner.manifest
        {
            describe(inner, depth, found, met, nested);
            nested.push(RebuiltManifest {
                container: entry.container.clone(),
                object: entry.object.clone(),
                content_type: entry.content_type.clone(),
                manifest: Manifest::clone(inner),
            });
        }
    }
}
