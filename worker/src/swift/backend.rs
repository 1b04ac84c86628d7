//! HTTP towards Swift's account, container and object servers.
//!
//! A connection pool, timeouts, and a short memory of servers that do not answer. Paths go out exactly as encoded:
//! object names may hold `..`, `//`, `%2F` or a newline, and nothing on the way may tidy them up.

mod body;
mod watched;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use swift_s3_daemon::telemetry::propagation;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::metrics::Metrics;
use watched::Watched;

pub use body::{LocalBody, LocalBodyError};

/// Shorter than the idle timeout of Swift's servers (60 s), so that the pool rarely holds a connection they have closed.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Idle connections kept for one server: as many transfers as one worker runs at once.
const POOL_IDLE_PER_SERVER: usize = 64;
/// Swift allows 90 metadata items beside its own headers, and operators raise that.
const MAX_HEADERS: usize = 1024;
/// How long a server that could not be reached is asked last.
const REST: Duration = Duration::from_secs(10);
/// Bodies of error answers are read to their end up to this size, because that keeps the connection usable.
const MAX_DRAINED_BYTES: usize = 64 << 10;

/// What Swift itself leaves unquoted: letters, digits, `_.-~` and the slash between parts.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');

/// How long to wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// For the TCP connection.
    pub connect: Duration,
    /// From the request to the end of the answer's headers.
    pub response: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
}

impl Default for BackendTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(10),
            stall: Duration::from_secs(60),
        }
    }
}

/// The connections to all servers of a cluster. Clones share them.
#[derive(Clone, Debug)]
pub struct Backend {
    client: Client<HttpConnector, Empty<Bytes>>,
    timeouts: BackendTimeouts,
    resting: Arc<Resting>,
    metrics: Metrics,
    kind: &'static str,
}

/// Servers that failed to answer, until when they are asked last.
#[derive(Debug, Default)]
struct Resting {
    count: AtomicUsize,
    until: Mutex<HashMap<Authority, Instant>>,
}

/// A request that got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{method} {server}: {problem}")]
pub struct BackendError {
    kind: BackendErrorKind,
    method: Method,
    server: String,
    problem: String,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendErrorKind {
    /// No connection.
    Connect,
    /// Nothing came in time.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// What came is not HTTP, or more than is accepted.
    Protocol,
}

impl BackendErrorKind {
    /// The word for metrics and traces.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}

impl BackendError {
    /// Why there was no answer.
    pub const fn kind(&self) -> BackendErrorKind {
        self.kind
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self::new(BackendTimeouts::default())
    }
}

impl Backend {
    /// A new pool without connections.
    pub fn new(timeouts: BackendTimeouts) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeouts.connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_PER_SERVER)
            .http1_max_headers(MAX_HEADERS)
            .build(connector);
        Self { client, timeouts, resting: Arc::default(), metrics: Metrics::default(), kind: "other" }
    }

