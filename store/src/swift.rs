//! The provider for OpenStack Swift: one account of a cluster, behind TempAuth or Keystone.
//!
//! Keys are `container/object`. [`open`] sends nothing; the first request logs in, and all requests share the token. What is asked
//! of containers and of large objects is in `account`.

mod account;
mod auth;
mod classify;
mod download;
mod entries;
mod listing;
mod request;
mod session;
mod settings;
mod upload;
mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata};

use crate::body;
use crate::entries::{EntryPage, EntryQuery};
use crate::error::{ErrorKind, StoreError};
use crate::metering::RequestCounts;
use crate::multipart::Multipart;
use crate::object_store::{
    AnswerNotes, GetObject, ListPage, ObjectStore, PutObject, PutReceipt, RemoteObject,
};
use crate::observing::Observer;
use crate::swift::auth::Auth;
use crate::swift::classify::{failure, refused};
use crate::swift::download::Download;
use crate::swift::request::{Call, Target, object_metadata};
use crate::swift::session::Session;
use crate::swift::wire::Wire;
use crate::swift_account::SwiftAccount;

pub use crate::swift::settings::{SwiftCredentials, SwiftSettings};

/// A page of 10,000 entries with names of 1,024 bytes, every one of them escaped, and as much again.
const MAX_LISTING_BYTES: usize = 128 * 1024 * 1024;

/// Opens an account. Sends nothing to it yet: see [`ObjectStore::check`].
///
/// # Errors
/// [`ErrorKind::Invalid`] when the settings cannot work.
pub async fn open(settings: &SwiftSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    open_observed(settings, Observer::default())
}

/// As [`open`]; `observer` is told of every request.
pub(crate) fn open_observed(
    settings: &SwiftSettings,
    observer: Observer,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let auth = Auth::new(&settings.remote, &settings.credentials)
        .map_err(|error| StoreError::named(ErrorKind::Invalid, "open").with_message(Some(&error)))?;
    let session = Session::new(Wire::new(settings)?, auth, observer);
    Ok(Arc::new(SwiftStore { session, container: settings.container.clone(), page_limit: AtomicU16::new(0) }))
}

/// One account.
#[derive(Debug)]
pub(crate) struct SwiftStore {
    session: Session,
    container: Option<String>,
    /// The most entries of a page, as far as the cluster has told; 0: it has not.
    page_limit: AtomicU16,
}

#[async_trait]
impl ObjectStore for SwiftStore {
    /// The ETag of a large object is that of its segments, without quotes. The length is 0 where the cluster gives none, as of a very
    /// long dynamic large object; [`Self::look`] refuses that.
    async fn head(&self, key: &str) -> Result<Option<RemoteObject>, StoreError> {
        let answer = self.found(&object_call("head", Method::HEAD, key)?).await?;
        Ok(answer.map(|answer| remote_object(answer.headers())))
    }

    /// [`ErrorKind::NotFound`] with the code `ContainerMissing` when there is no container for it.
    async fn put(&self, key: &str, put: PutObject) -> Result<PutReceipt, StoreError> {
        upload::put(&self.session, object_call("put", Method::PUT, key)?, put).await
    }

    /// Swift has no condition for this: `expected_etag` is for the caller to compare, with a HEAD just before. What
    /// `metadata` leaves out is removed, but for the content type; so it names `x-delete-at` and
    /// `x-object-manifest` too, if they are to stay.
    async fn replace_metadata(
        &self,
        key: &str,
        _expected_etag: &str,
        metadata: &RemoteMetadata,
        _storage_class: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut call = object_call("post", Method::POST, key)?;
        call.headers = request::metadata_headers(metadata)
            .map_err(|error| failure(&call, ErrorKind::Invalid).with_message(Some(&error)))?;
        self.done(&call).await.map(|_| ())
    }

