//! Copies of archived objects: COPY, and PUT with `X-Copy-From`.
//!
//! Swift is asked first, with the client's own request. When it finds no source, and answers 404 to a HEAD of the source with the client's own
//! headers as well (which it does only to those who may read it), the remote's content is sent into a PUT of the destination, again with the client's
//! own headers. So nothing is read or written that the client could not read or write itself.
//!
//! Source: `swift/common/middleware/copy.py` of Swift 2.30.1.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, request};
use percent_encoding::percent_decode;

use crate::body::{Body, BoxError, Response, empty, text};
use crate::context::Context;
use crate::policy::Route;
use crate::read::{self, Miss, WholeContent};
use crate::request::{Target, query_value};
use crate::swift_path::{self, object_path};

const USER_METADATA: &str = "x-object-meta-";
const X_DELETE_AT: HeaderName = HeaderName::from_static("x-delete-at");
const X_OBJECT_MANIFEST: HeaderName = HeaderName::from_static("x-object-manifest");
const X_STATIC_LARGE_OBJECT: HeaderName = HeaderName::from_static("x-static-large-object");
const X_COPY_FROM: HeaderName = HeaderName::from_static("x-copy-from");
const X_COPY_FROM_ACCOUNT: HeaderName = HeaderName::from_static("x-copy-from-account");
const X_FRESH_METADATA: HeaderName = HeaderName::from_static("x-fresh-metadata");
const DESTINATION: HeaderName = HeaderName::from_static("destination");
const DESTINATION_ACCOUNT: HeaderName = HeaderName::from_static("destination-account");

/// What a copy takes along, beside the user's metadata.
const KEPT: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
    HeaderName::from_static("x-robots-tag"),
    X_DELETE_AT,
];

/// What of the client's request is about the copy itself, or about the source.
const OF_THE_COPY: [HeaderName; 13] = [
    X_COPY_FROM,
    X_COPY_FROM_ACCOUNT,
    DESTINATION,
    DESTINATION_ACCOUNT,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::ETAG,
];

/// Swift, as a client sees it.
#[async_trait]
pub trait ClientSwift: Send + Sync {
    /// Sends a request with a path and the client's own credentials, and waits for the head of its answer.
    ///
    /// # Errors
    /// When no answer came.
    async fn send(&self, request: Request<Body>) -> Result<Response, BoxError>;
}

/// What is to be copied, and to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The source's account.
    pub account: String,
    /// The source's container.
    pub container: String,
    /// The source.
    pub object: String,
    /// The destination's path, encoded.
    destination: String,
}

impl Copy {
    /// Reads a request; `None` when it copies nothing, or when Swift would refuse it.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        // Most requests end here, before their path is read.
        let named_in = match method.as_str() {
            "COPY" => &DESTINATION,
            "PUT" => &X_COPY_FROM,
            _ => return None,
        };
        if !headers.contains_key(named_in) {
            return None;
        }
        let Target::Object { account, container, object } = Target::of(uri.path()) else { return None };
        let named = |name: &HeaderName| {
            let value = headers.get(name).filter(|value| !value.is_empty())?;
            Some(percent_decode(value.as_bytes()).decode_utf8().ok()?.into_owned())
        };
        match method.as_str() {
            "COPY" => {
                let (to_container, to_object) = object_of(&named(&DESTINATION)?)?;
                let to_account = named(&DESTINATION_ACCOUNT).unwrap_or_else(|| account.clone());
                if to_account.is_empty() || to_account.contains('/') {
                    return None;
                }
                let destination = object_path(&to_account, &to_container, &to_object);
                Some(Self { account, container, object, destination })
            }
            "PUT" => {
                let destination = object_path(&account, &container, &object);
                let (container, object) = object_of(&named(&X_COPY_FROM)?)?;
                let account = named(&X_COPY_FROM_ACCOUNT).unwrap_or(account);
                Some(Self { account, container, object, destination })
            }
            _ => None,
        }
    }
}

/// `container/object`, perhaps behind a slash.
fn object_of(text: &str) -> Option<(String, String)> {
    let (container, object) = text.strip_prefix('/').unwrap_or(text).split_once('/')?;
    let is_whole = !container.is_empty() && !object.is_empty() && !text.contains('\0');
    is_whole.then(|| (container.to_owned(), object.to_owned()))
}

