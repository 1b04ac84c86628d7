//! The heads of answers, as Swift gives them. Pure.
//!
//! Source: answers of a proxy of Swift 2.30.1, and `Response` in `swift/common/swob.py`.

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
};
use http::{HeaderMap, StatusCode};

use super::byteranges::{ByteRanges, content_range};
use super::conditions::Verdict;
use super::facts::{Facts, Kind};
use crate::body::{Response, empty, full};
use std::ops::Range;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");
const UNSATISFIABLE: &str = "<html><h1>Requested Range Not Satisfiable</h1>\
    <p>The Range requested is not available.</p></html>";

/// What a client gets of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plan {
    /// 200, all of it.
    Whole,
    /// 206, one range.
    One(Range<u64>),
    /// 206, several ranges.
    Several(ByteRanges),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

impl Plan {
    /// What conditions and ranges make of an object. `boundary` is used for several ranges only.
    pub(super) fn of(
        facts: &Facts,
        verdict: Verdict,
        ranges: Option<&super::ranges::Ranges>,
        boundary: impl FnOnce() -> String,
    ) -> Self {
        match verdict {
            Verdict::NotModified => return Self::NotModified,
            Verdict::PreconditionFailed => return Self::PreconditionFailed,
            Verdict::Proceed => {}
        }
        let Some(ranges) = ranges.map(|ranges| ranges.of_length(facts.length)) else { return Self::Whole };
        match ranges.as_slice() {
            [] => Self::Unsatisfiable,
            _ if facts.length == 0 => Self::Whole,
            [range] => Self::One(range.clone()),
            _ => Self::Several(ByteRanges::new(
                boundary(),
                facts.content_type.as_bytes(),
                facts.length,
                ranges,
            )),
        }
    }

