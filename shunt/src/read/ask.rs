//! What a client asks for.

use http::header::RANGE;
use http::{Method, request};

use super::conditions::{Conditions, text};
use super::facts::{Facts, Kind};
use super::ranges::Ranges;
use crate::request::query_value;

/// In which form the manifest of a large object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As Swift stores it.
    Stored,
    /// As clients upload it.
    Raw,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) is_head: bool,
    pub(super) conditions: Conditions,
    ranges: Option<Ranges>,
    /// The manifest, instead of the content.
    pub(super) manifest: Option<Form>,
}

impl Ask {
    pub(super) fn of(request: &request::Parts) -> Self {
        let is_head = request.method == Method::HEAD;
        let query = request.uri.query();
        let value = |name| query_value(query, name);
        // Of a temporary URL's parameters Swift keeps only those that make it one.
        let wants_manifest =
            value("multipart-manifest").as_deref() == Some("get") && value("temp_url_sig").is_none();
        let is_raw = value("format").as_deref() == Some("raw");
        let ranges = text(&request.headers, &RANGE).and_then(|header| Ranges::parse(&header));
        Self {
            is_head,
            conditions: Conditions::parse(&request.headers),
            ranges,
            manifest: wants_manifest.then_some(if is_raw { Form::Raw } else { Form::Stored }),
        }
    }

    /// What may be asked of the remote without knowing the object: `None` when it must be looked at first, otherwise the range, or
    /// all of it.
    pub(super) fn at_once(&self) -> Option<Option<std::ops::Range<u64>>> {
        if self.is_head || !self.conditions.is_empty() || self.manifest.is_some() {
            return None;
        }
        match &self.ranges {
            None => Some(None),
            Some(ranges) => ranges.known_start().map(Some),
        }
    }

    /// The ranges that count for an object: none for HEAD. Of a dynamic large object Swift gives one range or all of it, and also
    /// refuses the HEAD of a range that is not there.
    pub(super) fn ranges_of(&self, facts: &Facts) -> Option<&Ranges> {
        let is_dynamic = facts.kind == Kind::Dynamic && self.manifest.is_none();
        self.ranges.as_ref().filter(|ranges| match (is_dynamic, self.is_head) {
            (false, is_head) => !is_head,
            (true, false) => ranges.count() == 1,
            (true, true) => ranges.count() == 1 && ranges.of_length(facts.length).is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    fn ask(method: &str, uri: &str, headers: &[(&str, &str)]) -> Ask {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ask::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_what_needs_to_know_the_object_costs_a_look() {
        type Row = (
            &'static str,
            &'static str,
            &'static [(&'static str, &'static str)],
            Option<Option<std::ops::Range<u64>>>,
        );
        let table: &[Row] = &[
            ("GET", "/v1/a/c/o", &[], Some(None)),
            ("GET", "/v1/a/c/o?x=y", &[("range", "bytes=5-9")], Some(Some(5..10))),
            ("GET", "/v1/a/c/o", &[("range", "nonsense")], Some(None)),
            ("GET", "/v1/a/c/o", &[("range", "bytes=-9")], None),
            ("GET", "/v1/a/c/o", &[("range", "bytes=0-1,4-5")], None),
            ("GET", "/v1/a/c/o", &[("if-match", "x")], None),
            ("GET", "/v1/a/c/o?multipart-manifest=get", &[], None),
            ("GET", "/v1/a/c/o?multipart-manifest=get&temp_url_sig=x", &[], Some(None)),
            ("GET", "/v1/a/c/o?multipart-manifest=put", &[], Some(None)),
            ("HEAD", "/v1/a/c/o", &[("range", "bytes=0-1")], None),
        ];
        for (method, uri, headers, at_once) in table {
            assert_eq!(ask(method, uri, headers).at_once(), *at_once, "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn manifests_are_asked_for_in_one_of_two_forms() {
        assert_eq!(ask("GET", "/v1/a/c/o?multipart-manifest=get", &[]).manifest, Some(Form::Stored));
        assert_eq!(ask("HEAD", "/v1/a/c/o?format=raw&multipart-manifest=get", &[]).manifest, Some(Form::Raw));
        assert_eq!(ask("GET", "/v1/a/c/o?format=raw", &[]).manifest, None);
    }
}