/// Carries out a copy for which Swift answered 404. `None`: its answer stands.
pub async fn answer(
    context: &Arc<Context>,
    swift: &dyn ClientSwift,
    route: Arc<Route>,
    copy: &Copy,
    client: &request::Parts,
) -> Option<Response> {
    let source_path = object_path(&copy.account, &copy.container, &copy.object);
    if !is_missing(swift, &source_path, client).await? {
        return None;
    }
    let wants_manifest = query_value(client.uri.query(), "multipart-manifest").as_deref() == Some("get");
    let query = if wants_manifest { "?multipart-manifest=get&format=raw" } else { "" };
    let mut request = request_like(client, Method::GET, &format!("{source_path}{query}"))?;
    *request.headers_mut() = client.headers.clone();
    let miss = Miss {
        route,
        object: copy.object.clone(),
        request: request.into_parts().0,
        local_headers: HeaderMap::new(),
        writer: None,
        swift,
    };
    let source = read::answer(context, miss).await?;
    if !source.status().is_success() {
        return Some(source);
    }
    let sink = Sink::of(client, &source, wants_manifest);
    let (parts, content) = source.into_parts();
    let mut put = request_like(client, Method::PUT, &format!("{}{}", copy.destination, sink.query))?;
    *put.headers_mut() = sink.headers;
    let told = told_of_source(copy, &parts.headers, put.headers());
    match swift.send(put.map(|()| content)).await {
        Ok(mut answer) => {
            if answer.status().is_success() {
                answer.headers_mut().extend(told);
            }
            Some(answer)
        }
        Err(error) => {
            tracing::warn!(%error, "a copy of an archived object broke off");
            Some(text(StatusCode::BAD_GATEWAY, "the copy broke off\n"))
        }
    }
}

/// Whether Swift itself tells the client that there is no source of the copy. `None` when it cannot be asked.
pub async fn is_source_missing(
    swift: &dyn ClientSwift,
    copy: &Copy,
    client: &request::Parts,
) -> Option<bool> {
    is_missing(swift, &object_path(&copy.account, &copy.container, &copy.object), client).await
}

async fn is_missing(swift: &dyn ClientSwift, path: &str, client: &request::Parts) -> Option<bool> {
    let mut request = request_like(client, Method::HEAD, path)?;
    *request.headers_mut() = client.headers.clone();
    for name in &OF_THE_COPY {
        request.headers_mut().remove(name);
    }
    match swift.send(request.map(|()| empty())).await {
        Ok(answer) => Some(answer.status() == StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::warn!(%error, "the source of a copy could not be asked for");
            None
        }
    }
}

fn request_like(client: &request::Parts, method: Method, path: &str) -> Option<Request<()>> {
    Request::builder().method(method).uri(path).version(client.version).body(()).ok()
}

/// The PUT of the destination.
#[derive(Debug)]
struct Sink {
    headers: HeaderMap,
    /// With its question mark, or empty.
    query: String,
}

impl Sink {
    fn of(client: &request::Parts, source: &Response, wants_manifest: bool) -> Self {
        let told = source.headers();
        let mut headers = client.headers.clone();
        for name in &OF_THE_COPY {
            headers.remove(name);
        }
        let is_fresh = headers.get(X_FRESH_METADATA).is_some_and(is_true);
        if !is_fresh {
            let is_kept = |name: &HeaderName| name.as_str().starts_with(USER_METADATA) || KEPT.contains(name);
            for (name, value) in told.iter().filter(|(name, _)| is_kept(name)) {
                if !headers.contains_key(name) {
                    headers.insert(name.clone(), value.clone());
                }
            }
        }
        let has_type = headers.get(header::CONTENT_TYPE).is_some_and(|value| !value.is_empty());
        if let Some(value) = told.get(header::CONTENT_TYPE).filter(|_| !has_type) {
            headers.insert(header::CONTENT_TYPE, value.clone());
        }
        if let Some(value) = told.get(header::CONTENT_LENGTH) {
            headers.insert(header::CONTENT_LENGTH, value.clone());
        }
        let whole = source.extensions().get::<WholeContent>();
        if let Some(md5) = whole.and_then(|whole| whole.md5)
            && let Ok(value) = HeaderValue::from_str(&hex::encode(md5))
        {
            headers.insert(header::ETAG, value);
        }
        let is_static = told.contains_key(X_STATIC_LARGE_OBJECT);
        let manifest = told.get(X_OBJECT_MANIFEST).filter(|_| wants_manifest);
        if let Some(value) = manifest {
            headers.insert(X_OBJECT_MANIFEST, value.clone());
        }
        let query = query_of(client.uri.query(), wants_manifest && is_static, manifest.is_some());
        Self { headers, query }
    }
}

