//! The headers of a local object, read once into types.

use http::{HeaderMap, header};
use swift_s3_policy::Timestamp;

use crate::swift::backend::content_length;
use crate::swift::swift_conf::is_true;

/// What an object server, or a proxy, says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalHead {
    /// The newest of data and metadata.
    pub timestamp: Timestamp,
    /// When the data was written. A proxy does not tell; then it is the same as `timestamp`.
    pub data_timestamp: Timestamp,
    /// Length of the content in bytes; of the whole object for a fragment.
    pub length: u64,
    /// MD5 of the content in hex, without quotes; of the whole object for a fragment.
    pub etag: String,
    /// Content type, bytes that are not UTF-8 replaced.
    pub content_type: String,
    /// Every header of the answer: lower-case name, value as it came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What the content means.
    pub kind: LocalKind,
}

/// What the content of an object means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalKind {
    /// It is the object.
    Plain,
    /// It is a JSON list of segments.
    StaticLargeObject,
    /// It is empty; the object is every segment below a prefix.
    DynamicLargeObject,
    /// It is empty; the object is elsewhere.
    Symlink,
}

impl LocalHead {
    /// Reads the headers of a successful GET or HEAD; a failure says which one is wrong.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, String> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let time = |name: &str| -> Result<Option<Timestamp>, String> {
            text(name).map(|value| value.parse().map_err(|error| format!("{name}: {error}"))).transpose()
        };
        // The backend's form carries the offset, the public one does not.
        let timestamp = match time("x-backend-timestamp")? {
            Some(timestamp) => timestamp,
            None => time("x-timestamp")?.ok_or("expected X-Timestamp, got none")?,
        };
        let data_timestamp = time("x-backend-data-timestamp")?.unwrap_or(timestamp);
        let whole_length = text("x-object-sysmeta-ec-content-length").map(str::parse);
        let length = match whole_length {
            Some(Ok(length)) => length,
            Some(Err(_)) => return Err("expected a number in X-Object-Sysmeta-Ec-Content-Length".to_owned()),
            None => content_length(headers).ok_or("expected Content-Length, got none")?,
        };
        let etag = text("x-object-sysmeta-ec-etag").or_else(|| text("etag"));
        let etag = etag.ok_or("expected an ETag, got none")?.trim_matches('"').to_owned();
        let content_type = without_swift_bytes(
            headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default(),
        );
        let kind = if text("x-static-large-object").is_some_and(is_true) {
            LocalKind::StaticLargeObject
        } else if headers.contains_key("x-object-manifest") {
            LocalKind::DynamicLargeObject
        } else if headers.contains_key("x-object-sysmeta-symlink-target")
            || headers.contains_key("x-symlink-target")
        {
            LocalKind::Symlink
        } else {
            LocalKind::Plain
        };
        Ok(Self {
            timestamp,
            data_timestamp,
            length,
            etag,
            content_type: String::from_utf8_lossy(content_type).into_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| match value.as_bytes() {
                    value if *name == header::CONTENT_TYPE => (name, without_swift_bytes(value)),
                    value => (name, value),
                })
                .map(|(name, value)| (name.as_str().to_owned(), value.to_vec()))
                .collect(),
            kind,
        })
    }

    /// Tells whether content or metadata are ciphertext, as they are when read past a proxy that encrypts.
    pub fn is_encrypted(&self) -> bool {
        self.headers.iter().any(|(name, _)| {
            name.starts_with("x-object-sysmeta-crypto-") || name.starts_with(TRANSIENT_CRYPTO)
        })
    }

    /// What speaks against this being the deciphered form of `stored`, which was read past the proxy.
    pub(super) fn still_encrypted(&self, stored: &Self) -> Option<&'static str> {
        // Another write has come between the two answers; nothing can be said by comparing them.
        if self.timestamp.units() != stored.timestamp.units() {
            return None;
        }
        let has_ciphertext = stored.header("x-object-sysmeta-crypto-body-meta").is_some();
        if has_ciphertext && self.etag == stored.etag {
            return Some("its ETag is that of the ciphertext");
        }
        let hidden = stored.headers.iter().filter_map(|(name, _)| name.strip_prefix(TRANSIENT_CRYPTO_META));
        for name in hidden {
            if self.header(&format!("x-object-meta-{name}")).is_none() {
                return Some("metadata is missing from it");
            }
        }
        None
    }

    /// A header's value, if it is UTF-8. The name is in lower case.
    pub(crate) fn text(&self, wanted: &str) -> Option<String> {
        self.header(wanted).and_then(|value| String::from_utf8(value.to_vec()).ok())
    }

    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, wanted: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice())
    }
}

/// A content type without the length of a large object, which Swift keeps at its end and shows to nobody.
/// Source: `extract_swift_bytes` in `swift/common/utils/__init__.py`.
fn without_swift_bytes(value: &[u8]) -> &[u8] {
    const MARK: &[u8] = b";swift_bytes=";
    let at = value.windows(MARK.len()).rposition(|window| window == MARK);
    at.and_then(|at| value.get(..at)).unwrap_or(value)
}

const TRANSIENT_CRYPTO: &str = "x-object-transient-sysmeta-crypto-";
/// Source: `swift/common/middleware/crypto/encrypter.py`; `…-crypto-meta` itself holds the parameters of all.
const TRANSIENT_CRYPTO_META: &str = "x-object-transient-sysmeta-crypto-meta-";
