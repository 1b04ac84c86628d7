//! What a Swift cluster's refusal means: from statuses and transport faults to [`ErrorKind`].

use std::error::Error;
use std::time::Duration;

use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::error::{ErrorKind, StoreError};
use crate::swift::request::{Call, Target};
use crate::swift::wire::WireError;

/// More than any error text; what is longer is not read.
const MAX_TEXT_BYTES: usize = 64 * 1024;
const TEXT_TIMEOUT: Duration = Duration::from_secs(10);
/// The code of an upload that failed because there is no container for it: Swift says no more than 404.
pub(crate) const CONTAINER_MISSING: &str = "ContainerMissing";

/// What a status means.
pub(crate) fn kind(method: &Method, status: u16) -> ErrorKind {
    match status {
        401 | 403 | 407 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        409 => ErrorKind::Precondition,
        // An upload whose content does not have the ETag that was announced.
        422 if method == Method::PUT => ErrorKind::BadDigest,
        413 => ErrorKind::TooLarge,
        400 | 411 | 412 | 414 | 415 | 416 | 422 | 431 => ErrorKind::Invalid,
        // 498 is what Swift's rate limits answer, beside 429.
        429 | 498 => ErrorKind::Throttled,
        // We follow no redirect, so one leads nowhere; 499 is a client that went away, as a proxy saw it.
        300..=399 | 408 | 499 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// Reads a refusal to its end, so that its connection can be used again.
pub(crate) async fn refused(call: &Call, response: Response<Incoming>) -> StoreError {
    let (parts, body) = response.into_parts();
    let text = read_text(body).await;
    let status = parts.status.as_u16();
    let is_upload = call.method == Method::PUT && matches!(call.target, Target::Object { .. });
    let error = failure(call, kind(&call.method, status))
        .with_status(status)
        .with_code((is_upload && status == 404).then_some(CONTAINER_MISSING))
        .with_retry_after(retry_after(&parts.headers))
        .with_request_id(request_id(&parts.headers));
    if parts.status.is_redirection() {
        return error.with_message(Some("the server redirects, which is not followed"));
    }
    error.with_message(Some(&plain(&text)).filter(|text| !text.is_empty()).map(String::as_str))
}

/// An error of a call, without a cause yet.
pub(crate) fn failure(call: &Call, kind: ErrorKind) -> StoreError {
    let error = StoreError::named(kind, call.operation);
    match &call.key {
        Some(key) => error.with_key(key),
        None => error,
    }
}

/// No answer came.
pub(crate) fn unanswered(call: &Call, error: WireError) -> StoreError {
    failure(call, ErrorKind::Unavailable).with_message(Some(&root_cause(&error))).with_source(error)
}

/// An answer's text; whatever of it cannot be read is left out.
pub(crate) async fn read_text(body: Incoming) -> Vec<u8> {
    match tokio::time::timeout(TEXT_TIMEOUT, Limited::new(body, MAX_TEXT_BYTES).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes().to_vec(),
        _ => Vec::new(),
    }
}

/// How many seconds the server asks us to wait.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    ["x-trans-id", "x-openstack-request-id"]
        .into_iter()
        .find_map(|name| headers.get(name))
        .and_then(|value| value.to_str().ok())
}

/// The innermost cause: the outer layers say little more than that something failed.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// An error page's words. Swift wraps most of its texts in HTML: `<html><h1>Bad Request</h1><p>why</p></html>`.
pub(crate) fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let trimmed = text.trim_start();
    let is_html = trimmed.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("<html"));
    if !is_html {
        return words(&text);
    }
    let mut bare = String::with_capacity(text.len());
    let mut in_tag = false;
    for character in text.chars() {
        match character {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                bare.push(' ');
            }
            _ if in_tag => {}
            _ => bare.push(character),
        }
    }
    words(&bare.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_decide() {
        let table = [
            (302, ErrorKind::Unavailable),
            (400, ErrorKind::Invalid),
            (401, ErrorKind::Denied),
            (403, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (408, ErrorKind::Unavailable),
            (409, ErrorKind::Precondition),
            (411, ErrorKind::Invalid),
            (412, ErrorKind::Invalid),
            (413, ErrorKind::TooLarge),
            (415, ErrorKind::Invalid),
            (422, ErrorKind::BadDigest),
            (429, ErrorKind::Throttled),
            (498, ErrorKind::Throttled),
            (499, ErrorKind::Unavailable),
            (500, ErrorKind::Unavailable),
            (501, ErrorKind::Unsupported),
            (503, ErrorKind::Unavailable),
            (507, ErrorKind::Unavailable),
            (418, ErrorKind::Other),
        ];
        for (status, expected) in table {
            assert_eq!(kind(&Method::PUT, status), expected, "{status}");
        }
        assert_eq!(kind(&Method::POST, 422), ErrorKind::Invalid);
    }

    #[test]
    fn error_pages_lose_their_markup() {
        let page = b"<html><h1>Bad Request</h1><p>Invalid &lt;X&gt;\n given.</p></html>";
        assert_eq!(plain(page), "Bad Request Invalid <X> given.");
        assert_eq!(plain(b"a < b\n  and more"), "a < b and more");
        assert_eq!(plain(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn pauses_are_read_in_seconds() {
        let headers = |value: &'static str| {
            [(http::header::RETRY_AFTER, http::HeaderValue::from_static(value))]
                .into_iter()
                .collect::<HeaderMap>()
        };
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Fri, 31 Dec 1999 23:59:59 GMT")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
