//! Conditional requests, judged as Swift does.
//!
//! Source: `Match` and `_get_conditional_response_status` in `swift/common/swob.py` of Swift 2.30.1.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};

/// The conditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Vec<String>>,
    if_none_match: Option<Vec<String>>,
    /// Seconds since 1970, as the other one.
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
}

/// What the conditions make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object is to be given.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl Conditions {
    /// Reads the headers. A date that is none is ignored.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        Self {
            if_match: tags(headers, &IF_MATCH),
            if_none_match: tags(headers, &IF_NONE_MATCH),
            if_modified_since: date(headers, &IF_MODIFIED_SINCE),
            if_unmodified_since: date(headers, &IF_UNMODIFIED_SINCE),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any object will do, but one must be there.
    #[must_use]
    pub fn wants_any(&self) -> bool {
        self.if_match.as_deref().is_some_and(|tags| tags.iter().any(|tag| tag == "*"))
    }

    /// Judges an object with this ETag (with or without quotes; empty if it has none) that was last modified at this second since
    /// 1970.
    #[must_use]
    pub fn judge(&self, etag: &str, last_modified: Option<u64>) -> Verdict {
        let etag = etag.trim_matches('"');
        let is_in = |tags: &[String]| tags.iter().any(|tag| tag == "*" || tag == etag);
        if !etag.is_empty() {
            if self.if_none_match.as_deref().is_some_and(is_in) {
                return Verdict::NotModified;
            }
            if self.if_match.as_deref().is_some_and(|tags| !is_in(tags)) {
                return Verdict::PreconditionFailed;
            }
        }
        let Some(last_modified) = last_modified else { return Verdict::Proceed };
        if self.if_modified_since.is_some_and(|since| last_modified <= since) {
            return Verdict::NotModified;
        }
        if self.if_unmodified_since.is_some_and(|since| last_modified > since) {
            return Verdict::PreconditionFailed;
        }
        Verdict::Proceed
    }
}

/// Seconds since 1970 of a `Last-Modified` header: the next whole one.
#[must_use]
pub fn last_modified_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_add(u64::from(since.subsec_nanos() > 0))
}

/// A header's text; several of them are one list.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let tag = |tag: &str| match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
        Some(bare) => bare.to_owned(),
        None => tag.to_owned(),
    };
    let text = text(headers, name)?;
    Some(text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(tag).collect())
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = text(headers, name)?;
    // Swift looks at no time zone: what is there is Greenwich.
    let text = text.trim().replace("+0000", "GMT").replace("UTC", "GMT");
    let time = httpdate::parse_http_date(&text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use http::HeaderValue;

    use super::Verdict::{NotModified, PreconditionFailed, Proceed};
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    fn judge(headers: &[(&'static str, &'static str)], etag: &str) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Conditions::parse(&map).judge(etag, Some(NOW))
    }

    #[test]
    fn table_of_conditions() {
        let table: &[(&[(&'static str, &'static str)], Verdict)] = &[
            (&[], Proceed),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "abc")], NotModified),
            (&[("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "x, \"abc\" ")], NotModified),
            (&[("if-none-match", "x"), ("if-none-match", "abc")], NotModified),
            (&[("if-none-match", "W/\"abc\"")], Proceed),
            (&[("if-none-match", "")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"abc\",x")], Proceed),
            (&[("if-match", "x")], PreconditionFailed),
            (&[("if-match", "")], PreconditionFailed),
            (&[("if-match", "x"), ("if-none-match", "abc")], NotModified),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], NotModified),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], Proceed),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified),
            (&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], NotModified),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 +0000")], NotModified),
            (&[("if-modified-since", "yesterday")], Proceed),
            (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], Proceed),
            (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], PreconditionFailed),
            (&[("if-unmodified-since", "0")], Proceed),
            (
                &[("if-match", "abc"), ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")],
                PreconditionFailed,
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(judge(headers, "abc"), *expected, "{headers:?}");
            assert_eq!(judge(headers, "\"abc\""), *expected, "{headers:?}, quoted");
        }
    }

    #[test]
    fn an_object_without_etag_or_time_meets_every_condition_on_them() {
        assert_eq!(judge(&[("if-match", "x")], ""), Proceed);
        let mut map = HeaderMap::new();
        map.insert(IF_UNMODIFIED_SINCE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:36 GMT"));
        assert_eq!(Conditions::parse(&map).judge("abc", None), Proceed);
        assert!(!Conditions::parse(&map).is_empty());
    }

    #[test]
    fn times_are_rounded_up() {
        assert_eq!(last_modified_seconds(UNIX_EPOCH + Duration::from_millis(1_500)), 2);
        assert_eq!(last_modified_seconds(UNIX_EPOCH + Duration::from_secs(2)), 2);
        assert_eq!(last_modified_seconds(UNIX_EPOCH - Duration::from_secs(2)), 0);
    }
}
