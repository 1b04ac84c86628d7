//! One stored object and its checks at the door.

use std::collections::HashMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ETag, StreamingBlob, Timestamp};
use s3s::{S3Result, s3_error};

/// S3's limit for the UTF-8 bytes of a key.
const MAX_KEY_BYTES: usize = 1024;
/// S3's limit for names and values of user metadata together.
const MAX_METADATA_BYTES: usize = 2048;

pub(crate) type Metadata = HashMap<String, String>;

/// What a stored object is, beside its bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) storage_class: Option<String>,
    pub(crate) encryption: Option<String>,
    pub(crate) kms_key: Option<String>,
}

/// A stored object. The pieces are shared: a copy costs no memory.
#[derive(Debug, Clone)]
pub(crate) struct StoredObject {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) length: u64,
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    pub(crate) attributes: Attributes,
}

impl StoredObject {
    pub(crate) fn new(body: Received, attributes: Attributes) -> Self {
        // With a KMS key, S3's ETag is not the MD5 of the content.
        let etag = if attributes.encryption.as_deref().is_some_and(|kind| kind.starts_with("aws:kms")) {
            hex::encode(Md5::digest(format!("kms{}", body.md5_hex)))
        } else {
            body.md5_hex
        };
        Self { pieces: body.pieces, length: body.length, etag, modified: SystemTime::now(), attributes }
    }

    pub(crate) fn tag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }

    pub(crate) fn modified(&self) -> Timestamp {
        Timestamp::from(self.modified)
    }

    /// True for classes that must be restored before they can be read or copied.
    pub(crate) fn is_cold(&self) -> bool {
        matches!(self.attributes.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }

    /// The bytes of a range, without copying them.
    pub(crate) fn slice(&self, range: &std::ops::Range<u64>) -> Vec<Bytes> {
        let mut found = Vec::new();
        let mut at = 0u64;
        for piece in &self.pieces {
            let end = at + piece.len() as u64;
            let first = range.start.max(at);
            let last = range.end.min(end);
            if first < last {
                // Both differences are at most the length of this piece.
                let first = usize::try_from(first - at).unwrap_or_default();
                let last = usize::try_from(last - at).unwrap_or(piece.len());
                found.push(piece.slice(first..last));
            }
            at = end;
        }
        found
    }
}

/// A body that was received whole and has the digests that its sender named.
pub(crate) struct Received {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) length: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) md5_hex: String,
}

/// Reads a body to its end. `expected` has the checksums to check, `content_md5` the base64 header.
pub(crate) async fn receive(
    body: Option<StreamingBlob>,
    content_md5: Option<&str>,
    mut hasher: ChecksumHasher,
    expected: impl FnOnce() -> Checksum,
) -> S3Result<Received> {
    let mut pieces = Vec::new();
    let mut length = 0u64;
    let mut hash = Md5::new();
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| s3_error!(IncompleteBody, "{error}"))?;
            hash.update(&piece);
            hasher.update(&piece);
            length += piece.len() as u64;
            pieces.push(piece);
        }
    }
    let md5: [u8; 16] = hash.finalize().into();
    if let Some(claimed) = content_md5 {
        let claimed = STANDARD.decode(claimed).map_err(|_| s3_error!(InvalidDigest))?;
        if claimed != md5 {
            return Err(s3_error!(BadDigest, "Content-MD5 differs"));
        }
    }
    let found = hasher.finalize();
    let expected = expected();
    if (found.checksum_crc32, found.checksum_crc32c, found.checksum_crc64nvme)
        != (expected.checksum_crc32, expected.checksum_crc32c, expected.checksum_crc64nvme)
        || (found.checksum_sha1, found.checksum_sha256) != (expected.checksum_sha1, expected.checksum_sha256)
    {
        return Err(s3_error!(BadDigest, "a checksum differs"));
    }
    Ok(Received { pieces, length, md5_hex: hex::encode(md5), md5 })
}

pub(crate) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > MAX_KEY_BYTES {
        return Err(s3_error!(KeyTooLongError, "the key has {} bytes", key.len()));
    }
    Ok(())
}

pub(crate) fn check_metadata(metadata: &Metadata) -> S3Result<()> {
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(s3_error!(MetadataTooLarge, "{bytes} bytes of metadata"));
    }
    Ok(())
}
