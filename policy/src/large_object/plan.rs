//! The parts in which a large object goes to S3.
//!
//! Where S3 takes the segments as they are, they become the parts, as with the predecessor: the remote ETag then follows from the manifest
//! alone. Everything else is cut anew.
//!
//! Source of the limits: Amazon S3 User Guide, "Amazon S3 multipart upload limits".

use md5::{Digest, Md5};

use super::ManifestError;
use super::manifest::{Entry, Manifest};
use super::pieces::Piece;

/// The smallest part but for the last.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// The largest part.
pub const MAX_PART_BYTES: u64 = 5 << 30;
/// The most parts.
pub const MAX_PARTS: usize = 10_000;
/// The largest object.
pub const MAX_OBJECT_BYTES: u64 = 5 << 40;

/// What a part that is cut anew should have at least: three times the minimum keeps the number of requests low, and a part that has to be
/// sent again is still small.
const USUAL_PART_BYTES: u64 = 16 << 20;

/// One part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u16,
    /// Bytes.
    pub length: u64,
    /// What it consists of, in order. Never empty.
    pub pieces: Vec<Piece>,
}

impl Part {
    /// Its MD5, if that is known before it is read: one whole object.
    pub fn md5(&self) -> Option<[u8; 16]> {
        match self.pieces.as_slice() {
            [piece] => piece.md5(),
            _ => None,
        }
    }
}

/// The segments as parts, if S3 takes them as they are: whole objects, none of them nested, all but the last of 5 MiB at least, none above
/// 5 GiB, 10,000 at most.
pub fn classic_parts(manifest: &Manifest) -> Option<Vec<Part>> {
    let count = manifest.entries.len();
    if count == 0 || count > MAX_PARTS {
        return None;
    }
    let mut parts = Vec::with_capacity(count);
    let mut total = 0u64;
    for (number, entry) in (1u16..).zip(&manifest.entries) {
        let Entry::Object(entry) = entry else { return None };
        if entry.range.is_some() || entry.nested.is_some() || entry.bytes > MAX_PART_BYTES {
            return None;
        }
        if entry.bytes < MIN_PART_BYTES && usize::from(number) < count {
            return None;
        }
        total = total.checked_add(entry.bytes).filter(|total| *total <= MAX_OBJECT_BYTES)?;
        let piece = Piece::Object {
            container: entry.container.clone(),
            object: entry.object.clone(),
            etag: Some(entry.etag.clone()),
            bytes: entry.bytes,
            range: 0..entry.bytes,
        };
        // The ETag of the remote object is worked out from these.
        piece.md5()?;
        parts.push(Part { number, length: entry.bytes, pieces: vec![piece] });
    }
    Some(parts)
}

/// The ETag that S3 gives an object of parts with these MD5s.
pub fn multipart_etag(parts: &[[u8; 16]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    format!("{}-{}", hex::encode(hash.finalize()), parts.len())
}

/// Cuts a content into parts that S3 takes. The same pieces give the same parts, so that an upload can be resumed.
///
/// Parts end where pieces end, as far as that is possible: a piece that is read in whole can be checked against its ETag.
///
/// # Errors
/// [`ManifestError::TooLarge`], [`ManifestError::Overflow`].
pub fn cut(pieces: &[Piece]) -> Result<Vec<Part>, ManifestError> {
    let mut total = 0u64;
    for piece in pieces {
        total = total.checked_add(piece.length()).ok_or(ManifestError::Overflow)?;
    }
    if total > MAX_OBJECT_BYTES {
        return Err(ManifestError::TooLarge(total));
    }
    // Every part but the last has at least this, so there are never more than 10,000.
    let least = USUAL_PART_BYTES.max(total.div_ceil(MAX_PARTS as u64 - 1));
    let mut parts = Vec::new();
    let mut current: Vec<Piece> = Vec::new();
    let mut length = 0u64;
    for piece in pieces {
        let mut rest = piece.clone();
        // A piece that makes the part too large is cut where the part has what it needs.
        while length.saturating_add(rest.length()) > MAX_PART_BYTES {
            let taken = least.saturating_sub(length);
            current.push(rest.slice(0..taken));
            rest = rest.slice(taken..u64::MAX);
            push(&mut parts, std::mem::take(&mut current));
            length = 0;
        }
        length = length.saturating_add(rest.length());
        if rest.length() > 0 {
            current.push(rest);
        }
        if length >= least {
            push(&mut parts, std::mem::take(&mut current));
            length = 0;
        }
    }
    if !current.is_empty() {
        push(&mut parts, current);
    }
    Ok(parts)
}

fn push(parts: &mut Vec<Part>, pieces: Vec<Piece>) {
    let number = u16::try_from(parts.len().saturating_add(1)).unwrap_or(u16::MAX);
    let length = pieces.iter().map(Piece::length).fold(0, u64::saturating_add);
    parts.push(Part { number, length, pieces });
}
