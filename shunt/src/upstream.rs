//! The connections to Swift's proxy.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::Body;
use crate::metrics::Metrics;
use crate::swift_call::{NoAnswer, SwiftCall, Way};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Eventlet closes idle connections after 30 s by default (`client_timeout` is 60 s); a connection is dropped before that.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// Idle connections that are kept.
const IDLE_CONNECTIONS: usize = 512;
/// Room for one header block and what comes with it.
const BUFFER_BYTES: usize = 64 * 1024;

/// Swift could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection, or it broke.
    #[error("Swift does not answer: {0}")]
    Failed(#[source] hyper_util::client::legacy::Error),
    /// No answer in time.
    #[error("Swift did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// What was to be sent broke off.
    #[error("the client: {0}")]
    ClientGone(#[source] hyper_util::client::legacy::Error),
    /// A request that cannot be sent.
    #[error("the request cannot be sent to Swift: {0}")]
    Request(#[from] http::Error),
}

/// A Swift proxy.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client<HttpConnector, Body>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    answer_limit: Duration,
    metrics: Metrics,
}

impl Upstream {
    /// Nothing is connected yet. An answer that does not begin `answer_limit` after the request was sent is given up.
    #[must_use]
    pub fn new(scheme: Scheme, authority: Authority, answer_limit: Duration, metrics: Metrics) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(60)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(BUFFER_BYTES)
            .http1_max_headers(512)
            .set_host(false)
            .build(connector);
        // An authority without user names is fit for a header.
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self { client, scheme, authority, host, answer_limit, metrics }
    }

    /// Sends a request whose URI is a path with its query, byte for byte. When `late` ends before the answer begins, it is given up;
    /// `limit` is what is then told.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        mut request: Request<Body>,
        limit: Duration,
        late: impl Future<Output = ()>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let path = request.uri().path_and_query().cloned();
        let mut uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        if let Some(path) = path {
            uri = uri.path_and_query(path);
        } else {
            uri = uri.path_and_query("/");
        }
        let uri = uri.build()?;
        let method = request.method().clone();
        let call =
            SwiftCall::begin(&self.metrics, Way::Upstream, (&method, uri.path()), request.headers_mut());
        *request.uri_mut() = uri;
        call.until(self.client.request(request), late, |error| error).await.map_err(|ended| match ended {
            NoAnswer::TimedOut => UpstreamError::TimedOut(limit),
            NoAnswer::SourceBroke(error) => UpstreamError::ClientGone(error),
            NoAnswer::Failed(error) => UpstreamError::Failed(error),
        })
    }

    /// As [`Upstream::send`], for requests without a body of a client: the answer must come in time.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>, UpstreamError> {
        self.ask_for(request, self.answer_limit).await
    }

    /// As [`Upstream::ask`], with another limit.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn ask_for(
        &self,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.send(request, limit, tokio::time::sleep(limit)).await
    }

    /// Swift's proxy as a `Host` header names it.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// How long an answer may take.
    #[must_use]
    pub fn answer_limit(&self) -> Duration {
        self.answer_limit
    }
}

/// Shared by all requests.
pub type SharedUpstream = Arc<Upstream>;
