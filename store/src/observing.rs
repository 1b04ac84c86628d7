//! What becomes of each request to a remote, for whoever counts them and times them; and a span for each.
//!
//! Every try is told of, repeated ones too, from when it is sent until the head of its answer is there. Both providers do this at the
//! one place where they send.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use tracing::Span;
use tracing::field::Empty;

use crate::error::ErrorKind;
use crate::metering::Operation;

/// Is told of requests. Called while requests are made, so it must not wait.
pub trait RequestObserver: Send + Sync {
    /// A request is about to be sent inside of its span; the observer may add headers. Not called for requests whose headers are
    /// signed.
    fn sending(&self, headers: &mut HeaderMap) {
        let _ = headers;
    }

    /// A request has ended.
    fn ended(&self, request: &EndedRequest);
}

/// A request that has ended. All words are of small fixed sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRequest {
    /// `s3` or `swift`.
    pub provider: &'static str,
    /// The class of operation: `head`, `get`, `put`, `part`, `copy`, `multipart`, `delete`, `list`, `lifecycle`.
    pub operation: &'static str,
    /// `ok`, `absent`, a word of [`ErrorKind`], or `given_up` when nobody waited for the answer any more.
    pub outcome: &'static str,
    /// Until the head of the answer was there, or the fault.
    pub duration: Duration,
}

/// No answer was waited for.
pub const GIVEN_UP: &str = "given_up";

/// Who is told, if anybody.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<dyn RequestObserver>>);

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

impl Observer {
    pub(crate) fn new(observer: Option<Arc<dyn RequestObserver>>) -> Self {
        Self(observer)
    }

    pub(crate) fn sending(&self, headers: &mut HeaderMap) {
        if let Some(observer) = &self.0 {
            observer.sending(headers);
        }
    }

    /// Begins to watch a request.
    pub(crate) fn begin(&self, asked: &Asked<'_>) -> Watched {
        Watched {
            observer: self.clone(),
            provider: asked.provider,
            operation: asked.operation,
            begun: Instant::now(),
            span: asked.span(),
            is_told: false,
        }
    }
}

/// What a request asks for.
pub(crate) struct Asked<'a> {
    /// `s3` or `swift`.
    pub(crate) provider: &'static str,
    pub(crate) operation: Operation,
    pub(crate) method: &'a str,
    /// The bucket, or the container.
    pub(crate) bucket: &'a str,
    /// Empty when it is about no object.
    pub(crate) key: Key<'a>,
    /// Host of the server, with its port if that is given.
    pub(crate) server: &'a str,
}

/// A key; decoded when somebody wants to know it.
#[derive(Clone, Copy)]
pub(crate) enum Key<'a> {
    Plain(&'a str),
    /// As it stands in a URL.
    Encoded(&'a str),
}

impl Asked<'_> {
    /// Names by OpenTelemetry's conventions for HTTP clients, and for S3 as AWS's SDKs have it.
    fn span(&self) -> Span {
        // What belongs to no operation (checks, listings that serve thousands of rows) is no trace of its own.
        if Span::current().is_none() {
            return Span::none();
        }
        let span = tracing::info_span!(
            "remote request",
            otel.name = self.method,
            otel.kind = "client",
            otel.status_code = Empty,
            "error.type" = Empty,
            http.request.method = self.method,
            http.response.status_code = Empty,
            server.address = self.server,
            rpc.system = Empty,
            rpc.method = Empty,
            aws.s3.bucket = Empty,
            aws.s3.key = Empty,
            aws.request_id = Empty,
            swift.container = Empty,
            swift_s3_sync.object.key = Empty,
            swift.trans_id = Empty,
        );
        if span.is_disabled() {
            return span;
        }
        let key = match self.key {
            Key::Plain(key) => key.into(),
            Key::Encoded(key) => percent_decode_str(key).decode_utf8_lossy(),
        };
        let (bucket_field, key_field) = if self.provider == S3 {
            span.record("rpc.system", "aws-api");
            span.record("rpc.method", method_of(self.operation));
            ("aws.s3.bucket", "aws.s3.key")
        } else {
            ("swift.container", "swift_s3_sync.object.key")
        };
        if !self.bucket.is_empty() {
            span.record(bucket_field, self.bucket);
        }
        if !key.is_empty() {
            span.record(key_field, &*key);
        }
        span
    }
}

pub(crate) const S3: &str = "s3";
pub(crate) const SWIFT: &str = "swift";

