//! The routes, and what stands in front of each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use swift_s3_proto::MAX_MESSAGE_BYTES;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

use crate::api::Backend;
use crate::failure::Failure;
use crate::visit::WantsJson;
use crate::{assets, page, pages, security};

/// Pages that follow what happens, over all visitors. Each asks the control plane again and again.
const MAX_FOLLOWERS: usize = 500;

/// About this server, for all visitors.
#[derive(Debug)]
pub struct Options {
    /// The version that pages show.
    pub version: &'static str,
    /// Names by which visitors without access control may ask, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// Fires when the server is to end: streams end then.
    pub stopping: CancellationToken,
    pub(crate) followers: Arc<Semaphore>,
}

impl Options {
    /// For this version.
    #[must_use]
    pub fn new(version: &'static str, names: Vec<String>, stopping: CancellationToken) -> Self {
        Self { version, names, stopping, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }
}

/// Who is at the other end of a connection. Every request must have it as an extension.
#[derive(Clone)]
pub struct Visitor {
    /// The control plane, as this connection's certificate opens it.
    pub backend: Backend,
    /// Where it comes from.
    pub address: Option<SocketAddr>,
    /// The connection is encrypted.
    pub is_tls: bool,
    /// Who connects needs a token or a certificate.
    pub is_access_controlled: bool,
    /// About this server.
    pub options: Arc<Options>,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Visitor").field("address", &self.address).finish_non_exhaustive()
    }
}

/// All pages. Requests need a [`Visitor`] as an extension.
pub fn router() -> Router {
    let pages = Router::new()
        .route("/", get(pages::overview::show))
        .route("/mappings", get(pages::mappings::list))
        .route("/mappings/{id}", get(pages::mappings::show))
        .route("/mappings/{id}/pause", post(pages::mappings::pause))
        .route("/mappings/{id}/resume", post(pages::mappings::resume))
        .route("/mappings/{id}/release-deletes", post(pages::mappings::release))
        .route("/containers", get(pages::containers::list))
        .route("/failures", get(pages::failures::list))
        .route("/failures/retry", post(pages::failures::retry))
        .route("/object", get(pages::object::show))
        .route("/config", get(pages::config::show))
        .route("/config/edit", get(pages::config::edit).post(pages::config::typed))
        .route("/config/revisions/{revision}", get(pages::config::past))
        .route("/config/revisions/{revision}/roll-back", post(pages::config::roll_back))
        .route("/history", get(pages::history::show))
        .route("/activity", get(pages::activity::list))
        .route("/nodes", get(pages::nodes::list))
        .route("/nodes/{id}", get(pages::nodes::show))
        .route("/nodes/{id}/forget", post(pages::nodes::forget))
        .route("/sign-in", get(pages::sign_in::show).post(pages::sign_in::sign_in))
        .route("/sign-out", post(pages::sign_in::sign_out))
        .fallback(pages::missing)
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(guard));
    Router::new()
        .route("/assets/{name}", get(assets::get).layer(CompressionLayer::new()))
        .route("/favicon.ico", get(assets::icon))
        .fallback_service(
            // The ending must be off before routes are looked for.
            tower::ServiceBuilder::new().map_request(take_ending).service(pages),
        )
}

/// `/failures.json` is `/failures` as JSON.
fn take_ending(mut request: Request) -> Request {
    let Some(path) = request.uri().path().strip_suffix(".json") else { return request };
    let path = if path == "/index" || path.is_empty() { "/" } else { path };
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(uri) = target.parse::<Uri>() {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(WantsJson);
    }
    request
}

/// Refuses what other sites send, and puts the headers on every answer.
async fn guard(request: Request, next: Next) -> Response {
    let (is_tls, refusal) = match request.extensions().get::<Visitor>() {
        Some(visitor) => (visitor.is_tls, refusal(&request, visitor)),
        None => (false, Some(Failure::internal("nobody said where this request came from"))),
    };
    let mut response = match refusal {
        Some(failure) => page::bare(&failure),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in security::HEADERS {
        headers.insert(name, value);
    }
    if is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, security::STRICT_TRANSPORT);
    }
    // What a page tells is of now, and of one visitor.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(request: &Request, visitor: &Visitor) -> Option<Failure> {
    let headers = request.headers();
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(header::HOST)?.to_str().ok())
        .unwrap_or_default();
    let is_known = |name: &String| {
        host.eq_ignore_ascii_case(name)
            || host.rsplit_once(':').is_some_and(|(host, _)| host.eq_ignore_ascii_case(name))
    };
    if !visitor.is_access_controlled
        && !security::is_own_name(host)
        && !visitor.options.names.iter().any(is_known)
    {
        return Some(Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Not by this name",
            "without access control, pages are shown only to those who ask by an address, by localhost, or by a name that \
             swift-s3-control was given with --http-name",
        ));
    }
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    (!is_reading && security::is_foreign(headers, host)).then(|| {
        Failure::new(StatusCode::FORBIDDEN, "Not from there", "another site sent this; go to the page itself")
    })
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        page::bare(&self)
    }
}
