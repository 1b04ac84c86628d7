//! What only Swift has: containers that are made and changed, and static large objects.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value};
use swift_s3_policy::RemoteMetadata;

use crate::error::{ErrorKind, StoreError};
use crate::object_store::PutReceipt;
use crate::swift::classify::{failure, refused};
use crate::swift::request::{self, Call, Target, insert};
use crate::swift::{MAX_LISTING_BYTES, SwiftStore, collect, listing, object_call, unreadable, upload};
use crate::swift_account::{ContainerHead, SloSegment, SwiftAccount};

/// Swift asks for every segment before it stores a manifest.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(300);
/// Swift removes every segment before it answers, and sends white space meanwhile.
const DELETE_SLO_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The summary of a delete: one line for each segment that failed.
const MAX_SUMMARY_BYTES: usize = 4 * 1024 * 1024;
const X_STATIC_LARGE_OBJECT: &str = "x-static-large-object";

#[async_trait]
impl SwiftAccount for SwiftStore {
    async fn ensure_container(
        &self,
        container: &str,
        storage_policy: Option<&str>,
    ) -> Result<bool, StoreError> {
        let call = container_call("head container", Method::HEAD, container)?;
        if self.found(&call).await?.is_some() {
            return Ok(false);
        }
        // Two that create it at once both succeed; with different policies one of them is refused.
        let mut call = container_call("put container", Method::PUT, container)?;
        if let Some(policy) = storage_policy.filter(|policy| !policy.is_empty()) {
            insert(&mut call.headers, "x-storage-policy", policy)
                .map_err(|error| failure(&call, ErrorKind::Invalid).with_message(Some(&error)))?;
        }
        let answer = self.session.send(&call).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refused(&call, answer).await);
        }
        // 202: it was there already.
        Ok(status == StatusCode::CREATED)
    }

    async fn head_container(&self, container: &str) -> Result<Option<ContainerHead>, StoreError> {
        let call = container_call("head container", Method::HEAD, container)?;
        Ok(self.found(&call).await?.map(|answer| container_head(answer.headers())))
    }

    async fn post_container(
        &self,
        container: &str,
        headers: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let mut call = container_call("post container", Method::POST, container)?;
        for (name, value) in headers {
            insert(&mut call.headers, name, value)
                .map_err(|error| failure(&call, ErrorKind::Invalid).with_message(Some(&error)))?;
        }
        self.done(&call).await.map(|_| ())
    }

    async fn delete_container(&self, container: &str) -> Result<(), StoreError> {
        self.gone(&container_call("delete container", Method::DELETE, container)?).await
    }

    async fn list_containers(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let mut call = Call::new("list containers", Method::GET, Target::Account)
            .parameter("format", "json")
            .parameter("limit", &limit.to_string());
        if !prefix.is_empty() {
            call = call.parameter("prefix", prefix);
        }
        if let Some(after) = start_after.filter(|after| !after.is_empty()) {
            call = call.parameter("marker", after);
        }
        let body = self.read_page(&call, MAX_LISTING_BYTES).await?;
        listing::containers(&body).map_err(|error| unreadable(&call, &error))
    }

    async fn put_slo(
        &self,
        key: &str,
        segments: &[SloSegment],
        metadata: &RemoteMetadata,
    ) -> Result<PutReceipt, StoreError> {
        let mut call = object_call("put manifest", Method::PUT, key)?.parameter("multipart-manifest", "put");
        call.headers = request::metadata_headers(metadata)
            .map_err(|error| failure(&call, ErrorKind::Invalid).with_message(Some(&error)))?;
        call.body = manifest(segments);
        call.timeout = MANIFEST_TIMEOUT;
        self.done(&call).await.map(|headers| upload::receipt(&headers))
    }

    async fn slo_manifest(&self, key: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let call = object_call("get manifest", Method::GET, key)?.parameter("multipart-manifest", "get");
        let Some(answer) = self.found(&call).await? else { return Ok(None) };
        let is_manifest = answer
            .headers()
            .get(X_STATIC_LARGE_OBJECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        if !is_manifest {
            return Err(failure(&call, ErrorKind::Invalid).with_message(Some("it is no static large object")));
        }
        collect(&call, answer, max_bytes).await.map(|body| Some(body.to_vec()))
    }

    async fn delete_slo(&self, key: &str) -> Result<(), StoreError> {
        let mut call = object_call("delete large object", Method::DELETE, key)?
            .parameter("multipart-manifest", "delete");
        call.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        call.timeout = DELETE_SLO_TIMEOUT;
        let body = match self.read_page(&call, MAX_SUMMARY_BYTES).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            body => body?,
        };
        let summary = Summary::parse(&body).map_err(|error| unreadable(&call, &error))?;
        summary.judge().map_err(|(kind, text)| failure(&call, kind).with_message(Some(&text)))
    }
}

fn container_call(operation: &'static str, method: Method, name: &str) -> Result<Call, StoreError> {
    let target = Target::container(name).map_err(|error| {
        StoreError::named(ErrorKind::Invalid, operation).with_key(name).with_message(Some(error))
    })?;
    Ok(Call::new(operation, method, target))
}