/// The client's query: of `multipart-manifest=get` a static manifest makes `put`, and a dynamic one nothing.
fn query_of(query: Option<&str>, puts_manifest: bool, has_manifest: bool) -> String {
    let mut kept: Vec<String> = Vec::new();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        match part.split('=').next().unwrap_or_default() {
            "version-id" => {}
            "multipart-manifest" if puts_manifest => kept.push("multipart-manifest=put".to_owned()),
            "multipart-manifest" if has_manifest => {}
            _ => kept.push(part.to_owned()),
        }
    }
    if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) }
}

/// What the answer to a copy says beside that to a PUT.
fn told_of_source(copy: &Copy, source: &HeaderMap, put: &HeaderMap) -> HeaderMap {
    let mut told = HeaderMap::new();
    let quote = |text: &str| HeaderValue::from_str(&swift_path::quote(text)).ok();
    let from = format!("{}/{}", copy.container, copy.object);
    let values = [
        ("x-copied-from-account", quote(&copy.account)),
        ("x-copied-from", quote(&from)),
        ("x-copied-from-last-modified", source.get(header::LAST_MODIFIED).cloned()),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            told.insert(HeaderName::from_static(name), value);
        }
    }
    for (name, value) in put {
        if name.as_str().starts_with(USER_METADATA) || *name == X_DELETE_AT {
            told.insert(name.clone(), value.clone());
        }
    }
    told
}