    /// The answer without its content: for those that have one, its body is still empty.
    pub(super) fn head(&self, facts: &Facts) -> Response {
        let mut response = Response::new(empty());
        *response.status_mut() = match self {
            Self::Whole => StatusCode::OK,
            Self::One(_) | Self::Several(_) => StatusCode::PARTIAL_CONTENT,
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        };
        if *self == Self::Unsatisfiable && facts.kind == Kind::Dynamic {
            // The object is not told of: dlo.py refuses before it looks.
            *response.headers_mut() = HeaderMap::new();
            set(&mut response, CONTENT_TYPE, HTML);
        } else {
            *response.headers_mut() = facts.headers.clone();
            set(&mut response, CONTENT_TYPE, facts.content_type.clone());
            if let Some(etag) = HeaderValue::from_str(&facts.etag).ok().filter(|etag| !etag.is_empty()) {
                set(&mut response, ETAG, etag);
            }
        }
        set(&mut response, ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let length = match self {
            Self::Whole => facts.length,
            Self::One(range) => {
                let told = content_range(range, facts.length);
                set_text(&mut response, CONTENT_RANGE, &told);
                range.end.saturating_sub(range.start)
            }
            Self::Several(frame) => {
                set_text(&mut response, CONTENT_TYPE, &frame.content_type());
                frame.total().unwrap_or(u64::MAX)
            }
            Self::NotModified => 0,
            Self::PreconditionFailed => {
                response.headers_mut().remove(ACCEPT_RANGES);
                set(&mut response, CONTENT_TYPE, HTML);
                0
            }
            Self::Unsatisfiable => {
                set_text(&mut response, CONTENT_RANGE, &format!("bytes */{}", facts.length));
                *response.body_mut() = full(UNSATISFIABLE);
                u64::try_from(UNSATISFIABLE.len()).unwrap_or(0)
            }
        };
        set(&mut response, CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}

fn set(response: &mut Response, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}

fn set_text(response: &mut Response, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        set(response, name, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, UNIX_EPOCH};

    use swift_s3_policy::RemoteMetadata;
    use swift_s3_store::RemoteObject;

    use super::super::facts::Side;
    use super::super::ranges::Ranges;
    use super::*;

    fn facts(length: u64, user: &[(&str, &str)]) -> Facts {
        let user = user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let object = RemoteObject {
            etag: "2095312189753de6ad47dfe20cbe97ec".to_owned(),
            length,
            metadata: RemoteMetadata {
                content_type: "text/plain; charset=utf-8".to_owned(),
                user,
                headers: [("content-encoding".to_owned(), "x".to_owned())].into(),
            },
            storage_class: None,
            archived: false,
            last_modified: Some(UNIX_EPOCH + Duration::from_micros(1_795_419_602_169_430)),
            kms: false,
        };
        Facts::of(&object, Side::S3)
    }

    fn told(facts: &Facts, verdict: Verdict, range: Option<&str>) -> Vec<String> {
        let ranges = range.map(|range| Ranges::parse(range).unwrap());
        let plan =
            Plan::of(facts, verdict, ranges.as_ref(), || "e9cd9800f99433ec59c63e23622e9eb4".to_owned());
        let response = plan.head(facts);
        let mut lines: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.insert(0, response.status().as_u16().to_string());
        lines
    }

    const COMMON: [&str; 4] = [
        "content-encoding: x",
        "etag: 2095312189753de6ad47dfe20cbe97ec",
        "last-modified: Mon, 23 Nov 2026 07:40:03 GMT",
        "x-timestamp: 1795419602.16943",
    ];

    /// Every row as a Swift proxy answered.
    #[test]
    fn heads_are_those_of_swift() {
        type Row = (u64, Verdict, Option<&'static str>, &'static str, &'static [&'static str]);
        let table: &[Row] = &[
            (
                11,
                Verdict::Proceed,
                None,
                "200",
                &["accept-ranges: bytes", "content-length: 11", "content-type: text/plain; charset=utf-8"],
            ),
            (
                11,
                Verdict::Proceed,
                Some("bytes=0-4"),
                "206",
                &[
                    "accept-ranges: bytes",
                    "content-length: 5",
                    "content-range: bytes 0-4/11",
                    "content-type: text/plain; charset=utf-8",
                ],
            ),
            (
                11,
                Verdict::Proceed,
                Some("bytes=-3"),
                "206",
                &[
                    "accept-ranges: bytes",
                    "content-length: 3",
                    "content-range: bytes 8-10/11",
                    "content-type: text/plain; charset=utf-8",
                ],
            ),
            (
                11,
                Verdict::Proceed,
                Some("bytes=0-1,3-4"),
                "206",
                &[
                    "accept-ranges: bytes",
                    "content-length: 260",
                    "content-type: multipart/byteranges;boundary=e9cd9800f99433ec59c63e23622e9eb4",
                ],
            ),
            (
                11,
                Verdict::Proceed,
                Some("bytes=100-"),
                "416",
                &[
                    "accept-ranges: bytes",
                    "content-length: 97",
                    "content-range: bytes */11",
                    "content-type: text/plain; charset=utf-8",
                ],
            ),
            (
                11,
                Verdict::NotModified,
                Some("bytes=0-4"),
                "304",
                &["accept-ranges: bytes", "content-length: 0", "content-type: text/plain; charset=utf-8"],
            ),
            (
                11,
                Verdict::PreconditionFailed,
                None,
                "412",
                &["content-length: 0", "content-type: text/html; charset=UTF-8"],
            ),
            (
                0,
                Verdict::Proceed,
                Some("bytes=-3"),
                "200",
                &["accept-ranges: bytes", "content-length: 0", "content-type: text/plain; charset=utf-8"],
            ),
            (
                0,
                Verdict::Proceed,
                Some("bytes=0-"),
                "416",
                &[
                    "accept-ranges: bytes",
                    "content-length: 97",
                    "content-range: bytes */0",
                    "content-type: text/plain; charset=utf-8",
                ],
            ),
        ];
        for (length, verdict, range, status, special) in table {
            let mut expected: Vec<_> = special.iter().chain(&COMMON).map(|line| (*line).to_owned()).collect();
            expected.sort();
            expected.insert(0, (*status).to_owned());
            assert_eq!(told(&facts(*length, &[]), *verdict, *range), expected, "{verdict:?} {range:?}");
        }
    }

    #[test]
    fn of_a_dynamic_large_object_a_refused_range_tells_nothing() {
        let facts = facts(11, &[("x-object-manifest", "s/p")]);
        let expected = [
            "416",
            "accept-ranges: bytes",
            "content-length: 97",
            "content-range: bytes */11",
            "content-type: text/html; charset=UTF-8",
        ];
        assert_eq!(told(&facts, Verdict::Proceed, Some("bytes=11-")), expected);
    }
}