fn container_head(headers: &HeaderMap) -> ContainerHead {
    let all: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let count = |name: &str| all.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    ContainerHead {
        objects: count("x-container-object-count"),
        bytes: count("x-container-bytes-used"),
        headers: all,
    }
}

/// The manifest as Swift takes it.
///
/// Source: Swift's "Large Object Support", static large objects.
fn manifest(segments: &[SloSegment]) -> Bytes {
    let entries: Vec<Value> = segments
        .iter()
        .map(|segment| {
            let mut entry = Map::new();
            entry.insert("path".to_owned(), format!("/{}", segment.key).into());
            if let Some(etag) = &segment.etag {
                entry.insert("etag".to_owned(), etag.as_str().into());
            }
            if let Some(bytes) = segment.bytes {
                entry.insert("size_bytes".to_owned(), bytes.into());
            }
            if let Some(range) = &segment.range {
                entry.insert("range".to_owned(), range.as_str().into());
            }
            entry.into()
        })
        .collect();
    Value::from(entries).to_string().into()
}

/// How the removal of a large object ended. Its HTTP status is always 200.
///
/// Source: Swift's "Bulk Delete", the answer's format.
#[derive(Debug, Deserialize)]
struct Summary {
    #[serde(rename = "Response Status", default)]
    status: String,
    #[serde(rename = "Response Body", default)]
    body: String,
    #[serde(rename = "Errors", default)]
    errors: Vec<(String, String)>,
}

impl Summary {
    fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("expected the summary of a delete: {error}"))
    }

    /// Objects that were not there are no errors: the server counts them apart.
    fn judge(&self) -> Result<(), (ErrorKind, String)> {
        let status_of = |text: &str| text.split(' ').next().and_then(|status| status.parse::<u16>().ok());
        let failed: Vec<&(String, String)> =
            self.errors.iter().filter(|(_, status)| status_of(status) != Some(404)).collect();
        if let Some((path, status)) = failed.first() {
            let path = percent_decode_str(path).decode_utf8_lossy();
            let kind = kind_of(status_of(status));
            return Err((kind, format!("{} not removed, the first: {path}: {status}", failed.len())));
        }
        match status_of(&self.status) {
            Some(200..=299 | 404) => Ok(()),
            // "400 Bad Request" stands above a list of errors, all of which may be about what was not there.
            Some(400) if !self.errors.is_empty() => Ok(()),
            status => Err((kind_of(status), format!("{} {}", self.status, self.body))),
        }
    }
}

fn kind_of(status: Option<u16>) -> ErrorKind {
    status.map_or(ErrorKind::Other, |status| super::classify::kind(&Method::DELETE, status))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn judged(json: &str) -> Option<ErrorKind> {
        Summary::parse(json.as_bytes()).unwrap().judge().err().map(|(kind, _)| kind)
    }

    #[test]
    fn a_delete_is_done_only_if_nothing_is_left() {
        let table = [
            (r#"{"Response Status": "200 OK", "Errors": [], "Number Deleted": 3}"#, None),
            (r#"{"Response Status": "404 Not Found", "Errors": [], "Number Not Found": 1}"#, None),
            (r#"{"Response Status": "400 Bad Request", "Errors": [["/c/a", "404 Not Found"]]}"#, None),
            (
                r#"{"Response Status": "400 Bad Request", "Errors": [["/c/a%20b", "403 Forbidden"]]}"#,
                Some(ErrorKind::Denied),
            ),
            (
                r#"{"Response Status": "502 Bad Gateway", "Errors": [["/c/a", "503 Internal Error"]]}"#,
                Some(ErrorKind::Unavailable),
            ),
            (r#"{"Response Status": "400 Bad Request", "Errors": []}"#, Some(ErrorKind::Invalid)),
            (r#"{"Response Status": "", "Errors": []}"#, Some(ErrorKind::Other)),
        ];
        for (json, expected) in table {
            assert_eq!(judged(json), expected, "{json}");
        }
        assert!(Summary::parse(b"Number Deleted: 3").is_err());
        // White space is what Swift sends to keep the connection open.
        assert!(Summary::parse(b"   \n {\"Response Status\": \"200 OK\"}").is_ok());
    }

    #[test]
    fn a_manifest_says_no_more_than_it_was_told() {
        let segments = [
            SloSegment {
                key: "segments/a \"b\"".to_owned(),
                etag: Some("e1".to_owned()),
                bytes: Some(5),
                range: None,
            },
            SloSegment { key: "s/c".to_owned(), etag: None, bytes: None, range: Some("0-9".to_owned()) },
        ];
        let expected = serde_json::json!([
            {"path": "/segments/a \"b\"", "etag": "e1", "size_bytes": 5},
            {"path": "/s/c", "range": "0-9"},
        ]);
        assert_eq!(serde_json::from_slice::<Value>(&manifest(&segments)).unwrap(), expected);
    }
}
