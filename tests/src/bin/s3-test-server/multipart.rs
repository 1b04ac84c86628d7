//! Multipart uploads that are not complete yet.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Result, s3_error};

use crate::object::{Attributes, Received, StoredObject};

/// S3 refuses smaller parts, but for the last.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

pub(crate) struct Upload {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) attributes: Attributes,
    pub(crate) parts: BTreeMap<i32, Received>,
}

impl Upload {
    /// Joins the named parts. The ETag is the MD5 of the parts' MD5s with the number of parts.
    pub(crate) fn complete(mut self, named: &[CompletedPart]) -> S3Result<StoredObject> {
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
            let Some(received) = self.parts.remove(&number) else {
                return Err(s3_error!(InvalidPart, "part {number} was not uploaded"));
            };
            let claimed = part.e_tag.as_ref().map(|tag| tag.value().to_owned());
            if claimed.is_some_and(|claimed| claimed != received.md5_hex) {
                return Err(s3_error!(InvalidPart, "part {number} has another ETag"));
            }
            if received.length < MIN_PART_BYTES && index + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            hash.update(received.md5);
            length += received.length;
            pieces.extend(received.pieces);
        }
        let etag = format!("{}-{}", hex::encode(hash.finalize()), named.len());
        Ok(StoredObject {
            pieces,
            length,
            etag,
            modified: std::time::SystemTime::now(),
            attributes: self.attributes,
        })
    }
}
