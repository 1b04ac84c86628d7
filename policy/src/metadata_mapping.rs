//! How the headers of a Swift object become S3 metadata, and when two sets of metadata mean the same.
//!
//! # Values
//!
//! | local value | stored as |
//! |---|---|
//! | printable ASCII, tabs inside | itself |
//! | other UTF-8, control characters, white space at an end, anything that reads like an encoded word | one RFC 2047 word in UTF-8, never folded |
//! | bytes that are not UTF-8 | one word labelled `UNKNOWN-8BIT` |
//!
//! The first two are what the predecessor reads back. It hands out the third undecoded; wrongly labelled as
//! UTF-8 they would break its reader. [`decode_value_bytes`] gets all three back, byte for byte.
//!
//! The large-object markers `x-static-large-object` and `x-object-manifest` are percent-encoded instead, as
//! they always were.
//!
//! # Names
//!
//! | local name `X-Object-Meta-<n>` | stored as |
//! |---|---|
//! | letters, digits and the other characters of an HTTP token | `<n>` in lower case |
//! | the name of a marker | `<n>-swift-user`, which no reader takes for the marker |
//! | other characters in it | `swift-hex-` and the UTF-8 of `<n>` in hexadecimal |
//! | the same, longer than [`MAX_ENCODED_NAME_BYTES`] | `swift-sha256-` and a digest: the one case that cannot be reversed |
//!
//! A name that already looks like one of the last three is encoded once more, so that every stored name has one
//! meaning. Hexadecimal, not percent-encoding, because proxies in front of S3 clones drop headers with a `%` in
//! their name.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

use crate::rfc2047;

/// The most user metadata S3 takes, in bytes. Source: Amazon S3 User Guide, "Working with object metadata".
pub const MAX_USER_METADATA_BYTES: usize = 2048;

/// The longest name that an encoding may produce. Swift's own limit of 128 bytes needs 266.
pub const MAX_ENCODED_NAME_BYTES: usize = 512;

/// The S3 metadata name that marks the manifest of a static large object.
pub const SLO_MARKER: &str = "x-static-large-object";
/// The S3 metadata name that keeps the container and prefix of a dynamic large object.
pub const DLO_MARKER: &str = "x-object-manifest";
/// The S3 metadata name that keeps the ETag of a manifest whose segments were joined into one object.
pub const SLO_ETAG_MARKER: &str = "swift-slo-etag";

/// The S3 metadata name that keeps when Swift was to delete the object, in seconds since 1970.
pub const DELETE_AT_MARKER: &str = "x-delete-at";

/// The S3 metadata name that keeps the ETag of a dynamic large object whose segments were joined into one object.
pub const DLO_ETAG_MARKER: &str = "swift-source-dlo-etag";

const MARKERS: [&str; 5] = [SLO_MARKER, DLO_MARKER, SLO_ETAG_MARKER, DLO_ETAG_MARKER, DELETE_AT_MARKER];
/// Headers that Swift keeps with an object, and S3 too under the same names. Source: `allowed_headers` in `swift/obj/server.py` of
/// Swift 2.30.1, PutObject in the Amazon S3 API reference.
const COMMON_HEADERS: [&str; 4] =
    ["cache-control", "content-disposition", "content-encoding", "content-language"];
const SWIFT_USER_PREFIX: &str = "x-object-meta-";
const ESCAPED_MARKER_SUFFIX: &str = "-swift-user";
const HEX_NAME_PREFIX: &str = "swift-hex-";
const DIGEST_NAME_PREFIX: &str = "swift-sha256-";
const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

/// What Python 2's `urllib.quote` encodes: all but letters, digits and `_.-/`.
const ENCODED_IN_MARKER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'/');

/// The metadata of an object as S3 keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteMetadata {
    /// The content type, encoded like a value.
    pub content_type: String,
    /// Names in lower case, without `x-amz-meta-`, and the encoded values.
    pub user: BTreeMap<String, String>,
    /// Further headers that the remote keeps with the object: names in lower case. For S3 `cache-control`, `content-disposition`,
    /// `content-encoding` and `content-language`, encoded like values; for Swift others too, such as `x-delete-at`, as they are.
    pub headers: BTreeMap<String, String>,
}

