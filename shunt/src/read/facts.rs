//! What Swift would tell of an object, made of what its remote tells.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use swift_s3_policy::metadata_mapping::{
    DELETE_AT_MARKER, DLO_ETAG_MARKER, DLO_MARKER, SLO_ETAG_MARKER, SLO_MARKER, decode_name,
    decode_value_bytes,
};
use swift_s3_policy::swift_layout::{COMBINED_ETAG_MARKER, SWIFT_SLO_ETAG_MARKER};
use swift_s3_store::RemoteObject;

use super::conditions::last_modified_seconds;

const USER_PREFIX: &str = "x-object-meta-";
const X_DELETE_AT: HeaderName = HeaderName::from_static("x-delete-at");
const X_MANIFEST_ETAG: HeaderName = HeaderName::from_static("x-manifest-etag");
const X_OBJECT_MANIFEST: HeaderName = HeaderName::from_static("x-object-manifest");
const X_STATIC_LARGE_OBJECT: HeaderName = HeaderName::from_static("x-static-large-object");
const X_TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");

/// On S3: names of metadata that are not the user's.
const S3_MARKERS: [&str; 5] = [SLO_MARKER, DLO_MARKER, SLO_ETAG_MARKER, DLO_ETAG_MARKER, DELETE_AT_MARKER];
/// On Swift.
const SWIFT_MARKERS: [&str; 3] =
    [SWIFT_SLO_ETAG_MARKER, swift_s3_policy::swift_layout::DLO_ETAG_MARKER, COMBINED_ETAG_MARKER];

/// Which kind of remote an object lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// S3 and what speaks its protocol.
    S3,
    /// Another Swift cluster.
    Swift,
}

/// What an object is to Swift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object.
    Plain,
    /// A static large object.
    Static,
    /// A dynamic large object.
    Dynamic,
}

/// What Swift would tell of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Its ETag, with quotes if Swift gives it with quotes; empty if nobody knows it.
    pub etag: String,
    /// The ETag that the remote gives it, without quotes: the same as long as its content is.
    pub remote_etag: String,
    /// Bytes.
    pub length: u64,
    /// Its content type.
    pub content_type: HeaderValue,
    /// Of its last change, seconds since 1970, rounded up.
    pub last_modified: Option<u64>,
    /// All headers that do not depend on the request.
    pub headers: HeaderMap,
    /// When it is to be gone, seconds since 1970.
    pub delete_at: Option<u64>,
    /// MD5 of its whole content, where the remote's ETag says so.
    pub content_md5: Option<[u8; 16]>,
}

impl Facts {
    /// Translates what a remote says.
    #[must_use]
    pub fn of(object: &RemoteObject, side: Side) -> Self {
        let mut headers = HeaderMap::new();
        let (kind, etag, delete_at) = match side {
            Side::S3 => s3(object, &mut headers),
            Side::Swift => swift(object, &mut headers),
        };
        let last_modified = object.last_modified.map(last_modified_seconds);
        if let Some(time) = object.last_modified {
            insert_times(&mut headers, time);
        }
        let is_digest = side == Side::S3 || kind == Kind::Plain;
        let mut facts = Self {
            kind,
            etag: String::new(),
            remote_etag: object.etag.clone(),
            length: object.length,
            content_type: content_type(object, side),
            last_modified,
            headers,
            delete_at,
            content_md5: md5_of(&object.etag).filter(|_| is_digest && !object.kms),
        };
        facts.set_etag(&etag);
        facts
    }

    /// Gives it another ETag, told without quotes.
    pub fn set_etag(&mut self, etag: &str) {
        self.etag = match self.kind {
            _ if etag.is_empty() => String::new(),
            Kind::Plain => etag.to_owned(),
            Kind::Static | Kind::Dynamic => format!("\"{etag}\""),
        };
    }

    /// Notes the ETag of the manifest of a static large object.
    pub fn set_manifest_etag(&mut self, etag: &str) {
        if let Ok(value) = HeaderValue::from_str(etag) {
            self.headers.insert(X_MANIFEST_ETAG, value);
        }
    }

    /// Whether Swift would have removed it by now.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.delete_at.is_some_and(|at| at <= now)
    }
}

/// Fills in headers from S3 metadata; tells what it is, its ETag without quotes, and when it is to be gone.
fn s3(object: &RemoteObject, headers: &mut HeaderMap) -> (Kind, String, Option<u64>) {
    for (name, value) in &object.metadata.headers {
        insert(headers, name, &decode_value_bytes(value), value);
    }
    for (stored, value) in &object.metadata.user {
        if !S3_MARKERS.contains(&stored.as_str()) {
            insert(
                headers,
                &format!("{USER_PREFIX}{}", decode_name(stored)),
                &decode_value_bytes(value),
                value,
            );
        }
    }
    let user = |name: &str| {
        object.metadata.user.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    };
    let delete_at = user(DELETE_AT_MARKER).and_then(|at| insert_delete_at(headers, at));
    if let Some(manifest) = user(DLO_MARKER) {
        let decoded: Vec<u8> = percent_decode_str(manifest).collect();
        insert(headers, X_OBJECT_MANIFEST.as_str(), &decoded, manifest);
        let etag = user(DLO_ETAG_MARKER).unwrap_or(&object.etag);
        return (Kind::Dynamic, etag.to_owned(), delete_at);
    }
    let is_marked = user(SLO_MARKER).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_marked || is_multipart(&object.etag) {
        headers.insert(X_STATIC_LARGE_OBJECT, HeaderValue::from_static("True"));
        return (Kind::Static, object.etag.clone(), delete_at);
    }
    (Kind::Plain, object.etag.clone(), delete_at)
}

