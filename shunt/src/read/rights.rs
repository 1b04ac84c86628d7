//! Whether the client may read what a large object is made of.
//!
//! Swift reads segments with the rights of the client that reads the object. On the remote they are joined, so those rights are asked for before
//! any of the content is given: without that, whoever may write a manifest could read other containers of the account by way of the archive.

use std::collections::BTreeSet;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use swift_s3_policy::large_object::manifest::Entry;
use swift_s3_policy::large_object::{Manifest, dlo_source};

use super::facts::Kind;
use crate::body::{Body, BoxError, Response, empty, text};
use crate::copy::ClientSwift;
use crate::request::is_temporary;
use crate::swift_path::{container_path, object_path, quote};

/// Containers that the segments of one object may lie in. Clients use one.
const MAX_CONTAINERS: usize = 16;
const MAX_DEPTH: usize = 10;
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
    match kind {
        Kind::Plain => Vec::new(),
        Kind::Static => samples
            .iter()
            .map(|(container, object)| Question {
                method: Method::HEAD,
                path: object_path(account, container, object),
            })
            .collect(),
        Kind::Dynamic => {
            let source = headers.get(X_OBJECT_MANIFEST).and_then(|value| dlo_source(value.as_bytes()));
            let path = match source {
                Some((container, prefix)) => format!(
                    "{}?format=json&limit=1&prefix={}",
                    container_path(account, &container),
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
    if !questions.is_empty() && is_temporary(client.uri.query()) && knows_signatures(swift, client).await? {
        return Ok(None);
    }
    for question in questions {
        let answer = swift.send(in_name_of(client, question.method, &question.path)?).await?;
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

/// Whether Swift looks at the signatures of temporary URLs: in a pipeline without tempurl they are parameters like any other, and anybody can add them.
///
/// The client's own request got 404, so without the signature it either has the right to read the object, and a wrong signature that nobody looks at is no reason
/// to refuse it; or it does not need that right, and the wrong one is refused.
async fn knows_signatures(swift: &dyn ClientSwift, client: &Parts) -> Result<bool, BoxError> {
    let path = format!("{}?temp_url_sig=0&temp_url_expires=1", client.uri.path());
    let status = swift.send(in_name_of(client, Method::HEAD, &path)?).await?.status();
    if status.is_server_error() {
        return Err(format!("Swift answers {status} for a temporary URL").into());
    }
    Ok(status == StatusCode::UNAUTHORIZED)
}

/// A request with what Swift's access rules look at in the client's own.
fn in_name_of(client: &Parts, method: Method, path: &str) -> Result<Request<Body>, BoxError> {
    let mut request = Request::builder().method(method).uri(path).body(empty())?;
    for name in &ASKED_WITH {
        for value in client.headers.get_all(name) {
            request.headers_mut().append(name.clone(), HeaderValue::clone(value));
        }
    }
    Ok(request)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Swift with or without tempurl; the client may read objects, and not the segments.
    struct Swift {
        has_tempurl: bool,
        asked: std::sync::Mutex<Vec<String>>,
    }

    #[async_trait::async_trait]
    impl ClientSwift for Swift {
        async fn send(&self, request: Request<Body>) -> Result<Response, BoxError> {
            let asked = request.uri().to_string();
            let is_signed = is_temporary(request.uri().query());
            let status = match asked.as_str() {
                _ if is_signed && self.has_tempurl => StatusCode::UNAUTHORIZED,
                _ if asked.contains("/segments") => StatusCode::FORBIDDEN,
                _ => StatusCode::NOT_FOUND,
            };
            self.asked.lock().unwrap().push(format!("{} {asked}", request.method()));
            Ok(text(status, ""))
        }
    }

    #[tokio::test]
    async fn a_signature_counts_only_where_swift_looks_at_it() {
        let question = || vec![Question { method: Method::HEAD, path: "/v1/AUTH_a/segments/1".to_owned() }];
        let probe = "HEAD /v1/AUTH_a/c/o?temp_url_sig=0&temp_url_expires=1";
        let about_segments = "HEAD /v1/AUTH_a/segments/1";
        for (query, has_tempurl, refused, expected) in [
            ("?temp_url_sig=x&temp_url_expires=9", true, false, vec![probe]),
            ("?temp_url_sig=x&temp_url_expires=9", false, true, vec![probe, about_segments]),
            ("?temp_url_sig=x", false, true, vec![about_segments]),
            ("", true, true, vec![about_segments]),
        ] {
            let swift = Swift { has_tempurl, asked: std::sync::Mutex::default() };
            let client = Request::get(format!("/v1/AUTH_a/c/o{query}")).body(()).unwrap().into_parts().0;
            let answer = refusal(&swift, &client, Kind::Static, question()).await.unwrap();
            assert_eq!(answer.is_some(), refused, "{query} {has_tempurl}");
            assert_eq!(*swift.asked.lock().unwrap(), expected, "{query} {has_tempurl}");
        }
        let swift = Swift { has_tempurl: true, asked: std::sync::Mutex::default() };
        let signed = Request::get("/v1/AUTH_a/c/o?temp_url_sig=x&temp_url_expires=9");
        let client = signed.body(()).unwrap().into_parts().0;
        assert!(refusal(&swift, &client, Kind::Plain, Vec::new()).await.unwrap().is_none());
        assert!(swift.asked.lock().unwrap().is_empty(), "plain objects cost nothing");
    }

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
