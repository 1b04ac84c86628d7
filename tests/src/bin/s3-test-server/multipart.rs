//! Multipart uploads, with S3's rules for them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3Result, s3_error};

use crate::listing::encoded;
use crate::object::{Attributes, Received, StoredObject};

/// S3 refuses smaller parts, but for the last.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
/// S3's limit for the number of parts.
const MAX_PARTS: i32 = 10_000;
/// S3 gives no more uploads or parts in one answer.
const MAX_PAGE: i32 = 1000;

/// A part that arrived.
pub(crate) struct StoredPart {
    pub(crate) content: Received,
    pub(crate) arrived: SystemTime,
}

impl StoredPart {
    pub(crate) fn new(content: Received) -> Self {
        Self { content, arrived: SystemTime::now() }
    }
}

/// An upload in progress.
pub(crate) struct Upload {
    pub(crate) attributes: Attributes,
    pub(crate) parts: BTreeMap<i32, StoredPart>,
    pub(crate) initiated: SystemTime,
}

/// The uploads in progress of one bucket, in the order in which they are listed: by key, then by id.
#[derive(Default)]
pub(crate) struct Uploads(BTreeMap<(String, String), Upload>);

impl Uploads {
    pub(crate) fn begin(&mut self, key: &str, id: &str, attributes: Attributes) {
        let upload = Upload { attributes, parts: BTreeMap::new(), initiated: SystemTime::now() };
        self.0.insert((key.to_owned(), id.to_owned()), upload);
    }

    pub(crate) fn get(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.0.get_mut(&(key.to_owned(), id.to_owned())).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    pub(crate) fn end(&mut self, key: &str, id: &str) -> S3Result<Upload> {
        self.0.remove(&(key.to_owned(), id.to_owned())).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn list(&self, input: &ListMultipartUploadsInput) -> ListMultipartUploadsOutput {
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let limit = usize::try_from(input.max_uploads.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE)).unwrap_or(1);
        let is_behind = |key: &str, id: &str| match (&input.key_marker, &input.upload_id_marker) {
            (None, _) => true,
            (Some(key_marker), None) => key > key_marker.as_str(),
            (Some(key_marker), Some(id_marker)) => (key, id) > (key_marker.as_str(), id_marker.as_str()),
        };
        let mut found =
            self.0.iter().filter(|((key, id), _)| key.starts_with(prefix) && is_behind(key, id)).peekable();
        let encode = |text: &str| encoded(text, input.encoding_type.as_ref());
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let is_truncated = found.peek().is_some();
        let last = page.last().filter(|_| is_truncated).map(|((key, id), _)| (encode(key), id.clone()));
        let (next_key_marker, next_upload_id_marker) = last.unzip();
        let uploads = page
            .into_iter()
            .map(|((key, id), upload)| MultipartUpload {
                key: Some(encode(key)),
                upload_id: Some(id.clone()),
                initiated: Some(Timestamp::from(upload.initiated)),
                storage_class: upload.attributes.storage_class.clone().map(StorageClass::from),
                ..MultipartUpload::default()
            })
            .collect();
        ListMultipartUploadsOutput {
            bucket: Some(input.bucket.clone()),
            prefix: input.prefix.as_deref().map(encode),
            is_truncated: Some(is_truncated),
            max_uploads: Some(MAX_PAGE),
            uploads: Some(uploads),
            next_key_marker,
            next_upload_id_marker,
            encoding_type: input.encoding_type.clone(),
            ..ListMultipartUploadsOutput::default()
        }
    }
}

impl Upload {
    pub(crate) fn list_parts(&self, input: ListPartsInput) -> ListPartsOutput {
        let after = input.part_number_marker.unwrap_or(0);
        let limit = usize::try_from(input.max_parts.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE)).unwrap_or(1);
        let mut found = self.parts.range(after.saturating_add(1)..);
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let is_truncated = found.next().is_some();
        let last = page.last().filter(|_| is_truncated).map(|(number, _)| **number);
        let parts = page
            .into_iter()
            .map(|(number, part)| Part {
                part_number: Some(*number),
                e_tag: Some(ETag::Strong(part.content.md5_hex.clone())),
                size: i64::try_from(part.content.length).ok(),
                last_modified: Some(Timestamp::from(part.arrived)),
                ..Part::default()
            })
            .collect();
        ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(is_truncated),
            max_parts: Some(MAX_PAGE),
            next_part_number_marker: last,
            parts: Some(parts),
            ..ListPartsOutput::default()
        }
    }

    /// Joins the named parts; the upload stays as it is, for the caller to end. The ETag is the MD5 of the parts' MD5s with
    /// the number of parts.
    pub(crate) fn join(&self, named: &[CompletedPart]) -> S3Result<StoredObject> {
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts"));
        }
        let mut hash = Md5::new();
        let mut pieces = Vec::new();
        let mut length = 0;
        let mut before = 0;
        for (index, part) in named.iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            if number <= before {
                return Err(s3_error!(InvalidPartOrder));
            }
            before = number;
            let Some(stored) = self.parts.get(&number) else {
                return Err(s3_error!(InvalidPart, "part {number} was not uploaded"));
            };
            let content = &stored.content;
            if part.e_tag.as_ref().is_none_or(|tag| tag.value() != content.md5_hex) {
                return Err(s3_error!(InvalidPart, "part {number} has another ETag"));
            }
            if content.length < MIN_PART_BYTES && index + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            hash.update(content.md5);
            length += content.length;
            pieces.extend(content.pieces.iter().cloned());
        }
        let etag = format!("{}-{}", hex::encode(hash.finalize()), named.len());
        let attributes = self.attributes.clone();
        Ok(StoredObject { pieces, length, etag, modified: SystemTime::now(), attributes })
    }
}

pub(crate) fn check_part_number(number: i32) -> S3Result<()> {
    if (1..=MAX_PARTS).contains(&number) {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "part number {number} is not between 1 and {MAX_PARTS}"))
}

/// The part that `range` (`bytes=a-b`, which must lie inside the object) of `source` makes.
pub(crate) fn piece(source: &StoredObject, range: Option<&str>) -> S3Result<Received> {
    let range = match range {
        None => 0..source.length,
        Some(range) => {
            let bounds = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
            let bounds =
                bounds.and_then(|(first, last)| Some((first.parse().ok()?, last.parse::<u64>().ok()?)));
            match bounds {
                Some((first, last)) if first <= last && last < source.length => first..last + 1,
                Some(_) => return Err(s3_error!(InvalidRange, "{range} of {} bytes", source.length)),
                None => return Err(s3_error!(InvalidArgument, "{range:?}")),
            }
        }
    };
    let pieces = source.slice(&range);
    let mut hash = Md5::new();
    for piece in &pieces {
        hash.update(piece);
    }
    let md5: [u8; 16] = hash.finalize().into();
    Ok(Received { pieces, length: range.end - range.start, md5, md5_hex: hex::encode(md5) })
}