/// As [`s3`], from the headers of another Swift.
fn swift(object: &RemoteObject, headers: &mut HeaderMap) -> (Kind, String, Option<u64>) {
    for (name, value) in &object.metadata.headers {
        insert(headers, name, value.as_bytes(), "");
    }
    for (name, value) in &object.metadata.user {
        if !SWIFT_MARKERS.contains(&name.as_str()) {
            insert(headers, &format!("{USER_PREFIX}{name}"), value.as_bytes(), "");
        }
    }
    let header = |name: &str| object.metadata.headers.get(name).map(String::as_str);
    let delete_at = header(X_DELETE_AT.as_str()).and_then(|at| at.parse().ok());
    let kind = match (header(X_OBJECT_MANIFEST.as_str()), header(X_STATIC_LARGE_OBJECT.as_str())) {
        (Some(_), _) => Kind::Dynamic,
        (None, Some(value)) if value.eq_ignore_ascii_case("true") => Kind::Static,
        _ => Kind::Plain,
    };
    (kind, object.etag.clone(), delete_at)
}

/// `abc…-12`, what S3 gives to an object of several parts.
fn is_multipart(etag: &str) -> bool {
    etag.split_once('-').is_some_and(|(hash, parts)| {
        !hash.is_empty()
            && !parts.is_empty()
            && hash.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && parts.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn md5_of(etag: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    hex::decode_to_slice(etag, &mut digest).ok()?;
    Some(digest)
}

fn content_type(object: &RemoteObject, side: Side) -> HeaderValue {
    let stored = object.metadata.content_type.as_str();
    let meant = match side {
        Side::S3 => decode_value_bytes(stored),
        Side::Swift => stored.as_bytes().to_vec(),
    };
    let value = HeaderValue::from_bytes(&meant).ok().filter(|value| !value.is_empty());
    value.unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Inserts a header whose value may be unfit for HTTP: then it is given as it is stored, and if that is unfit, left out. So is a
/// name outside of ASCII: Swift would send it, but no HTTP library of this program takes it.
fn insert(headers: &mut HeaderMap, name: &str, value: &[u8], stored: &str) {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
    let fit = HeaderValue::from_bytes(value).or_else(|_| HeaderValue::from_str(stored));
    if let Some(value) = fit.ok().filter(|value| !value.is_empty()) {
        headers.insert(name, value);
    }
}

fn insert_delete_at(headers: &mut HeaderMap, text: &str) -> Option<u64> {
    let at: u64 = text.parse().ok()?;
    headers.insert(X_DELETE_AT, HeaderValue::from(at));
    Some(at)
}

fn insert_times(headers: &mut HeaderMap, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = format!("{:010}.{:05}", since.as_secs(), since.subsec_micros() / 10);
    if let Ok(value) = HeaderValue::from_str(&timestamp) {
        headers.insert(X_TIMESTAMP, value);
    }
    if let Some(value) = http_date(last_modified_seconds(time)) {
        headers.insert(header::LAST_MODIFIED, value);
    }
}

/// A second since 1970 as HTTP writes it; `None` after the year 9999.
pub(super) fn http_date(seconds: u64) -> Option<HeaderValue> {
    const YEAR_10000: u64 = 253_402_300_800;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|_| seconds < YEAR_10000)?;
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use swift_s3_policy::RemoteMetadata;

    use super::*;

    const MD5: &str = "5d41402abc4b2a76b9719d911017c592";

    fn object(etag: &str, user: &[(&str, &str)], headers: &[(&str, &str)]) -> RemoteObject {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        RemoteObject {
            etag: etag.to_owned(),
            length: 5,
            metadata: RemoteMetadata {
                content_type: "text/plain".to_owned(),
                user: map(user),
                headers: map(headers),
            },
            storage_class: None,
            archived: false,
            last_modified: Some(UNIX_EPOCH + Duration::from_millis(784_111_777_250)),
            kms: false,
        }
    }

    fn text<'h>(facts: &'h Facts, name: &str) -> Option<&'h str> {
        facts.headers.get(name).map(|value| std::str::from_utf8(value.as_bytes()).unwrap())
    }

    #[test]
    fn a_plain_object_is_told_as_swift_would() {
        let user = [("colour", "=?UTF-8?Q?gr=C3=BCn?="), ("swift-hex-c3a9", "x"), ("x-delete-at", "99")];
        let facts = Facts::of(&object(MD5, &user, &[("content-encoding", "gzip")]), Side::S3);
        assert_eq!((facts.kind, facts.etag.as_str()), (Kind::Plain, MD5));
        assert_eq!(facts.content_md5.map(hex::encode).as_deref(), Some(MD5));
        assert_eq!(text(&facts, "x-object-meta-colour"), Some("grün"));
        assert_eq!(text(&facts, "content-encoding"), Some("gzip"));
        assert_eq!(text(&facts, "x-delete-at"), Some("99"));
        assert_eq!(text(&facts, "x-timestamp"), Some("0784111777.25000"));
        assert_eq!(text(&facts, "last-modified"), Some("Sun, 06 Nov 1994 08:49:38 GMT"));
        assert!(facts.is_expired(UNIX_EPOCH + Duration::from_secs(99)));
        assert!(!facts.is_expired(UNIX_EPOCH + Duration::from_secs(98)));
        assert_eq!(facts.headers.len(), 5, "{:?}", facts.headers);
    }

    #[test]
    fn large_objects_are_told_by_their_marks_or_their_etag() {
        type Row =
            (&'static str, &'static [(&'static str, &'static str)], Kind, &'static str, Option<&'static str>);
        let table: &[Row] = &[
            ("abc-2", &[("x-static-large-object", "True")], Kind::Static, "\"abc-2\"", None),
            (
                MD5,
                &[("x-static-large-object", "True"), ("swift-slo-etag", "m")],
                Kind::Static,
                "\"5d41402abc4b2a76b9719d911017c592\"",
                None,
            ),
            ("abc-2", &[], Kind::Static, "\"abc-2\"", None),
            ("a-b", &[], Kind::Plain, "a-b", None),
            (
                "abc-2",
                &[("x-object-manifest", "s/se%2567"), ("swift-source-dlo-etag", "d")],
                Kind::Dynamic,
                "\"d\"",
                Some("s/se%67"),
            ),
            (
                MD5,
                &[("x-object-manifest", "s/%C3%A9")],
                Kind::Dynamic,
                "\"5d41402abc4b2a76b9719d911017c592\"",
                Some("s/é"),
            ),
            (MD5, &[("x-object-manifest-swift-user", "mine")], Kind::Plain, MD5, None),
        ];
        for (etag, user, kind, told, manifest) in table {
            let facts = Facts::of(&object(etag, user, &[]), Side::S3);
            assert_eq!((facts.kind, facts.etag.as_str()), (*kind, *told), "{etag} {user:?}");
            assert_eq!(text(&facts, "x-object-manifest"), *manifest);
            assert_eq!(facts.headers.contains_key("x-static-large-object"), *kind == Kind::Static);
            assert!(!facts.headers.keys().any(|name| name.as_str().contains("etag")));
        }
    }

    #[test]
    fn what_a_remote_swift_tells_is_handed_on_without_the_archivers_marks() {
        let user = [("colour", "grün"), ("swift-slo-etag", "x"), ("combined-etag", "y")];
        let headers = [("x-static-large-object", "True"), ("x-delete-at", "7"), ("x-robots-tag", "none")];
        let facts = Facts::of(&object(MD5, &user, &headers), Side::Swift);
        assert_eq!((facts.kind, facts.content_md5), (Kind::Static, None));
        assert_eq!(facts.etag, format!("\"{MD5}\""));
        assert_eq!(facts.delete_at, Some(7));
        assert_eq!(text(&facts, "x-object-meta-colour"), Some("grün"));
        assert_eq!(text(&facts, "x-robots-tag"), Some("none"));
        assert_eq!(facts.headers.len(), 6, "{:?}", facts.headers);
        let facts = Facts::of(&object(MD5, &[], &[("x-object-manifest", "s/p")]), Side::Swift);
        assert_eq!((facts.kind, text(&facts, "x-object-manifest")), (Kind::Dynamic, Some("s/p")));
    }

    #[test]
    fn what_is_unfit_for_a_header_is_given_as_stored_or_left_out() {
        let user = [("bell", "=?UTF-8?Q?=07?="), ("split", "=?UTF-8?Q?a=0D=0AX-Evil:_1?="), ("empty", "")];
        let facts = Facts::of(&object(MD5, &user, &[]), Side::S3);
        assert_eq!(text(&facts, "x-object-meta-bell"), Some("=?UTF-8?Q?=07?="));
        assert_eq!(text(&facts, "x-object-meta-split"), Some("=?UTF-8?Q?a=0D=0AX-Evil:_1?="));
        assert!(!facts.headers.contains_key("x-object-meta-empty"));
        assert!(!facts.headers.contains_key("x-evil"));
        let mut odd = object(MD5, &[], &[]);
        odd.metadata.content_type = "=?UTF-8?Q?a=0Ab?=".to_owned();
        assert_eq!(Facts::of(&odd, Side::S3).content_type, "application/octet-stream");
    }

    #[test]
    fn an_etag_that_is_no_md5_proves_nothing() {
        let mut encrypted = object(MD5, &[], &[]);
        encrypted.kms = true;
        assert_eq!(Facts::of(&encrypted, Side::S3).content_md5, None);
        assert_eq!(Facts::of(&object("short", &[], &[]), Side::S3).content_md5, None);
    }
}
