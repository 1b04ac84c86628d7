//! The words of the protocol. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use serde_json::{Value, json};

use crate::body::{self, BoxError};

/// What a request is about.
pub(super) const STEP: &str = "x-shunt-step";
/// What to do with the answer.
pub(super) const OUTCOME: HeaderName = HeaderName::from_static("x-shunt-outcome");
/// The state of the remote before a delete.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-shunt-token");
/// Swift's answer to the delete.
pub(super) const LOCAL_STATUS: &str = "x-shunt-local-status";
/// The time of Swift's tombstone.
pub(super) const LOCAL_TIMESTAMP: &str = "x-shunt-local-timestamp";
/// The client showed no credentials: the remote is asked only once Swift has let it in.
pub(super) const WAITS: &str = "x-shunt-waits";
/// What the filter is to ask Swift in the client's name, JSON: a list of `"METHOD path"`.
pub(super) const ASK: HeaderName = HeaderName::from_static("x-shunt-ask");
/// What Swift told the filter in the client's name, JSON.
pub(super) const ANSWERS: &str = "x-shunt-answers";
/// The filter can run requests of a restore.
pub(super) const RESTORES: &str = "x-shunt-restores";
/// The job of a restore.
pub(super) const RESTORE: HeaderName = HeaderName::from_static("x-shunt-restore");
/// A request to run, base64 of JSON.
pub(super) const REQUEST: HeaderName = HeaderName::from_static("x-shunt-request");
/// The status of a request that was run.
pub(super) const STATUS: &str = "x-shunt-status";
/// Its headers, base64 of JSON.
pub(super) const HEADERS: &str = "x-shunt-headers";

/// Of a request that was run, more headers than Swift sends.
const MAX_PAIRS: usize = 300;

/// The steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Miss,
    Listing,
    Before,
    After,
}

impl Step {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(STEP)?.as_bytes() {
            b"miss" => Some(Self::Miss),
            b"listing" => Some(Self::Listing),
            b"before" => Some(Self::Before),
            b"after" => Some(Self::After),
            _ => None,
        }
    }
}

/// Takes the protocol's own headers out: what is left is the client's.
pub(super) fn remove_own(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-shunt-"))
        .chain([&http::header::AUTHORIZATION, &http::header::HOST])
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

/// A request that the filter shall run, for its header.
pub(super) fn encode_request(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    let path = uri.path_and_query().map(ToString::to_string)?;
    let pairs: Vec<Value> = headers
        .iter()
        .filter(|(name, _)| {
            !matches!(name.as_str(), "host" | "content-length" | "transfer-encoding" | "connection")
        })
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let text = json!({"method": method.as_str(), "path": path, "headers": pairs}).to_string();
    HeaderValue::from_str(&STANDARD.encode(text)).ok()
}

/// Something is wrong with what the filter reports.
#[derive(Debug, thiserror::Error)]
#[error("the filter's report has a wrong {0}")]
pub(super) struct WrongReport(&'static str);

/// Reads what became of a request.
pub(super) fn decode_report(headers: &HeaderMap, content: Bytes) -> Result<Response<body::Body>, BoxError> {
    let status = headers.get(STATUS).and_then(|value| StatusCode::from_bytes(value.as_bytes()).ok());
    let status = status.ok_or(WrongReport("status"))?;
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    let encoded = headers.get(HEADERS).ok_or(WrongReport("header list"))?;
    let text = STANDARD.decode(encoded.as_bytes()).map_err(|_| WrongReport("header list"))?;
    let pairs: Vec<(String, String)> =
        serde_json::from_slice(&text).map_err(|_| WrongReport("header list"))?;
    for (name, value) in pairs.into_iter().take(MAX_PAIRS) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

/// Compares without telling by its time where a difference is.
pub(super) fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right)) == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.insert("x-object-meta-a", HeaderValue::from_bytes("grün".as_bytes()).unwrap());
        headers.insert("content-length", HeaderValue::from_static("3"));
        let value = encode_request(&Method::PUT, &"/v1/a/c/%C3%A9?x=1".parse().unwrap(), &headers).unwrap();
        let text: Value = serde_json::from_slice(&STANDARD.decode(value.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            text,
            json!({"method": "PUT", "path": "/v1/a/c/%C3%A9?x=1", "headers": [["x-object-meta-a", "grün"]]})
        );
    }

    #[test]
    fn reports_are_read_and_wrong_ones_refused() {
        let report = |status: &str, headers: &str| {
            let mut map = HeaderMap::new();
            map.insert(STATUS, HeaderValue::from_str(status).unwrap());
            map.insert(HEADERS, HeaderValue::from_str(&STANDARD.encode(headers)).unwrap());
            decode_report(&map, Bytes::new())
        };
        let good =
            report("201", r#"[["Etag", "e"], ["X-Meta", "grün"], ["bad name", "x"], ["bad", "a\nb"]]"#)
                .unwrap();
        assert_eq!(good.status(), 201);
        assert_eq!(good.headers().len(), 2);
        assert_eq!(good.headers().get("x-meta").unwrap().as_bytes(), "grün".as_bytes());
        for (status, headers) in
            [("2", "[]"), ("abc", "[]"), ("201", "{}"), ("201", r#"[["a"]]"#), ("201", "")]
        {
            assert!(report(status, headers).is_err(), "{status} {headers}");
        }
        assert!(decode_report(&HeaderMap::new(), Bytes::new()).is_err());
    }

    #[test]
    fn only_the_clients_headers_are_left() {
        let mut headers = HeaderMap::new();
        for name in ["x-shunt-step", "authorization", "host", "range", "x-shunt-anything"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        remove_own(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["range"]);
    }

    #[test]
    fn tokens_are_the_same_or_not() {
        assert!(is_same(b"abc", b"abc"));
        assert!(!is_same(b"abc", b"abd"));
        assert!(!is_same(b"abc", b"ab"));
    }
}
