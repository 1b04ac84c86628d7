//! Pages of listings: of a container's objects, and of an account's containers.

use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::Deserialize;

use crate::object_store::{ListEntry, ListPage};

#[derive(Deserialize)]
struct Entry {
    /// Missing in entries for a common prefix, which nobody asks for.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    hash: Option<String>,
    #[serde(default)]
    slo_etag: Option<String>,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    last_modified: Option<String>,
}

/// Reads a page of a container's objects, of which `limit` were asked for.
///
/// # Errors
/// When it is no listing.
pub(crate) fn objects(body: &[u8], container: &str, limit: u16) -> Result<ListPage, String> {
    let parsed = parse(body)?;
    let truncated = parsed.len() >= usize::from(limit) && !parsed.is_empty();
    let entries = parsed
        .into_iter()
        .filter_map(|entry| {
            // The hash of a static large object is that of its manifest; what it answers to a HEAD is the other one.
            let etag = entry.slo_etag.or(entry.hash).filter(|etag| !etag.is_empty());
            Some(ListEntry {
                key: format!("{container}/{}", entry.name?),
                etag: etag.as_deref().map(bare_etag),
                length: entry.bytes,
                last_modified: entry.last_modified.as_deref().and_then(time),
                storage_class: None,
            })
        })
        .collect();
    Ok(ListPage { entries, truncated })
}

/// Reads a page of an account's containers.
///
/// # Errors
/// As [`objects`].
pub(crate) fn containers(body: &[u8]) -> Result<Vec<String>, String> {
    Ok(parse(body)?.into_iter().filter_map(|entry| entry.name).collect())
}

fn parse(body: &[u8]) -> Result<Vec<Entry>, String> {
    // An account or container without entries may be answered with 204 and no body.
    if body.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(body).map_err(|error| format!("expected a JSON listing: {error}"))
}

/// An ETag without its quotes.
pub(crate) fn bare_etag(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

/// A time such as `2024-02-29T10:11:12.345670`, which is UTC.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let zoned = if text.ends_with('Z') { text.to_owned() } else { format!("{text}Z") };
    let time = DateTime::from_str(&zoned, Format::DateTimeWithOffset).ok()?;
    SystemTime::try_from(time).ok()
}

/// A time such as `1709201472.34567`: digit by digit, because times are compared.
pub(crate) fn timestamp(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits: String = fraction.chars().take_while(char::is_ascii_digit).take(9).collect();
    let nanoseconds = format!("{digits:0<9}").parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanoseconds))
}

/// The time of a `Last-Modified` header.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    SystemTime::try_from(DateTime::from_str(text, Format::HttpDate).ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const PAGE: &str = r#"[
        {"name": "a \u00e9", "hash": "d41d8cd98f00b204e9800998ecf8427e", "bytes": 7, "content_type": "x",
         "last_modified": "2024-02-29T10:11:12.345670"},
        {"subdir": "x/"},
        {"name": "big", "hash": "aaa", "slo_etag": "\"bbb\"", "bytes": 9}]"#;

    #[test]
    fn entries_have_whole_keys_and_the_etag_that_a_head_answers() {
        let page = objects(PAGE.as_bytes(), "c", 1000).unwrap();
        assert!(!page.truncated);
        assert_eq!(page.entries.len(), 2);
        assert_eq!(page.entries[0].key, "c/a é");
        assert_eq!(page.entries[0].etag.as_deref(), Some("d41d8cd98f00b204e9800998ecf8427e"));
        assert_eq!(page.entries[0].length, 7);
        assert_eq!(page.entries[0].last_modified, timestamp("1709201472.345670"));
        assert_eq!(page.entries[1].etag.as_deref(), Some("bbb"));
        assert_eq!(page.entries[1].last_modified, None);
    }

    #[test]
    fn a_full_page_is_followed_by_another() {
        assert!(objects(PAGE.as_bytes(), "c", 3).unwrap().truncated);
        assert!(!objects(b"[]", "c", 1).unwrap().truncated);
        assert!(!objects(b"", "c", 1).unwrap().truncated);
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for body in [&b"<html>"[..], b"{}", b"[1]", b"[{\"bytes\": -1}]", b"\xff"] {
            assert!(objects(body, "c", 10).is_err(), "{body:?}");
        }
    }

    #[test]
    fn odd_times_are_no_times() {
        for text in ["", "never", "-1e300", "nan", "1e300"] {
            assert_eq!(timestamp(text), None, "{text}");
            assert_eq!(time(text), None, "{text}");
        }
    }
}