/// Translates the headers of a Swift object, names in any case, into what S3 is to keep.
///
/// Carried are the content type, user metadata, the large-object markers, the time of expiry, and what HTTP has for both sides
/// (`Content-Encoding` and so on). Total: whatever the
/// headers hold, the answer fits HTTP headers, though it may exceed [`MAX_USER_METADATA_BYTES`].
pub fn to_remote<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> RemoteMetadata {
    let mut remote =
        RemoteMetadata { content_type: DEFAULT_CONTENT_TYPE.to_owned(), ..RemoteMetadata::default() };
    for (header, value) in headers {
        let name = header.to_ascii_lowercase();
        if name == "content-type" {
            remote.content_type = encode_value(value);
        } else if name == SLO_MARKER || name == DLO_MARKER {
            let encoded = percent_encode(value, ENCODED_IN_MARKER).to_string();
            remote.user.insert(name, encoded);
        } else if name == DELETE_AT_MARKER {
            remote.user.insert(name, encode_value(value));
        } else if COMMON_HEADERS.contains(&name.as_str()) && !value.is_empty() {
            remote.headers.insert(name, encode_value(value));
        } else if let Some(user_name) = name.strip_prefix(SWIFT_USER_PREFIX)
            && !user_name.is_empty()
        {
            remote.user.insert(encode_name(user_name), encode_value(value));
        }
    }
    remote
}

/// Whether an object's metadata on the remote says what `local`, made by [`to_remote`], says.
///
/// Encodings do not count: a remote value may be plain, an encoded word in any spelling, or percent-encoded as
/// the oldest versions did. An empty value is as good as none, because some stores drop it. The marker
/// [`SLO_ETAG_MARKER`], which only the remote has, is ignored beside [`SLO_MARKER`], and [`DLO_ETAG_MARKER`] beside [`DLO_MARKER`].
pub fn same_meaning(local: &RemoteMetadata, remote: &RemoteMetadata) -> bool {
    let same_headers = COMMON_HEADERS.iter().all(|name| same_header(name, local, remote));
    if !same_headers || !same_value(&local.content_type, &remote.content_type) {
        return false;
    }
    let mut remote_user: BTreeMap<String, &str> = remote
        .user
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    if local.user.contains_key(SLO_MARKER) && !local.user.contains_key(SLO_ETAG_MARKER) {
        remote_user.remove(SLO_ETAG_MARKER);
    }
    if local.user.contains_key(DLO_MARKER) && !local.user.contains_key(DLO_ETAG_MARKER) {
        remote_user.remove(DLO_ETAG_MARKER);
    }
    for (name, value) in local.user.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(remote_value) = remote_user.remove(name) else {
            return false;
        };
        let same = match name.as_str() {
            SLO_MARKER => marker_text(value).eq_ignore_ascii_case(&marker_text(remote_value)),
            DLO_MARKER => marker_text(value) == marker_text(remote_value),
            _ => same_value(value, remote_value),
        };
        if !same {
            return false;
        }
    }
    remote_user.is_empty()
}

/// Some remotes answer with a `Cache-Control` of their own, and Google keeps no `Content-Encoding` of ours
/// ([`crate::S3Remote::is_google`]): what only the remote has, or only we have, counts where a user must have wanted it.
fn same_header(name: &str, local: &RemoteMetadata, remote: &RemoteMetadata) -> bool {
    match (local.headers.get(name), remote.headers.get(name)) {
        (None, None) => true,
        (Some(local), Some(remote)) => same_value(local, remote),
        (Some(_), None) => name == "content-encoding",
        (None, Some(_)) => matches!(name, "content-encoding" | "cache-control"),
    }
}

/// Encodes a value so that it fits an HTTP header and both old and new versions read it back.
pub fn encode_value(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if stands_for_itself(text) => text.to_owned(),
        _ => rfc2047::encode(value),
    }
}

