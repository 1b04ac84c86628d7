//! What becomes of each request to a remote, for whoever counts them and times them; and a span for each.
//!
//! Every try is told of, repeated ones too, from when it is sent until the head of its answer is there. Both providers do this at the
//! one place where they send.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use crate::error::ErrorKind;
use crate::metering::Operation;
use crate::s3::guarded_body::Watch;

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
    /// `ok`, `absent`, a word of [`ErrorKind`] (`unavailable` also when no answer came in time), or `given_up` when nobody waited
    /// for the answer any more, though there was time.
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
    pub(crate) fn begin(&self, asked: &Asked<'_>, patience: Patience) -> Watched {
        Watched {
            observer: self.clone(),
            provider: asked.provider,
            operation: asked.operation,
            begun: Instant::now(),
            patience,
            span: asked.span(),
            is_told: false,
        }
    }
}

/// For how long an answer is waited for. Limits drop the request, as a shutdown does: this tells one from the other.
pub(crate) enum Patience {
    /// From the sending on.
    Answer(Duration),
    /// Since a body last moved.
    WhileMoving(Arc<Watch>, Duration),
}

impl Patience {
    fn is_at_its_end(&self, begun: Instant) -> bool {
        match self {
            // Whoever set the limit may have begun to count before the request was made and signed.
            Self::Answer(limit) => begun.elapsed() >= *limit - *limit / 10,
            Self::WhileMoving(watch, limit) => watch.is_held_by_remote(*limit),
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
        let (host, port) = host_and_port(self.server);
        let span = tracing::info_span!(
            "remote request",
            otel.name = self.method,
            otel.kind = "client",
            otel.status_code = Empty,
            "error.type" = Empty,
            http.request.method = self.method,
            http.response.status_code = Empty,
            server.address = host,
            server.port = port,
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

/// The host of `host:port` without the brackets of an IPv6 address, and the port if it is given.
fn host_and_port(server: &str) -> (&str, Option<u16>) {
    let (host, port) = match server.rsplit_once(':').map(|(host, port)| (host, port.parse().ok())) {
        Some((host, Some(port))) => (host, Some(port)),
        _ => (server, None),
    };
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
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

/// A request under way. Dropping it before its end tells that it was given up, or that no answer came in time.
pub(crate) struct Watched {
    observer: Observer,
    provider: &'static str,
    operation: Operation,
    begun: Instant,
    patience: Patience,
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
        self.end(outcome(self.provider, self.operation, status, kind));
    }

    /// No answer came.
    pub(crate) fn failed(mut self, kind: ErrorKind) {
        self.end(kind.as_str());
    }

    fn end(&mut self, outcome: &'static str) {
        self.is_told = true;
        if ![OK, ABSENT, ErrorKind::Precondition.as_str()].contains(&outcome) {
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
            let hangs = self.patience.is_at_its_end(self.begun);
            self.end(if hangs { ErrorKind::Unavailable.as_str() } else { GIVEN_UP });
        }
    }
}

const OK: &str = "ok";
const ABSENT: &str = "absent";

/// That something is not there is what a question, or a delete, may well find out. What needs no more than the bucket finds out that
/// there is none: the head of an answer does not always say so.
fn outcome(provider: &str, operation: Operation, status: u16, kind: ErrorKind) -> &'static str {
    let needs_bucket_only = match operation {
        Operation::Put => true,
        Operation::List | Operation::ListUploads | Operation::CreateUpload => provider == S3,
        _ => false,
    };
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
        (_, ErrorKind::NotFound) if needs_bucket_only => ErrorKind::BucketMissing.as_str(),
        (_, ErrorKind::NotFound) if may_be_absent => ABSENT,
        (_, kind) => kind.as_str(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::body;
    use crate::s3::guarded_body::{GuardedBody, while_moving};

    #[derive(Default)]
    struct Told(Mutex<Vec<EndedRequest>>);

    impl RequestObserver for Told {
        fn ended(&self, request: &EndedRequest) {
            self.0.lock().unwrap().push(*request);
        }
    }

    #[test]
    fn what_is_asked_for_and_absent_is_no_failure() {
        for (provider, operation, status, kind, word) in [
            (S3, Operation::Put, 200, ErrorKind::Other, "ok"),
            (S3, Operation::Delete, 204, ErrorKind::Other, "ok"),
            (S3, Operation::Head, 404, ErrorKind::NotFound, "absent"),
            (S3, Operation::Copy, 404, ErrorKind::NotFound, "not_found"),
            (S3, Operation::PutPart, 404, ErrorKind::NotFound, "not_found"),
            (S3, Operation::Head, 404, ErrorKind::BucketMissing, "bucket_missing"),
            (S3, Operation::Put, 503, ErrorKind::Throttled, "throttled"),
            // What an S3 says of a bucket that is gone stands in the body.
            (S3, Operation::List, 404, ErrorKind::NotFound, "bucket_missing"),
            (S3, Operation::Put, 404, ErrorKind::NotFound, "bucket_missing"),
            (S3, Operation::CreateUpload, 404, ErrorKind::NotFound, "bucket_missing"),
            (SWIFT, Operation::Put, 404, ErrorKind::NotFound, "bucket_missing"),
            (SWIFT, Operation::List, 404, ErrorKind::NotFound, "absent"),
        ] {
            assert_eq!(outcome(provider, operation, status, kind), word, "{operation:?} {status} {kind}");
        }
    }

    const ASKED: Asked<'static> = Asked {
        provider: S3,
        operation: Operation::PutPart,
        method: "PUT",
        bucket: "bucket",
        key: Key::Encoded("a%20b"),
        server: "s3.example:9000",
    };
    const LIMIT: Duration = Duration::from_secs(60);

    fn observed() -> (Arc<Told>, Observer) {
        let told = Arc::new(Told::default());
        let observer = Observer::new(Some(Arc::clone(&told) as Arc<dyn RequestObserver>));
        (told, observer)
    }

    #[test]
    fn a_request_is_told_once_however_it_ends() {
        let (told, observer) = observed();
        let begin = || observer.begin(&ASKED, Patience::Answer(LIMIT));
        begin().answered(200, ErrorKind::Other, Some("id"));
        begin().failed(ErrorKind::Unavailable);
        drop(begin());
        let told = told.0.lock().unwrap();
        let words: Vec<_> = told.iter().map(|ended| (ended.operation, ended.outcome)).collect();
        assert_eq!(words, [("part", "ok"), ("part", "unavailable"), ("part", "given_up")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_nobody_answers_in_time_found_the_remote_unavailable() {
        let (told, observer) = observed();
        let outcome = || told.0.lock().unwrap().pop().unwrap().outcome;
        let unanswered = |patience| {
            let watched = observer.begin(&ASKED, patience);
            async move {
                let _watched = watched;
                std::future::pending::<()>().await;
            }
        };
        for (waited, word) in [(LIMIT, "unavailable"), (LIMIT / 2, "given_up")] {
            tokio::time::timeout(waited, unanswered(Patience::Answer(LIMIT))).await.unwrap_err();
            assert_eq!(outcome(), word, "after {waited:?}");
        }
        // An upload may take as long as it likes while it moves.
        let (_body, watch) = GuardedBody::new(body::empty(), 0);
        let patience = || Patience::WhileMoving(Arc::clone(&watch), LIMIT);
        tokio::time::timeout(LIMIT / 2, unanswered(patience())).await.unwrap_err();
        assert_eq!(outcome(), "given_up");
        assert!(while_moving(unanswered(patience()), &watch, LIMIT).await.is_err());
        assert_eq!(outcome(), "unavailable");
    }

    #[test]
    fn servers_are_named_by_host_and_port() {
        for (server, host, port) in [
            ("s3.example", "s3.example", None),
            ("s3.example:9000", "s3.example", Some(9000)),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("x:y", "x:y", None),
        ] {
            assert_eq!(host_and_port(server), (host, port), "{server}");
        }
    }
}
