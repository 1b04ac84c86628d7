//! What the tempurl middleware does to answers, for those that come from the remote: Swift has checked the signature, but its own answer was a 404.
//!
//! Source: `swift/common/middleware/tempurl.py` of Swift 2.30.1, with its default settings.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::request::query_value;

const USER_METADATA: &str = "x-object-meta-";
const PUBLIC_METADATA: &str = "x-object-meta-public-";
/// What Python's `quote` leaves as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');
const KEPT_WITH_SPACE: &AsciiSet = &KEPT.remove(b' ');

/// Hides metadata that is not public, and says under which name the content is to be saved: a browser must not run what was only to be
/// downloaded.
pub(super) fn dress(headers: &mut HeaderMap, query: Option<&str>, object: &str) {
    let hidden: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            name.as_str().starts_with(USER_METADATA) && !name.as_str().starts_with(PUBLIC_METADATA)
        })
        .cloned()
        .collect();
    for name in hidden {
        headers.remove(name);
    }
    // What was kept with the object holds for readers who come again; this one may not.
    if let Some(until) = query_value(query, "temp_url_expires").and_then(|text| expires(&text)) {
        headers.insert(header::EXPIRES, until);
    }
    let filename = query_value(query, "filename").filter(|name| !name.is_empty());
    let is_inline = query_value(query, "inline").is_some();
    let disposition = match (is_inline, filename) {
        (true, Some(name)) => disposition("inline", &name),
        (true, None) => "inline".to_owned(),
        (false, Some(name)) => disposition("attachment", &name),
        (false, None) if headers.contains_key(header::CONTENT_DISPOSITION) => return,
        (false, None) => {
            let name = object.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            disposition("attachment", name)
        }
    };
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
}

/// Seconds since 1970, or a time as ISO 8601 has it, as a date of HTTP.
fn expires(text: &str) -> Option<HeaderValue> {
    let time = match text.parse::<i64>() {
        Ok(seconds) => Timestamp::from_second(seconds).ok()?,
        Err(_) => text.parse::<Timestamp>().ok()?,
    };
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()?;
    HeaderValue::from_str(&text).ok()
}

fn disposition(kind: &str, name: &str) -> String {
    format!(
        "{kind}; filename=\"{}\"; filename*=UTF-8''{}",
        utf8_percent_encode(name, KEPT_WITH_SPACE),
        utf8_percent_encode(name, KEPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dressed(headers: &[(&'static str, &'static str)], query: &str, object: &str) -> Vec<(String, String)> {
        let mut map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        dress(&mut map, Some(query), object);
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let mut left: Vec<(String, String)> =
            map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        left.retain(|(name, _)| name != "expires");
        left.sort();
        left
    }

    #[test]
    fn metadata_that_is_not_public_is_hidden() {
        let left = dressed(
            &[("x-object-meta-secret", "1"), ("x-object-meta-public-a", "2"), ("content-disposition", "x")],
            "temp_url_sig=s&temp_url_expires=1",
            "o",
        );
        assert_eq!(
            left,
            [("content-disposition".into(), "x".into()), ("x-object-meta-public-a".into(), "2".into())]
        );
    }

    #[test]
    fn content_is_saved_under_a_name_unless_it_may_be_shown() {
        let table = [
            ("", "a/b é\n\"", "attachment; filename=\"b %C3%A9%0A%22\"; filename*=UTF-8''b%20%C3%A9%0A%22"),
            ("", "a/b/", "attachment; filename=\"b\"; filename*=UTF-8''b"),
            ("&filename=x+y", "o", "attachment; filename=\"x y\"; filename*=UTF-8''x%20y"),
            ("&inline", "o", "inline"),
            ("&inline&filename=f", "o", "inline; filename=\"f\"; filename*=UTF-8''f"),
        ];
        for (more, object, disposition) in table {
            let query = format!("temp_url_sig=s&temp_url_expires=1{more}");
            let left = dressed(&[], &query, object);
            assert_eq!(left, [("content-disposition".to_owned(), disposition.to_owned())], "{more}");
        }
    }

    #[test]
    fn nobody_keeps_an_answer_for_longer_than_the_url_is_good() {
        for until in ["784111777", "1994-11-06T08:49:37Z"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::EXPIRES, HeaderValue::from_static("never"));
            dress(&mut headers, Some(&format!("temp_url_sig=s&temp_url_expires={until}")), "o");
            let expires = headers.get(header::EXPIRES).and_then(|value| value.to_str().ok());
            assert_eq!(expires, Some("Sun, 06 Nov 1994 08:49:37 GMT"), "{until}");
        }
    }
}
