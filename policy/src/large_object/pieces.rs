//! The content of a large object as a list of pieces of local objects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::manifest::{Entry, Manifest, ObjectEntry};
use super::{MAX_DEPTH, MAX_PIECES, ManifestError};

/// Bytes of one plain object, or of a manifest itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes kept in a manifest.
    Data(Arc<[u8]>),
    /// A part of an object, or all of it.
    Object {
        /// The container, in the account of the manifest.
        container: String,
        /// The object.
        object: String,
        /// Its ETag, the MD5 of its whole content in hex; `None` if that is not known.
        etag: Option<String>,
        /// Bytes of the whole object.
        bytes: u64,
        /// Which of these bytes.
        range: Range<u64>,
    },
}

impl Piece {
    /// Bytes of the piece.
    pub fn length(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Object { range, .. } => range.end.saturating_sub(range.start),
        }
    }

    /// Whether it is an object from its first byte to its last.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Data(_) => true,
            Self::Object { bytes, range, .. } => *range == (0..*bytes),
        }
    }

    /// The MD5 of the piece, if it is known: that of a whole object.
    pub fn md5(&self) -> Option<[u8; 16]> {
        match self {
            Self::Object { etag: Some(etag), .. } if self.is_whole() => {
                let mut md5 = [0; 16];
                hex::decode_to_slice(etag, &mut md5).ok()?;
                Some(md5)
            }
            _ => None,
        }
    }

    /// Bytes `range` of the piece, counted from its own start; what lies beyond its end is left out.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let end = range.end.min(self.length());
        let start = range.start.min(end);
        match self {
            Self::Data(data) => {
                let bounds = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                let part = bounds.and_then(|(start, end)| data.get(start..end)).unwrap_or_default();
                Self::Data(part.into())
            }
            Self::Object { container, object, etag, bytes, range } => Self::Object {
                container: container.clone(),
                object: object.clone(),
                etag: etag.clone(),
                bytes: *bytes,
                range: range.start.saturating_add(start)..range.start.saturating_add(end),
            },
        }
    }
}

/// The pieces of a manifest whose nested manifests are all loaded. Empty pieces are left out.
///
/// # Errors
/// [`ManifestError::NotLoaded`], [`ManifestError::OtherNested`], and the bounds.
pub fn flatten(manifest: &Manifest) -> Result<Vec<Piece>, ManifestError> {
    let mut pieces = Vec::new();
    let mut looked_at = 0;
    walk(manifest, 0..manifest.length()?, MAX_DEPTH, &mut looked_at, &mut pieces)?;
    Ok(pieces)
}

/// Adds the pieces of bytes `wanted` of the manifest's content.
fn walk(
    manifest: &Manifest,
    wanted: Range<u64>,
    depth: usize,
    looked_at: &mut usize,
    pieces: &mut Vec<Piece>,
) -> Result<(), ManifestError> {
    let depth = depth.checked_sub(1).ok_or(ManifestError::TooDeep)?;
    let mut offset = 0u64;
    for entry in &manifest.entries {
        *looked_at = looked_at.saturating_add(1);
        if *looked_at > MAX_PIECES {
            return Err(ManifestError::TooMany);
        }
        let end = offset.checked_add(entry.length()).ok_or(ManifestError::Overflow)?;
        let within = wanted.start.max(offset)..wanted.end.min(end);
        if within.start < within.end {
            let within = within.start.saturating_sub(offset)..within.end.saturating_sub(offset);
            match entry {
                Entry::Data(data) => pieces.push(Piece::Data(data.as_slice().into()).slice(within)),
                Entry::Object(entry) => take(entry, within, depth, looked_at, pieces)?,
            }
        }
        offset = end;
    }
    Ok(())
}

