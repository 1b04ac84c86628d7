//! Into Swift by a proxy of its own: a pipeline without authentication, with the filter `cloud-shunt-internal` behind the gatekeeper that Swift
//! puts into every proxy's pipeline, and with `shunt_inbound_x_timestamp = false` in that.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use super::SwiftWriter;
use crate::swift_path::container_path;
use crate::{Body, BoxError};

/// As `internal_url` of the configuration, whose path is `/v1` unless it says otherwise.
const DEFAULT_BASE: &str = "/v1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// What was found out about the pipeline holds this long: operators may change it.
const PROBE_AGAIN: Duration = Duration::from_secs(60);
const MAX_IDLE: usize = 32;

/// Past the gatekeeper, these names stand for system metadata and backend headers. Source: `shunt/wsgi/swift_s3_sync/internal.py`.
const SAID: HeaderName = HeaderName::from_static("cloud-sync-restored");
const KEPT: HeaderName = HeaderName::from_static(swift_s3_policy::RESTORED_HEADER);
const TOLD: HeaderName = HeaderName::from_static("cloud-sync-timestamp");
const DOOR: HeaderName = HeaderName::from_static("cloud-sync-door");
const X_BACKEND_TIMESTAMP: HeaderName = HeaderName::from_static("x-backend-timestamp");

/// See the module.
pub struct InternalUrl {
    client: Client<HttpConnector, Body>,
    scheme_and_host: String,
    base: String,
    probe: Mutex<Option<(bool, Instant)>>,
}

impl fmt::Debug for InternalUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InternalUrl").field("host", &self.scheme_and_host).finish_non_exhaustive()
    }
}

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an internal_url like http://127.0.0.1:8081, got {0}")]
pub struct InternalUrlError(&'static str);

impl InternalUrl {
    /// A writer through the proxy at `url`, which is not asked yet.
    ///
    /// # Errors
    /// When `url` is no plain `http://` address.
    pub fn new(url: &str) -> Result<Self, InternalUrlError> {
        let uri: Uri = url.parse().map_err(|_| InternalUrlError("something else"))?;
        if uri.scheme_str() != Some("http") {
            return Err(InternalUrlError("no http:// in front"));
        }
        let authority = uri.authority().ok_or(InternalUrlError("no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(InternalUrlError("credentials or a query"));
        }
        let base = match uri.path().trim_end_matches('/') {
            "" => DEFAULT_BASE,
            base => base,
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        let scheme_and_host = format!("http://{authority}");
        Ok(Self { client, scheme_and_host, base: base.to_owned(), probe: Mutex::new(None) })
    }

    fn target(&self, uri: &Uri) -> Result<Uri, BoxError> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.strip_prefix(DEFAULT_BASE).ok_or("expected a path that begins with /v1")?;
        Ok(format!("{}{}{path}", self.scheme_and_host, self.base).parse()?)
    }

    /// Whether the pipeline is fit; `None` when this container does not tell.
    async fn probe(&self, account: &str, container: &str) -> Result<Option<bool>, BoxError> {
        let request = Request::builder()
            .method(Method::HEAD)
            .uri(container_path(account, container))
            .header(swift_s3_policy::SHUNT_BYPASS_HEADER, "true")
            .body(swift_s3_store::body::empty())?;
        let answer = tokio::time::timeout(PROBE_TIMEOUT, self.send(request)).await??;
        Ok(judge(answer.status(), answer.headers().contains_key(DOOR)))
    }

    fn known(&self) -> Option<bool> {
        let probe = *self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.filter(|(_, at)| at.elapsed() < PROBE_AGAIN).map(|(fit, _)| fit)
    }
}

#[async_trait]
impl SwiftWriter for InternalUrl {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        *request.uri_mut() = self.target(request.uri())?;
        if let Some(value) = request.headers().get(KEPT).cloned() {
            request.headers_mut().insert(SAID, value);
        }
        let mut answer = self.client.request(request).await?;
        if let Some(told) = answer.headers_mut().remove(TOLD) {
            answer.headers_mut().insert(X_BACKEND_TIMESTAMP, told);
        }
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    async fn is_below_gatekeeper(&self, account: &str, container: &str) -> bool {
        if let Some(known) = self.known() {
            return known;
        }
        match self.probe(account, container).await {
            Ok(None) => {
                tracing::debug!(internal_url = %self.scheme_and_host, account, container, "the container cannot be asked about");
                false
            }
            Ok(Some(fit)) => {
                if !fit {
                    tracing::warn!(internal_url = %self.scheme_and_host,
                        "nothing is restored: the proxy at internal_url has no filter cloud-shunt-internal behind its gatekeeper, or asks for \
                         credentials");
                }
                *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = Some((fit, Instant::now()));
                fit
            }
            Err(error) => {
                tracing::warn!(internal_url = %self.scheme_and_host, %error, "could not ask the proxy at internal_url");
                false
            }
        }
    }
}

/// What an answer about a container tells of the pipeline. A container that is not there, or a Swift that fails, tells nothing.
fn judge(status: StatusCode, has_door: bool) -> Option<bool> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(false),
        status if status.is_success() => Some(has_door),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_containers_trouble_says_nothing_of_the_pipeline() {
        for (status, has_door, expected) in [
            (204, true, Some(true)),
            (204, false, Some(false)),
            (401, false, Some(false)),
            (403, true, Some(false)),
            (404, false, None),
            (404, true, None),
            (503, false, None),
        ] {
            assert_eq!(
                judge(StatusCode::from_u16(status).unwrap(), has_door),
                expected,
                "{status} {has_door}"
            );
        }
    }

    #[test]
    fn targets_keep_their_path_byte_for_byte() {
        for (url, expected) in [
            ("http://h:1", "http://h:1/v1/a/c/o%20/../x?multipart-manifest=put"),
            ("http://h:1/v1/", "http://h:1/v1/a/c/o%20/../x?multipart-manifest=put"),
            ("http://h:1/swift/v1", "http://h:1/swift/v1/a/c/o%20/../x?multipart-manifest=put"),
        ] {
            let uri: Uri = "/v1/a/c/o%20/../x?multipart-manifest=put".parse().unwrap();
            assert_eq!(InternalUrl::new(url).unwrap().target(&uri).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn addresses_that_cannot_be_meant_are_refused() {
        for url in ["", "h:1", "https://h", "http://user:word@h", "http://h/?x=1"] {
            assert!(InternalUrl::new(url).is_err(), "{url}");
        }
    }
}