    /// Of a static large object it removes the manifest only: see [`SwiftAccount::delete_slo`].
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.gone(&object_call("delete", Method::DELETE, key)?).await
    }

    /// `prefix` is `container/` or `container/start-of-name`; [`ErrorKind::NotFound`] when there is no such container.
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max_keys: u16,
    ) -> Result<ListPage, StoreError> {
        let invalid = || StoreError::named(ErrorKind::Invalid, "list").with_key(prefix);
        let (container, name_prefix) = prefix
            .split_once('/')
            .ok_or_else(|| invalid().with_message(Some("expected a prefix that begins with container/")))?;
        let target = Target::container(container).map_err(|error| invalid().with_message(Some(error)))?;
        let start = format!("{container}/");
        let marker = match start_after {
            Some(after) => match after.strip_prefix(&start) {
                Some(marker) => marker,
                None if after > start.as_str() => return Ok(ListPage::default()),
                None => "",
            },
            None => "",
        };
        let mut call = Call::new("list", Method::GET, target)
            .parameter("format", "json")
            .parameter("limit", &max_keys.to_string());
        if !name_prefix.is_empty() {
            call = call.parameter("prefix", name_prefix);
        }
        if !marker.is_empty() {
            call = call.parameter("marker", marker);
        }
        let body = self.read_page(&call, MAX_LISTING_BYTES).await?;
        listing::objects(&body, container, max_keys).map_err(|error| unreadable(&call, &error))
    }

    /// [`ErrorKind::NotFound`] when there is no such container.
    async fn list_entries(&self, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
        entries::list(self, query).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        let target = match &self.container {
            Some(name) => Target::container(name)
                .map_err(|error| StoreError::named(ErrorKind::Invalid, "check").with_message(Some(error)))?,
            None => Target::Account,
        };
        match self.done(&Call::new("check", Method::HEAD, target)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(error.into_kind(ErrorKind::BucketMissing))
            }
            answer => answer.map(|_| ()),
        }
    }

    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        Err(StoreError::named(ErrorKind::Unsupported, "read lifecycle"))
    }

    async fn set_expiration(&self, _key_prefix: &str, _days: u32) -> Result<LifecyclePlan, StoreError> {
        Err(StoreError::named(ErrorKind::Unsupported, "write lifecycle"))
    }

    async fn clear_expiration(&self, _key_prefix: &str) -> Result<bool, StoreError> {
        Err(StoreError::named(ErrorKind::Unsupported, "write lifecycle"))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError> {
        Ok(self.read(key, range).await?.map(|(object, _)| object))
    }

    async fn look(&self, key: &str) -> Result<Option<(RemoteObject, AnswerNotes)>, StoreError> {
        let call = object_call("head", Method::HEAD, key)?;
        let Some(answer) = self.found(&call).await? else { return Ok(None) };
        let headers = answer.headers();
        // Whoever hands the object on would take it for an empty one.
        content_length(&call, headers)?;
        Ok(Some((remote_object(headers), notes(headers))))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<(GetObject, AnswerNotes)>, StoreError> {
        let mut call = object_call("get", Method::GET, key)?;
        if let Some(range) = &range {
            let last = range.end.checked_sub(1).filter(|last| *last >= range.start);
            let last = last.ok_or_else(|| {
                failure(&call, ErrorKind::Invalid).with_message(Some("expected a range that is not empty"))
            })?;
            let last = if range.end == u64::MAX { String::new() } else { last.to_string() };
            let value = HeaderValue::from_str(&format!("bytes={}-{last}", range.start));
            call.headers
                .insert(header::RANGE, value.unwrap_or_else(|_| HeaderValue::from_static("bytes=0-")));
        }
        let Some(answer) = self.found(&call).await? else { return Ok(None) };
        let notes = notes(answer.headers());
        Ok(Some((opened(&call, range, answer)?, notes)))
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }

    fn swift(&self) -> Option<&dyn SwiftAccount> {
        Some(self)
    }

    /// Requests about containers are counted as those about objects; logins are not counted.
    fn requests(&self) -> RequestCounts {
        self.session.counter().counts()
    }
}

impl SwiftStore {
    /// Sends a call whose answer matters by its head; any refusal is an error.
    async fn done(&self, call: &Call) -> Result<HeaderMap, StoreError> {
        let answer = self.session.send(call).await?;
        if !answer.status().is_success() {
            return Err(refused(call, answer).await);
        }
        let (parts, body) = answer.into_parts();
        // To its end, so that the connection can be used again.
        let _ = classify::read_text(body).await;
        Ok(parts.headers)
    }

    /// As [`Self::done`]; that there is nothing is an answer, and the body is left to the caller.
    async fn found(&self, call: &Call) -> Result<Option<Response<Incoming>>, StoreError> {
        let answer = self.session.send(call).await?;
        match answer.status().as_u16() {
            200..=299 => Ok(Some(answer)),
            404 => {
                let _ = classify::read_text(answer.into_body()).await;
                Ok(None)
            }
            _ => Err(refused(call, answer).await),
        }
    }

    /// Sends a call after which something must be gone.
    async fn gone(&self, call: &Call) -> Result<(), StoreError> {
        match self.done(call).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Sends a call and reads the answer's body, up to a limit.
    async fn read_page(&self, call: &Call, max_bytes: usize) -> Result<Bytes, StoreError> {
        let answer = self.session.send(call).await?;
        if !answer.status().is_success() {
            return Err(refused(call, answer).await);
        }
        collect(call, answer, max_bytes).await
    }
}

/// Reads an answer's body.
async fn collect(call: &Call, answer: Response<Incoming>, max_bytes: usize) -> Result<Bytes, StoreError> {
    let reading = Limited::new(answer.into_body(), max_bytes).collect();
    match tokio::time::timeout(call.timeout, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(failure(call, ErrorKind::Invalid)
                .with_message(Some(&format!("expected at most {max_bytes} bytes, got more"))))
        }
        Ok(Err(error)) => Err(failure(call, ErrorKind::Unavailable)
            .with_message(Some(&classify::root_cause(&*error)))
            .with_source(error)),
        Err(_) => Err(session::timed_out(call)),
    }
}

fn object_call(operation: &'static str, method: Method, key: &str) -> Result<Call, StoreError> {
    let target = Target::object(key).map_err(|error| {
        StoreError::named(ErrorKind::Invalid, operation).with_key(key).with_message(Some(error))
    })?;
    Ok(Call::new(operation, method, target))
}

fn unreadable(call: &Call, error: &str) -> StoreError {
    failure(call, ErrorKind::Other).with_message(Some(error))
}

fn remote_object(headers: &HeaderMap) -> RemoteObject {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    RemoteObject {
        etag: text("etag").map(listing::bare_etag).unwrap_or_default(),
        length: text("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
        metadata: object_metadata(headers),
        storage_class: None,
        archived: false,
        last_modified: text("x-timestamp")
            .and_then(listing::timestamp)
            .or_else(|| text("last-modified").and_then(listing::http_date)),
        kms: false,
    }
}

/// What an answer says beside the object.
fn notes(headers: &HeaderMap) -> AnswerNotes {
    let ids = ["x-trans-id", "x-openstack-request-id"];
    let value = |name: &'static str| Some((name, headers.get(name)?.to_str().ok()?.to_owned()));
    AnswerNotes { restore: None, request_ids: ids.into_iter().filter_map(value).collect() }
}

fn content_length(call: &Call, headers: &HeaderMap) -> Result<u64, StoreError> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or_else(|| unreadable(call, "expected a Content-Length, got none"))
}

/// An object whose head has come.
fn opened(
    call: &Call,
    range: Option<Range<u64>>,
    answer: Response<Incoming>,
) -> Result<GetObject, StoreError> {
    let (parts, content) = answer.into_parts();
    let mut object = remote_object(&parts.headers);
    // A content without a length (that of a very long dynamic large object) ends when its connection does, which
    // looks the same as a fault.
    let content_length = content_length(call, &parts.headers)?;
    if let Some(range) = range {
        let answered = parts.headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let (first, whole) = answered
            .and_then(content_range)
            .ok_or_else(|| unreadable(call, "expected the range asked for, got something else"))?;
        let expected = range.end.min(whole).saturating_sub(range.start);
        if first != range.start || content_length != expected {
            return Err(unreadable(call, "expected the range asked for, got another"));
        }
        object.length = whole;
    }
    let body = body::from_body(Download::new(content, content_length));
    Ok(GetObject { object, content_length, body })
}

/// First byte and whole length of `bytes 0-99/1000`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    Some((first.parse().ok()?, whole.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers_are_read() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, 100)));
        for text in ["bytes */100", "5-9/100", "bytes 5-9/*", "", "bytes 5/9"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