/// What S3 calls the operation.
fn method_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Head => "HeadObject",
        Operation::Get => "GetObject",
        Operation::Thaw => "RestoreObject",
        Operation::Put => "PutObject",
        Operation::Copy => "CopyObject",
        Operation::Delete => "DeleteObject",
        Operation::List => "ListObjectsV2",
        Operation::CreateUpload => "CreateMultipartUpload",
        Operation::PutPart => "UploadPart",
        Operation::CopyPart => "UploadPartCopy",
        Operation::CompleteUpload => "CompleteMultipartUpload",
        Operation::AbortUpload => "AbortMultipartUpload",
        Operation::ListUploads => "ListMultipartUploads",
        Operation::ListParts => "ListParts",
        Operation::ReadLifecycle => "GetBucketLifecycleConfiguration",
        Operation::WriteLifecycle => "PutBucketLifecycleConfiguration",
    }
}

/// A request under way. Dropping it before its end tells that it was given up.
pub(crate) struct Watched {
    observer: Observer,
    provider: &'static str,
    operation: Operation,
    begun: Instant,
    span: Span,
    is_told: bool,
}

impl Watched {
    /// What the request is to be sent in.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// An answer came; `kind` is what it means when it is a refusal.
    pub(crate) fn answered(mut self, status: u16, kind: ErrorKind, request_id: Option<&str>) {
        self.span.record("http.response.status_code", status);
        if let Some(id) = request_id {
            let field = if self.provider == S3 { "aws.request_id" } else { "swift.trans_id" };
            self.span.record(field, id);
        }
        self.end(outcome(self.operation, status, kind));
    }

    /// No answer came.
    pub(crate) fn failed(mut self, kind: ErrorKind) {
        self.end(kind.as_str());
    }

    fn end(&mut self, outcome: &'static str) {
        self.is_told = true;
        if outcome != OK && outcome != ABSENT {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", outcome);
        }
        if let Some(observer) = &self.observer.0 {
            observer.ended(&EndedRequest {
                provider: self.provider,
                operation: self.operation.class(),
                outcome,
                duration: self.begun.elapsed(),
            });
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.is_told {
            self.end(GIVEN_UP);
        }
    }
}

const OK: &str = "ok";
const ABSENT: &str = "absent";

/// That something is not there is what a question, or a delete, may well find out.
fn outcome(operation: Operation, status: u16, kind: ErrorKind) -> &'static str {
    let may_be_absent = matches!(
        operation,
        Operation::Head
            | Operation::Get
            | Operation::Delete
            | Operation::AbortUpload
            | Operation::ReadLifecycle
            | Operation::List
    );
    match (status, kind) {
        (200..=299 | 304, _) => OK,
        (_, ErrorKind::NotFound) if may_be_absent => ABSENT,
        (_, kind) => kind.as_str(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<EndedRequest>>);

    impl RequestObserver for Told {
        fn ended(&self, request: &EndedRequest) {
            self.0.lock().unwrap().push(*request);
        }
    }

    #[test]
    fn what_is_asked_for_and_absent_is_no_failure() {
        for (operation, status, kind, word) in [
            (Operation::Put, 200, ErrorKind::Other, "ok"),
            (Operation::Delete, 204, ErrorKind::Other, "ok"),
            (Operation::Head, 404, ErrorKind::NotFound, "absent"),
            (Operation::Put, 404, ErrorKind::NotFound, "not_found"),
            (Operation::Head, 404, ErrorKind::BucketMissing, "bucket_missing"),
            (Operation::Put, 503, ErrorKind::Throttled, "throttled"),
        ] {
            assert_eq!(outcome(operation, status, kind), word, "{operation:?} {status} {kind}");
        }
    }

    #[test]
    fn a_request_is_told_once_however_it_ends() {
        let told = Arc::new(Told::default());
        let observer = Observer::new(Some(Arc::clone(&told) as Arc<dyn RequestObserver>));
        let asked = Asked {
            provider: S3,
            operation: Operation::PutPart,
            method: "PUT",
            bucket: "bucket",
            key: Key::Encoded("a%20b"),
            server: "s3.example",
        };
        observer.begin(&asked).answered(200, ErrorKind::Other, Some("id"));
        observer.begin(&asked).failed(ErrorKind::Unavailable);
        drop(observer.begin(&asked));
        let told = told.0.lock().unwrap();
        let words: Vec<_> = told.iter().map(|ended| (ended.operation, ended.outcome)).collect();
        assert_eq!(words, [("part", "ok"), ("part", "unavailable"), ("part", "given_up")]);
    }
}
