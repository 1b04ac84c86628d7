//! Whether the client may read what a large object is made of.
//!
//! Swift reads segments with the rights of the client that reads the object. On the remote they are joined, so those rights are asked for before
//! any of the content is given: without that, whoever may write a manifest could read other containers of the account by way of the archive.

use std::collections::BTreeSet;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use swift_s3_policy::large_object::manifest::Entry;
use swift_s3_policy::large_object::{Manifest, dlo_source};

use super::facts::Kind;
use crate::body::{BoxError, Response, empty, text};
use crate::copy::ClientSwift;
use crate::request::query_value;

/// Containers that the segments of one object may lie in. Clients use one.
const MAX_CONTAINERS: usize = 16;
const MAX_DEPTH: usize = 10;
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const X_OBJECT_MANIFEST: &str = "x-object-manifest";

/// What Swift's access rules look at.
const ASKED_WITH: [HeaderName; 8] = [
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-storage-token"),
    HeaderName::from_static("x-service-token"),
    header::AUTHORIZATION,
    header::REFERER,
    header::ORIGIN,
    header::HOST,
    HeaderName::from_static("x-trans-id-extra"),
];

/// A question to Swift in the client's name. 2xx and 404 are a yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    method: Method,
    path: String,
}

/// One segment of each container that a static large object takes segments from; `None` when there are too many.
pub(super) fn samples(manifest: &Manifest) -> Option<Vec<(String, String)>> {
    let mut seen = BTreeSet::new();
    let mut samples = Vec::new();
    let mut open = vec![(manifest, MAX_DEPTH)];
    while let Some((manifest, depth)) = open.pop() {
        for entry in &manifest.entries {
            let Entry::Object(entry) = entry else { continue };
            if seen.insert(entry.container.clone()) {
                samples.push((entry.container.clone(), entry.object.clone()));
            }
            if let Some(inner) = entry.nested.as_ref().and_then(|nested| nested.manifest.as_ref()) {
                open.push((inner, depth.checked_sub(1)?));
            }
        }
    }
    (samples.len() <= MAX_CONTAINERS).then_some(samples)
}

/// What to ask before the content of a large object is given.
pub(super) fn questions(
    account: &str,
    kind: Kind,
    headers: &HeaderMap,
    samples: &[(String, String)],
) -> Vec<Question> {
    let quote = |text: &str| utf8_percent_encode(text, QUOTED).to_string();
    match kind {
        Kind::Plain => Vec::new(),
        Kind::Static => samples
            .iter()
            .map(|(container, object)| Question {
                method: Method::HEAD,
                path: format!("/v1/{}/{}/{}", quote(account), quote(container), quote(object)),
            })
            .collect(),
        Kind::Dynamic => {
            let source = headers.get(X_OBJECT_MANIFEST).and_then(|value| dlo_source(value.as_bytes()));
            let path = match source {
                Some((container, prefix)) => format!(
                    "/v1/{}/{}?format=json&limit=1&prefix={}",
                    quote(account),
                    quote(&container),
                    quote(&prefix)
                ),
                // Only the account's own people may look at the account.
                None => format!("/v1/{}?format=json&limit=1", quote(account)),
            };
            vec![Question { method: Method::GET, path }]
        }
    }
}

/// As [`questions`], for a dynamic large object whose local segments nobody can name.
pub(super) fn question_for_owner(account: &str) -> Vec<Question> {
    questions(account, Kind::Dynamic, &HeaderMap::new(), &[])
}

/// What the client is refused with, as Swift would; `None`: it may read the content.
///
/// # Errors
/// When Swift could not be asked.
pub(super) async fn refusal(
    swift: &dyn ClientSwift,
    client: &Parts,
    kind: Kind,
    questions: Vec<Question>,
) -> Result<Option<Response>, BoxError> {
    // A temporary URL is signed for all of an account, or of a container; manifests cannot be uploaded by one.
    if query_value(client.uri.query(), "temp_url_sig").is_some() {
        return Ok(None);
    }
    for question in questions {
        let mut request = Request::builder().method(question.method).uri(question.path).body(empty())?;
        for name in &ASKED_WITH {
            for value in client.headers.get_all(name) {
                request.headers_mut().append(name.clone(), HeaderValue::clone(value));
            }
        }
        let answer = swift.send(request).await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::NOT_FOUND {
            continue;
        }
        if status.is_server_error() {
            return Err(format!("Swift answers {status} for its segments").into());
        }
        return Ok(Some(match kind {
            // Swift's own answer to the listing that the content would be read from.
            Kind::Dynamic => answer,
            _ => text(StatusCode::CONFLICT, "There was a conflict when trying to complete your request.\n"),
        }));
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn paths(questions: &[Question]) -> Vec<String> {
        questions.iter().map(|question| format!("{} {}", question.method, question.path)).collect()
    }

    #[test]
    fn each_container_of_segments_is_asked_for_once() {
        let manifest = br#"[
            {"name": "/segments/a b/1", "bytes": 1, "hash": "0cc175b9c0f1b6a831c399e269772661"},
            {"name": "/segments/a b/2", "bytes": 1, "hash": "0cc175b9c0f1b6a831c399e269772661"},
            {"name": "/other/x", "bytes": 1, "hash": "0cc175b9c0f1b6a831c399e269772661"}
        ]"#;
        let samples = samples(&Manifest::parse(manifest).unwrap()).unwrap();
        let asked = questions("AUTH_a", Kind::Static, &HeaderMap::new(), &samples);
        assert_eq!(paths(&asked), ["HEAD /v1/AUTH_a/segments/a%20b/1", "HEAD /v1/AUTH_a/other/x"]);
    }

    #[test]
    fn a_dynamic_one_is_asked_for_by_its_listing_and_else_of_the_owner() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(
                HeaderName::from_static(X_OBJECT_MANIFEST),
                HeaderValue::from_static(value),
            )])
        };
        let asked = |headers: &HeaderMap| paths(&questions("AUTH_a", Kind::Dynamic, headers, &[]));
        assert_eq!(
            asked(&with("private/a%20b/")),
            ["GET /v1/AUTH_a/private?format=json&limit=1&prefix=a%20b/"]
        );
        assert_eq!(asked(&with("nonsense")), ["GET /v1/AUTH_a?format=json&limit=1"]);
        assert_eq!(asked(&HeaderMap::new()), ["GET /v1/AUTH_a?format=json&limit=1"]);
        assert_eq!(questions("AUTH_a", Kind::Plain, &with("a/b"), &[]), []);
    }
}
