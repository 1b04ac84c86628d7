//! The filter's connections: taken, limited, and ended in good order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listener::FilterStream;
use super::{DOOR, Filter, FilterListener};
use crate::proxy::Limits;

/// A connection with half a header block, or idle, is closed after this time. The filter keeps idle ones and notices.
const HEADER_LIMIT: Duration = Duration::from_secs(60);
/// A proxy that takes nothing for this long is gone: its own clients are given up after 60 s.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// Room for a header block: a POST may bring 4 KiB of metadata and 90 names, a report 64 KiB of headers in base64.
const BUFFER_BYTES: usize = 128 * 1024;
/// The filter sends a list of its own choice.
const MAX_HEADERS: usize = 256;

/// Serves the filter until told to stop; then answers what is under way, for as long as [`Limits::drain`] allows. The socket is gone as soon as
/// the stop is asked for, so that the filter sees at once that nobody is there.
pub async fn serve(listener: FilterListener, filter: Arc<Filter>, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "could not take a connection of the filter");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let metrics = &filter.context.metrics;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metrics.refused_connection(DOOR);
            continue;
        };
        metrics.connected(DOOR);
        let (filter, stop, abort) = (Arc::clone(&filter), stop.clone(), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = serve_one(stream, Arc::clone(&filter), stop) => {}
                () = abort.cancelled() => {}
            }
            filter.context.metrics.disconnected(DOOR);
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "requests of the filter were still under way; they are cut off"
        );
        abort.cancel();
        connections.wait().await;
    }
}

async fn serve_one(stream: FilterStream, filter: Arc<Filter>, stop: CancellationToken) {
    match stream {
        FilterStream::Unix(stream) => serve_stream(stream, filter, stop).await,
        FilterStream::Tcp(stream) => serve_stream(stream, filter, stop).await,
    }
}

async fn serve_stream<S>(stream: S, filter: Arc<Filter>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_LIMIT));
    let service = service_fn(move |request: Request<Incoming>| {
        let filter = Arc::clone(&filter);
        async move { Ok::<_, Infallible>(filter.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
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
        tracing::debug!(%error, "a connection of the filter ended");
    }
}
