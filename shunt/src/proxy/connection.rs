//! Clients' connections: taken, limited, and ended in good order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DOOR, Proxy};

/// Room for a header block, and what waits to be written.
const BUFFER_BYTES: usize = 32 * 1024;
/// Swift itself takes about 200 of a client.
const MAX_HEADERS: usize = 256;

/// Bounds of the door.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time; more are closed at once.
    pub connections: usize,
    /// How long requests may go on after the stop.
    pub drain: Duration,
}

/// Serves clients until told to stop; then answers what is under way, for as long as [`Limits::drain`] allows.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "could not take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let metrics = &proxy.context.metrics;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metrics.refused_connection(DOOR);
            continue;
        };
        metrics.connected(DOOR);
        let (proxy, stop, abort) = (Arc::clone(&proxy), stop.clone(), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = serve_one(stream, Arc::clone(&proxy), stop) => {}
                () = abort.cancelled() => {}
            }
            proxy.context.metrics.disconnected(DOOR);
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "requests were still under way at the end of the drain time; they are cut off"
        );
        abort.cancel();
        connections.wait().await;
    }
}

async fn serve_one(stream: TcpStream, proxy: Arc<Proxy>, stop: CancellationToken) {
    // Answers are written whole; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(proxy.idle));
    let idle = proxy.idle;
    let service = service_fn(move |request: Request<Incoming>| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}