/// Adds bytes `within` of what the entry takes.
fn take(
    entry: &ObjectEntry,
    within: Range<u64>,
    depth: usize,
    looked_at: &mut usize,
    pieces: &mut Vec<Piece>,
) -> Result<(), ManifestError> {
    let first = entry.taken().start;
    let range = first.saturating_add(within.start)..first.saturating_add(within.end);
    let Some(nested) = &entry.nested else {
        pieces.push(Piece::Object {
            container: entry.container.clone(),
            object: entry.object.clone(),
            etag: Some(entry.etag.clone()),
            bytes: entry.bytes,
            range,
        });
        return Ok(());
    };
    let manifest = nested.manifest.as_ref().ok_or_else(|| ManifestError::NotLoaded(entry.path()))?;
    let (found, length) = (manifest.etag(), manifest.length()?);
    if found != entry.etag || length != entry.bytes {
        let found = format!("{found} with {length} bytes");
        let expected = format!("{} with {} bytes", entry.etag, entry.bytes);
        return Err(ManifestError::OtherNested { name: entry.path(), expected, found });
    }
    walk(manifest, range, depth, looked_at, pieces)
}

/// Objects that a carried content holds from their first byte to their last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Container, object and ETag of plain objects, each once.
    pub whole: Vec<(String, String, String)>,
    /// Container, object and the ETag of the manifest's own JSON, of nested manifests all of whose segments are covered.
    pub manifests: Vec<(String, String, String)>,
}

type Name<'a> = (&'a str, &'a str, &'a str);

/// Which objects the content of `manifest` holds in whole. `pieces` are those of [`flatten`].
pub fn coverage(manifest: &Manifest, pieces: &[Piece]) -> Coverage {
    let mut ranges: BTreeMap<Name<'_>, (u64, Vec<Range<u64>>)> = BTreeMap::new();
    for piece in pieces {
        if let Piece::Object { container, object, etag: Some(etag), bytes, range } = piece {
            let known = ranges.entry((container, object, etag)).or_insert_with(|| (*bytes, Vec::new()));
            known.1.push(range.clone());
        }
    }
    let mut whole: BTreeMap<Name<'_>, bool> = BTreeMap::new();
    for (name, (bytes, mut parts)) in ranges {
        parts.sort_unstable_by_key(|range| (range.start, range.end));
        let mut reached = 0;
        for part in parts {
            if part.start <= reached {
                reached = reached.max(part.end);
            }
        }
        whole.insert(name, reached >= bytes);
    }
    // An empty segment has no piece, and nothing of it is missing.
    let mut manifests = BTreeMap::new();
    note(manifest, MAX_DEPTH, &mut whole, &mut manifests);
    let owned = |names: BTreeMap<Name<'_>, bool>| {
        names
            .into_iter()
            .filter(|(_, covered)| *covered)
            .map(|((container, object, etag), _)| (container.to_owned(), object.to_owned(), etag.to_owned()))
            .collect()
    };
    Coverage { whole: owned(whole), manifests: owned(manifests) }
}

/// Answers whether everything that the manifest names is covered.
fn note<'a>(
    manifest: &'a Manifest,
    depth: usize,
    whole: &mut BTreeMap<Name<'a>, bool>,
    manifests: &mut BTreeMap<Name<'a>, bool>,
) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let mut all = true;
    for entry in &manifest.entries {
        let Entry::Object(entry) = entry else { continue };
        let covered = match &entry.nested {
            None => *whole.entry((&entry.container, &entry.object, &entry.etag)).or_insert(entry.bytes == 0),
            Some(nested) => {
                let name = (entry.container.as_str(), entry.object.as_str(), nested.object_etag.as_str());
                match (manifests.get(&name), &nested.manifest) {
                    (Some(covered), _) => *covered,
                    (None, Some(inner)) => {
                        let covered = note(inner, depth, whole, manifests) && !nested.object_etag.is_empty();
                        manifests.insert(name, covered);
                        covered
                    }
                    (None, None) => false,
                }
            }
        };
        all = all && covered;
    }
    all
}