/// What Swift's `config_true_value` takes for true.
fn is_true(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    matches!(text.as_str(), "true" | "1" | "yes" | "on" | "t" | "y")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn copied(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<(String, String)> {
        let parts = parts(method, uri, headers);
        let copy = Copy::of(&parts.method, &parts.uri, &parts.headers)?;
        Some((format!("{} {} {}", copy.account, copy.container, copy.object), copy.destination))
    }

    #[test]
    fn both_forms_name_a_source_and_a_destination() {
        type Row = (
            &'static str,
            &'static str,
            &'static [(&'static str, &'static str)],
            Option<(&'static str, &'static str)>,
        );
        let table: &[Row] = &[
            ("COPY", "/v1/a/c/o", &[("destination", "d/p")], Some(("a c o", "/v1/a/d/p"))),
            ("COPY", "/v1/a/c/o%20", &[("destination", "/d/p%20q/r")], Some(("a c o ", "/v1/a/d/p%20q/r"))),
            (
                "COPY",
                "/v1/a/c/o",
                &[("destination", "d/p"), ("destination-account", "b")],
                Some(("a c o", "/v1/b/d/p")),
            ),
            ("COPY", "/v1/a/c/o", &[], None),
            ("COPY", "/v1/a/c/o", &[("destination", "d")], None),
            ("COPY", "/v1/a/c/o", &[("destination", "d/p"), ("destination-account", "b/x")], None),
            ("COPY", "/v1/a/c", &[("destination", "d/p")], None),
            ("PUT", "/v1/a/d/p", &[("x-copy-from", "/c/o")], Some(("a c o", "/v1/a/d/p"))),
            (
                "PUT",
                "/v1/a/d/p",
                &[("x-copy-from", "c/%C3%A9"), ("x-copy-from-account", "b")],
                Some(("b c é", "/v1/a/d/p")),
            ),
            ("PUT", "/v1/a/d/p", &[("x-copy-from", "c")], None),
            ("PUT", "/v1/a/d/p", &[], None),
            ("POST", "/v1/a/d/p", &[("x-copy-from", "c/o")], None),
        ];
        for (method, uri, headers, expected) in table {
            let expected = expected.map(|(source, to)| (source.to_owned(), to.to_owned()));
            assert_eq!(copied(method, uri, headers), expected, "{method} {uri} {headers:?}");
        }
    }

    fn sink(
        uri: &str,
        client: &[(&str, &str)],
        source: &[(&str, &str)],
        md5: Option<[u8; 16]>,
    ) -> (Vec<String>, String) {
        let mut answer = Response::new(empty());
        for (name, value) in source {
            answer.headers_mut().insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        if md5.is_some() {
            let object = swift_s3_store::RemoteObject {
                etag: String::new(),
                length: 0,
                metadata: swift_s3_policy::RemoteMetadata::default(),
                storage_class: None,
                archived: false,
                last_modified: None,
                kms: false,
            };
            answer.extensions_mut().insert(WholeContent { md5, object });
        }
        let manifest = uri.contains("multipart-manifest=get");
        let sink = Sink::of(&parts("PUT", uri, client), &answer, manifest);
        let mut lines: Vec<_> =
            sink.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        (lines, sink.query)
    }

    const SOURCE: [(&str, &str); 9] = [
        ("content-type", "a/b"),
        ("content-length", "5"),
        ("etag", "e"),
        ("x-object-meta-a", "source"),
        ("x-object-meta-b", "source"),
        ("content-encoding", "gzip"),
        ("x-timestamp", "1"),
        ("x-static-large-object", "True"),
        ("remote-x-amz-id-2", "r"),
    ];

    #[test]
    fn a_copy_takes_along_what_swift_would() {
        let client = [
            ("x-auth-token", "t"),
            ("x-object-meta-a", "client"),
            ("x-copy-from", "c/o"),
            ("range", "bytes=0-4"),
            ("content-length", "0"),
        ];
        let expected = [
            "content-encoding: gzip",
            "content-length: 5",
            "content-type: a/b",
            "x-auth-token: t",
            "x-object-meta-a: client",
            "x-object-meta-b: source",
        ];
        assert_eq!(
            sink("/v1/a/d/p?x=y", &client, &SOURCE, None),
            (expected.map(str::to_owned).to_vec(), "?x=y".to_owned())
        );
        let fresh = [("x-fresh-metadata", "True"), ("x-object-meta-c", "client"), ("content-type", "c/d")];
        let expected = [
            "content-length: 5",
            "content-type: c/d",
            "etag: 00000000000000000000000000000000",
            "x-fresh-metadata: True",
            "x-object-meta-c: client",
        ];
        assert_eq!(sink("/v1/a/d/p", &fresh, &SOURCE, Some([0; 16])).0, expected.map(str::to_owned).to_vec());
    }

    #[test]
    fn manifests_are_copied_as_manifests() {
        assert_eq!(sink("/v1/a/d/p?multipart-manifest=get", &[], &SOURCE, None).1, "?multipart-manifest=put");
        let dynamic = [("content-type", "a/b"), ("content-length", "0"), ("x-object-manifest", "s/p")];
        let (headers, query) = sink("/v1/a/d/p?multipart-manifest=get&a=b", &[], &dynamic, None);
        assert_eq!(query, "?a=b");
        assert!(headers.contains(&"x-object-manifest: s/p".to_owned()));
        // Without that its content is copied.
        let (headers, _) = sink("/v1/a/d/p", &[], &dynamic, None);
        assert!(!headers.iter().any(|line| line.starts_with("x-object-manifest")));
    }

    #[test]
    fn the_answer_names_the_source() {
        let parts = parts("COPY", "/v1/a/c/%C3%A9", &[("destination", "d/p")]);
        let copy = Copy::of(&parts.method, &parts.uri, &parts.headers).unwrap();
        let mut put = HeaderMap::new();
        put.insert("x-object-meta-a", HeaderValue::from_static("1"));
        put.insert("x-auth-token", HeaderValue::from_static("secret"));
        let told = told_of_source(&copy, &HeaderMap::new(), &put);
        assert_eq!(told.get("x-copied-from").unwrap(), "c/%C3%A9");
        assert_eq!(told.get("x-copied-from-account").unwrap(), "a");
        assert_eq!(told.get("x-object-meta-a").unwrap(), "1");
        assert_eq!(told.len(), 3);
    }
}
