//! The routes, and what stands in front of each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use crate::visit::{Visit, WantsJson};
use crate::{assets, page, pages, security};

/// Pages that follow what happens, over all visitors. Each asks the control plane again and again.
const MAX_FOLLOWERS: usize = 500;
/// Pages that are made anew at a time for those who follow them, so that these never take the whole machine.
const MAX_MAKING: usize = 4;
/// What a form may have, but for the one with the configuration.
const FORM_BYTES: usize = 64 * 1024;
/// A request that has not come as a whole, or was not answered, by then is given up.
const PATIENCE: Duration = Duration::from_secs(60);

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
    pub(crate) making: Semaphore,
}

impl Options {
    /// For this version.
    #[must_use]
    pub fn new(version: &'static str, names: Vec<String>, stopping: CancellationToken) -> Self {
        Self {
            version,
            names,
            stopping,
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            making: Semaphore::new(MAX_MAKING),
        }
    }

    /// Pages that follow what happens now.
    #[must_use]
    pub fn followers(&self) -> usize {
        MAX_FOLLOWERS.saturating_sub(self.followers.available_permits())
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
    /// This connection brought no certificate, so that it takes a token.
    pub needs_token: bool,
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
    let pages = [
        ("/", get(pages::overview::show)),
        ("/mappings", get(pages::mappings::list)),
        ("/mappings/{id}", get(pages::mappings::show)),
        ("/mappings/{id}/pause", post(pages::mappings::pause)),
        ("/mappings/{id}/resume", post(pages::mappings::resume)),
        ("/mappings/{id}/release-deletes", post(pages::mappings::release)),
        ("/containers", get(pages::containers::list)),
        ("/failures", get(pages::failures::list)),
        ("/failures/retry", post(pages::failures::retry)),
        ("/object", get(pages::object::show)),
        ("/config", get(pages::config::show)),
        (
            "/config/edit",
            get(pages::config::edit)
                .post(pages::config::typed)
                .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
                // Before the document is read: strangers are not listened to for long.
                .layer(middleware::from_fn(only_known)),
        ),
        ("/config/revisions/{revision}", get(pages::config::past)),
        ("/config/revisions/{revision}/roll-back", post(pages::config::roll_back)),
        ("/history", get(pages::history::show)),
        ("/activity", get(pages::activity::list)),
        ("/nodes", get(pages::nodes::list)),
        ("/nodes/{id}", get(pages::nodes::show)),
        ("/nodes/{id}/forget", post(pages::nodes::forget)),
        ("/sign-in", get(pages::sign_in::show).post(pages::sign_in::sign_in)),
        ("/sign-out", post(pages::sign_in::sign_out)),
    ];
    let pages = pages
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            let told = middleware::map_response(move |response| tell_route(path, response));
            router.route(path, methods.route_layer(told))
        })
        .fallback(pages::missing)
        .method_not_allowed_fallback(pages::missing)
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(CompressionLayer::new());
    Router::new()
        .route("/assets/{name}", get(assets::get).layer(CompressionLayer::new()))
        .route("/favicon.ico", get(assets::icon))
        .fallback_service(
            // The ending must be off before routes are looked for.
            tower::ServiceBuilder::new().map_request(take_ending).service(pages),
        )
        .layer(middleware::from_fn(guard))
}

/// Which route of [`router`] answered, such as `/mappings/{id}`: an extension of answers of pages.
#[derive(Clone, Copy, Debug)]
pub struct Route(pub &'static str);

async fn tell_route(path: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(Route(path));
    response
}

/// Lets only those pass who may see something.
async fn only_known(visit: Visit, request: Request, next: Next) -> Response {
    match visit.who().await {
        Ok(_) => next.run(request).await,
        Err(failure) => page::failed(visit, "/config", failure).await,
    }
}

/// `/failures.json` is `/failures` as JSON.
fn take_ending(mut request: Request) -> Request {
    let Some(path) = request.uri().path().strip_suffix(".json") else { return request };
    let path = if path == "/index" || path.is_empty() { "/" } else { path };
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    // The rest stays: with HTTP/2 the name that was asked for is a part of it.
    if let Ok(target) = target.parse() {
        parts.path_and_query = Some(target);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(WantsJson);
        }
    }
    request
}

/// Refuses what other sites send, and puts the headers on every answer.
async fn guard(request: Request, next: Next) -> Response {
    let refusal = match request.extensions().get::<Visitor>() {
        Some(visitor) => refusal(&request, visitor),
        None => Some(Failure::internal("nobody said where this request came from")),
    };
    let mut response = match refusal {
        Some(failure) => page::bare(&failure),
        // Streams have begun their answer by then, and go on.
        None => tokio::time::timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| {
            page::bare(&Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "Too slow",
                "the request did not come in time",
            ))
        }),
    };
    let headers = response.headers_mut();
    for (name, value) in security::HEADERS {
        headers.insert(name, value);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn visitor(names: &[&str], is_access_controlled: bool) -> Visitor {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let nobody = tower::service_fn(|_: http::Request<tonic::body::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(tonic::body::Body::empty()))
        });
        Visitor {
            backend: Backend::new(nobody),
            address: None,
            is_tls: false,
            is_access_controlled,
            needs_token: is_access_controlled,
            options: Arc::new(Options::new("0", names, CancellationToken::new())),
        }
    }

    fn request(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn the_ending_for_json_is_taken_off_and_nothing_else() {
        for (uri, expected, is_json) in [
            ("/failures.json?reason=x", "/failures?reason=x", true),
            ("/index.json", "/", true),
            ("/.json", "/", true),
            ("https://h:1/config/edit.json", "https://h:1/config/edit", true),
            ("/failures", "/failures", false),
            ("/failures?a=b.json", "/failures?a=b.json", false),
        ] {
            let taken = take_ending(request("GET", uri, &[]));
            assert_eq!(taken.uri().to_string(), expected);
            assert_eq!(taken.extensions().get::<WantsJson>().is_some(), is_json, "{uri}");
        }
    }

    #[test]
    fn without_access_control_only_own_names_are_answered() {
        for (uri, host, names, is_access_controlled, answered) in [
            ("/", "127.0.0.1:1", &[][..], false, true),
            ("/", "evil.example:1", &[], false, false),
            ("/", "evil.example:1", &[], true, true),
            ("/", "ui.example:1", &["ui.example"], false, true),
            ("/", "UI.example", &["ui.example"], false, true),
            ("https://evil.example/", "127.0.0.1", &[], false, false),
            ("https://127.0.0.1/", "", &[], false, true),
        ] {
            let visitor = visitor(names, is_access_controlled);
            let headers = [("host", host)];
            let headers = if host.is_empty() { &headers[..0] } else { &headers[..] };
            let refused = refusal(&request("GET", uri, headers), &visitor);
            assert_eq!(refused.is_none(), answered, "{uri} {host}");
        }
    }

    #[test]
    fn other_sites_may_lead_here_and_send_nothing() {
        let visitor = visitor(&[], true);
        let foreign = [("host", "a:1"), ("origin", "http://b:1")];
        assert!(refusal(&request("GET", "/", &foreign), &visitor).is_none());
        assert!(refusal(&request("POST", "/failures/retry", &foreign), &visitor).is_some());
        let own = [("origin", "https://a:1")];
        assert!(refusal(&request("POST", "https://a:1/failures/retry", &own), &visitor).is_none());
    }
}