/// What a stored value stands for, as text; bytes that are not UTF-8 become U+FFFD.
pub fn decode_value(value: &str) -> String {
    let bytes = decode_value_bytes(value);
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// What a stored value stands for: the words decoded and joined if it consists of encoded words, else itself.
pub fn decode_value_bytes(value: &str) -> Vec<u8> {
    rfc2047::decode(value).unwrap_or_else(|| value.as_bytes().to_vec())
}

/// The S3 metadata name of the user metadata `name`, given without `X-Object-Meta-` and in any case.
pub fn encode_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let taken = name.starts_with(HEX_NAME_PREFIX) || name.starts_with(DIGEST_NAME_PREFIX);
    if taken || !name.bytes().all(is_token_character) {
        let encoded = format!("{HEX_NAME_PREFIX}{}", hex::encode(name.as_bytes()));
        if encoded.len() <= MAX_ENCODED_NAME_BYTES {
            return encoded;
        }
        let digest = hex::encode(Sha256::digest(name.as_bytes()));
        return format!("{DIGEST_NAME_PREFIX}{digest}");
    }
    if is_escaped_marker(&name) || MARKERS.contains(&name.as_str()) {
        return name + ESCAPED_MARKER_SUFFIX;
    }
    name
}

/// The name of the user metadata that an S3 metadata name stands for, without `X-Object-Meta-`.
///
/// A digest of an overlong name, and what no version writes, stands for itself.
pub fn decode_name(stored: &str) -> String {
    if let Some(digits) = stored.strip_prefix(HEX_NAME_PREFIX) {
        let decoded = hex::decode(digits).ok();
        let name = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        return name.unwrap_or_else(|| stored.to_owned());
    }
    if is_escaped_marker(stored)
        && let Some(name) = stored.strip_suffix(ESCAPED_MARKER_SUFFIX)
    {
        return name.to_owned();
    }
    stored.to_owned()
}

/// How much of S3's limit the metadata takes: the bytes of all names and values.
pub fn user_metadata_bytes(metadata: &RemoteMetadata) -> usize {
    metadata.user.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Whether a name is a marker's name with one or more escape suffixes.
fn is_escaped_marker(name: &str) -> bool {
    let stem = name.trim_end_matches(ESCAPED_MARKER_SUFFIX);
    stem.len() < name.len() && MARKERS.contains(&stem)
}

fn stands_for_itself(text: &str) -> bool {
    let printable = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    let trimmed = text.trim_matches([' ', '\t']).len() == text.len();
    trimmed && text.bytes().all(printable) && !rfc2047::looks_encoded(text)
}

/// Compares an encoded local value with whatever the remote has.
fn same_value(local: &str, remote: &str) -> bool {
    if local == remote {
        return true;
    }
    let meant = decode_value_bytes(local);
    remote.as_bytes() == meant
        || decode_value_bytes(remote) == meant
        || percent_decoded(remote).is_some_and(|decoded| decoded == meant)
}

/// A value as the oldest versions encoded it, or `None` if they cannot have written it.
///
/// They encoded every byte but a few unreserved ones, and never those. Without this check a value with a real
/// `%` in it could pass for another one.
fn percent_decoded(value: &str) -> Option<Vec<u8>> {
    let mut rest = value.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    loop {
        match rest {
            [] => return Some(decoded),
            [b'%', high, low, behind @ ..] => {
                let mut byte = [0; 1];
                hex::decode_to_slice([*high, *low], &mut byte).ok()?;
                let [byte] = byte;
                if is_unreserved(byte) {
                    return None;
                }
                decoded.push(byte);
                rest = behind;
            }
            [byte, behind @ ..] if is_unreserved(*byte) || matches!(byte, b'/' | b'~') => {
                decoded.push(*byte);
                rest = behind;
            }
            _ => return None,
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn marker_text(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// The characters of an HTTP header name. Source: RFC 9110, section 5.6.2.
fn is_token_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