    /// The same connections; requests are counted in `metrics`.
    #[must_use]
    pub fn counted(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same connections, for servers of one kind: `object`, `container`, `account` or `proxy`, for metrics.
    #[must_use]
    pub(crate) fn to(&self, kind: &'static str) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The timeouts in force.
    pub const fn timeouts(&self) -> BackendTimeouts {
        self.timeouts
    }

    /// Sends a request without a body and waits for the headers of the answer, whatever its status.
    ///
    /// `target` is the path and query, already encoded (see [`push_encoded`]); `headers` adds to the empty set of
    /// headers. Every request must be safe to repeat: it is sent once more when the server closed a connection that it
    /// had kept open.
    ///
    /// # Errors
    /// [`BackendError`] when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; whether the server acts on the request is then unknown.
    pub async fn send(
        &self,
        method: Method,
        server: &Authority,
        target: &str,
        headers: impl Fn(&mut HeaderMap),
    ) -> Result<Response<Incoming>, BackendError> {
        let watched = Watched::begin(&self.metrics, self.kind, &method, server);
        let ended = self.exchange(method, server, target, headers).instrument(watched.span()).await;
        match &ended {
            Ok(answer) => watched.answered(answer),
            Err(error) => watched.failed(error.kind()),
        }
        ended
    }

    async fn exchange(
        &self,
        method: Method,
        server: &Authority,
        target: &str,
        headers: impl Fn(&mut HeaderMap),
    ) -> Result<Response<Incoming>, BackendError> {
        let fail = |kind, problem: String| BackendError {
            kind,
            method: method.clone(),
            server: server.to_string(),
            problem,
        };
        let target = Bytes::copy_from_slice(target.as_bytes());
        let target = PathAndQuery::from_maybe_shared(target).map_err(|error| {
            fail(BackendErrorKind::Protocol, format!("a path that cannot be sent: {error}"))
        })?;
        let mut is_first = true;
        loop {
            let mut request = Request::new(Empty::new());
            *request.method_mut() = method.clone();
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(server.clone());
            uri.path_and_query = Some(target.clone());
            *request.uri_mut() = Uri::from_parts(uri).map_err(|error| {
                fail(BackendErrorKind::Protocol, format!("an address that cannot be: {error}"))
            })?;
            request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
            headers(request.headers_mut());
            // Swift's own servers pass it over; proxies and middleware that trace go on with it.
            propagation::pass_on_current(request.headers_mut());

            let answer = timeout(self.timeouts.response, self.client.request(request)).await;
            let error = match answer {
                Ok(Ok(response)) => {
                    self.resting.forget(server);
                    return Ok(response);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    self.resting.remember(server);
                    let problem = format!("no answer within {:?}", self.timeouts.response);
                    return Err(fail(BackendErrorKind::Timeout, problem));
                }
            };
            let kind = if error.is_connect() { BackendErrorKind::Connect } else { kind_of(&error) };
            if kind == BackendErrorKind::Closed && is_first {
                is_first = false;
                continue;
            }
            if kind == BackendErrorKind::Connect {
                self.resting.remember(server);
            }
            return Err(fail(kind, describe(&error)));
        }
    }

    /// Tells whether the server did not answer a moment ago, so that others should be asked before it.
    pub fn is_resting(&self, server: &Authority) -> bool {
        self.resting.contains(server, Instant::now())
    }

    /// Reads a whole answer of at most `most` bytes.
    ///
    /// # Errors
    /// [`BackendErrorKind::Protocol`] when there is more; [`BackendErrorKind::Timeout`] or
    /// [`BackendErrorKind::Closed`] when it does not come to its end.
    pub async fn read(
        &self,
        response: Response<Incoming>,
        server: &Authority,
        most: usize,
    ) -> Result<Bytes, BackendError> {
        let fail = |kind, problem: String| BackendError {
            kind,
            method: Method::GET,
            server: server.to_string(),
            problem,
        };
        let mut body = response.into_body();
        let mut content = BytesMut::new();
        loop {
            let frame = match timeout(self.timeouts.stall, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(fail(kind_of(&error), describe(&error))),
                Ok(None) => return Ok(content.freeze()),
                Err(_) => {
                    let problem = format!("no data for {:?}", self.timeouts.stall);
                    return Err(fail(BackendErrorKind::Timeout, problem));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if content.len().saturating_add(data.len()) > most {
                let problem = format!("expected at most {most} bytes, got more");
                return Err(fail(BackendErrorKind::Protocol, problem));
            }
            content.extend_from_slice(&data);
        }
    }

    /// Reads a small answer to its end, so that its connection can serve again. Anything larger is closed.
    pub async fn finish(&self, response: Response<Incoming>, server: &Authority) {
        let length = content_length(response.headers()).unwrap_or(0);
        if usize::try_from(length).is_ok_and(|length| length <= MAX_DRAINED_BYTES) {
            // A failure here concerns a connection that nobody needs any more.
            let _ = timeout(self.timeouts.connect, self.read(response, server, MAX_DRAINED_BYTES)).await;
        }
    }
}

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("swift-s3-sync/", env!("CARGO_PKG_VERSION")));

impl Resting {
    fn contains(&self, server: &Authority, now: Instant) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lock().get(server).is_some_and(|until| *until > now)
    }

    fn remember(&self, server: &Authority) {
        let mut until = self.lock();
        until.insert(server.clone(), Instant::now() + REST);
        self.count.store(until.len(), Ordering::Relaxed);
    }

    fn forget(&self, server: &Authority) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut until = self.lock();
            until.remove(server);
            self.count.store(until.len(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Authority, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends `/` and `part`, quoted as Swift quotes it; a slash inside the part stays one.
pub fn push_encoded(target: &mut String, part: &str) {
    target.push('/');
    target.extend(utf8_percent_encode(part, QUOTED));
}

/// Appends the value of a query parameter, quoted.
pub(crate) fn push_query_value(target: &mut String, value: &str) {
    const VALUE: &AsciiSet = &QUOTED.add(b'/');
    target.extend(utf8_percent_encode(value, VALUE));
}

/// `Content-Length`, when the answer has a readable one.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn kind_of(error: &(dyn std::error::Error + 'static)) -> BackendErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
        {
            return BackendErrorKind::Closed;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return match error.kind() {
                std::io::ErrorKind::TimedOut => BackendErrorKind::Timeout,
                _ => BackendErrorKind::Closed,
            };
        }
        next = error.source();
    }
    BackendErrorKind::Protocol
}

/// The error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
