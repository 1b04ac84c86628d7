//! The web pages' door: takes connections of browsers and answers them with the pages, which ask the services of this process
//! through the same gate as any other client.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use swift_s3_web_ui::{Backend, Options, Visitor, router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::{ServiceBuilder, ServiceExt};

use crate::observed;
use crate::server::Doors;
use crate::transport::{self, BROWSERS, Connection};

/// Connections of browsers at a time; each page that follows what happens holds one. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// Requests at a time in one connection.
const MAX_STREAMS: u32 = 32;
/// A browser that has not sent the head of its request by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests that are still open so long after the stop are dropped.
const DRAIN: Duration = Duration::from_secs(3);

/// What the pages need to know.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Names by which visitors may ask where there is no access control, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// A certificate of a client is asked for, or a token.
    pub requires_certificate: bool,
}

/// Serves the pages until `stop` fires. `backend` answers their calls.
pub async fn serve(
    pages: Pages,
    listener: TcpListener,
    backend: Backend,
    doors: Doors,
    stop: CancellationToken,
) {
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let Pages { names, requires_certificate } = pages;
    let options = Arc::new(Options::new(env!("CARGO_PKG_VERSION"), names, stop.clone()));
    let mut connections = transport::accept(listener, Arc::clone(&doors.tls), BROWSERS);
    let (places, tracker) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
    let metrics = doors.metrics.clone();
    let routes = router().layer(from_fn_with_state(metrics.clone(), observed::page));
    let (free, of_followers) = (Arc::clone(&places), Arc::clone(&options));
    metrics.watch_pages(
        move || MAX_CONNECTIONS.saturating_sub(free.available_permits()),
        move || of_followers.followers(),
    );
    tracing::info!(%address, "serving the web pages");
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, connections.next().await?.ok()?))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let Some((place, connection)) = accepted else { break };
        let visitor = visitor(&connection, &backend, &doors, requires_certificate, &options);
        let (routes, stop) = (routes.clone(), stop.clone());
        tracker.spawn(async move {
            answer(connection, routes, visitor, stop).await;
            drop(place);
        });
    }
    drop(connections);
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::debug!("web pages were cut off at the end");
    }
}

/// The calls of this connection come from its peer: its certificate counts.
fn visitor(
    connection: &Connection,
    backend: &Backend,
    doors: &Doors,
    requires_certificate: bool,
    options: &Arc<Options>,
) -> Visitor {
    let peer = connection.connect_info();
    let (address, has_certificate) = (peer.address, peer.certificate_name.is_some());
    let is_enforced = doors.access.borrow().is_enforced();
    let backend = ServiceBuilder::new()
        .map_request(move |mut request: Request<Body>| {
            request.extensions_mut().insert(peer.clone());
            request
        })
        .service(backend.clone());
    Visitor {
        backend: Backend::new(backend),
        address,
        is_tls: connection.is_encrypted(),
        is_access_controlled: requires_certificate || is_enforced,
        needs_token: is_enforced && !has_certificate,
        options: Arc::clone(options),
    }
}

async fn answer(connection: Connection, routes: axum::Router, visitor: Visitor, stop: CancellationToken) {
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(visitor.clone());
            request.map(axum::body::Body::new)
        })
        .service(routes.into_service().map_err(|never: std::convert::Infallible| match never {}));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(HEADER_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS);
    let service = TowerToHyperService::new(service);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "a browser's connection failed");
    }
}
